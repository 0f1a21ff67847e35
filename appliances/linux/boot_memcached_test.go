//go:build boot

package main

import (
	"strings"
	"testing"
	"time"

	"osv/harness/load"
	"osv/harness/load/drive"
)

// TestBootMemcached: libmemcached's conformance test, and load whose every reply is
// compared, over TCP and UDP, before and after.
func TestBootMemcached(t *testing.T) {
	needTool(t, "memccapable", "libmemcached-tools")
	s := describe(t, "linux-memcached")
	for i, w := range s.Run {
		if w == "-U" {
			s.Run[i+1] = "11211"
		}
	}
	g := boot(t, s, makeDisk(t, s))
	g.waitPort("11211")
	capable := func() {
		t.Helper()
		out, err := g.run("memccapable", "-h", g.addr, "-p", "11211", "-t", "60")
		if pass := strings.Count(out, "[pass]"); err != nil || pass != 54 {
			t.Errorf("%d of 54 pass, %v:\n%s", pass, err, out)
		}
	}
	capable()
	for _, l := range []load.Spec{
		{Kind: load.MemcachedTCP, Conns: 16, Outstanding: 8, SetRatio: 0.2},
		{Kind: load.MemcachedTCP, Mode: load.Open, Rate: 1000, Conns: 16, SetRatio: 0.2, Popularity: "zipf:0.99", ValueSize: "1024"},
		// One request at a time: two threads of the server answer a SET and a GET of
		// one key that are under way together in either order, on Linux too.
		{Kind: load.MemcachedUDP, Seed: 7, KeySize: "48", SetRatio: 0.1},
	} {
		l.Target = g.addr + ":11211"
		l.Duration, l.Warmup = load.Duration(*loadTime), load.Duration(time.Second)
		l.Timeout = load.Duration(30 * time.Second)
		var r load.Result
		err := g.wire.Space.Do(func() (err error) {
			r, err = drive.Run(t.Context(), l, drive.Options{})
			return err
		})
		if err != nil {
			t.Fatalf("%s %s: %v", l.Kind, l.Mode, err)
		}
		t.Logf("%s %s: %d replies, %d lost, %d missed, %d wrong, %d read back", l.Kind, l.Mode, r.Completed, r.Lost, r.Misses, r.Wrong, r.Readback)
		if r.Completed == 0 || r.Wrong != 0 || r.Errors != 0 || r.Misses != 0 || l.Kind == load.MemcachedTCP && r.Lost != 0 {
			t.Errorf("%s %s: %d errors, %s", l.Kind, l.Mode, r.Errors, r.WrongText)
		}
	}
	capable()
	g.healthy()
}
