package soak

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestScenariosAreNamedAndBounded(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Scenarios() {
		if s.Name == "" || s.About == "" || s.run == nil || s.Patience < time.Minute || seen[s.Name] || (s.Short == 0) != (s.Usual == 0) || s.Short > s.Usual {
			t.Errorf("%+v", s)
		}
		seen[s.Name] = true
	}
}

func TestRunJudges(t *testing.T) {
	var log []string
	x := NewRunner(Config{Short: true, Log: func(f string, a ...any) { log = append(log, fmt.Sprintf(f, a...)) }})
	run := func(patience time.Duration, f func(context.Context, *Run) error) Result {
		t.Helper()
		res, err := x.Run(t.Context(), Scenario{Name: "s", Short: time.Millisecond, Usual: time.Hour, Patience: patience, run: f})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	res := run(time.Minute, func(_ context.Context, r *Run) error {
		r.figure("n", 3, "MiB")
		r.logf("length %v", r.Length)
		return nil
	})
	if res.Failed != "" || res.Skipped != "" || len(res.Figures) != 1 || res.Figures[0] != (Figure{"n", 3, "MiB"}) || strings.Join(log, "") != "s: length 1ms" {
		t.Errorf("%+v %q", res, log)
	}
	if res := run(time.Minute, func(context.Context, *Run) error { return errors.New("broken") }); res.Failed != "broken" {
		t.Errorf("%+v", res)
	}
	if res := run(time.Minute, func(context.Context, *Run) error { return fmt.Errorf("%w: no ping", ErrSkip) }); res.Failed != "" || !strings.Contains(res.Skipped, "no ping") {
		t.Errorf("%+v", res)
	}
	if res := run(time.Millisecond, func(ctx context.Context, _ *Run) error { <-ctx.Done(); return ctx.Err() }); !strings.Contains(res.Failed, "not done after 2ms") {
		t.Errorf("%+v", res)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Run(ctx, Scenario{run: func(ctx context.Context, _ *Run) error { return ctx.Err() }}); err != context.Canceled {
		t.Error(err)
	}
	if d := NewRunner(Config{Duration: time.Minute}).Length(Scenario{Short: 1, Usual: 2}); d != time.Minute {
		t.Error(d)
	}
	if d := NewRunner(Config{Duration: time.Minute}).Length(Scenario{}); d != 0 {
		t.Error(d)
	}
}

func TestParse(t *testing.T) {
	p, err := parsePing("2000 packets transmitted, 1999 received, 0.05% packet loss, time 1ms\nrtt min/avg/max/mdev = 0.1/0.25/3.5/0.1 ms, ipg/ewma 1/2 ms\n")
	if err != nil || p != (pingResult{2000, 1999, 0.25, 3.5}) {
		t.Error(p, err)
	}
	if _, err := parsePing("ping: unknown host"); err == nil {
		t.Error("no error")
	}
	if v, err := parseWrk("Requests/sec:   2763.10\n"); err != nil || v != 2763.10 {
		t.Error(v, err)
	}
	for _, bad := range []string{"", "  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec: 1\n", "  Non-2xx or 3xx responses: 5\nRequests/sec: 1\n"} {
		if _, err := parseWrk(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	good := `warning {"intervals":[{"sum":{"bytes":5}},{"sum":{"bytes":%d}}],"end":{"sum_sent":{"bytes":12,"retransmits":2},"sum_received":{"bytes":10,"bits_per_second":80}}}`
	good = strings.TrimPrefix(good, "warning ")
	if b, err := parseBulk("warning\n" + fmt.Sprintf(good, 5)); err != nil || b.End.Received.Rate != 80 || b.End.Sent.Retransmits != 2 {
		t.Error(b, err)
	}
	for bad, want := range map[string]string{
		fmt.Sprintf(good, 0): "nothing moved in second 2 of 2",
		`{"error":"busy"}`:   "iperf3: busy",
		`{"intervals":[]}`:   "0 intervals",
		"not JSON":           "iperf3's output",
	} {
		if _, err := parseBulk(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", bad, err, want)
		}
	}
	m, err := parseModes(strings.NewReader(`{"Action":"output","Test":"T/1cpu/TCP","Output":"oh\n"}
{"Action":"fail","Test":"T/1cpu/TCP"}
{"Action":"pass","Test":"T/1cpu/UDP"}
{"Action":"fail","Test":"T/1cpu"}
{"Action":"fail","Test":"T"}`))
	if err != nil || m.passed != 1 || len(m.failed) != 1 || m.failed[0] != "TCP" || m.text != "oh\n" {
		t.Error(m, err)
	}
	if _, err := parseModes(strings.NewReader("FAIL")); err == nil {
		t.Error("no error")
	}
	if v, err := parseRSS("Name:\tx\nVmRSS:\t  12 kB\n"); err != nil || v != 12*1024 {
		t.Error(v, err)
	}
	if _, err := parseRSS(""); err == nil {
		t.Error("no error")
	}
	for in, ok := range map[string]bool{"1\n2\n3\n": true, "3\n1\n2\n": true, "1\n2\n": false, "1\n2\n2\n": false, "1\n2\nx\n": false} {
		if err := numbers(in, 3); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
	if m := median([]float64{3, 1, 2, 10}); m != 2.5 || median(nil) != 0 {
		t.Error(m)
	}
	if v := ratio([]float64{2, 9, 4}, []float64{1, 3, 2}); v != 2 {
		t.Error(v)
	}
}

func TestFlat(t *testing.T) {
	r := &Run{Runner: NewRunner(Config{})}
	level := func(rss, pages, heap float64) memorySample { return memorySample{rss: rss, pages: pages, heap: heap} }
	for _, c := range []struct {
		name string
		ms   []memorySample
		want string
	}{
		{"level", []memorySample{level(1, 0, 1), level(1, 0, 1), level(1, 0, 1)}, ""},
		{"slabs", []memorySample{level(1, 0, 1), level(1, 0, 1), level(100<<20, 100<<20, 1)}, ""},
		{"heap", []memorySample{level(1, 0, 1), level(1, 0, 1), level(1, 0, 9<<20)}, "heap grew from 0.0 to 9.0 MiB"},
		{"resident", []memorySample{level(1, 0, 1), level(1, 0, 1), level(40<<20, 10<<20, 1)}, "resident memory without slabs grew"},
		{"evictions", []memorySample{{}, {}, {evictions: 2}}, "2 evictions"},
		{"few", []memorySample{{}}, "only 1 looks"},
	} {
		err := flat(r, c.ms)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// debian starts Debian's memcached on loopback: the scenarios' clients must find
// nothing wrong with it.
func debian(t *testing.T, args ...string) peer {
	t.Helper()
	bin, err := exec.LookPath("memcached")
	if err != nil {
		t.Skip("memcached is not installed (make deps)")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	cmd := exec.Command(bin, append([]string{"-u", "nobody", "-l", "127.0.0.1", "-p", fmt.Sprint(addr.Port), "-U", fmt.Sprint(addr.Port)}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var d net.Dialer
	p := peer{dial: d.DialContext, addr: addr.String(), do: func(f func() error) error { return f() }}
	p.rss = func() (float64, error) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			return 0, err
		}
		return parseRSS(string(b))
	}
	for {
		nc, err := p.dial(t.Context(), "tcp", p.addr)
		if err == nil {
			nc.Close()
			return p
		}
		if cmd.ProcessState != nil || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

func testRun(t *testing.T, length time.Duration) *Run {
	return &Run{Runner: NewRunner(Config{Log: t.Logf}), Scenario: Scenario{Name: t.Name()}, Length: length}
}

func TestGarbageAgainstDebian(t *testing.T) {
	p := debian(t, "-m", "128", "-F")
	r := testRun(t, 6*time.Second)
	if err := garbageOn(t.Context(), r, p, nil); err != nil {
		t.Error(err)
	}
	t.Log(r.figures)
}

func TestSlowAgainstDebian(t *testing.T) {
	p := debian(t, "-m", "128", "-c", "4096")
	r := testRun(t, 3*time.Second)
	if err := slowOn(t.Context(), r, p); err != nil {
		t.Error(err)
	}
	t.Log(r.figures)
}

// The checking client tells a wrong value, a lost key and a dead server.
func TestCheckerSees(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(cl *client, c *checker) error
		want string
	}{
		"wrong": {func(cl *client, c *checker) error { return cl.set(c.key(3), "other") }, `by TCP: own-003: found true, "other"`},
		"lost":  {func(cl *client, c *checker) error { _, err := cl.say("delete " + c.key(4) + "\r\n"); return err }, "by TCP: own-004: found false"},
		"UDP lost": {func(cl *client, c *checker) error {
			_, err := cl.say("delete " + c.key(checkerKeys-1) + "\r\n")
			return err
		}, `by UDP: own-127: "END\r\n", want "VALUE own-127`},
		"shutdown": {func(cl *client, c *checker) error { _, err := cl.nc.Write([]byte("shutdown\r\n")); return err }, "the checking client by"},
	} {
		t.Run(name, func(t *testing.T) {
			p := debian(t, "-A")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			check := &checker{p: p, prefix: "own", udp: true}
			err := check.with(ctx, func(ctx context.Context) error {
				cl, err := p.client(ctx)
				if err != nil {
					return err
				}
				defer cl.close()
				for check.count() == 0 && ctx.Err() == nil {
					sleep(ctx, time.Millisecond)
				}
				// Again and again: the checking client may write the key before it reads it.
				for ctx.Err() == nil {
					if err := c.harm(cl, check); err != nil {
						<-ctx.Done() // the server is gone; the client says so
					}
					sleep(ctx, time.Millisecond)
				}
				return ctx.Err()
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A rebooted cache is empty, and one that is not is told.
func TestAllMissing(t *testing.T) {
	p := debian(t)
	cl, err := p.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone, err := debian(t).client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone.close()
	if err := allMissing(t.Context(), p, gone, 20); err != nil {
		t.Error(err)
	}
	if err := allMissing(t.Context(), p, cl, 20); err == nil || !strings.Contains(err.Error(), `a connection of the life before answers "END"`) {
		t.Error(err)
	}
	if err := cl.set("key-7", "x"); err != nil {
		t.Fatal(err)
	}
	if err := allMissing(t.Context(), p, gone, 20); err == nil || !strings.Contains(err.Error(), "get key-7: found true") {
		t.Error(err)
	}
}

func TestCrowd(t *testing.T) {
	p := debian(t)
	before, err := connsNow(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCrowd(t.Context(), p, 100, 4096, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close(true)
	if n := c.broken(); n != 0 {
		t.Errorf("%d broken", n)
	}
	if err := c.write("quit\r\n"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); c.broken() < 100; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of 100 are broken", c.broken())
		}
	}
	c.close(false)
	if err := quiet(t.Context(), p, before); err != nil {
		t.Error(err)
	}
	p.addr = "127.0.0.1:1"
	if _, err := openCrowd(t.Context(), p, 2, 0, netip.Addr{}); err == nil || !strings.Contains(err.Error(), "connection 1 of 2 to 127.0.0.1:1: connection refused") {
		t.Error(err)
	}
	if err := refused(t.Context(), p, p.addr); err != nil {
		t.Error(err)
	}
}
