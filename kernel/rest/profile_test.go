package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

const exampleStacks = `goroutine 7 [running]:
osv/kernel/rest.readStacks(...)
	/src/kernel/rest/stacks.go:30
osv/kernel/rest.(*samples).take(0xc000012345)
	/src/kernel/rest/sampler.go:101 +0x1d
created by osv/kernel/rest.(*sampler).start in goroutine 1
	/src/kernel/rest/sampler.go:45 +0x11

goroutine 8 [runnable, locked to thread]:
main.spin({0xc00001, 0x2, 0x3})
	/src/main spin.go:12 +0x2a
main.main.func1()
	/src/main.go:20 +0x8
created by main.main in goroutine 1
	/src/main.go:19 +0x77

goroutine 9 [IO wait, 5 minutes]:
internal/poll.runtime_pollWait(0x7f, 0x72)
	/go/src/runtime/netpoll.go:351 +0x85
net/http.(*conn).serve(0xc0001, {0x1, 0x2})
	/go/src/net/http/server.go:2027 +0x1

goroutine 10 [chan receive]:
main.cut(0x1)
	/src/cut`

func TestParseStacks(t *testing.T) {
	var got []string
	parseStacks([]byte(exampleStacks), func(s stack) {
		line := s.state
		for _, f := range s.frames {
			line += " | " + f.function + " " + f.file + ":" + itoa(f.line)
		}
		got = append(got, line)
	})
	want := `running | osv/kernel/rest.readStacks /src/kernel/rest/stacks.go:30 | osv/kernel/rest.(*samples).take /src/kernel/rest/sampler.go:101
runnable | main.spin /src/main spin.go:12 | main.main.func1 /src/main.go:20
IO wait | internal/poll.runtime_pollWait /go/src/runtime/netpoll.go:351 | net/http.(*conn).serve /go/src/net/http/server.go:2027
chan receive | main.cut /src/cut:0`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
}

func FuzzParseStacks(f *testing.F) {
	f.Add([]byte(exampleStacks))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseStacks(b, func(s stack) {
			if len(s.frames) == 0 {
				t.Error("a stack without frames")
			}
			innermost(s.frames)
		})
	})
}

// What this process tells of itself is understood whole.
func TestOwnStacks(t *testing.T) {
	n := 0
	found := false
	parseStacks(readStacks(make([]byte, 1<<20)), func(s stack) {
		n++
		for _, f := range s.frames {
			found = found || strings.HasSuffix(f.function, ".TestOwnStacks") && strings.HasSuffix(f.file, "profile_test.go") && f.line > 0
		}
	})
	if !found || n < 2 || n > runtime.NumGoroutine()+5 {
		t.Errorf("%d of %d goroutines, this one: %v", n, runtime.NumGoroutine(), found)
	}
}

// The sampler's profile is one that go tool pprof reads, with names, lines and times.
func TestSamplerProfile(t *testing.T) {
	p := newSamples(100)
	for range 5 {
		p.add([]byte(exampleStacks))
	}
	p.took = 50 * time.Millisecond
	var b bytes.Buffer
	if err := p.write(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "p.pb.gz")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	top := pprofTool(t, "-top", file)
	// 5 samples of 10 ms: spin is flat, main.main.func1 cumulative; what waits has none.
	for _, want := range []string{`Type: cpu`, `Duration: 50ms, Total samples = 50ms`, `50ms\s+100%\s+100%\s+50ms\s+100%\s+main\.spin`, `0\s+0%\s+100%\s+50ms\s+100%\s+main\.main\.func1`} {
		if !regexp.MustCompile(want).MatchString(top) {
			t.Errorf("no %q in\n%s", want, top)
		}
	}
	wall := pprofTool(t, "-top", "-lines", "-sample_index=wall", file)
	if !regexp.MustCompile(`50ms.*net/http\.\(\*conn\)\.serve .*server\.go:2027`).MatchString(wall) {
		t.Errorf("wall:\n%s", wall)
	}
	if p.ticks != 5 || p.kinds["main.spin:12\nmain.main.func1:20\n"].ready != 5 {
		t.Errorf("%d ticks, %v", p.ticks, p.kinds)
	}
}

func pprofTool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"tool", "pprof", "-symbolize=none"}, args...)...).CombinedOutput()
	if err != nil {
		t.Skipf("go tool pprof: %v: %s", err, out)
	}
	return string(out)
}

// Stacks that differ without end do not take memory without end.
func TestSamplerIsBounded(t *testing.T) {
	p := newSamples(100)
	for i := range maxKinds + 100 {
		p.add([]byte("goroutine 1 [runnable]:\nmain.f()\n\t/f.go:" + itoa(i) + "\n\n"))
	}
	if len(p.kinds) > maxKinds+1 || p.kinds["other:0\n"].ready != 100 {
		t.Errorf("%d stacks, other %+v", len(p.kinds), p.kinds["other:0\n"])
	}
}

// A function that computes is seen by the sampler.
func TestSamplerSeesWork(t *testing.T) {
	var s sampler
	if s.profile() != nil || s.running() {
		t.Error("not started, and has a profile")
	}
	s.stop()
	s.start(100000)
	if s.rate != maxRate || !s.running() {
		t.Errorf("rate %d", s.rate)
	}
	quit := make(chan struct{})
	done := make(chan int)
	go func() { done <- busyForTheSampler(quit) }()
	seen := func() bool {
		p := s.profile()
		p.mu.Lock()
		defer p.mu.Unlock()
		for key, k := range p.kinds {
			if k.ready > 0 && strings.Contains(key, "busyForTheSampler") {
				return true
			}
		}
		return false
	}
	end := time.Now().Add(20 * time.Second)
	for !seen() && time.Now().Before(end) {
		runtime.Gosched()
	}
	if !seen() {
		t.Error("not seen")
	}
	close(quit)
	<-done
	s.stop()
	ticks := s.profile().ticks
	if s.running() || ticks == 0 {
		t.Errorf("%d samples", ticks)
	}
}

func busyForTheSampler(quit chan struct{}) (n int) {
	for {
		select {
		case <-quit:
			return n
		default:
			n++
		}
	}
}

// Every profile is a gzip stream that is whole, and takes the time it was asked for.
func TestProfiles(t *testing.T) {
	for _, timer := range []bool{true, false} {
		s := newServer(t, func(c *Config) { c.ProfileTimer = timer })
		for _, target := range []string{"profile?seconds=1", "heap?gc=1", "allocs", "goroutine", "threadcreate", "mutex?seconds=1", "block?seconds=1"} {
			w := send(s, "GET", "/debug/pprof/"+target, map[string]string{"Authorization": bearer})
			z, err := gzip.NewReader(w.Body)
			if w.Code != 200 || err != nil {
				t.Errorf("%s: %d, %v", target, w.Code, err)
				continue
			}
			if b, err := io.ReadAll(z); err != nil || len(b) == 0 {
				t.Errorf("%s: %d bytes, %v", target, len(b), err)
			}
		}
		w := send(s, "GET", "/debug/pprof/trace?seconds=1", map[string]string{"Authorization": bearer})
		if w.Code != 200 || !bytes.HasPrefix(w.Body.Bytes(), []byte("go 1.")) {
			t.Errorf("trace: %d, begins with %.16q", w.Code, w.Body)
		}
	}
}
