package vhost

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/vm"
)

// front plays QEMU and the guest's driver: one region of memory, and for each
// queue a ring whose descriptor i points at buffer i.
type front struct {
	t    *testing.T
	dev  *Device
	fd   int
	file int // memfd
	mem  []byte
	q    []*drv
	feat uint64
}

// The fake guest's memory, in bytes, and where each side sees it.
const (
	memBytes  = 1 << 20
	memOffset = 8192 // of the region in its file
	guestBase = 0x100000
	userBase  = 0x7f1200000000
	bufBytes  = 2048
)

// drv is the driver's side of one ring.
type drv struct {
	f                 *front
	index, num        int
	desc, avail, used int // offsets in mem
	bufs              int
	kick, call        int
	availIdx          uint16
	seen              uint16
}

const testFeatures = featVersion1 | featEventIdx | featIndirect | featMrgRxbuf | featProtocol | offeredOffload

// newFront connects to a new device without saying anything.
func newFront(t *testing.T, o Options) *front {
	t.Helper()
	dev, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, dev: dev, fd: connect(t, dev)}
	if f.file, err = unix.MemfdCreate("guest", unix.MFD_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(f.file, memOffset+memBytes); err != nil {
		t.Fatal(err)
	}
	whole, err := unix.Mmap(f.file, 0, memOffset+memBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	f.mem = whole[memOffset:]
	t.Cleanup(func() {
		dev.Close()
		unix.Close(f.fd)
		unix.Close(f.file)
		for _, q := range f.q {
			unix.Close(q.kick)
			unix.Close(q.call)
		}
		unix.Munmap(whole)
	})
	return f
}

// connect opens the control socket as QEMU does.
func connect(t *testing.T, dev *Device) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: dev.NIC("", vm.TCG).Socket})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// start is a front whose driver has started all rings of num descriptors.
func start(t *testing.T, o Options, features uint64, num int) *front {
	f := newFront(t, o)
	f.tell(reqSetOwner, nil)
	offered := f.ask64(reqGetFeatures)
	f.feat = features & offered
	if offered&featProtocol != 0 && features&featProtocol != 0 {
		f.tell(reqSetProtocolFeatures, le64(f.ask64(reqGetProtocolFeatures)))
	}
	f.tell(reqSetFeatures, le64(f.feat))
	f.memTable()
	queues := 2 * max(o.Queues, 1)
	size := memBytes / queues &^ 4095
	for i := range queues {
		q := &drv{f: f, index: i, num: num, desc: i * size, avail: i*size + 16*num, used: i*size + 18*num + 64}
		q.used = (q.used + 3) &^ 3
		q.bufs = (q.used + 8*num + 64 + 63) &^ 63
		q.kick, q.call = eventfd(t), eventfd(t)
		f.q = append(f.q, q)
		q.setup()
	}
	return f
}

