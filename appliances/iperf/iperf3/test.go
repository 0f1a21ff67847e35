package iperf3

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"osv/appliances/iperf/host"
	"osv/appliances/iperf/pace"
)

// test is one test while data flows, at either end.
type test struct {
	host     host.Host
	p        Params
	client   bool
	out      reporter
	interval time.Duration // between reports; 0: none
	idle     time.Duration // without a received octet, that ends the test
	verbose  bool

	streams []*stream // receivers and senders, in the order of their ids
	block   []byte    // what all senders send

	omitting  atomic.Bool
	remaining atomic.Int64 // octets that senders may still claim; only with a budget
	stop      chan struct{}
	stopOnce  sync.Once
	ended     chan *stream // streams whose goroutine has ended

	began      time.Time // of what counts
	cpu        [2]time.Duration
	cpuAt      time.Time
	counters   []host.Counter // at the last interval
	final      []Sample
	cpuPercent [3]float64
}

// control is what came on the control connection.
type control struct {
	state state
	err   error
}

// newTest makes the test of p; streams are added by the end that it belongs to.
func newTest(h host.Host, p Params, client bool, out reporter) *test {
	t := &test{
		host: h, p: p, client: client, out: out,
		stop: make(chan struct{}), ended: make(chan *stream, 2*maxStreams),
	}
	t.block = make([]byte, p.Block)
	for i := range t.block {
		t.block[i] = byte('0' + i%10)
	}
	t.omitting.Store(p.Omit > 0)
	t.remaining.Store(int64(min(p.budget(), huge)))
	return t
}

func (t *test) add(s *stream) {
	s.t, s.id, s.done = t, streamID(len(t.streams)), make(chan struct{})
	t.streams = append(t.streams, s)
}

// stopped reports that the streams are to end.
func (t *test) stopped() bool {
	select {
	case <-t.stop:
		return true
	default:
		return false
	}
}

// claim takes up to n octets out of the budget.
func (t *test) claim(n int) int {
	if !t.p.bounded() || t.omitting.Load() {
		return n
	}
	left := t.remaining.Add(-int64(n)) + int64(n)
	switch {
	case left <= 0:
		return 0
	case t.p.Protocol == UDP: // whole datagrams
		return n
	}
	return int(min(int64(n), left))
}

// pacing is a sender's: when the next block is due, and the waiting for it.
type pacing struct {
	t     *test
	p     *pace.Pacer
	timer *time.Timer
}

func (t *test) pacing() *pacing {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &pacing{t, pace.New(t.p.Bitrate, t.p.Burst, t.p.PacingTimer, time.Now()), timer}
}

// wait holds the sender back until n octets are due; false: the test is over.
func (p *pacing) wait(n int) bool {
	for {
		d := p.p.Due(n, time.Now())
		if d <= 0 {
			return true
		}
		if !p.sleep(d) {
			return false
		}
	}
}

// sleep is time.Sleep that the end of the test cuts short: false.
func (p *pacing) sleep(d time.Duration) bool {
	p.timer.Reset(d)
	select {
	case <-p.timer.C:
		return true
	case <-p.t.stop:
		return false
	}
}

// streamEnded tells the test's goroutine of s.
func (t *test) streamEnded(s *stream) { t.ended <- s }

// begin starts the clock and the streams.
func (t *test) begin() {
	now := time.Now()
	t.began, t.cpuAt = now, now
	t.cpu[0], t.cpu[1] = t.host.CPUTime()
	t.counters = t.host.Counters()
	for _, s := range t.streams {
		s.base = s.read(now)
		s.last = s.base
	}
	for _, s := range t.streams {
		go s.run()
	}
}

// grace is how long a test may take beyond its time before a server gives it up,
// and idleTick how often is looked for octets.
var grace = 10 * time.Second // tests shorten it

const (
	idleTick  = 500 * time.Millisecond
	boundTick = 5 * time.Millisecond
	lossQuiet = 2 * time.Second // of a receiver of datagrams that waits for a number of octets
)

// run lets data flow until the test is over: at the client by its time or its
// budget, and at both ends by what ctl brings. It returns that, or the zero
// control where the client's own end came first.
func (t *test) run(ctl <-chan control) (control, error) {
	t.begin()
	c, err := t.loop(ctl)
	t.finish(err == nil && c.err == nil)
	return c, err
}

