package sock

import (
	"syscall"
	"testing"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// The calls of every request allocate nothing: what a server does with one connection,
// one UDP socket, one pair.

func noAllocs(t *testing.T, what string, f func()) {
	t.Helper()
	for range 50 { // pools, rings
		f()
	}
	if n := testing.AllocsPerRun(500, f); n != 0 {
		t.Errorf("%s: %v allocations", what, n)
	}
}

func TestTCPAllocatesNothing(t *testing.T) {
	skipUnderRace(t)
	w := newOurs(t)
	a, b := connectOurs(t, w)
	req, got := vfs.Bytes{}, vfs.Bytes{}
	p, q := make([]byte, 100), make([]byte, 200)
	var m Message
	woken := 0
	wt := poll.Waiter{Notify: func(poll.Events) bool { woken++; return true }}
	b.Watch(&wt)
	defer b.Unwatch(&wt)
	one := func(from, to Socket) {
		req = vfs.Bytes{B: p}
		if n, err := from.Send(nil, &req, &m, 0); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		w.st.Poll()
		if to.Ready()&poll.In == 0 {
			t.Fatal("not readable")
		}
		got = vfs.Bytes{B: q}
		if n, err := to.Recv(&got, &m, 0); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		if _, err := to.Recv(&got, &m, 0); err != syscall.EAGAIN {
			t.Fatal(err)
		}
	}
	noAllocs(t, "request and answer", func() {
		one(a, b)
		one(b, a)
	})
	if woken == 0 {
		t.Error("nobody was told")
	}
}

// connectOurs is a connection between two sockets of w.
func connectOurs(t *testing.T, w *ours) (a, b Socket) {
	t.Helper()
	for range 2 {
		if err := w.socket(syscall.AF_INET, syscall.SOCK_STREAM); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.listen(0, 1); err != nil {
		t.Fatal(err)
	}
	to, _ := w.local(0)
	if err := w.connect(1, &to); err != syscall.EINPROGRESS {
		t.Fatal(err)
	}
	w.settle()
	if _, err := w.accept(0); err != nil {
		t.Fatal(err)
	}
	if err := w.s[1].Connected(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := range w.s {
			w.close(i)
		}
		w.s = nil
	})
	return w.s[1], w.s[2]
}

func TestUDPAllocatesNothing(t *testing.T) {
	skipUnderRace(t)
	w := newOurs(t)
	for range 2 {
		if err := w.socket(syscall.AF_INET, syscall.SOCK_DGRAM); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.bind(1, in4(5000)); err != nil {
		t.Fatal(err)
	}
	if err := w.setInt(1, syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1); err != nil {
		t.Fatal(err)
	}
	a, b := w.s[0], w.s[1]
	defer a.Close()
	defer b.Close()
	p, q := make([]byte, 100), make([]byte, 200)
	var src, dst vfs.Bytes
	m := Message{Addr: *in4(5000)}
	noAllocs(t, "datagram there and back", func() {
		m.Addr, m.Control.Have = *in4(5000), 0
		for _, x := range [2][2]Socket{{a, b}, {b, a}} {
			src, dst = vfs.Bytes{B: p}, vfs.Bytes{B: q}
			if _, err := x[0].Send(nil, &src, &m, 0); err != nil {
				t.Fatal(err)
			}
			w.st.Poll()
			if x[1].Ready()&poll.In == 0 {
				t.Fatal("not readable")
			}
			if _, err := x[1].Recv(&dst, &m, 0); err != nil {
				t.Fatal(err)
			}
			m.Control.Have = 0
		}
	})
}

func TestUnixAllocatesNothing(t *testing.T) {
	skipUnderRace(t)
	n, c := newWorld(t), newCaller()
	for _, typ := range []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM, syscall.SOCK_SEQPACKET} {
		a, b, err := n.Pair(c, syscall.AF_UNIX, typ, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, q := make([]byte, 100), make([]byte, 200)
		var src, dst vfs.Bytes
		var m Message
		noAllocs(t, "a letter", func() {
			src, dst = vfs.Bytes{B: p}, vfs.Bytes{B: q}
			if _, err := a.Send(c, &src, &m, 0); err != nil {
				t.Fatal(err)
			}
			if b.Ready()&poll.In == 0 {
				t.Fatal("not readable")
			}
			if k, err := b.Recv(&dst, &m, 0); k != len(p) || err != nil {
				t.Fatal(k, err)
			}
		})
		a.Close()
		b.Close()
	}
}
