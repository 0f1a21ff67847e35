// Package trace is what a running kernel tells about itself: a levelled log
// (dmesg), an event trace with named points, counters, and the boot chart.
//
// It is a leaf: it imports the standard library only, and every package above
// the Go runtime may import it. It is never needed for correctness, knows no
// device and no protocol, starts no goroutine and, but for the console writer
// it is given, waits for nothing. Time is the time since boot, from a clock
// that kernel/platform injects (SetClock); until then it is the time since the
// program's start, which is right for hosted tests.
//
//	var log = trace.For("virtio-net")                              // log.go
//	log.Warnf("queue %d: device offers %d descriptors", q, n)
//
//	var evRx = trace.NewPoint("net.rx", "queue %d frames %d")      // point.go
//	if evRx.On() {
//		evRx.Emit(uint64(q), uint64(n))
//	}
//
//	var rxFrames = trace.NewCounter("net.rx.frames")               // counter.go
//	rxFrames.Add(uint64(n))
//
//	trace.Stage("pci enumerated")                                  // chart.go
//
// On hot paths: a point that is off costs a load and a branch; Emit and Add
// neither allocate nor lock. Logging allocates and locks: it is for what
// happens rarely.
//
// Each of the four exists as a type with its own state (Log, Tracer, Counters,
// Chart), which tests use, and as one instance of the machine, which the
// functions of this file use. Start reading here, then point.go and ring.go.
package trace

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

const (
	logRecords  = 1024 // lines that the machine's log holds
	traceEvents = 4096 // events that the machine's trace holds: 256 KiB, made when a point is first switched on
)

var (
	clock   atomic.Pointer[func() time.Duration]
	started = time.Now()

	machineLog      = NewLog(now, logRecords)
	machineTracer   = NewTracer(now, traceEvents)
	machineCounters Counters
	machineChart    = NewChart(now)
)

// SetClock makes f, which returns the time since boot, the clock of the
// machine's log, trace and chart. f must be cheap, must not allocate, and may
// be called from any goroutine.
func SetClock(f func() time.Duration) { clock.Store(&f) }

func now() time.Duration {
	if f := clock.Load(); f != nil {
		return (*f)()
	}
	return time.Since(started)
}

// For returns the machine's logger of one component: a driver, a protocol.
func For(component string) *Logger { return machineLog.For(component) }

// SetLevel is Log.SetLevel of the machine's log.
func SetLevel(l Level) { machineLog.SetLevel(l) }

// SetConsole is Log.SetConsole of the machine's log.
func SetConsole(w io.Writer, l Level) { machineLog.SetConsole(w, l) }

// Records is Log.Records of the machine's log.
func Records(from uint64) []Record { return machineLog.Records(from) }

// NewPoint is Tracer.NewPoint of the machine's trace.
func NewPoint(name, format string) *Point { return machineTracer.NewPoint(name, format) }

// Enable is Tracer.Enable of the machine's trace.
func Enable(patterns string) (points int, err error) { return machineTracer.Enable(patterns) }

// Disable is Tracer.Disable of the machine's trace.
func Disable(patterns string) error { return machineTracer.Disable(patterns) }

// Points is Tracer.Points of the machine's trace.
func Points() []*Point { return machineTracer.Points() }

// Events is Tracer.Snapshot of the machine's trace.
func Events() []Event { return machineTracer.Snapshot() }

// NewCounter is Counters.New of the machine's counters.
func NewCounter(name string) *Counter { return machineCounters.New(name) }

// Gauge is Counters.Gauge of the machine's counters.
func Gauge(name string, read func() uint64) { machineCounters.Gauge(name, read) }

// Snapshot is Counters.Snapshot of the machine's counters.
func Snapshot() []Value { return machineCounters.Snapshot() }

// Stage is Chart.Stage of the machine's boot chart.
func Stage(name string) { machineChart.Stage(name) }

// StageAt is Chart.StageAt of the machine's boot chart.
func StageAt(name string, at time.Duration) { machineChart.StageAt(name, at) }

// BootChart returns the machine's boot chart.
func BootChart() *Chart { return machineChart }

// WriteLog, WriteEvents and WriteCounters print the machine's log, trace and
// counters as text.
func WriteLog(w io.Writer, l Level) error { return machineLog.WriteText(w, l) }

// WriteEvents prints the machine's trace; see WriteLog.
func WriteEvents(w io.Writer) error { return machineTracer.WriteText(w) }

// WriteCounters prints the machine's counters; see WriteLog.
func WriteCounters(w io.Writer) error { return machineCounters.WriteText(w) }

// Dump prints all there is, for a machine that ends badly.
func Dump(w io.Writer) error {
	for _, part := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"log", func(w io.Writer) error { return WriteLog(w, LevelDebug) }},
		{"events", WriteEvents},
		{"counters", WriteCounters},
	} {
		if _, err := fmt.Fprintf(w, "--- %s ---\n", part.name); err != nil {
			return err
		}
		if err := part.write(w); err != nil {
			return err
		}
	}
	return nil
}

// appendStamp appends a time since boot as "[    1.234567] ".
func appendStamp(b []byte, at time.Duration) []byte {
	us := max(at, 0).Microseconds()
	return fmt.Appendf(b, "[%5d.%06d] ", us/1e6, us%1e6)
}