func (t *test) loop(ctl <-chan control) (control, error) {
	tick := newTicker(t.interval)
	defer tick.stop()
	idle := time.NewTicker(idleTick)
	defer idle.Stop()
	var omit, end, bound <-chan time.Time
	if t.p.Omit > 0 {
		omit = time.After(t.p.Omit)
	}
	if t.p.Omit == 0 {
		end = t.limit()
	}
	senders := t.count(true)
	if t.client && t.p.bounded() && senders < len(t.streams) {
		b := time.NewTicker(boundTick)
		defer b.Stop()
		bound = b.C
	}
	received, since := t.received(), time.Now()
	var late <-chan time.Time // a report that waits for the end to come
	for {
		select {
		case c := <-ctl:
			return c, nil
		case <-tick.c:
			if now := time.Now(); t.endsAt(now) {
				late = time.After(t.interval / 10)
			} else {
				t.report(now)
			}
		case <-late:
			late = nil
			t.report(time.Now())
		case <-omit:
			t.endOmission()
			tick.reset()
			end = t.limit()
		case <-end:
			if !t.client {
				return control{}, failed(codeCtrlClose, fmt.Errorf("the client did not end the test in time"))
			}
			return control{}, nil
		case s := <-t.ended:
			if s.err != nil {
				code := codeStreamRead
				if s.sender {
					code = codeStreamWrite
				}
				return t.streamFailed(ctl, failed(code, s.err))
			}
			if s.sender {
				senders--
			}
			if t.client && senders == 0 && t.p.bounded() {
				return control{}, nil
			}
		case <-bound:
			if t.received() >= t.p.budget() && !t.omitting.Load() {
				return control{}, nil
			}
		case now := <-idle.C:
			if n := t.received(); n != received {
				received, since = n, now
				break
			}
			quiet := now.Sub(since)
			if bound != nil && t.p.Protocol == UDP && received > 0 && quiet > lossQuiet {
				return control{}, nil // the rest was lost
			}
			if t.count(false) == 0 || t.idle == 0 || quiet < t.idle {
				break
			}
			return control{}, failed(codeStreamRead, fmt.Errorf("nothing received for %v", t.idle))
		}
	}
}

// limit is the end of what counts, at the client, and of the server's patience.
func (t *test) limit() <-chan time.Time {
	switch {
	case t.p.Time == 0 || t.p.bounded():
		return nil
	case t.client:
		return time.After(t.p.Time)
	}
	return time.After(t.p.Time + grace)
}

// endsAt reports that a test by time is over about now: one report then does for
// the interval and the end.
func (t *test) endsAt(now time.Time) bool {
	if t.p.bounded() || t.p.Time == 0 || t.omitting.Load() {
		return false
	}
	left := t.p.Time - now.Sub(t.began)
	return left.Abs() < t.interval/20
}

// ctlWait is how long a stream's failure waits for the control connection's
// explanation.
const ctlWait = 500 * time.Millisecond

// streamFailed is what a failed stream makes of the test. A peer that ends the
// test closes streams at the same time: then what it says counts.
func (t *test) streamFailed(ctl <-chan control, err error) (control, error) {
	select {
	case c := <-ctl:
		return c, nil
	case <-time.After(ctlWait):
		return control{}, err
	}
}

func (t *test) count(sender bool) (n int) {
	for _, s := range t.streams {
		if s.sender == sender {
			n++
		}
	}
	return n
}

// received is what all receiving streams have got, without the omitted part.
func (t *test) received() (n uint64) {
	for _, s := range t.streams {
		if !s.sender {
			n += s.bytes.Load() - s.base.bytes
		}
	}
	return n
}

// endOmission begins what counts.
func (t *test) endOmission() {
	now := time.Now()
	t.report(now)
	t.omitting.Store(false)
	t.began, t.cpuAt = now, now
	t.cpu[0], t.cpu[1] = t.host.CPUTime()
	for _, s := range t.streams {
		s.base = s.last
		s.conns = connStats{known: s.conns.known, last: s.conns.last}
	}
}

// report ends an interval. One that is short and empty is not worth it.
func (t *test) report(now time.Time) {
	if len(t.streams) == 0 {
		return
	}
	iv := interval{Omitted: t.omitting.Load()}
	for _, s := range t.streams {
		m := s.read(now)
		iv.Samples = append(iv.Samples, s.sample(s.last, m, t.began))
		iv.Samples[len(iv.Samples)-1].Omitted = iv.Omitted
		s.last = m
	}
	span := iv.Samples[0].End - iv.Samples[0].Start
	if t.verbose {
		iv.Counters = t.rates(span)
	}
	empty := !slices.ContainsFunc(iv.Samples, func(s Sample) bool { return s.Bytes > 0 })
	if t.interval > 0 && (!empty || span >= t.interval.Seconds()/10) {
		t.out.interval(&iv)
	}
}

