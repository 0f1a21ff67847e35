package tcpsock

// How calls end that wait: deadlines, Close, refusal, reset.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestReadDeadline(t *testing.T) {
	w := newWorld(t, worldConfig{})
	a, b := w.pair(80)
	p := make([]byte, 10)
	isTimeout := func(err error) {
		t.Helper()
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
	}
	a.SetReadDeadline(time.Now().Add(-time.Second))
	_, err := a.Read(p)
	isTimeout(err)
	a.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err = a.Read(p)
	isTimeout(err)
	// One that is moved while a Read waits counts at once.
	a.SetReadDeadline(time.Now().Add(time.Hour))
	done := make(chan error)
	go func() {
		_, err := a.Read(p)
		done <- err
	}()
	a.SetReadDeadline(time.Now())
	isTimeout(<-done)
	a.SetReadDeadline(time.Time{})
	b.Write([]byte("later"))
	if n, err := a.Read(p); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestWriteDeadline(t *testing.T) {
	w := newWorld(t, worldConfig{})
	a, _ := w.pair(80)
	out := make([]byte, 64<<20)
	a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	n, err := a.Write(out) // nobody reads
	if n == 0 || n == 64<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v", n, err)
	}
}

func TestCloseWakesAll(t *testing.T) {
	w := newWorld(t, worldConfig{})
	l := w.listen(81)
	a, _ := w.pair(80)
	errs := make(chan error, 3)
	go func() {
		_, err := a.Read(make([]byte, 1))
		errs <- err
	}()
	go func() {
		_, err := a.Write(make([]byte, 64<<20))
		errs <- err
	}()
	go func() {
		_, err := l.Accept()
		errs <- err
	}()
	time.Sleep(5 * time.Millisecond) // whichever of them sleep already: all must end
	a.Close()
	l.Close()
	for range 3 {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if err := a.SetNoDelay(true); !errors.Is(err, net.ErrClosed) {
		t.Errorf("option after Close: %v", err)
	}
}

func TestDialFails(t *testing.T) {
	w := newWorld(t, worldConfig{})
	_, err := w.host[0].Dial(context.Background(), netip.AddrPort{}, addr(1, 9))
	var oe *net.OpError
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &oe) || oe.Op != "dial" {
		t.Errorf("refused: %v", err)
	}
	if !strings.Contains(err.Error(), "10.0.0.2:9") {
		t.Errorf("%v does not name the peer", err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	if _, err = w.host[0].Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.77:80")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go cancel()
	if _, err = w.host[0].Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.77:80")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err = w.host[0].Dial(context.Background(), netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.1:80")); err == nil {
		t.Error("no route, and no error")
	}
	if _, err = w.host[0].Dial(context.Background(), netip.AddrPort{}, addr(1, 0)); err == nil {
		t.Error("port 0, and no error")
	}
}

func TestResetIsSeen(t *testing.T) {
	w := newWorld(t, worldConfig{})
	a, b := w.pair(80)
	b.SetLinger(0)
	b.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("write: %v", err)
	}
}

func TestLinger(t *testing.T) {
	w := newWorld(t, worldConfig{})
	a, b := w.pair(80)
	a.SetLinger(5)
	out := pattern(300<<10, 1)
	go func() {
		a.Write(out)
		a.Close()
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, out) {
		t.Errorf("%d octets, %v", len(got), err)
	}
	// Nobody reads: Close gives up.
	a, _ = w.pair(81)
	a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	a.Write(make([]byte, 8<<20))
	a.SetLinger(1)
	start := time.Now()
	a.Close()
	if d := time.Since(start); d < 900*time.Millisecond || d > 10*time.Second {
		t.Errorf("Close took %v", d)
	}
}
