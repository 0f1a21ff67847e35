package vhost

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/vm"
)

// A driver may stop, start again and change its memory while the generator runs;
// nothing is lost of what was offered, and no freed memory is touched.
func TestRestartUnderLoad(t *testing.T) {
	f := start(t, Options{}, testFeatures, 64)
	p, tx := f.dev.Port(0), f.q[1]
	copy(tx.buf(0), append(header(0, 0, 0, 0), frameOf(60, 1)...))
	tx.setDesc(0, tx.bufAddr(0), 72, 0, 0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	got := 0
	wg.Add(1)
	go func() {
		defer wg.Done()
		out, in := make([][]byte, batch), [][]byte{frameOf(60, 2)}
		for {
			n, err := p.Recv(out)
			if got += n; err != nil {
				t.Error(err)
				return
			}
			p.Send(in)
			if err := p.Wait(time.Millisecond); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				n, _ := p.Recv(out)
				got += n
				return
			default:
			}
		}
	}()
	offered := 0
	for i := range 60 {
		tx.offer(0, 0, 0)
		offered += 3
		switch i % 4 {
		case 0:
			tx.resume(tx.stop())
		case 1:
			f.memTable()
		case 2:
			f.tell(reqSetVringEnable, le32s(1, 0))
			f.tell(reqSetVringEnable, le32s(1, 1))
		case 3:
			f.tell(reqSetFeatures, le64(f.feat))
		}
		for len(tx.reap()) > 0 || tx.seen != tx.availIdx {
			time.Sleep(10 * time.Microsecond)
		}
	}
	close(stop)
	wg.Wait()
	if got != offered {
		t.Errorf("%d frames, %d were offered", got, offered)
	}
}

// resume starts a stopped ring at base.
func (q *drv) resume(base uint32) {
	q.f.t.Helper()
	q.f.tell(reqSetVringBase, le32s(uint32(q.index), base))
	q.f.tell(reqSetVringKick, le64(uint64(q.index)), q.kick)
	q.f.tell(reqSetVringEnable, le32s(uint32(q.index), 1))
}

func TestSeveralQueues(t *testing.T) {
	f := start(t, Options{Queues: 3}, testFeatures|featMQ, 8)
	if f.ask64(reqGetQueueNum) != 3 || f.dev.Features()&featMQ == 0 {
		t.Error("no multiqueue")
	}
	for i := range 3 {
		tx := f.q[2*i+1]
		copy(tx.buf(0), append(header(0, 0, 0, 0), frameOf(60, byte(i))...))
		tx.setDesc(0, tx.bufAddr(0), 72, 0, 0)
		tx.offer(0)
	}
	for i := range 3 {
		if got := mustRecv(t, f.dev.Port(i), 1); got[0][0] != byte(i) {
			t.Errorf("queue %d gave the frame of queue %d", i, got[0][0])
		}
	}
	j := f.dev.Joined()
	out := make([][]byte, batch)
	for i := range 3 {
		f.q[2*i+1].offer(0)
		f.q[2*i].offerEmpty(bufBytes, 0, 1)
	}
	if err := j.Wait(time.Minute); err != nil {
		t.Error(err)
	}
	if n, err := j.Recv(out); n != 3 || err != nil {
		t.Errorf("joined: %d frames (%v)", n, err)
	}
	for range 3 {
		if n, err := j.Send([][]byte{frameOf(60, 1)}); n != 1 || err != nil {
			t.Errorf("joined: sent %d (%v)", n, err)
		}
	}
	f.q[1].offer(0)
	f.q[3].offer(0)
	for range 2 {
		if n, err := j.Recv(out[:1]); n != 1 || err != nil {
			t.Errorf("joined: %d frames (%v)", n, err)
		}
	}
	if err := j.Wait(time.Millisecond); err != nil {
		t.Error(err)
	}
	if s := j.Stats(); s.ToGuest != 3 || s.FromGuest != 3+3+2 || s.GuestErrors != 0 || j.Close() != nil {
		t.Errorf("%+v", s)
	}
	if _, err := New(Options{Queues: 9}); err == nil {
		t.Error("9 queue pairs: no error")
	}
	if n := f.dev.NIC("52:54:00:00:00:01", vm.TCG); !strings.HasPrefix(n.Socket, "@osv-vhost-") || n.Queues != 3 || !n.NoMSIX {
		t.Errorf("%+v", n)
	}
	if n := f.dev.NIC("", vm.KVM); n.NoMSIX {
		t.Error("no MSI-X under KVM")
	}
}

