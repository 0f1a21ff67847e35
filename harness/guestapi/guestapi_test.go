package guestapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func i64(v int64) *int64 { return &v }

// api answers as a guest does; what it sends was taken from one.
func api() http.Handler {
	m := http.NewServeMux()
	say := func(pattern, text string) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })
	}
	say("GET /os/threads", `{"time_ms":1,"list":[{"id":1,"name":"cpu0","status":"running","cpu":0,"cpu_ms":5,"switches":7}]}`)
	say("GET /hardware/processors", `[{"id":0,"busy_ms":10,"idle_ms":90}]`)
	say("GET /os/memory", `{"total":1000,"free":400,"balloon":0}`)
	say("GET /os/uptime", `1.5`)
	say("GET /os/dmesg", `"one\ntwo\n"`)
	say("GET /network/ifconfig", `[{"config":{"name":"lo"}},{"config":{"name":"eth0"},"channels":{"fast":3,"slow":1,"reasons":{"arp":1}}}]`)
	say("GET /app/finished", `"true"`)
	m.HandleFunc("PUT /app", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(401)
			fmt.Fprint(w, `{"code":401,"message":"this needs the token"}`)
			return
		}
		fmt.Fprintf(w, "%q", "7:"+r.URL.Query().Get("command"))
	})
	return m
}

func TestClient(t *testing.T) {
	s := httptest.NewServer(api())
	defer s.Close()
	c := &Client{Base: s.URL + "/", Token: "secret"}
	ctx := context.Background()
	check := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	threads, err := c.Threads(ctx)
	check("threads", threads, []Thread{{1, "cpu0", "running", i64(0), i64(5), i64(7)}}, err)
	cpus, err := c.Processors(ctx)
	check("processors", cpus, []Processor{{0, 10, 90}}, err)
	mem, err := c.Memory(ctx)
	check("memory", mem, Memory{1000, 400}, err)
	up, err := c.Uptime(ctx)
	check("uptime", up, 1500*time.Millisecond, err)
	text, err := c.Log(ctx)
	check("log", text, "one\ntwo\n", err)
	ch, err := c.Channels(ctx)
	check("channels", ch, []Channels{{"eth0", 3, 1, map[string]uint64{"arp": 1}}}, err)
	id, err := c.Run(ctx, "echo 'a b'")
	check("run", id, "7:echo 'a b'", err)
	done, err := c.Finished(ctx, "7")
	check("finished", done, true, err)
}

func TestErrors(t *testing.T) {
	s := httptest.NewServer(api())
	defer s.Close()
	c := &Client{Base: s.URL}
	_, err := c.Run(context.Background(), "x")
	var e *Error
	if !errors.As(err, &e) || e.Status != 401 || !strings.Contains(err.Error(), "/app: 401 Unauthorized: this needs the token (--token") {
		t.Error(err)
	}
	if _, err := c.Do(context.Background(), "GET", "/none", nil); err == nil || !strings.Contains(err.Error(), "404 Not Found: 404 page not found") {
		t.Error(err)
	}
	if err := c.JSON(context.Background(), "GET", "/os/dmesg", nil, &struct{}{}); err == nil || !strings.Contains(err.Error(), "not the JSON") {
		t.Error(err)
	}
	gone := &Client{Base: "http://127.0.0.1:1"}
	if _, err := gone.Threads(context.Background()); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1: ") {
		t.Error(err)
	}
	tls := httptest.NewTLSServer(api())
	defer tls.Close()
	if _, err := (&Client{Base: tls.URL}).Uptime(context.Background()); err == nil {
		t.Error("an unknown certificate is taken")
	}
	if _, err := (&Client{Base: tls.URL, Insecure: true}).Uptime(context.Background()); err != nil {
		t.Error(err)
	}
}
