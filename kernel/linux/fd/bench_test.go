package fd

import (
	"syscall"
	"testing"
	"time"

	"osv/kernel/vfs"
)

// BenchmarkPipe is a write and a read of 64 bytes.
func BenchmarkPipe(b *testing.B) {
	r, w := NewPipe(0)
	th := newThread()
	var buf [64]byte
	m := &vfs.Bytes{}
	for b.Loop() {
		*m = vfs.Bytes{B: buf[:]}
		_, _ = w.Write(th, m)
		*m = vfs.Bytes{B: buf[:]}
		_, _ = r.Read(th, m)
	}
}

// BenchmarkEpollRound is an event, epoll_wait, and the read that takes it.
func BenchmarkEpollRound(b *testing.B) {
	e, _ := NewEventFD(0, syscall.O_NONBLOCK)
	ep := NewEpoll()
	_ = ep.Epoll().Control(EPOLLCtlAdd, 3, e, 1, 0)
	th := newThread()
	out := make([]Event, 32)
	buf := [8]byte{1}
	m := &vfs.Bytes{}
	for b.Loop() {
		*m = vfs.Bytes{B: buf[:]}
		_, _ = e.Write(th, m)
		_, _ = ep.Epoll().Wait(th, out, time.Time{}, false)
		*m = vfs.Bytes{B: buf[:]}
		_, _ = e.Read(th, m)
	}
}

// BenchmarkGet is what every call on a descriptor begins and ends with.
func BenchmarkGet(b *testing.B) {
	tab := NewTable(64)
	e, _ := NewEventFD(0, 0)
	n, _ := tab.Install(e, 0, false)
	for b.Loop() {
		o, _ := tab.Get(n)
		_ = o.Release()
	}
}
