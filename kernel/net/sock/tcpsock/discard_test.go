package tcpsock

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"osv/kernel/ktest/simnet"
)

func TestDiscard(t *testing.T) {
	for _, c := range []struct {
		name string
		net  simnet.Config
	}{
		{"plain", simnet.Config{}},
		{"offloads", simnet.Config{Caps: offloads}},
		{"lossy", simnet.Config{Loss: 0.02, Reorder: 0.02, Seed: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, worldConfig{net: c.net})
			a, b := w.pair(80)
			const size = 4 << 20
			go func() {
				if n, err := a.Write(make([]byte, size)); n != size || err != nil {
					t.Errorf("wrote %d: %v", n, err)
				}
				a.Close()
			}()
			var n atomic.Uint64
			if err := b.Discard(&n); err != nil || n.Load() != size {
				t.Errorf("%d octets, %v", n.Load(), err)
			}
			b.Close()
		})
	}
}

func TestDiscardEnds(t *testing.T) {
	w := newWorld(t, worldConfig{})
	a, b := w.pair(80)
	var n atomic.Uint64
	a.Write([]byte("abc"))
	done := make(chan error)
	go func() { done <- b.Discard(&n) }()
	for n.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	b.SetReadDeadline(time.Now())
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || n.Load() != 3 {
		t.Errorf("deadline: %d, %v", n.Load(), err)
	}
	b.SetReadDeadline(time.Time{})
	go func() { done <- b.Discard(&n) }()
	b.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	a.Close()
}
