package drive

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
	"osv/harness/load/null"
	"osv/harness/load/udp"
)

// memcachedServer starts Debian's memcached on loopback and gives its address.
func memcachedServer(t *testing.T, args ...string) string {
	t.Helper()
	bin, err := exec.LookPath("memcached")
	if err != nil {
		t.Skip("memcached is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	cmd := exec.Command(bin, append([]string{"-u", "nobody", "-l", "127.0.0.1", "-p", port, "-U", port, "-t", "1", "-m", "256"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for i := 0; ; i++ {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return "127.0.0.1:" + port
		}
		if i > 300 {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // until the server listens
	}
}

func quick(kind load.Kind, target string) load.Spec {
	return load.Spec{Kind: kind, Target: target, Keys: 500, Warmup: load.Duration(40 * time.Millisecond), Duration: load.Duration(160 * time.Millisecond)}
}

// Every memcached generator against the real server, ETC sizes among them.
func TestGeneratorsAgainstMemcached(t *testing.T) {
	addr := memcachedServer(t)
	ctx := context.Background()
	for name, change := range map[string]func(s *load.Spec){
		"udp get":      func(s *load.Spec) { s.Kind, s.Outstanding, s.Conns = load.MemcachedUDP, 16, 2 },
		"udp set":      func(s *load.Spec) { s.Kind, s.Outstanding, s.SetRatio = load.MemcachedUDP, 16, 1 },
		"udp open mix": func(s *load.Spec) { s.Kind, s.Mode, s.Rate, s.SetRatio = load.MemcachedUDP, load.Open, 3000, 0.1 },
		"udp etc": func(s *load.Spec) {
			s.Kind, s.Outstanding, s.KeySize, s.ValueSize, s.SetRatio = load.MemcachedUDP, 8, "fb_key", "fb_value", 0.03
		},
		"tcp get":       func(s *load.Spec) { s.Kind, s.Conns = load.MemcachedTCP, 16 },
		"tcp pipelined": func(s *load.Spec) { s.Kind, s.Conns, s.Outstanding, s.SetRatio = load.MemcachedTCP, 4, 32, 1 },
		"tcp etc open": func(s *load.Spec) {
			s.Kind, s.Mode, s.Rate, s.Arrivals, s.Conns = load.MemcachedTCP, load.Open, 2000, "fb_ia", 4
			s.KeySize, s.ValueSize, s.SetRatio, s.Popularity = "fb_key", "fb_value", 0.03, "zipf:0.99"
		},
		"gomemcache":     func(s *load.Spec) { s.Kind, s.Conns = load.GoMemcache, 4 },
		"plain udp":      func(s *load.Spec) { s.Kind, s.Conns = load.PlainUDP, 2 },
		"plain tcp sets": func(s *load.Spec) { s.Kind, s.Conns, s.SetRatio = load.PlainTCP, 2, 1 },
	} {
		s := quick("", addr)
		change(&s)
		hdr := filepath.Join(t.TempDir(), "log", "x.hlog")
		pid := os.Getpid()
		r, err := Run(ctx, s, Options{HDRLog: hdr, Label: name, Probes: []string{fmt.Sprintf("self=cpu:%d/%d", pid, pid)}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if ok, why := r.Clean(); !ok || r.Completed < 50 || r.Latency.P99 == 0 {
			t.Errorf("%s: %s, %d completed, %+v", name, why, r.Completed, r.Latency)
		}
		if s.SetRatio > 0 && s.Kind != load.PlainTCP && r.Readback == 0 {
			t.Errorf("%s: nothing was read back", name)
		}
		if strings.HasPrefix(name, "plain") {
			continue
		}
		f, err := os.Open(hdr)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		h, err := load.ReadLog(f)
		f.Close()
		if err != nil || load.Summary(h[load.TagLatency]) != r.Latency {
			t.Errorf("%s: the log and the result differ: %v", name, err)
		}
		if len(r.Probes) != 1 {
			t.Errorf("%s: probes %v", name, r.Probes)
		}
	}
}

// Two generators without shared code find about the same server: closed loop,
// one outstanding request on each of a few sockets. The tolerance is wide, since
// this machine is shared; the reference run states the real figure.
func TestIndependentGeneratorAgrees(t *testing.T) {
	addr := memcachedServer(t)
	ratios := []float64{}
	for range 5 {
		var rate [2]float64
		for i, k := range []load.Kind{load.MemcachedTCP, load.PlainTCP} {
			s := quick(k, addr)
			s.Conns, s.Duration = 1, load.Duration(200*time.Millisecond)
			r, err := Run(context.Background(), s, Options{})
			if err != nil {
				t.Fatal(err)
			}
			rate[i] = r.Rate
		}
		ratios = append(ratios, rate[0]/rate[1])
	}
	var log float64
	for _, r := range ratios {
		log += math.Log(r) / float64(len(ratios))
	}
	if g := math.Exp(log); g < 0.5 || g > 2.5 {
		t.Errorf("ours/independent = %.2f (%.2f)", g, ratios)
	}
}

func TestEvictedKeysAreNoticed(t *testing.T) {
	addr := memcachedServer(t, "-m", "2") // the last -m counts: far too small
	s := quick(load.MemcachedTCP, addr)
	s.Keys, s.ValueSize, s.SetRatio, s.Outstanding = 4000, "8000", 1, 8
	if _, err := Run(context.Background(), s, Options{}); err == nil || !strings.Contains(err.Error(), "written keys are gone") {
		t.Error(err)
	}
}

func TestHTTP(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	defer srv.Close()
	s := quick(load.HTTP, strings.TrimPrefix(srv.URL, "http://"))
	s.Conns = 2
	r, err := Run(context.Background(), s, Options{})
	if err != nil || r.Completed < 20 {
		t.Errorf("%+v %v", r, err)
	}
	s.Path = "no such"
	srv.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, s, Options{}); err == nil {
		t.Error("no server, no error")
	}
}

func TestCeiling(t *testing.T) {
	for _, k := range []load.Kind{load.MemcachedUDP, load.MemcachedTCP} {
		c, err := Ceiling(context.Background(), load.Spec{Kind: k, Outstanding: 16, SetRatio: 0.5, Keys: 100}, 100*time.Millisecond)
		if err != nil || c <= 0 {
			t.Errorf("%s: %v %v", k, c, err)
		}
	}
	if c, err := Ceiling(context.Background(), load.Spec{Kind: load.Iperf}, time.Second); c != 0 || err != nil {
		t.Errorf("%v %v", c, err)
	}
	if _, err := Ceiling(context.Background(), load.Spec{Kind: load.MemcachedUDP, KeySize: "?"}, time.Second); err == nil {
		t.Error("bad key size accepted")
	}
}

func TestGivenPort(t *testing.T) {
	s := quick(load.MemcachedUDP, "")
	s = s.WithDefaults()
	it, err := Items(s)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := null.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), it)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	p, err := udp.OpenSocket(srv.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if r, err := Run(context.Background(), s, Options{Port: p}); err != nil || r.Completed < 20 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestBadSpecs(t *testing.T) {
	for want, s := range map[string]load.Spec{
		"unknown kind":  {Kind: "x"},
		"key size":      {Kind: load.MemcachedUDP, KeySize: "?"},
		"value size":    {Kind: load.MemcachedUDP, ValueSize: "?"},
		"popularity":    {Kind: load.MemcachedUDP, Popularity: "?"},
		"ADDRESS":       {Kind: load.MemcachedTCP, Target: "host.example"},
		"closed loop":   {Kind: load.PlainUDP, Mode: load.Open, Rate: 1},
		"target":        {Kind: load.HTTP, Target: "x"},
		"not a number":  {Kind: load.PlainTCP, ValueSize: "?"},
		"iperf: target": {Kind: load.Iperf, Target: "x"},
		"gomemcache":    {Kind: load.GoMemcache, Mode: load.Open, Rate: 1},
	} {
		if _, err := Run(context.Background(), s, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := Run(context.Background(), load.Spec{Kind: load.MemcachedUDP}, Options{Probes: []string{"bad"}}); err == nil {
		t.Error("bad probe accepted")
	}
}
