package load

import (
	"fmt"
	"io"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram geometry: 1 ns to 60 s at three significant digits, 221 kB each.
const (
	histMin    = 1
	histMax    = 60e9
	histDigits = 3
)

// NewHistogram makes a histogram of nanoseconds in the geometry of this package.
func NewHistogram() *hdr.Histogram { return hdr.New(histMin, histMax, histDigits) }

// Recorder keeps one load's counts and latencies. It belongs to one goroutine,
// and its methods allocate nothing after Open.
type Recorder struct {
	Latency, Service, Lag *hdr.Histogram

	Completed, Hits, Misses, Lost, Late, Wrong, Errors uint64
	Due                                                uint64 // requests intended in the window

	timeline   []uint32
	start, end int64 // window, in the clock of the engine
	wrongText  string
}

// NewRecorder makes a recorder for a window of [start, end) nanoseconds.
func NewRecorder(start, end int64) *Recorder {
	bins := (end - start + TimelineStep - 1) / TimelineStep
	return &Recorder{Latency: NewHistogram(), Service: NewHistogram(), Lag: NewHistogram(),
		timeline: make([]uint32, bins), start: start, end: end}
}

// In reports whether a time lies in the window.
func (r *Recorder) In(t int64) bool { return t >= r.start && t < r.end }

// Sent notes a request that was due at intended and left at sent.
func (r *Recorder) Sent(intended, sent int64) {
	if r.In(intended) {
		r.Due++
		record(r.Lag, sent-intended)
	}
}

// Done notes a checked reply at now. Latency goes with the requests that were
// due in the window; the count with the replies that came in it, so that a
// backlog left at the end is not counted as throughput.
func (r *Recorder) Done(intended, sent, now int64, hit bool) {
	if r.In(intended) {
		record(r.Latency, now-intended)
		record(r.Service, now-sent)
	}
	if !r.In(now) {
		return
	}
	r.Completed++
	if hit {
		r.Hits++
	}
	r.timeline[(now-r.start)/TimelineStep]++
}

// Missed notes a stored key that was not found.
func (r *Recorder) Missed(intended int64) {
	if r.In(intended) {
		r.Misses++
	}
}

// Drop notes a request without a reply.
func (r *Recorder) Drop(intended int64) {
	if r.In(intended) {
		r.Lost++
	}
}

// Fault counts a wrong reply or an error, in the warm-up too: a server that
// answers wrongly once is not measured. The first text is kept.
func (r *Recorder) Fault(n *uint64, format string, args ...any) {
	*n++
	if r.wrongText == "" {
		r.wrongText = fmt.Sprintf(format, args...)
	}
}

// Merge adds what another recorder of the same window kept.
func (r *Recorder) Merge(o *Recorder) {
	r.Latency.Merge(o.Latency)
	r.Service.Merge(o.Service)
	r.Lag.Merge(o.Lag)
	r.Completed += o.Completed
	r.Hits += o.Hits
	r.Misses += o.Misses
	r.Lost += o.Lost
	r.Late += o.Late
	r.Wrong += o.Wrong
	r.Errors += o.Errors
	r.Due += o.Due
	for i := range r.timeline {
		r.timeline[i] += o.timeline[i]
	}
	if r.wrongText == "" {
		r.wrongText = o.wrongText
	}
}

// FaultText is the first fault's text, empty where there was none.
func (r *Recorder) FaultText() string { return r.wrongText }

func record(h *hdr.Histogram, v int64) {
	if v < histMin {
		v = histMin
	}
	if v > histMax {
		v = histMax
	}
	_ = h.RecordValue(v) // cannot fail within the range
}

// Fill puts the recorder's figures into a result.
func (r *Recorder) Fill(res *Result) {
	res.Seconds = float64(r.end-r.start) / 1e9
	res.Completed, res.Hits, res.Misses, res.Lost = r.Completed, r.Hits, r.Misses, r.Lost
	res.Late, res.Wrong, res.Errors, res.WrongText = r.Late, r.Wrong, r.Errors, r.wrongText
	res.Offered = float64(r.Due) / res.Seconds
	res.Rate = float64(r.Completed) / res.Seconds
	res.Latency, res.Service, res.SendLag = Summary(r.Latency), Summary(r.Service), Summary(r.Lag)
	res.Timeline = r.timeline
}

// Summary takes the points of a histogram that reports print.
func Summary(h *hdr.Histogram) Quantiles {
	if h.TotalCount() == 0 {
		return Quantiles{}
	}
	return Quantiles{Count: h.TotalCount(), Mean: h.Mean(), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90),
		P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max()}
}

// The tags of the histograms in a log.
const (
	TagLatency = "latency"
	TagService = "service"
	TagLag     = "send-lag"
)

// WriteLog writes the three histograms as an HdrHistogram log (format 1.3, V2
// compressed), readable by the HdrHistogram tools. at is the window's start.
func (r *Recorder) WriteLog(w io.Writer, comment string, at time.Time) error {
	lw := hdr.NewHistogramLogWriter(w)
	if err := lw.OutputLogFormatVersion(); err != nil {
		return err
	}
	if err := lw.OutputComment(comment); err != nil {
		return err
	}
	if err := lw.OutputStartTime(at.UnixMilli()); err != nil {
		return err
	}
	if err := lw.OutputLegend(); err != nil {
		return err
	}
	for _, h := range []struct {
		tag string
		h   *hdr.Histogram
	}{{TagLatency, r.Latency}, {TagService, r.Service}, {TagLag, r.Lag}} {
		h.h.SetTag(h.tag)
		h.h.SetStartTimeMs(at.UnixMilli())
		h.h.SetEndTimeMs(at.UnixMilli() + (r.end-r.start)/1e6)
		if err := lw.OutputIntervalHistogram(h.h); err != nil {
			return fmt.Errorf("load: histogram %s: %w", h.tag, err)
		}
	}
	return nil
}

// ReadLog reads a log of WriteLog: histograms by tag.
func ReadLog(r io.Reader) (map[string]*hdr.Histogram, error) {
	lr := hdr.NewHistogramLogReader(r)
	out := map[string]*hdr.Histogram{}
	for {
		h, err := lr.NextIntervalHistogram()
		if err != nil {
			return nil, fmt.Errorf("load: histogram log: %w", err)
		}
		if h == nil {
			return out, nil
		}
		if old := out[h.Tag()]; old != nil {
			old.Merge(h)
			continue
		}
		out[h.Tag()] = h
	}
}
