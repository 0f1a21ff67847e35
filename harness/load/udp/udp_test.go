package udp

import (
	"context"
	"encoding/binary"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
	"osv/harness/load/dist"
	"osv/harness/load/loadtest"
	"osv/harness/load/mctext"
	"osv/harness/load/null"
)

func testItems(t testing.TB, n int, value string) *mctext.Items {
	t.Helper()
	return loadtest.Items(t, n, value, 60000)
}

func mix(t testing.TB, it *mctext.Items, sets float64) *mctext.Mix {
	t.Helper()
	return loadtest.Mix(t, it, sets)
}

func spec(mode load.Mode, out int, d time.Duration) load.Spec {
	return load.Spec{Kind: load.MemcachedUDP, Mode: mode, Rate: 2000, Outstanding: out, Warmup: load.Duration(d / 4),
		Duration: load.Duration(d), Timeout: load.Duration(300 * time.Millisecond)}.WithDefaults()
}

func nullPort(t testing.TB, it *mctext.Items, flows int) Port {
	t.Helper()
	s, err := null.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), it)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p, err := OpenSocket(s.Addr, flows)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestClosedLoopAgainstNullServer(t *testing.T) {
	it := testItems(t, 1000, "32")
	m := mix(t, it, 0.3)
	e, err := Run(context.Background(), spec(load.Closed, 16, 200*time.Millisecond), m, nullPort(t, it, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := e.Result()
	if ok, why := r.Clean(); !ok || r.Late != 0 {
		t.Fatalf("%s, %d late", why, r.Late)
	}
	if r.Completed < 200 || r.Latency.Count < 200 || r.SendLag.P99 > 1000 || r.Hits == 0 || r.Hits == r.Completed || m.StoredCount() == 0 {
		t.Errorf("%+v", r)
	}
	if r.ClientCPU <= 0 || r.ClientCPU > 2.5 {
		t.Errorf("client CPU %v", r.ClientCPU)
	}
	var bins uint64
	for _, n := range r.Timeline {
		bins += uint64(n)
	}
	if len(r.Timeline) != 2 || bins != r.Completed {
		t.Errorf("timeline %v of %d", r.Timeline, r.Completed)
	}
}

func TestOpenLoopKeepsTheSchedule(t *testing.T) {
	it := testItems(t, 1000, "32")
	e, err := Run(context.Background(), spec(load.Open, 256, 400*time.Millisecond), mix(t, it, 0), nullPort(t, it, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := e.Result()
	if ok, why := r.Clean(); !ok {
		t.Fatal(why)
	}
	if r.Offered < 1500 || r.Offered > 2500 || r.Latency.Count != r.SendLag.Count {
		t.Errorf("offered %.0f/s of 2000, %d latencies of %d sends", r.Offered, r.Latency.Count, r.SendLag.Count)
	}
	if r.Latency.P50 < r.SendLag.P50 {
		t.Errorf("latency %v does not contain the send lag %v", r.Latency, r.SendLag)
	}
}

func TestJobStoresEveryItemThenReadsBack(t *testing.T) {
	it := testItems(t, 700, "uniform:0,1300")
	p := nullPort(t, it, 2)
	ctx := context.Background()
	set := mctext.NewJob(it, mctext.OpSet, 1, mctext.All(it), 5)
	if err := RunJob(ctx, spec(load.Closed, 16, time.Second), set, p); err != nil || set.Pending() != 0 {
		t.Fatalf("%v, %d pending", err, set.Pending())
	}
	get := mctext.NewJob(it, mctext.OpGet, 1, mctext.All(it), 5)
	if err := RunJob(ctx, spec(load.Closed, 16, time.Second), get, p); err != nil || get.Pending() != 0 || get.Misses() != 0 {
		t.Fatalf("%v, %d pending, %d misses", err, get.Pending(), get.Misses())
	}
}

func TestJobGivesUpOnASilentServer(t *testing.T) {
	it := testItems(t, 5000, "32")
	p := &fakePort{serve: func(*fakePort, []byte) {}}
	base, err := load.NewEngine(spec(load.Closed, 16, time.Second), mctext.NewJob(it, mctext.OpSet, 0, mctext.All(it), 10), true)
	if err != nil {
		t.Fatal(err)
	}
	base.Now = func() int64 { p.now += 200; return p.now }
	if err := runOn(context.Background(), base, p); err == nil || !strings.Contains(err.Error(), "no reply for 1.") {
		t.Error(err)
	}
}

// fakePort is a server in memory under a clock of its own. Datagrams take a
// fixed time each way; serve decides what comes back.
type fakePort struct {
	now   int64
	delay int64
	queue []flight
	serve func(p *fakePort, req []byte)
	full  bool // take nothing
	out   [][]byte
}

type flight struct {
	at int64
	b  []byte
}

func (p *fakePort) Send(d [][]byte) (int, error) {
	if p.full {
		return 0, nil
	}
	for _, b := range d {
		p.serve(p, b)
	}
	return len(d), nil
}

func (p *fakePort) reply(after int64, b ...[]byte) {
	for _, x := range b {
		p.queue = append(p.queue, flight{p.now + p.delay + after, append([]byte(nil), x...)})
	}
}

func (p *fakePort) Recv(d [][]byte) (int, error) {
	n := 0
	for i := 0; i < len(p.queue) && n < len(d); {
		if p.queue[i].at <= p.now {
			d[n] = p.queue[i].b
			n++
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			continue
		}
		i++
	}
	return n, nil
}

func (p *fakePort) Wait(d time.Duration) error {
	p.now += int64(d)
	for _, f := range p.queue { // a reply wakes us
		if f.at < p.now {
			p.now = max(f.at, p.now-int64(d))
		}
	}
	return nil
}

func (p *fakePort) Polls() bool  { return false }
func (p *fakePort) Close() error { return nil }

// runFake runs spec against serve in virtual time.
func runFake(t *testing.T, s load.Spec, c load.Codec, serve func(p *fakePort, req []byte)) load.Result {
	t.Helper()
	p := &fakePort{delay: 100e3, serve: serve}
	base, err := load.NewEngine(s, c, false)
	if err != nil {
		t.Fatal(err)
	}
	base.Now = func() int64 { p.now += 200; return p.now }
	if err := runOn(context.Background(), base, p); err != nil {
		t.Fatal(err)
	}
	return base.Result()
}

func frame(req []byte, seq, total int, body []byte) []byte {
	b := []byte{req[0], req[1], byte(seq >> 8), byte(seq), byte(total >> 8), byte(total), 0, 0}
	return append(b, body...)
}

// answerOf finds the item of a get request.
func answerOf(it *mctext.Items, req []byte) []byte {
	i, ok := it.Find(req[headerBytes+4 : len(req)-2])
	if !ok {
		panic("request of an unknown key")
	}
	return it.AppendValue(nil, i, 0)
}

func TestLatencyCountsFromTheIntendedTime(t *testing.T) {
	it := testItems(t, 100, "32")
	s := spec(load.Open, 1024, time.Second)
	s.Arrivals = "uniform"
	s.Rate = 1000
	// The server stops for 100 ms once: requests due meanwhile wait for it, and a
	// generator that hid that would report one slow request, not a hundred.
	stopped := int64(600e6)
	r := runFake(t, s, mix(t, it, 0), func(p *fakePort, req []byte) {
		var wait int64
		if p.now >= stopped && p.now < stopped+100e6 {
			wait = stopped + 100e6 - p.now
		}
		p.reply(wait, frame(req, 0, 1, answerOf(it, req)))
	})
	if ok, why := r.Clean(); !ok {
		t.Fatal(why)
	}
	if r.Latency.Count != 1000 || r.Latency.P50 > 200e3 || r.Latency.P99 < 85e6 || r.Latency.Max < 95e6 {
		t.Errorf("%+v", r.Latency)
	}
}

func TestFullWindowDelaysButKeepsIntendedTimes(t *testing.T) {
	it := testItems(t, 100, "32")
	s := spec(load.Open, 4, time.Second)
	s.Arrivals, s.Rate = "uniform", 1000
	// Four outstanding at 10 ms each carry 400/s of the 1000/s asked for.
	r := runFake(t, s, mix(t, it, 0), func(p *fakePort, req []byte) { p.reply(9.9e6, frame(req, 0, 1, answerOf(it, req))) })
	if r.Rate < 380 || r.Rate > 420 {
		t.Errorf("rate %.0f, want 400", r.Rate)
	}
	if r.SendLag.P99 < 500e6 || r.Latency.P99 < 500e6 || r.Service.P99 > 12e6 {
		t.Errorf("lag %+v latency %+v service %+v", r.SendLag, r.Latency, r.Service)
	}
	if !r.Guard.ClientBound || !strings.Contains(r.Guard.Reason, "send lag") {
		t.Errorf("guard %+v", r.Guard)
	}
}

func TestLossDuplicateLateAndWrong(t *testing.T) {
	it := testItems(t, 100, "32")
	s := spec(load.Closed, 8, time.Second)
	n := 0
	r := runFake(t, s, mix(t, it, 0), func(p *fakePort, req []byte) {
		n++
		a := frame(req, 0, 1, answerOf(it, req))
		switch {
		case n%50 == 0: // lost
		case n%50 == 1: // twice
			p.reply(0, a, a)
		case n%50 == 2: // after the timeout
			p.reply(400e6, a)
		default:
			p.reply(1e6, a)
		}
	})
	if r.Lost == 0 || r.Late == 0 || r.Wrong != 0 || r.Errors != 0 || r.Completed == 0 {
		t.Errorf("%+v", r)
	}
	if ok, why := r.Clean(); ok || !strings.Contains(why, "lost") {
		t.Errorf("clean: %v %q", ok, why)
	}
	for name, bad := range map[string]func(req []byte) []byte{
		"other bytes": func(req []byte) []byte { a := frame(req, 0, 1, answerOf(it, req)); a[60] ^= 1; return a },
		"cut short":   func(req []byte) []byte { a := frame(req, 0, 1, answerOf(it, req)); return a[:len(a)-3] },
		"and more":    func(req []byte) []byte { return append(frame(req, 0, 1, answerOf(it, req)), 'x') },
		"sequence":    func(req []byte) []byte { return frame(req, 1, 1, answerOf(it, req)) },
		"of nothing":  func(req []byte) []byte { return frame(req, 0, 0, answerOf(it, req)) },
		"two of one":  func(req []byte) []byte { return frame(req, 2, 2, answerOf(it, req)) },
		"tiny":        func([]byte) []byte { return []byte{1, 2, 3} },
		"error":       func(req []byte) []byte { return frame(req, 0, 1, []byte("SERVER_ERROR out of memory\r\n")) },
	} {
		k := 0
		r := runFake(t, s, mix(t, it, 0), func(p *fakePort, req []byte) {
			if k++; k%10 == 0 {
				p.reply(0, bad(req))
				return
			}
			p.reply(1e6, frame(req, 0, 1, answerOf(it, req)))
		})
		if r.Wrong == 0 || r.WrongText == "" {
			t.Errorf("%s: %d wrong (%q)", name, r.Wrong, r.WrongText)
		}
	}
	k := 0
	r = runFake(t, s, mix(t, it, 0), func(p *fakePort, req []byte) {
		if k++; k%10 == 0 {
			p.reply(0, frame(req, 0, 1, []byte("END\r\n")))
			return
		}
		p.reply(1e6, frame(req, 0, 1, answerOf(it, req)))
	})
	if r.Misses == 0 || r.Wrong != 0 {
		t.Errorf("misses %d, wrong %d", r.Misses, r.Wrong)
	}
}

func TestReassemblyInAnyOrder(t *testing.T) {
	it := testItems(t, 20, "5000")
	s := spec(load.Closed, 8, 300*time.Millisecond)
	turn := 0
	split := func(p *fakePort, req []byte, order []int, skip int) {
		a := answerOf(it, req)
		var parts [][]byte
		total := (len(a) + 1391) / 1392
		for i := range total {
			parts = append(parts, frame(req, i, total, a[i*1392:min(len(a), (i+1)*1392)]))
		}
		for _, i := range order {
			if i != skip {
				p.reply(1e5, parts[i])
			}
		}
	}
	r := runFake(t, s, jobGets(t, it), func(p *fakePort, req []byte) {
		turn++
		order := [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}}[turn%3]
		split(p, req, order, -1)
	})
	if ok, why := r.Clean(); !ok || r.Hits < 100 {
		t.Fatalf("%s; %d hits", why, r.Hits)
	}
	r = runFake(t, s, jobGets(t, it), func(p *fakePort, req []byte) {
		turn++
		split(p, req, []int{0, 1, 2, 3}, turn%20) // now and then one is missing
	})
	if r.Lost == 0 || r.Wrong != 0 {
		t.Errorf("lost %d, wrong %d", r.Lost, r.Wrong)
	}
	r = runFake(t, s, jobGets(t, it), func(p *fakePort, req []byte) { split(p, req, []int{0, 1, 1, 2, 3}, -1) })
	if r.Wrong == 0 {
		t.Error("a repeated piece is not noticed")
	}
}

// jobGets is a mix of GETs whose requests fit though its replies do not.
type getOnly struct{ *mctext.Mix }

func (getOnly) MaxRequest() int { return 200 }

func jobGets(t *testing.T, it *mctext.Items) load.Codec { return getOnly{mix(t, it, 0)} }

func TestRequestTooLargeForADatagram(t *testing.T) {
	it := testItems(t, 10, "2000")
	_, err := Run(context.Background(), spec(load.Closed, 1, time.Second), mix(t, it, 1), &fakePort{}, nil)
	if err == nil || !strings.Contains(err.Error(), "do not fit a datagram") {
		t.Error(err)
	}
	bad := spec(load.Open, 1, time.Second)
	bad.Arrivals = "nonsense"
	if _, err := Run(context.Background(), bad, mix(t, it, 0), &fakePort{}, nil); err == nil {
		t.Error("bad schedule accepted")
	}
}

func TestCancelEndsTheRun(t *testing.T) {
	it := testItems(t, 10, "32")
	ctx, cancel := context.WithCancel(context.Background())
	s := spec(load.Open, 16, 50*time.Second)
	time.AfterFunc(30*time.Millisecond, cancel)
	began := time.Now()
	_, err := Run(ctx, s, mix(t, it, 0), nullPort(t, it, 1), nil)
	if err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestNobodyListens(t *testing.T) {
	it := testItems(t, 10, "32")
	s, err := null.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), it)
	if err != nil {
		t.Fatal(err)
	}
	addr := s.Addr
	s.Close()
	p, err := OpenSocket(addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	sp := spec(load.Open, 512, 5*time.Second)
	if _, err := Run(context.Background(), sp, mix(t, it, 0), p, nil); err == nil || !strings.Contains(err.Error(), "nobody listens") {
		t.Error(err)
	}
}

// The loop allocates nothing, in either mode, over real sockets.
func TestNoAllocationsInTheLoop(t *testing.T) {
	it := testItems(t, 1000, "32")
	for _, mode := range []load.Mode{load.Closed, load.Open} {
		s := spec(mode, 32, 3*time.Second)
		s.Rate = 20000
		base, err := load.NewEngine(s, mix(t, it, 0.2), false)
		if err != nil {
			t.Fatal(err)
		}
		e, err := newEngine(base, nullPort(t, it, 2))
		if err != nil {
			t.Fatal(err)
		}
		runtime.LockOSThread()
		for range 50 { // first growths of the runtime's own tables
			if _, err := e.turn(); err != nil {
				t.Fatal(err)
			}
		}
		allocs := testing.AllocsPerRun(300, func() {
			if _, err := e.turn(); err != nil {
				t.Fatal(err)
			}
		})
		runtime.UnlockOSThread()
		if allocs != 0 {
			t.Errorf("%s: %v allocations per turn", mode, allocs)
		}
	}
}

func FuzzReply(f *testing.F) {
	it := testItems(f, 20, "5000")
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 0, 'E', 'N', 'D', '\r', '\n'})
	f.Add([]byte{0, 1, 0, 0, 0, 4, 0, 0, 'V'})
	f.Add([]byte{0, 1, 255, 255, 255, 255, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &fakePort{serve: func(*fakePort, []byte) {}}
		k, _ := dist.NewPicker("uniform", it.Len())
		base, err := load.NewEngine(spec(load.Closed, 8, time.Second), getOnly{mctext.NewMix(it, k, 0)}, false)
		if err != nil {
			t.Fatal(err)
		}
		base.Now = func() int64 { p.now += 1000; return p.now }
		e, err := newEngine(base, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.turn(); err != nil {
			t.Fatal(err)
		}
		e.reply(b, 5000)
		if len(b) > 8 { // the same bytes, once more as another piece
			c := append([]byte(nil), b...)
			binary.BigEndian.PutUint16(c[2:], binary.BigEndian.Uint16(c[2:])+1)
			e.reply(c, 6000)
		}
		if e.inflight < 0 || e.inflight > 8 {
			t.Fatalf("%d in flight", e.inflight)
		}
	})
}