// Each wrong message ends the connection with an error that names it.
func TestProtocolErrors(t *testing.T) {
	region := func(guest, size, user, offset uint64) []byte {
		b := le32s(1, 0)
		for _, v := range []uint64{guest, size, user, offset} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	addr := func(i uint32) []byte { return append(le32s(i, 0), make([]byte, 32)...) }
	for _, c := range []struct {
		name    string
		req     request
		payload []byte
		files   int
		want    string
	}{
		{"unknown", 77, nil, 0, "request 77: not supported"},
		{"features not offered", reqSetFeatures, le64(1 << 40), 0, "SET_FEATURES: features 0x10000000000 were not offered"},
		{"short u64", reqSetFeatures, []byte{1}, 0, "payload of 1 bytes, want 8"},
		{"short protocol features", reqSetProtocolFeatures, nil, 0, "payload of 0 bytes, want 8"},
		{"queue size", reqSetVringNum, le32s(0, 3), 0, "queue size 3"},
		{"queue index", reqSetVringNum, le32s(2, 8), 0, "queue 2 of 2"},
		{"base", reqSetVringBase, le32s(0, 1<<16), 0, "base 65536"},
		{"state size", reqGetVringBase, le32s(0), 0, "payload of 4 bytes"},
		{"address size", reqSetVringAddr, le32s(0), 0, "payload of 4 bytes, want 40"},
		{"address index", reqSetVringAddr, addr(9), 0, "queue 9 of 2"},
		{"kick without file", reqSetVringKick, le64(0), 0, "0 file descriptors, want 1"},
		{"kick with two files", reqSetVringCall, le64(0), 2, "2 file descriptors, want 1"},
		{"kick index", reqSetVringKick, le64(5), 1, "queue 5 of 2"},
		{"kick size", reqSetVringKick, nil, 1, "payload of 0 bytes"},
		{"no regions", reqSetMemTable, nil, 0, "payload of 0 bytes"},
		{"too many regions", reqSetMemTable, le32s(9, 0), 0, "9 regions"},
		{"region without file", reqSetMemTable, region(0, 4096, 0, 0), 0, "1 regions with 0 file descriptors"},
		{"empty region", reqSetMemTable, region(0, 0, 0, 0), 1, "size 0x0"},
		{"region wraps", reqSetMemTable, region(^uint64(0), 4096, 0, 0), 1, "region 0: guest address"},
		{"region beyond its file", reqSetMemTable, region(0, memBytes, 0, memOffset+1), 1, "ends at 0x102001 of a file of 0x102000"},
		{"region of no memory", reqSetMemTable, region(0, 4096, 0, 0), -1, "of a file of 0x0"},
	} {
		f := newFront(t, Options{})
		var files []int
		for range c.files {
			files = append(files, f.file)
		}
		if c.files < 0 {
			files = []int{eventfd(t)}
		}
		f.raw(le32s(uint32(c.req), flagVersion, uint32(len(c.payload))), c.payload, files...)
		if c.files < 0 {
			unix.Close(files[0])
		}
		<-f.dev.done
		if err := f.dev.failure(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
		if err := f.dev.Port(0).Wait(time.Minute); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Wait says %v", c.name, err)
		}
	}
	for name, head := range map[string][]byte{
		"protocol version 2":    le32s(1, 2, 0),
		"payload of 5000 bytes": le32s(1, flagVersion, 5000),
	} {
		f := newFront(t, Options{})
		f.raw(head, nil)
		<-f.dev.done
		if err := f.dev.failure(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one with %q", err, name)
		}
	}
}

// A ring that QEMU describes wrongly stays stopped.
func TestWrongRings(t *testing.T) {
	f := start(t, Options{}, testFeatures, 8)
	for name, change := range map[string]func(q drv) drv{
		"descriptors outside": func(q drv) drv { q.desc = memBytes - 16; return q },
		"used outside":        func(q drv) drv { q.used = memBytes - 32; return q },
		"descriptors askew":   func(q drv) drv { q.desc += 8; return q },
		"used askew":          func(q drv) drv { q.used += 2; return q },
	} {
		q := change(*f.q[1])
		f.q[1].stop()
		q.setup()
		f.sync()
		f.dev.mu.Lock()
		if f.dev.vrings[1].ring != nil {
			t.Errorf("%s: the ring was started", name)
		}
		f.dev.mu.Unlock()
		if n, err := f.dev.Port(0).Recv(make([][]byte, 1)); n != 0 || err != nil {
			t.Errorf("%s: %d %v", name, n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.dev.WaitReady(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "has not started the rings") {
		t.Errorf("%v", err)
	}
}

func TestAcknowledgement(t *testing.T) {
	f := newFront(t, Options{})
	f.tell(reqSetProtocolFeatures, le64(protocolReply))
	f.raw(le32s(uint32(reqSetOwner), flagVersion|flagNeedReply, 0), nil)
	if b := f.reply(reqSetOwner); binary.LittleEndian.Uint64(b) != 0 {
		t.Errorf("% x", b)
	}
	f.tell(reqResetOwner, nil)
	f.tell(reqSetVringErr, le64(kickNoFD))
	f.tell(reqSetVringCall, le64(kickNoFD))
	f.sync()
}

func TestConnectionLost(t *testing.T) {
	fds := fdCount(t)
	f := start(t, Options{}, testFeatures, 8)
	p := f.dev.Port(0)
	done := make(chan error, 1)
	go func() { done <- p.Wait(time.Minute) }()
	for !armed(f.q[1], testFeatures) {
		time.Sleep(10 * time.Microsecond)
	}
	unix.Shutdown(f.fd, unix.SHUT_RDWR)
	if err := <-done; !errors.Is(err, errGone) {
		t.Errorf("Wait: %v", err)
	}
	if _, err := p.Send([][]byte{frameOf(60, 1)}); !errors.Is(err, errGone) {
		t.Errorf("Send: %v", err)
	}
	if _, err := p.Recv(make([][]byte, 1)); !errors.Is(err, errGone) {
		t.Errorf("Recv: %v", err)
	}
	j := f.dev.Joined()
	if err := j.Wait(time.Minute); !errors.Is(err, errGone) {
		t.Errorf("joined: %v", err)
	}
	if _, err := j.Recv(make([][]byte, 1)); !errors.Is(err, errGone) {
		t.Errorf("joined: %v", err)
	}
	if err := f.dev.WaitReady(t.Context()); !errors.Is(err, errGone) {
		t.Errorf("WaitReady: %v", err)
	}
	if err := errors.Join(p.Close(), f.dev.Close()); err != nil {
		t.Error(err)
	}
	// Left open: what the fake itself holds (socket, memory, four eventfds).
	if n := fdCount(t) - fds; n != 6 {
		t.Errorf("%d descriptors more than before, want the fake's 6", n)
	}
}

// Close ends a device to which nobody has connected.
func TestCloseUnconnected(t *testing.T) {
	fds := fdCount(t)
	dev, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dev.Close(), dev.Close()); err != nil {
		t.Error(err)
	}
	if err := dev.Port(0).Wait(time.Minute); !errors.Is(err, errGone) {
		t.Errorf("%v", err)
	}
	if n := fdCount(t); n != fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
}
