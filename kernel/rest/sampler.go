package rest

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A sampler of processor time for a machine without SIGPROF: it looks at all
// goroutines at a steady rate, as runtime.Stack shows them. A goroutine that ran when
// the world was stopped is runnable then, as one that waits for a processor is: the
// two cannot be told apart, and both count as time on processors; with as many
// processors as busy goroutines it is the same. What waits for something else counts
// as time on the wall.

const (
	maxRate     = 250  // samples a second: each stops the world
	defaultRate = 100  // of /debug/pprof/profile, as the runtime's own
	maxDepth    = 64   // frames of a stack
	maxKinds    = 8192 // different stacks; further ones count as one
)

// sampler is the machine's sampler. The zero value is stopped.
type sampler struct {
	mu      sync.Mutex
	quit    chan struct{} // nil: stopped
	stopped chan struct{}
	rate    int
	prof    *samples
}

// start begins to take samples, from nothing, rate times a second.
func (s *sampler) start(rate int) {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate = min(rate, maxRate)
	s.quit, s.stopped, s.prof = make(chan struct{}), make(chan struct{}), newSamples(s.rate)
	go s.prof.run(s.quit, s.stopped)
}

// stop ends that; what was seen stays.
func (s *sampler) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quit != nil {
		close(s.quit)
		<-s.stopped
		s.quit = nil
	}
}

// running says whether samples are taken.
func (s *sampler) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quit != nil
}

// profile is what was seen since start, nil where that never was.
func (s *sampler) profile() *samples {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.prof
}

// samples is what a sampler saw.
type samples struct {
	rate  int
	began time.Time

	mu    sync.Mutex
	took  time.Duration
	ticks int
	kinds map[string]*kind // by the frames
	buf   []byte
}

// kind is how often one stack was seen.
type kind struct {
	frames       []frame
	ready, waits int64
}

func newSamples(rate int) *samples {
	return &samples{rate: rate, began: time.Now(), kinds: map[string]*kind{}, buf: make([]byte, 64<<10)}
}

func (p *samples) run(quit, stopped chan struct{}) {
	defer close(stopped)
	t := time.NewTicker(time.Second / time.Duration(p.rate))
	defer t.Stop()
	for {
		select {
		case <-quit:
			return
		case <-t.C:
			p.take()
		}
	}
}

// take takes one sample. The goroutine that does is running, and the only one.
func (p *samples) take() {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := readStacks(p.buf)
	if len(text) == len(p.buf) && len(p.buf) < maxStacks {
		p.buf = make([]byte, 2*len(p.buf)) // from the next sample on
	}
	p.add(text)
	p.took = time.Since(p.began)
}

// add counts one text of stacks.
func (p *samples) add(text []byte) {
	p.ticks++
	parseStacks(text, func(s stack) {
		if s.state == "running" {
			return
		}
		frames := s.frames[:min(len(s.frames), maxDepth)]
		var key strings.Builder
		for _, f := range frames {
			fmt.Fprintf(&key, "%s:%d\n", f.function, f.line)
		}
		k := p.kinds[key.String()]
		if k == nil {
			if len(p.kinds) >= maxKinds {
				key.Reset()
				frames = []frame{{function: "other"}}
				key.WriteString("other:0\n")
				k = p.kinds[key.String()]
			}
			if k == nil {
				k = &kind{frames: frames}
				p.kinds[key.String()] = k
			}
		}
		if s.state == "runnable" {
			k.ready++
		} else {
			k.waits++
		}
	})
}

// write writes the profile in pprof's format: processor time is the value that tools
// show first.
func (p *samples) write(w io.Writer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	period := int64(time.Second) / int64(p.rate)
	b := newProfile([][2]string{{"samples", "count"}, {"cpu", "nanoseconds"}, {"wall", "nanoseconds"}}, "cpu")
	for _, k := range p.kinds {
		b.sample(k.frames, []int64{k.ready, k.ready * period, (k.ready + k.waits) * period})
	}
	return b.write(w, p.began, p.took, period)
}

func setSampler(c *call) error {
	rate := int(c.number("freq", 0))
	if rate == 0 {
		c.s.sampler.stop()
		return c.json("Sampler stopped successfully")
	}
	c.s.sampler.start(rate)
	return c.json("Sampler started successfully")
}

func getSampler(c *call) error {
	p := c.s.sampler.profile()
	if p == nil {
		return errorf(404, "the sampler was not started (POST /trace/sampler?freq=100)")
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.Header().Set("Content-Disposition", `attachment; filename="sampler.pb.gz"`)
	return p.write(c.w)
}
