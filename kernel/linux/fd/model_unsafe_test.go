package fd

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"osv/kernel/vfs"
)

// twin is one file, ours and the host's.
type twin struct {
	open *Open
	fd   int // in the table of ours
	host int
	kind string
}

// pair is a table of ours beside the host's descriptors, with the same operations
// applied to both and their results compared.
type pair struct {
	t     *testing.T
	tab   *Table
	th    *thread
	files []*twin
	log   []string
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, tab: NewTable(1024), th: newThread()}
	t.Cleanup(func() {
		for _, f := range p.files {
			_ = syscall.Close(f.host)
		}
		p.tab.Release()
	})
	return p
}

func (p *pair) add(o *Open, host int, kind string) *twin {
	n, err := p.tab.Install(o, 0, false)
	if err != nil {
		p.t.Fatal(err)
	}
	f := &twin{o, n, host, kind}
	p.files = append(p.files, f)
	return f
}

func (p *pair) pipe(flags int) (r, w *twin) {
	var h [2]int
	if err := syscall.Pipe2(h[:], flags|syscall.O_NONBLOCK); err != nil {
		p.t.Fatal(err)
	}
	ro, wo := NewPipe(flags | syscall.O_NONBLOCK)
	return p.add(ro, h[0], "r"), p.add(wo, h[1], "w")
}

func hostEventFD(t *testing.T, initial, flags int) int {
	n, _, e := syscall.RawSyscall(syscall.SYS_EVENTFD2, uintptr(initial), uintptr(flags), 0)
	if e != 0 {
		t.Fatal(e)
	}
	return int(n)
}

func (p *pair) eventfd(initial uint32, flags int) *twin {
	o, err := NewEventFD(initial, flags|syscall.O_NONBLOCK)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.add(o, hostEventFD(p.t, int(initial), flags|syscall.O_NONBLOCK), "e")
}

func (p *pair) epoll() *twin {
	h, err := syscall.EpollCreate1(0)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.add(NewEpoll(), h, "p")
}

// same compares results.
func (p *pair) same(what, ours, host string) {
	p.t.Helper()
	p.log = append(p.log, what+" = "+host)
	if ours != host {
		p.t.Fatalf("%s\n%s: ours %s, Linux %s", strings.Join(p.log, "\n"), what, ours, host)
	}
}

func result(n int, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(n)
}

func (p *pair) read(f *twin, n int) {
	b, h := make([]byte, n), make([]byte, n)
	k, err := f.open.Read(p.th, &vfs.Bytes{B: b})
	hk, herr := syscall.Read(f.host, h)
	p.same(fmt.Sprintf("read(%s%d, %d)", f.kind, f.fd, n), result(k, err)+fmt.Sprintf("%x", sum(b[:max(k, 0)])), result(hk, herr)+fmt.Sprintf("%x", sum(h[:max(hk, 0)])))
}

// sum stands for the bytes of a transfer.
func sum(b []byte) (s uint32) {
	for _, c := range b {
		s = s*31 + uint32(c)
	}
	return s
}

func (p *pair) write(f *twin, b []byte) {
	k, err := f.open.Write(p.th, &vfs.Bytes{B: b})
	hk, herr := syscall.Write(f.host, b)
	p.same(fmt.Sprintf("write(%s%d, %d)", f.kind, f.fd, len(b)), result(max(k, 0), err), result(hk, herr))
}

func (p *pair) close(f *twin) {
	err, herr := p.tab.Close(f.fd), syscall.Close(f.host)
	p.same(fmt.Sprintf("close(%s%d)", f.kind, f.fd), result(0, err), result(0, herr))
	for i, g := range p.files {
		if g == f {
			p.files = append(p.files[:i], p.files[i+1:]...)
			break
		}
	}
}

func (p *pair) dup(f *twin) {
	n, err := p.tab.Dup(f.fd, 0, false)
	h, herr := syscall.Dup(f.host)
	if err != nil || herr != nil {
		p.t.Fatal(err, herr)
	}
	p.log = append(p.log, fmt.Sprintf("dup(%s%d) = %d", f.kind, f.fd, n))
	p.files = append(p.files, &twin{f.open, n, h, f.kind})
}

// hostEvent is struct epoll_event of the host.
type hostEvent struct {
	events uint32
	data   [8]byte
}

func (p *pair) ctl(e, f *twin, op int, events uint32) {
	o, err := p.tab.Get(f.fd)
	if err == nil {
		err = e.open.Epoll().Control(op, f.fd, o, events, uint64(f.fd))
		_ = o.Release()
	}
	ev := hostEvent{events: events, data: [8]byte{byte(f.fd)}}
	_, _, herr := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(e.host), uintptr(op), uintptr(f.host), uintptr(unsafe.Pointer(&ev)), 0, 0)
	var he error
	if herr != 0 {
		he = herr
	}
	p.same(fmt.Sprintf("epoll_ctl(%d, %d, %s%d, %#x)", e.fd, op, f.kind, f.fd, events), result(0, err), result(0, he))
}

func (p *pair) wait(e *twin, most int) {
	out := make([]Event, most)
	n, err := e.open.Epoll().Wait(p.th, out, time.Time{}, true)
	h := make([]hostEvent, most)
	hn, _, herr := syscall.RawSyscall6(syscall.SYS_EPOLL_WAIT, uintptr(e.host), uintptr(unsafe.Pointer(&h[0])), uintptr(most), 0, 0, 0)
	if herr != 0 || err != nil {
		p.t.Fatal(herr, err)
	}
	var a, b []string
	for i := range n {
		a = append(a, fmt.Sprintf("%d:%#x", out[i].Data, out[i].Events))
	}
	for i := range int(hn) {
		b = append(b, fmt.Sprintf("%d:%#x", h[i].data[0], h[i].events))
	}
	p.same(fmt.Sprintf("epoll_wait(%d, %d)", e.fd, most), strings.Join(a, " "), strings.Join(b, " "))
}

