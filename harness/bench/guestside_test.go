package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/guestapi"
	"osv/harness/load"
)

// What a guest tells is taken as differences over the load.
func TestGuestSide(t *testing.T) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hardware/processors":
			n++
			fmt.Fprintf(w, `[{"id":0,"busy_ms":%d,"idle_ms":%d}]`, 100+75*(n-1), 50+25*(n-1))
		case "/os/memory":
			fmt.Fprint(w, `{"total":1000,"free":400}`)
		case "/network/ifconfig":
			fmt.Fprintf(w, `[{"config":{"name":"eth0"},"channels":{"fast":%d,"slow":%d}}]`, 1000*n, n)
		}
	}))
	defer s.Close()
	side := guestSide{client: &guestapi.Client{Base: s.URL}}
	side.start(context.Background())
	got, err := side.stop(context.Background())
	if err != nil || got.CPU != 0.75 || got.FastFrames != 1000 || got.SlowFrames != 1 || got.MemFree != 400 || got.MemTotal != 1000 {
		t.Errorf("%+v %v", got, err)
	}
	var none guestSide
	none.start(context.Background())
	if got, err := none.stop(context.Background()); got != nil || err != nil {
		t.Errorf("a guest without an API: %+v %v", got, err)
	}
	s.Close()
	side.start(context.Background())
	if _, err := side.stop(context.Background()); err == nil || !strings.Contains(err.Error(), "the guest's own figures") {
		t.Error(err)
	}
}

// The image that is profiled answers the API, from within the wire's namespace.
func TestProfiledGuestTellsOfItself(t *testing.T) {
	k := osvKind(t)
	cfg := bootConfig("udp:11211")
	cfg.Profile = true
	g, err := k.Boot(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	side := guestSide{client: g.(Managed).API()}
	if side.client == nil {
		t.Skip("no wire that reaches the API")
	}
	side.start(t.Context())
	r := &Runner{Plan: testPlan(), LoadCommand: loadCommand}
	w := design.Workload{Name: "x", Port: "udp:11211", Spec: testSpec(load.MemcachedUDP)}
	w.Spec.Duration = load.Duration(500 * time.Millisecond)
	res, err := r.measure(t.Context(), g, w, nil, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	got, err := side.stop(t.Context())
	if err != nil || got.CPU <= 0 || got.CPU > 1 || got.FastFrames < res.Completed || got.MemTotal < 100<<20 || got.MemFree == 0 || got.MemFree > got.MemTotal {
		t.Errorf("%+v %v, %d requests", got, err, res.Completed)
	}
}
