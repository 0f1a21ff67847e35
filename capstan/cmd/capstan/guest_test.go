package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// A guest's API as the commands need it; what it sends was taken from a guest.
func TestGuestCommands(t *testing.T) {
	var lines atomic.Int32
	m := http.NewServeMux()
	say := func(pattern, text string) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })
	}
	say("GET /os/threads", `{"list":[{"id":2,"name":"idle0","status":"running"},{"id":1,"name":"cpu\u001b0","status":"running","cpu":0,"cpu_ms":5,"switches":7}]}`)
	say("GET /hardware/processors", `[{"id":0,"busy_ms":10,"idle_ms":90}]`)
	say("GET /os/memory", `{"total":134217728,"free":67108864}`)
	say("GET /os/uptime", `61`)
	say("GET /network/ifconfig", `[{"config":{"name":"eth0"},"channels":{"fast":3,"slow":1}}]`)
	say("GET /app/finished", `"true"`)
	m.HandleFunc("GET /os/dmesg", func(w http.ResponseWriter, r *http.Request) {
		lines.Add(1)
		fmt.Fprintf(w, "%q", "hello\n")
	})
	m.HandleFunc("PUT /app", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			http.Error(w, `{"code":401,"message":"wrong token"}`, 401)
			return
		}
		fmt.Fprintf(w, "%q", r.URL.Query().Get("command"))
	})
	s := httptest.NewServer(m)
	defer s.Close()
	w := newWorld(t)
	if out := w.ok("ps", "--api", s.URL, "any"); !strings.Contains(out, `"cpu\x1b0"`) || !strings.Contains(out, "5ms") {
		t.Errorf("ps: %q", out)
	}
	if out := w.ok("logs", "--api", s.URL, "any"); out != "hello\n" {
		t.Errorf("logs: %q", out)
	}
	if out := w.ok("exec", "--api", s.URL, "--token", "t0ken", "-w", "any", "echo", "a b", "-n"); out != "echo 'a b' -n\n" {
		t.Errorf("exec: %q", out)
	}
	out := w.ok("top", "--api", s.URL, "-n", "1", "-d", "100ms", "any")
	if !strings.Contains(out, "up 1m1s, memory 64 of 128 MiB free") || !strings.Contains(out, "eth0 channels: fast 3, slow 1") || strings.Index(out, "cpu") > strings.Index(out, "idle0") {
		t.Errorf("top: %q", out)
	}
	if out := w.ok("top", "--json", "--api", s.URL, "-n", "1", "-d", "100ms", "any"); !strings.Contains(out, `"uptime_s": 61`) {
		t.Errorf("top --json: %q", out)
	}
	w.fails(1, s.URL+"/app: 401 Unauthorized: wrong token (--token, CAPSTAN_TOKEN)", "exec", "--api", s.URL, "any", "x")
	w.fails(3, "instance none: there is none", "ps", "none")
	w.fails(1, "--api ftp://x: want http://HOST[:PORT] or https://HOST[:PORT]", "ps", "--api", "ftp://x", "any")
	w.fails(1, "-n 0 -d 1ms: want times from 0 on and at least 100ms between", "top", "-d", "1ms", "any")
}