// pollfd is struct pollfd.
type pollfd struct {
	fd              int32
	events, revents int16
}

func (p *pair) poll(fs []*twin, want uint32) {
	set := GetPollSet()
	defer set.Put()
	var h []pollfd
	for _, f := range fs {
		set.Add(f.open.Retain(), want, 0)
		h = append(h, pollfd{fd: int32(f.host), events: int16(want)})
	}
	n, err := set.Wait(p.th, time.Time{}, true)
	hn, _, herr := syscall.RawSyscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&h[0])), uintptr(len(h)), 0)
	if herr != 0 || err != nil {
		p.t.Fatal(herr, err)
	}
	a, b, what := fmt.Sprint(n), fmt.Sprint(hn), ""
	for i, f := range fs {
		what += fmt.Sprintf(" %s%d", f.kind, f.fd)
		a += fmt.Sprintf(" %#x", set.At(i).Got)
		b += fmt.Sprintf(" %#x", uint16(h[i].revents))
	}
	p.same(fmt.Sprintf("poll(%s, %#x)", what, want), a, b)
}

func (p *pair) pipeSize(f *twin, n int) {
	k, err := f.open.SetPipeSize(n)
	hk, _, herr := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(f.host), 1031, uintptr(n))
	var he error
	if herr != 0 {
		he = herr
	}
	p.same(fmt.Sprintf("F_SETPIPE_SZ(%s%d, %d)", f.kind, f.fd, n), result(k, err), result(int(hk), he))
}

func (p *pair) unread(f *twin) {
	k, err := f.open.Unread()
	var n int32
	_, _, herr := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(f.host), 0x541b, uintptr(unsafe.Pointer(&n)))
	var he error
	if herr != 0 {
		he = herr
	}
	p.same(fmt.Sprintf("FIONREAD(%s%d)", f.kind, f.fd), result(k, err), result(int(n), he))
}

// Random sequences of operations give on ours what they give on the host's Linux: the
// order of epoll's events, edges and one-shots, and when exactly a pipe is full.
func TestModelAgainstLinux(t *testing.T) {
	runs := 300
	if testing.Short() || raceEnabled {
		runs = 30
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { modelRun(t, uint64(seed)) })
		if t.Failed() {
			return
		}
	}
}

func modelRun(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p := newPair(t)
	sizes := []int{1, 7, 100, 3000, 4096, 5000, 20000, 65536, 100000}
	interests := []uint32{1, 4, 5, 0, 0x2001, 1 | EPOLLET, 4 | EPOLLET, 5 | EPOLLET, 1 | EPOLLOneshot, 5 | EPOLLOneshot | EPOLLET, 1 | EPOLLExclusive, 0x41, 0x104}
	bytes := make([]byte, 1<<17)
	for i := range bytes {
		bytes[i] = byte(i * 7)
	}
	for range 2 {
		p.pipe(0)
	}
	p.pipe(syscall.O_DIRECT)
	p.eventfd(0, 0)
	p.eventfd(2, EFDSemaphore)
	for range 3 {
		p.epoll()
	}
	pick := func(kinds string) *twin {
		for range 20 {
			if f := p.files[rnd.IntN(len(p.files))]; strings.Contains(kinds, f.kind) {
				return f
			}
		}
		return nil
	}
	for range 150 {
		if len(p.files) == 0 {
			return
		}
		size := sizes[rnd.IntN(len(sizes))]
		switch op := rnd.IntN(20); {
		case op < 4:
			if f := pick("w"); f != nil {
				p.write(f, bytes[:size])
			}
		case op < 8:
			if f := pick("r"); f != nil {
				p.read(f, size)
			}
		case op < 9:
			if f := pick("e"); f != nil {
				p.write(f, []byte{byte(rnd.IntN(3)), 0, 0, 0, 0, 0, 0, 0})
			}
		case op < 10:
			if f := pick("e"); f != nil {
				p.read(f, 8)
			}
		case op < 14:
			if e, f := pick("p"), pick("rwep"); e != nil && f != nil {
				p.ctl(e, f, 1+rnd.IntN(3), interests[rnd.IntN(len(interests))])
			}
		case op < 17:
			if e := pick("p"); e != nil {
				p.wait(e, 1+rnd.IntN(8))
			}
		case op < 18:
			var fs []*twin
			for range 1 + rnd.IntN(4) {
				fs = append(fs, p.files[rnd.IntN(len(p.files))])
			}
			p.poll(fs, []uint32{0, 1, 4, 5, 0x145, 0x2001}[rnd.IntN(6)])
		case op < 19:
			switch rnd.IntN(4) {
			case 0:
				if f := pick("rw"); f != nil {
					p.pipeSize(f, []int{1, 4096, 10000, 65536, 200000}[rnd.IntN(5)])
				}
			case 1, 2:
				if f := pick("rw"); f != nil {
					p.unread(f)
				}
			case 3:
				p.dup(p.files[rnd.IntN(len(p.files))])
			}
		default:
			if rnd.IntN(4) == 0 {
				p.close(p.files[rnd.IntN(len(p.files))])
			}
		}
	}
}
