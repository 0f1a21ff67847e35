// Package taplink is a link to a Linux TAP device: the hosted stack's way to a
// real network.
//
// Spec: Linux tun/tap (Documentation/networking/tuntap.rst), with the header of
// VIRTIO 1.2 §5.1.6 in front of each frame (IFF_VNET_HDR), by which checksums
// and segmentation are left to the other side as with a virtio device.
//
// Who may use it: tests in a namespace of their own, and appliances that run
// hosted. One queue each way. RxWait sleeps in the Go runtime's poller.
//
// Start reading at Open, then rx and tx.
package taplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"osv/kernel/hw/dma"
	"osv/kernel/pkt"
)

// Options say how to open a device; the zero value has a meaning in each field.
type Options struct {
	MAC     [6]byte       // of this end; zero: 02:6f:73:76:00:01
	MTU     int           // 0: 1500
	Bufs    int           // 0: 512
	Mem     dma.Allocator // nil: a dma.Host
	Offload bool          // checksum and TSO both ways
}

// The virtio-net header, little-endian (VIRTIO 1.2 §5.1.6), without num_buffers.
const (
	hdrLen       = 10
	needsCsum    = 1 // flags
	dataValid    = 2
	gsoNone      = 0
	gsoTCPv4     = 1
	gsoUDP       = 3
	gsoTCPv6     = 4
	gsoECN       = 0x80
	offFlags     = 0
	offGSO       = 1
	offHdrLen    = 2
	offGSOSize   = 4
	offCsumStart = 6
	offCsumOff   = 8
)

const (
	tunFCsum = 1
	tunFTSO4 = 2
	tunFTSO6 = 4
	gsoMax   = 65535 + 14
)

// Link is one TAP device.
type Link struct {
	name string
	file *os.File
	raw  syscall.RawConn
	caps pkt.Caps
	pool *pkt.Pool
	mem  dma.Allocator

	// The receive loop's: a buffer that the last read did not fill, and what the
	// functions below work on. They are made once, since a closure made per
	// batch would be an allocation per batch.
	spare   *pkt.Buf
	rxDst   []*pkt.Buf
	rxCount int
	looked  bool
	rxFunc  func(fd uintptr)
	polled  func(fd uintptr) bool
	wake    atomic.Bool

	txMu     sync.Mutex // guards the transmit side's likewise
	txFrames []*pkt.Buf
	txCount  int
	txFunc   func(fd uintptr)

	closed atomic.Bool
	stats  struct {
		rxFrames, rxBytes, txFrames, txBytes, noBuf, rxErrors, txFull, txErrors, waits, bells atomic.Uint64
	}
}

var _ pkt.Link = (*Link)(nil)

