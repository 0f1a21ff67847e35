package rest

import (
	"fmt"
	"html"
	"net/http"
	"runtime"
	"runtime/pprof"
	rtrace "runtime/trace"
	"slices"
	"strings"
	"time"
)

// Sampling of mutex and block profiles while one is asked for with seconds; they are
// off else, since they cost whoever locks.
const (
	mutexFraction = 10      // one of so many contentions
	blockRate     = 1 << 14 // ns of waiting for one sample
)

func pprofIndex(c *call) error {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Profiles</title><h1>Profiles</h1>\n" +
		"<p>go tool pprof http://HOST/debug/pprof/NAME, or go tool trace of a trace.</p>\n<ul>\n")
	names := []string{"profile", "trace"}
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(&b, "<li><a href=\"/debug/pprof/%s?debug=1\">%s</a>", html.EscapeString(n), html.EscapeString(n))
		if p := pprof.Lookup(n); p != nil {
			fmt.Fprintf(&b, ": %d", p.Count())
		}
		b.WriteString("</li>\n")
	}
	b.WriteString("</ul>\n")
	return c.bytes("text/html; charset=utf-8", []byte(b.String()))
}

func pprofProfile(c *call) error {
	name := c.arg("profile")
	seconds := time.Duration(c.number("seconds", 0)) * time.Second
	switch name {
	case "profile", "trace":
		if !c.s.profiling.TryLock() {
			return errorf(409, "somebody else takes a profile")
		}
		defer c.s.profiling.Unlock()
		if seconds == 0 {
			seconds = map[string]time.Duration{"profile": 10 * time.Second, "trace": time.Second}[name]
		}
		c.stream(seconds)
		if name == "trace" {
			return takeTrace(c, seconds)
		}
		return takeCPU(c, seconds)
	}
	p := pprof.Lookup(name)
	if p == nil {
		return errorf(404, "there is no profile %s", name)
	}
	debug := int(c.number("debug", 0))
	if seconds > 0 {
		if !c.s.profiling.TryLock() {
			return errorf(409, "somebody else takes a profile")
		}
		defer c.s.profiling.Unlock()
		c.stream(seconds)
		switch name {
		case "mutex":
			defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(mutexFraction))
		case "block":
			runtime.SetBlockProfileRate(blockRate)
			defer runtime.SetBlockProfileRate(0)
		}
		if err := c.sleep(seconds); err != nil {
			return err
		}
	}
	if name == "heap" && c.number("gc", 0) > 0 {
		runtime.GC()
	}
	c.profileHeaders(name, debug)
	return p.WriteTo(c.w, debug)
}

// stream gives an answer that takes so long the time for it.
func (c *call) stream(d time.Duration) {
	http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(d + writeTimeout))
}

// sleep waits, until the client goes or the server ends.
func (c *call) sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.r.Context().Done():
		return errGone
	case <-c.s.done:
		return errorf(503, "the server ends")
	}
}

func (c *call) profileHeaders(name string, debug int) {
	h := c.w.Header()
	h.Set("Cache-Control", "no-store")
	if debug > 0 {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s"`, name))
}

// takeCPU takes a profile of processor time: the runtime's, where SIGPROF arrives,
// else the sampler's.
func takeCPU(c *call, d time.Duration) error {
	if c.s.cfg.ProfileTimer {
		var b limitedBuffer
		if err := pprof.StartCPUProfile(&b); err != nil {
			return errorf(409, "%v", err)
		}
		err := c.sleep(d)
		pprof.StopCPUProfile()
		if err != nil {
			return err
		}
		c.profileHeaders("profile", 0)
		_, err = c.w.Write(b.b)
		return err
	}
	p := newSamples(defaultRate)
	quit, stopped := make(chan struct{}), make(chan struct{})
	go p.run(quit, stopped)
	err := c.sleep(d)
	close(quit)
	<-stopped
	if err != nil {
		return err
	}
	c.profileHeaders("profile", 0)
	return p.write(c.w)
}

// takeTrace streams a trace of the runtime's scheduler.
func takeTrace(c *call, d time.Duration) error {
	c.profileHeaders("trace", 0)
	if err := rtrace.Start(c.w); err != nil {
		return errorf(409, "%v", err)
	}
	err := c.sleep(d)
	rtrace.Stop()
	if err != nil {
		return errGone // the status is out
	}
	return nil
}

// limitedBuffer keeps a profile whole, since its writer must not wait for a client.
type limitedBuffer struct{ b []byte }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if len(l.b)+len(p) > 16<<20 {
		return 0, errorf(507, "the profile has more than 16 MiB")
	}
	l.b = append(l.b, p...)
	return len(p), nil
}
