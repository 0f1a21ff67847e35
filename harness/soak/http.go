package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"osv/harness/wire"
)

// The sizes of the bar.
const (
	curlRequests = 10000 // on one connection
	curlConns    = 2000  // of one request each
	idleConns    = 10000
	fewerIdle    = 2000 // of them in a short run
)

// guestMemory is what the guest's GET /memory answers; sizes in bytes.
type guestMemory struct {
	Total, Free uint64
	HeapInUse   uint64 `json:"heap_in_use"`
	HeapIdle    uint64 `json:"heap_idle"`
	Released    uint64 `json:"heap_released"`
	StackInUse  uint64 `json:"stack_in_use"`
	Goroutines  int
	Conns       int64
	Accepted    int64
	Requests    int64
}

// web is an HTTP client of the guest.
type web struct {
	c    *http.Client
	base string
}

// web makes a client; keep says whether it keeps its connection.
func (g *guest) web(keep bool) *web {
	tr := &http.Transport{DialContext: g.wire.DialContext, DisableKeepAlives: !keep, MaxIdleConnsPerHost: 1}
	return &web{&http.Client{Transport: tr, Timeout: replyTime}, "http://" + wire.GuestIP(0).Addr().String()}
}

func (w *web) close() { w.c.CloseIdleConnections() }

func (w *web) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return b, err
}

// number asks for n and checks that n comes back.
func (w *web) number(ctx context.Context, n int) error {
	b, err := w.get(ctx, fmt.Sprintf("/n/%d", n))
	if err == nil && string(b) != fmt.Sprintf("%d\n", n) {
		err = fmt.Errorf("GET /n/%d: body %s", n, abridge(string(b)))
	}
	return err
}

// memory asks what the guest holds, after a garbage collection.
func (w *web) memory(ctx context.Context) (m guestMemory, err error) {
	b, err := w.get(ctx, "/memory?gc")
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	return m, err
}

// numbers checks that out is the numbers 1 to n, a line each, in any order.
func numbers(out string, n int) error {
	lines := strings.Fields(out)
	if len(lines) != n {
		return fmt.Errorf("%d bodies of %d came back", len(lines), n)
	}
	got := make([]int, n)
	for i, l := range lines {
		v, err := strconv.Atoi(l)
		if err != nil {
			return fmt.Errorf("body %s", abridge(l))
		}
		got[i] = v
	}
	slices.Sort(got)
	for i, v := range got {
		if v != i+1 {
			return fmt.Errorf("body %d is not there", i+1)
		}
	}
	return nil
}

// curl fetches /n/1 to /n/n and returns how many connections that took.
func curl(ctx context.Context, g *guest, n int, args ...string) (conns int, err error) {
	url := fmt.Sprintf("http://%v/n/[1-%d]", wire.GuestIP(0).Addr(), n)
	args = append([]string{"curl", "-sS", "--no-progress-meter", "--fail", "--max-time", "300", "-w", `%{stderr}%{num_connects}\n`}, append(args, url)...)
	out, errs, err := g.run(ctx, args...)
	if err != nil {
		return 0, err
	}
	if err := numbers(out, n); err != nil {
		return 0, fmt.Errorf("curl: %w", err)
	}
	for _, l := range strings.Fields(errs) {
		c, err := strconv.Atoi(l)
		if err != nil {
			return 0, fmt.Errorf("curl: %s", abridge(errs))
		}
		conns += c
	}
	return conns, nil
}

var (
	wrkRate   = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkErrors = regexp.MustCompile(`(?m)^\s*(Socket errors:.*|Non-2xx.*)$`)
)

func parseWrk(out string) (rate float64, err error) {
	if m := wrkErrors.FindString(out); m != "" {
		return 0, fmt.Errorf("wrk: %s", strings.TrimSpace(m))
	}
	m := wrkRate.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk: no rate in %s", abridge(out))
	}
	return strconv.ParseFloat(m[1], 64)
}

