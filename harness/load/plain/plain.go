// Package plain is a second, deliberately different load generator: one blocking
// socket and one goroutine per outstanding request, ordinary reads and writes, a
// sorted slice of latencies. It shares no code with the engines, not even the
// keys, so that agreement between the two says something.
//
// It measures memcached in the closed loop only. Spec: protocol.txt of memcached
// 1.6, "get", "set", "UDP protocol".
package plain

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"sync"
	"time"
)

// Config is one measurement.
type Config struct {
	Network  string // "udp" or "tcp"
	Addr     string
	Workers  int // sockets, each with one request outstanding
	Keys     int
	Value    int  // bytes
	Set      bool // SETs instead of GETs
	Warmup   time.Duration
	Duration time.Duration
}

// Result is what it found.
type Result struct {
	Rate          float64 // checked replies/s
	Completed     int
	Failed        int // lost or wrong
	P50, P99, Max time.Duration
}

// worker is one socket with its own keys, so that no two write the same.
type worker struct {
	cfg   Config
	id    int
	conn  net.Conn
	r     *bufio.Reader
	reqID uint16
	times []time.Duration
	bad   int
	err   error
}

// Run measures. It fails when a socket cannot be opened or the keys cannot be
// stored.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Workers < 1 || cfg.Keys < 1 || cfg.Value < 1 || cfg.Value > 1300 || cfg.Network != "udp" && cfg.Network != "tcp" {
		return Result{}, fmt.Errorf("plain: cannot measure %+v", cfg)
	}
	ws := make([]*worker, cfg.Workers)
	for i := range ws {
		w := &worker{cfg: cfg, id: i}
		var err error
		if w.conn, err = net.DialTimeout(cfg.Network, cfg.Addr, 10*time.Second); err != nil {
			return Result{}, fmt.Errorf("plain: %w", err)
		}
		defer w.conn.Close()
		w.r = bufio.NewReaderSize(w.conn, 64<<10)
		for k := range cfg.Keys {
			if err := w.retry(k); err != nil {
				return Result{}, fmt.Errorf("plain: store key %d: %w", k, err)
			}
		}
		ws[i] = w
	}
	begin := time.Now().Add(cfg.Warmup)
	end := begin.Add(cfg.Duration)
	var all sync.WaitGroup
	for _, w := range ws {
		all.Add(1)
		go func() { defer all.Done(); w.loop(ctx, begin, end) }()
	}
	all.Wait()
	var res Result
	var times []time.Duration
	for _, w := range ws {
		times = append(times, w.times...)
		res.Failed += w.bad
		if w.err != nil {
			return res, w.err
		}
	}
	if err := ctx.Err(); err != nil {
		return res, err
	}
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	res.Completed = len(times)
	res.Rate = float64(len(times)) / cfg.Duration.Seconds()
	if n := len(times); n > 0 {
		res.P50, res.P99, res.Max = times[n/2], times[n*99/100], times[n-1]
	}
	return res, nil
}

func (w *worker) loop(ctx context.Context, begin, end time.Time) {
	for k := 0; ctx.Err() == nil; k++ {
		t0 := time.Now()
		if t0.After(end) {
			return
		}
		err := w.do(k%w.cfg.Keys, w.cfg.Set)
		t1 := time.Now()
		inside := t1.After(begin) && t1.Before(end)
		switch {
		case err != nil && w.cfg.Network == "tcp":
			w.err = err
			return
		case err != nil:
			w.bad++
		case inside:
			w.times = append(w.times, t1.Sub(t0))
		}
	}
}

// retry stores a key, again after a lost datagram.
func (w *worker) retry(k int) (err error) {
	for range 5 {
		if err = w.do(k, true); err == nil || w.cfg.Network == "tcp" {
			return err
		}
	}
	return err
}

func (w *worker) value(k int) []byte {
	v := bytes.Repeat([]byte{'a' + byte(k%26)}, w.cfg.Value)
	copy(v, fmt.Sprintf("%d/%d", w.id, k))
	return v
}

// do makes one request and checks its reply.
func (w *worker) do(k int, set bool) error {
	key := fmt.Sprintf("plain-%04d-%020d", w.id, k)
	want := "STORED\r\n"
	req := fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", key, w.cfg.Value, w.value(k))
	if !set {
		req = fmt.Sprintf("get %s\r\n", key)
		want = fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, w.cfg.Value, w.value(k))
	}
	if err := w.conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if w.cfg.Network == "tcp" {
		if _, err := io.WriteString(w.conn, req); err != nil {
			return err
		}
		if _, err := io.ReadFull(w.r, got); err != nil {
			return err
		}
	} else {
		var err error
		if got, err = w.exchange(req); err != nil {
			return err
		}
	}
	if string(got) != want {
		return fmt.Errorf("plain: reply %.60q, want %.60q", got, want)
	}
	return nil
}

// exchange sends one datagram and waits for the one with its id.
func (w *worker) exchange(req string) ([]byte, error) {
	w.reqID++
	head := make([]byte, 8)
	binary.BigEndian.PutUint16(head, w.reqID)
	head[5] = 1
	if _, err := w.conn.Write(append(head, req...)); err != nil {
		return nil, err
	}
	buf := make([]byte, 2048)
	for {
		n, err := w.conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if n < 8 {
			return nil, errors.New("plain: short datagram")
		}
		if binary.BigEndian.Uint16(buf) == w.reqID {
			return buf[8:n], nil
		}
	}
}
