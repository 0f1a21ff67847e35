package load

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/load/dist"
)

// Engine is what the engines share: the schedule, the window and its edges. An
// engine embeds it and calls its methods from one thread.
type Engine struct {
	Spec  Spec // filled in and checked
	Codec Codec
	Rand  dist.Rand
	Rec   *Recorder
	Probe Probes
	Now   func() int64 // monotonic nanoseconds; tests replace it

	arrivals *dist.Arrivals
	next     int64 // intended time of the next request, open loop
	start    int64 // measurement window
	end      int64
	opened   bool
	closed   bool
	ended    bool // the codec has no more requests
	stop     atomic.Bool
	cpu0     int64
	polling  bool
	busy     int64 // nanoseconds of loop turns that did work
	busy0    int64

	ClientCPU float64
	Probes    map[string]float64
	StartedAt time.Time // wall clock at the window's start
}

// forever is the window of a finite job.
const forever = int64(1) << 60

// NewEngine prepares a run of spec. A finite job (job true) has no window: it
// ends with its codec.
func NewEngine(spec Spec, codec Codec, job bool) (*Engine, error) {
	e := &Engine{Spec: spec, Codec: codec, Rand: dist.NewRand(spec.Seed + spec.Repeat*0x9e3779b9)}
	base := time.Now()
	e.Now = func() int64 { return int64(time.Since(base)) }
	if spec.Mode == Open && !job {
		var err error
		if e.arrivals, err = dist.NewArrivals(spec.Arrivals, spec.Rate); err != nil {
			return nil, err
		}
	}
	if job {
		e.end = forever
		e.Rec = NewRecorder(0, 0)
		return e, nil
	}
	e.start = int64(spec.Warmup)
	e.end = e.start + int64(spec.Duration)
	e.Rec = NewRecorder(e.start, e.end)
	return e, nil
}

// Begin locks the thread, quiets the collector and the timer slack, and makes
// ctx stop the loop. The returned function undoes all of it.
func (e *Engine) Begin(ctx context.Context) func() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	old := debug.SetGCPercent(-1) // the loop allocates nothing; a cycle would only add lag
	cancel := context.AfterFunc(ctx, func() { e.stop.Store(true) })
	return func() {
		cancel()
		debug.SetGCPercent(old)
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // back to the default
		runtime.UnlockOSThread()
	}
}

// Stopped reports that ctx was cancelled.
func (e *Engine) Stopped() bool { return e.stop.Load() }

// Edge opens and closes the window when now passes its ends.
func (e *Engine) Edge(now int64) error {
	if !e.opened && now >= e.start && e.end != forever {
		e.opened = true
		e.StartedAt = time.Now()
		e.cpu0, e.busy0 = cpuTime(), e.busy
		return e.Probe.Start()
	}
	if !e.closed && now >= e.end {
		e.closed = true
		used := cpuTime() - e.cpu0
		if e.polling {
			used = min(e.busy-e.busy0, e.end-e.start) // a turn that the host held up reaches past the end
		}
		e.ClientCPU = float64(used) / float64(e.end-e.start)
		var err error
		e.Probes, err = e.Probe.Stop()
		return err
	}
	return nil
}

// SetPolling says that the loop spins instead of sleeping, so that ClientCPU is
// the share of time spent on turns that did something, not CPU time.
func (e *Engine) SetPolling() { e.polling = true }

// Worked adds a loop turn that did something.
func (e *Engine) Worked(ns int64) { e.busy += ns }

// Issuing reports whether requests may still be sent at now.
func (e *Engine) Issuing(now int64) bool { return !e.ended && now < e.end && !e.stop.Load() }

// Due gives the intended time of a request that may leave at now, false when
// none is due. The caller has room for it.
func (e *Engine) Due(now int64) (intended int64, q Req, ok bool) {
	if e.arrivals != nil && e.next > now {
		return 0, Req{}, false
	}
	q, ok = e.Codec.Next(e.Rand)
	if !ok {
		e.ended = true
		return 0, Req{}, false
	}
	if e.arrivals == nil {
		return now, q, true
	}
	intended = e.next
	e.next += e.arrivals.Gap(e.Rand)
	return intended, q, true
}

// WaitTime is how long the loop may sleep at now when it has nothing to do but
// the given expiry (0 = none): until the next request is due, an edge of the
// window, the expiry, or 20 ms, so that a cancel is seen.
func (e *Engine) WaitTime(now, expiry int64, mayIssue bool) time.Duration {
	until := now + 20e6
	if mayIssue && e.arrivals != nil && e.Issuing(now) {
		until = min(until, e.next)
	}
	if !e.opened && e.end != forever {
		until = min(until, e.start)
	}
	if !e.closed {
		until = min(until, e.end)
	}
	if expiry != 0 {
		until = min(until, expiry)
	}
	return time.Duration(max(until-now, 0))
}

// Finite reports whether the run is a job that ends with its codec.
func (e *Engine) Finite() bool { return e.end == forever }

// OpenLoop reports whether requests follow a schedule.
func (e *Engine) OpenLoop() bool { return e.arrivals != nil }

// Result gathers what was measured.
func (e *Engine) Result() Result {
	r := Result{Spec: e.Spec, ClientCPU: e.ClientCPU, Probes: e.Probes}
	e.Rec.Fill(&r)
	if e.OpenLoop() && e.closed {
		// What the schedule still held when the window ended was due in it and not sent.
		r.Offered += e.Spec.Rate * float64(max(0, e.end-max(e.next, e.start))) / 1e9 / r.Seconds
	}
	r.Guard = Judge(r, 0)
	return r
}

// cpuTime is the CPU time of this process in nanoseconds.
func cpuTime() int64 {
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return ru.Utime.Nano() + ru.Stime.Nano()
}

// Meter measures the CPU share of this process between two moments.
type Meter struct {
	cpu int64
	at  time.Time
}

// NewMeter makes a meter that has started.
func NewMeter() *Meter {
	m := &Meter{}
	m.Start()
	return m
}

// Start begins again.
func (m *Meter) Start() { m.cpu, m.at = cpuTime(), time.Now() }

// Share is CPU time over time since Start; above 1 with several busy threads.
func (m *Meter) Share() float64 {
	return float64(cpuTime()-m.cpu) / float64(max(time.Since(m.at), 1))
}