func eventfd(t *testing.T) int {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
func le32s(vs ...uint32) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// tell sends a message; with the REPLY_ACK feature it also waits until it is done.
func (f *front) tell(req request, payload []byte, fds ...int) {
	f.t.Helper()
	f.raw(le32s(uint32(req), flagVersion, uint32(len(payload))), payload, fds...)
	if req == reqSetMemTable || req == reqSetVringEnable || req == reqSetVringKick {
		f.sync()
	}
}

// sync returns when the device has done all it was told.
func (f *front) sync() { f.t.Helper(); f.ask64(reqGetQueueNum) }

func (f *front) raw(head, payload []byte, fds ...int) {
	f.t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(f.fd, append(head, payload...), oob, nil, unix.MSG_NOSIGNAL); err != nil {
		f.t.Fatal(err)
	}
}

func (f *front) ask(req request, payload []byte) []byte {
	f.t.Helper()
	f.raw(le32s(uint32(req), flagVersion, uint32(len(payload))), payload)
	return f.reply(req)
}

func (f *front) reply(req request) []byte {
	f.t.Helper()
	var h [headerBytes]byte
	if err := readFull(f.fd, h[:]); err != nil {
		f.t.Fatalf("%v: %v (%v)", req, err, f.dev.failure())
	}
	if got := request(binary.LittleEndian.Uint32(h[:])); got != req || h[4] != flagVersion|flagReply {
		f.t.Fatalf("reply to %v with flags %#x, want %v", got, h[4], req)
	}
	b := make([]byte, binary.LittleEndian.Uint32(h[8:]))
	if err := readFull(f.fd, b); err != nil {
		f.t.Fatal(err)
	}
	return b
}

func (f *front) ask64(req request) uint64 {
	f.t.Helper()
	return binary.LittleEndian.Uint64(f.ask(req, nil))
}

func (f *front) memTable() {
	f.t.Helper()
	p := le32s(1, 0)
	for _, v := range []uint64{guestBase, memBytes, userBase, memOffset} {
		p = binary.LittleEndian.AppendUint64(p, v)
	}
	f.tell(reqSetMemTable, p, f.file)
}

// setup tells the device of a ring and starts it.
func (q *drv) setup() {
	q.f.t.Helper()
	i := uint32(q.index)
	q.f.tell(reqSetVringNum, le32s(i, uint32(q.num)))
	q.f.tell(reqSetVringBase, le32s(i, uint32(q.availIdx)))
	a := le32s(i, 0)
	for _, off := range []int{q.desc, q.used, q.avail} {
		a = binary.LittleEndian.AppendUint64(a, userBase+uint64(off))
	}
	q.f.tell(reqSetVringAddr, binary.LittleEndian.AppendUint64(a, 0))
	q.f.tell(reqSetVringCall, le64(uint64(i)), q.call)
	q.f.tell(reqSetVringKick, le64(uint64(i)), q.kick)
	if q.f.feat&featProtocol != 0 {
		q.f.tell(reqSetVringEnable, le32s(i, 1))
	}
}

// stop takes the ring from the device, as a driver reset does, and returns the
// place it had reached.
func (q *drv) stop() (base uint32) {
	q.f.t.Helper()
	return binary.LittleEndian.Uint32(q.f.ask(reqGetVringBase, le32s(uint32(q.index), 0))[4:])
}

func (q *drv) buf(i int) []byte { return q.f.mem[q.bufs+bufBytes*i:][:bufBytes] }

func (q *drv) bufAddr(i int) uint64 { return guestBase + uint64(q.bufs+bufBytes*i) }

// setDesc writes descriptor i.
func (q *drv) setDesc(i int, addr uint64, size uint32, flags, next uint16) {
	d := q.f.mem[q.desc+16*i:]
	binary.LittleEndian.PutUint64(d, addr)
	binary.LittleEndian.PutUint32(d[8:], size)
	binary.LittleEndian.PutUint16(d[12:], flags)
	binary.LittleEndian.PutUint16(d[14:], next)
}

// offer makes the chains at heads available.
func (q *drv) offer(heads ...int) {
	for _, h := range heads {
		binary.LittleEndian.PutUint16(q.f.mem[q.avail+4+2*(int(q.availIdx)%q.num):], uint16(h))
		q.availIdx++
	}
	flags := uint32(binary.LittleEndian.Uint16(q.f.mem[q.avail:]))
	store32(q.f.mem, q.avail, flags|uint32(q.availIdx)<<16)
}

// offerEmpty makes descriptors from..to available as single buffers of size bytes
// that the device may write.
func (q *drv) offerEmpty(size uint32, from, to int) {
	for i := from; i < to; i++ {
		q.setDesc(i, q.bufAddr(i), size, descWrite, 0)
		q.offer(i)
	}
}

// usedEvent asks for an interrupt when the used index passes v.
func (q *drv) usedEvent(v uint16) {
	binary.LittleEndian.PutUint16(q.f.mem[q.avail+4+2*q.num:], v)
}

type usedElem struct{ id, n uint32 }

// reap returns what the device has given back since the last call.
func (q *drv) reap() []usedElem {
	var out []usedElem
	for idx := load16(q.f.mem, q.used+2); q.seen != idx; q.seen++ {
		e := q.f.mem[q.used+4+8*(int(q.seen)%q.num):]
		out = append(out, usedElem{binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])})
	}
	return out
}

func (q *drv) interrupted() bool { return drain(q.call) > 0 }

func frameOf(n int, fill byte) []byte { return bytes.Repeat([]byte{fill}, n) }

// header is a frame's header as the guest writes it.
func header(flags, gso byte, start, off uint16) []byte {
	h := make([]byte, hdrBytes)
	h[0], h[1] = flags, gso
	binary.LittleEndian.PutUint16(h[6:], start)
	binary.LittleEndian.PutUint16(h[8:], off)
	return h
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustRecv(t *testing.T, p *Port, want int) [][]byte {
	t.Helper()
	frames := make([][]byte, batch)
	n, err := p.Recv(frames)
	if n != want || err != nil {
		t.Fatalf("received %d frames, want %d (%v)", n, want, err)
	}
	return frames[:n]
}

func mustSend(t *testing.T, p *Port, want int, frames ...[]byte) {
	t.Helper()
	if n, err := p.Send(frames); n != want || err != nil {
		t.Fatalf("sent %d of %d frames, want %d (%v)", n, len(frames), want, err)
	}
}

func fdCount(t *testing.T) int {
	t.Helper()
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(ents)
}