func httpClients(ctx context.Context, r *Run) error {
	g, err := r.boot(ctx, httpdProg, "tcp:80", bootOptions{})
	if err != nil {
		return err
	}
	w := g.web(false)
	before, err := w.memory(ctx)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name     string
		n, conns int
		args     []string
	}{
		{"requests on one connection", curlRequests, 1, nil},
		{"connections of one request", curlConns, curlConns, []string{"--parallel", "--parallel-max", "50", "-H", "Connection: close"}},
	} {
		r.logf("curl: %d %s", step.n, step.name)
		began := time.Now()
		conns, err := curl(ctx, g, step.n, step.args...)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		r.figure(step.name, float64(step.n)/time.Since(began).Seconds(), "/s")
		if conns != step.conns {
			return fmt.Errorf("%s: curl made %d connections, want %d", step.name, conns, step.conns)
		}
	}
	r.logf("wrk for %v", r.Length)
	out, _, err := g.run(ctx, "wrk", "-t", "1", "-c", "50", "-d", fmt.Sprint(max(1, int(r.Length/time.Second)), "s"),
		fmt.Sprintf("http://%v/n/7", wire.GuestIP(0).Addr()))
	if err != nil {
		return err
	}
	rate, err := parseWrk(out)
	if err != nil {
		return err
	}
	r.figure("wrk, 50 connections", rate, "requests/s")
	after, err := w.drained(ctx, 1)
	if err != nil {
		return err
	}
	r.figure("connections accepted", float64(after.Accepted), "")
	return memoryBack(r, before, after, 16<<20)
}

// drained waits until the server holds no more than conns connections.
func (w *web) drained(ctx context.Context, conns int64) (m guestMemory, err error) {
	for end := time.Now().Add(60 * time.Second); ; {
		if m, err = w.memory(ctx); err != nil || m.Conns <= conns {
			return m, err
		}
		if time.Now().After(end) {
			return m, fmt.Errorf("the server still holds %d connections a minute after the clients closed them", m.Conns)
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return m, context.Cause(ctx)
		}
	}
}

// memoryBack fails when a guest has more than slack bytes less than before.
func memoryBack(r *Run, before, after guestMemory, slack float64) error {
	r.figure("guest memory free before", float64(before.Free)/(1<<20), "MiB")
	r.figure("guest memory free after", float64(after.Free)/(1<<20), "MiB")
	r.figure("guest heap in use after", float64(after.HeapInUse)/(1<<20), "MiB")
	if gone := float64(before.Free) - float64(after.Free); gone > slack {
		return fmt.Errorf("%.1f MiB of guest memory did not come back, %.0f MiB may be kept", gone/(1<<20), slack/(1<<20))
	}
	return nil
}

// httpIdle holds a crowd twice. The Go heap keeps memory that it had once, so what
// counts is that the second time takes nothing more.
func httpIdle(ctx context.Context, r *Run) error {
	const slack = 32 << 20
	n := idleConns
	if r.cfg.Short {
		n = fewerIdle
	}
	g, err := r.boot(ctx, httpdProg, "tcp:80", bootOptions{mem: 1024})
	if err != nil {
		return err
	}
	// A connection for each question: one that is kept would be counted.
	ask := g.web(false)
	before, err := ask.memory(ctx)
	if err != nil {
		return err
	}
	r.figure("guest memory free before", float64(before.Free)/(1<<20), "MiB")
	var first guestMemory
	for _, name := range []string{"first time", "second time"} {
		held, err := holdIdle(ctx, r, g, ask, name, n)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		closed := time.Now()
		after, err := ask.drained(ctx, 2)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.figure(name+": guest memory for a connection", (float64(before.Free)-float64(held.Free))/float64(n), "bytes")
		r.figure(name+": until all are closed", time.Since(closed).Seconds(), "s")
		r.figure(name+": guest memory free while held", float64(held.Free)/(1<<20), "MiB")
		r.figure(name+": guest memory free after", float64(after.Free)/(1<<20), "MiB")
		r.figure(name+": guest heap in use after", float64(after.HeapInUse)/(1<<20), "MiB")
		if first.Total == 0 {
			first = after
			continue
		}
		if gone := float64(first.Free) - float64(after.Free); gone > slack {
			return fmt.Errorf("the second time took %.1f MiB of guest memory more than the first, %.0f MiB are allowed", gone/(1<<20), float64(slack)/(1<<20))
		}
	}
	return g.trouble()
}