// Open makes a TAP device of the given name, or attaches to it.
func Open(name string, o Options) (*Link, error) {
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if o.Bufs == 0 {
		o.Bufs = 512
	}
	if o.Mem == nil {
		o.Mem = &dma.Host{}
	}
	if o.MAC == ([6]byte{}) {
		o.MAC = [6]byte{2, 'o', 's', 'v', 0, 1}
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("taplink: /dev/net/tun: %w", err)
	}
	fail := func(what string, err error) (*Link, error) {
		unix.Close(fd)
		return nil, fmt.Errorf("taplink: %s: %s: %w", name, what, err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fail("name", err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fail("TUNSETIFF", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, hdrLen); err != nil {
		return fail("TUNSETVNETHDRSZ", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETLE, 1); err != nil {
		return fail("TUNSETVNETLE", err)
	}
	l := &Link{name: ifr.Name(), mem: o.Mem, caps: pkt.Caps{MAC: o.MAC, MTU: o.MTU, RxQueues: 1, TxQueues: 1, TxScatter: 64}}
	size := pkt.Headroom + o.MTU + 64
	offload := 0
	if o.Offload {
		offload = tunFCsum | tunFTSO4 | tunFTSO6
		l.caps.TxCsum, l.caps.RxCsum, l.caps.TSO4, l.caps.TSO6, l.caps.GSOMax, l.caps.LRO = true, true, true, true, gsoMax, true
		size = pkt.Headroom + gsoMax + 64
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload); err != nil {
		return fail("TUNSETOFFLOAD", err)
	}
	if l.pool, err = pkt.NewPool(o.Mem, o.Bufs, (size+63)&^63); err != nil {
		return fail("buffers", err)
	}
	l.file = os.NewFile(uintptr(fd), "/dev/net/tun")
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, fmt.Errorf("taplink: %s: %w", name, err)
	}
	l.rxFunc, l.polled, l.txFunc = l.rxAll, l.readable, l.txAll
	return l, nil
}

// Name is the device's name on the host, Caps what Options asked for.
func (l *Link) Name() string { return l.name }

// Caps are those of Options.
func (l *Link) Caps() pkt.Caps { return l.caps }

// RxBatch reads frames until there is none or dst is full.
func (l *Link) RxBatch(_ int, dst []*pkt.Buf) int {
	l.rxDst, l.rxCount = dst, 0
	l.raw.Control(l.rxFunc)
	l.rxDst = nil
	return l.rxCount
}

func (l *Link) rxAll(fd uintptr) {
	for l.rxCount < len(l.rxDst) {
		b := l.rx(int(fd))
		if b == nil {
			return
		}
		l.rxDst[l.rxCount] = b
		l.rxCount++
	}
}

// rx reads one frame, nil where there is none. The header is read into the
// headroom, right in front of the frame.
func (l *Link) rx(fd int) *pkt.Buf {
	b := l.spare
	l.spare = nil
	if b == nil {
		if b = l.pool.Get(); b == nil {
			l.stats.noBuf.Add(1)
			return nil
		}
	}
	room := b.Mem.Bytes[b.Head-hdrLen:]
	n, err := unix.Read(fd, room)
	if err != nil || n < hdrLen+14 {
		if err == nil {
			l.stats.rxErrors.Add(1)
		}
		l.spare = b
		return nil
	}
	b.Tail = b.Head + n - hdrLen
	h := room[:hdrLen]
	switch {
	case h[offFlags]&needsCsum != 0:
		b.Flags = pkt.CsumPartial
		b.CsumStart, b.CsumOffset = binary.LittleEndian.Uint16(h[offCsumStart:]), binary.LittleEndian.Uint16(h[offCsumOff:])
	case h[offFlags]&dataValid != 0:
		b.Flags = pkt.CsumValid
	}
	b.GSOSize, b.HdrLen = binary.LittleEndian.Uint16(h[offGSOSize:]), binary.LittleEndian.Uint16(h[offHdrLen:])
	switch h[offGSO] &^ gsoECN {
	case gsoTCPv4:
		b.GSO = pkt.GSOTCPv4
	case gsoTCPv6:
		b.GSO = pkt.GSOTCPv6
	case gsoUDP:
		b.GSO = pkt.GSOUDP
	}
	l.stats.rxFrames.Add(1)
	l.stats.rxBytes.Add(uint64(b.Len()))
	return b
}

// RxWait sleeps until a frame is there, RxWake or Close.
func (l *Link) RxWait(int) error {
	l.stats.waits.Add(1)
	l.looked = false
	err := l.raw.Read(l.polled)
	if l.closed.Load() {
		return os.ErrClosed
	}
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if l.wake.Swap(false) || late {
		// A RxWake in between sets the deadline only to see it cleared here, but
		// then wake is set, and readable sees that.
		l.file.SetReadDeadline(time.Time{})
	}
	if err != nil && !late {
		return fmt.Errorf("taplink: %s: %w", l.name, err)
	}
	return nil
}

// readable is what the poller asks before (false: sleep) and after sleeping.
func (l *Link) readable(fd uintptr) bool {
	if l.looked || l.wake.Load() {
		return true
	}
	l.looked = true
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(p[:], 0)
	return n > 0
}

// RxWake ends a RxWait, by a deadline in the past.
func (l *Link) RxWake(int) {
	l.wake.Store(true)
	l.file.SetReadDeadline(time.Unix(1, 0))
}

// TxBatch writes frames. A device that is down or full takes none.
func (l *Link) TxBatch(_ int, frames []*pkt.Buf) int {
	l.stats.bells.Add(1)
	l.txMu.Lock()
	defer l.txMu.Unlock()
	l.txFrames, l.txCount = frames, 0
	l.raw.Control(l.txFunc)
	l.txFrames = nil
	return l.txCount
}

func (l *Link) txAll(fd uintptr) {
	for _, b := range l.txFrames {
		if !l.tx(int(fd), b) {
			l.stats.txFull.Add(1)
			return
		}
		b.Put()
		l.txCount++
	}
}

// tx writes one frame with its header in front, and reports false where the
// device has no room.
func (l *Link) tx(fd int, b *pkt.Buf) bool {
	if b.Headroom() < hdrLen {
		l.stats.txErrors.Add(1)
		return true
	}
	h := b.Mem.Bytes[b.Head-hdrLen : b.Head]
	clear(h)
	if b.Flags&pkt.CsumPartial != 0 {
		h[offFlags] = needsCsum
		binary.LittleEndian.PutUint16(h[offCsumStart:], b.CsumStart)
		binary.LittleEndian.PutUint16(h[offCsumOff:], b.CsumOffset)
	}
	switch b.GSO {
	case pkt.GSOTCPv4:
		h[offGSO] = gsoTCPv4
	case pkt.GSOTCPv6:
		h[offGSO] = gsoTCPv6
	}
	binary.LittleEndian.PutUint16(h[offGSOSize:], b.GSOSize)
	binary.LittleEndian.PutUint16(h[offHdrLen:], b.HdrLen)
	total := b.TotalLen()
	first := b.Mem.Bytes[b.Head-hdrLen : b.Tail]
	var err error
	if b.Next == nil {
		_, err = unix.Write(fd, first)
	} else {
		iov := make([][]byte, 0, 8)
		iov = append(iov, first)
		for p := b.Next; p != nil; p = p.Next {
			iov = append(iov, p.Bytes())
		}
		_, err = unix.Writev(fd, iov)
	}
	switch {
	case err == nil:
		l.stats.txFrames.Add(1)
		l.stats.txBytes.Add(uint64(total))
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS):
		return false
	default: // EIO: the interface is down; EINVAL: a frame it does not like
		l.stats.txErrors.Add(1)
	}
	return true
}

// TxBuf returns an empty buffer.
func (l *Link) TxBuf(int) *pkt.Buf { return l.pool.Get() }

// LinkUp is true until Close.
func (l *Link) LinkUp() bool { return !l.closed.Load() }

// Stats counts frames.
func (l *Link) Stats() pkt.LinkStats {
	s := &l.stats
	return pkt.LinkStats{
		RxFrames: s.rxFrames.Load(), RxBytes: s.rxBytes.Load(), TxFrames: s.txFrames.Load(), TxBytes: s.txBytes.Load(),
		RxNoBuf: s.noBuf.Load(), RxErrors: s.rxErrors.Load(), TxFull: s.txFull.Load(), TxErrors: s.txErrors.Load(),
		RxIRQs: s.waits.Load(), Doorbells: s.bells.Load(),
	}
}

// Close ends the link; a device that Open made vanishes with it.
func (l *Link) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	return l.file.Close()
}

// Release frees the buffers once the receive loop has stopped and reports any
// that did not come home.
func (l *Link) Release() error {
	if l.spare != nil {
		l.spare.Put()
		l.spare = nil
	}
	return l.pool.Close(l.mem)
}