// rates are the host's counters per second since the last interval.
func (t *test) rates(span float64) []rate {
	now := t.host.Counters()
	var out []rate
	for i, c := range now {
		if i < len(t.counters) && t.counters[i].Name == c.Name && span > 0 {
			if d := c.N - t.counters[i].N; d > 0 {
				out = append(out, rate{c.Name, float64(d) / span})
			}
		}
	}
	t.counters = now
	return out
}

// drainLimit bounds how long a receiver waits for octets that are on their way
// when the peer says that all were sent, drainQuiet for how long none may come.
const (
	drainLimit = time.Second
	drainQuiet = 50 * time.Millisecond
)

// finish stops the streams and takes the last marks. Senders end first: what
// their last Write gave to the host counts.
func (t *test) finish(clean bool) {
	now := time.Now()
	t.halt(true)
	if clean && t.p.bounded() {
		now = t.drain(now)
	}
	t.report(now)
	user, system := t.host.CPUTime()
	if wall := now.Sub(t.cpuAt).Seconds(); wall > 0 {
		u, s := (user-t.cpu[0]).Seconds()/wall*100, (system-t.cpu[1]).Seconds()/wall*100
		t.cpuPercent = [3]float64{u + s, u, s}
	}
	for _, s := range t.streams {
		s.end = s.last
		t.final = append(t.final, s.sample(s.base, s.end, t.began))
	}
	if !t.client {
		t.halt(false)
	}
}

// halt ends the streams' goroutines, the senders' or the receivers'. It may be
// called again. A client's receivers go on until the results are there: a server
// that waits for room in its streams could not read the end of the test.
func (t *test) halt(senders bool) {
	t.stopOnce.Do(func() { close(t.stop) })
	for _, s := range t.streams {
		if s.sender == senders {
			s.unblock()
		}
	}
	if t.began.IsZero() {
		return // they were never started
	}
	for _, s := range t.streams {
		if s.sender == senders {
			<-s.done
		}
	}
}

// haltAll ends all goroutines of t.
func (t *test) haltAll() {
	t.halt(true)
	t.halt(false)
}

func (t *test) close() {
	for _, s := range t.streams {
		s.close()
	}
}

// drain waits for the last octets of a test that is not ended by time. It returns
// when they came.
func (t *test) drain(now time.Time) time.Time {
	if t.client || t.count(false) == 0 {
		return now
	}
	n, at := t.received(), now
	for n < t.p.budget() && time.Since(now) < drainLimit && time.Since(at) < drainQuiet {
		time.Sleep(time.Millisecond)
		if k := t.received(); k != n {
			n, at = k, time.Now()
		}
	}
	return at
}

// results are what this end tells the other.
func (t *test) results() Results {
	r := Results{CPU: t.cpuPercent, Retransmits: -1, Congestion: t.congestion()}
	if t.count(true) > 0 {
		r.Retransmits = 0
	}
	for i, s := range t.streams {
		f := t.final[i]
		out := StreamResults{
			ID: s.id, Bytes: f.Bytes, Jitter: f.Jitter, Errors: s.end.lost, Packets: s.end.packets,
			OmittedErrors: s.base.lost, OmittedPackets: s.base.packets, Omits: true,
			Start: f.Start, End: f.End,
		}
		if f.Retransmits >= 0 {
			out.Retransmits, r.Retransmits = f.Retransmits, 1
		} else if s.sender {
			out.Retransmits = -1
		}
		r.Streams = append(r.Streams, out)
	}
	return r
}

func (t *test) congestion() string {
	if t.p.Protocol != TCP {
		return ""
	}
	if t.p.Congestion != "" {
		return t.p.Congestion
	}
	return t.host.Congestion()
}

// ticker is a time.Ticker that may be none.
type ticker struct {
	c <-chan time.Time
	t *time.Ticker
	d time.Duration
}

func newTicker(d time.Duration) ticker {
	if d <= 0 {
		return ticker{}
	}
	t := time.NewTicker(d)
	return ticker{t.C, t, d}
}

func (t ticker) reset() {
	if t.t != nil {
		t.t.Reset(t.d)
	}
}

func (t ticker) stop() {
	if t.t != nil {
		t.t.Stop()
	}
}