// holdIdle opens the crowd, works beside it, uses some of it and closes it in an
// orderly way. held is what the guest had while it was there.
func holdIdle(ctx context.Context, r *Run, g *guest, ask *web, name string, idle int) (held guestMemory, err error) {
	r.logf("opening %d connections", idle)
	began := time.Now()
	c, err := openCrowd(ctx, g.peer(80), idle, 0, netip.Addr{})
	if err != nil {
		return held, err
	}
	defer func() { c.close(true) }()
	r.figure(name+": connections opened", float64(idle)/time.Since(began).Seconds(), "/s")

	r.logf("working beside them for %v", r.Length/2)
	work := g.web(true)
	defer work.close()
	n, longest := 0, time.Duration(0)
	began = time.Now()
	for ; time.Since(began) < r.Length/2 || n == 0; n++ {
		t := time.Now()
		if err := work.number(ctx, n); err != nil {
			return held, fmt.Errorf("request %d beside %d idle connections: %w", n+1, idle, err)
		}
		longest = max(longest, time.Since(t))
	}
	r.figure(name+": requests of the working client", float64(n)/time.Since(began).Seconds(), "/s")
	r.figure(name+": slowest of them", longest.Seconds()*1e3, "ms")
	if held, err = ask.memory(ctx); err != nil {
		return held, err
	}
	if dead := c.broken(); dead > 0 || held.Conns < int64(idle) {
		return held, fmt.Errorf("%d of %d idle connections were closed; the server holds %d", dead, idle, held.Conns)
	}
	if err := useSome(c, 50); err != nil {
		return held, err
	}
	c.close(false)
	return held, nil
}

// useSome makes a request on every n-th connection of a crowd, to show that an
// idle connection is one that works.
func useSome(c *crowd, n int) error {
	var some crowd
	for i := 0; i < len(c.fds); i += n {
		some.fds = append(some.fds, c.fds[i])
	}
	if err := some.write("GET /n/1 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return fmt.Errorf("an idle connection: %w", err)
	}
	// Octets that were not read would make an RST of the FIN at the end, which is
	// not sent again when it is lost.
	for i, fd := range some.fds {
		if err := readReply(fd); err != nil {
			return fmt.Errorf("idle connection %d of %d: %w", i*n+1, len(c.fds), err)
		}
	}
	return nil
}

// synFlood checks that a connection that is there and connections that come go on
// under SYNs that nobody means.
func synFlood(ctx context.Context, r *Run) error {
	const (
		rate     = 5000 // SYNs a second
		failMost = 0.01 // of new connections
	)
	g, err := r.boot(ctx, httpdProg, "tcp:80", bootOptions{})
	if err != nil {
		return err
	}
	ask := g.web(false)
	before, err := ask.memory(ctx)
	if err != nil {
		return err
	}
	raw, err := openRaw(g)
	if err != nil {
		return err
	}
	defer raw.close()
	fctx, stop := context.WithTimeout(ctx, r.Length)
	defer stop()
	var wg sync.WaitGroup
	var sent int
	var floodErr error
	wg.Go(func() { sent, floodErr = flood(fctx, raw, rate) })

	r.logf("%d SYNs a second for %v", rate, r.Length)
	var held, fresh, refused int
	var heldErr, freshErr error
	var longest time.Duration
	wg.Go(func() {
		w := g.web(true)
		defer w.close()
		for fctx.Err() == nil {
			t := time.Now()
			if err := w.number(ctx, held); err != nil {
				heldErr = fmt.Errorf("request %d on the connection that is held: %w", held+1, err)
				return
			}
			longest = max(longest, time.Since(t))
			held++
		}
	})
	wg.Go(func() {
		w := g.web(false)
		for fctx.Err() == nil {
			if err := w.number(ctx, fresh); err != nil {
				refused++
				freshErr = err
			}
			fresh++
		}
	})
	wg.Wait()
	r.figure("SYNs sent", float64(sent)/r.Length.Seconds(), "/s")
	r.figure("requests on the connection held", float64(held)/r.Length.Seconds(), "/s")
	r.figure("slowest of them", longest.Seconds()*1e3, "ms")
	r.figure("new connections", float64(fresh)/r.Length.Seconds(), "/s")
	r.figure("new connections that failed", float64(refused), "")
	if err := errors.Join(floodErr, heldErr); err != nil {
		return err
	}
	if sent == 0 || held == 0 || fresh == 0 {
		return fmt.Errorf("%d SYNs, %d requests, %d new connections: one of them did not work", sent, held, fresh)
	}
	if float64(refused) > failMost*float64(fresh) {
		return fmt.Errorf("%d of %d new connections failed under the flood, the last with: %w", refused, fresh, freshErr)
	}
	after, err := ask.drained(ctx, 1)
	if err != nil {
		return err
	}
	return errors.Join(memoryBack(r, before, after, 32<<20), g.trouble())
}
