package fd

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Sizes of pipes, in bytes.
const (
	PipeBuf     = 4096    // writes up to here are in one piece
	pipePage    = 4096    // of one slot
	pipeSlots   = 16      // of a new pipe: 64 KiB
	maxPipeSize = 1 << 20 // fs.pipe-max-size
	pipeSpares  = 4       // pages that an emptied pipe keeps
)

type page [pipePage]byte

var pipePages = sync.Pool{New: func() any { return new(page) }}

// pipeBuf is one slot: bytes [off, off+n) of a page. Slots rather than a ring of bytes,
// because Linux's are visible: what merges with what decides when a pipe is full.
type pipeBuf struct {
	page   *page
	off, n int
	packet bool // O_DIRECT: ends where it ends, nothing is added
}

// pipe is what both ends share, and what a FIFO's openers share.
type pipe struct {
	mu      sync.Mutex
	slots   []pipeBuf // ring, a power of two
	head    uint      // next slot to fill
	tail    uint      // next to empty
	bytes   int
	readers int
	writers int
	spares  []*page
	node    vfs.Node // of a FIFO that of the file system
	ino     uint64
	made    time.Time

	state  atomic.Uint32 // readable, writable, …: what Ready tells, set under mu
	rd, wr poll.List
	both   atomic.Int32 // ends open for both, which are on rd alone

	rOpens, wOpens uint64    // how often each end was opened: a FIFO's open waits for a change
	openers        poll.List // those that do
	fifo           bool
	key            inode // of a FIFO: its place in fifos
}

const (
	pipeReadable = 1 << iota
	pipeWritable
	pipeNoReader
	pipeNoWriter
)

func newPipe() *pipe {
	p := &pipe{slots: make([]pipeBuf, pipeSlots)}
	p.ino, p.made = born()
	p.node = &pipeNode{p: p}
	p.settle()
	return p
}

// NewPipe is pipe2(2): the ends, each with a reference for the caller. flags may have
// O_NONBLOCK and O_DIRECT (packets).
func NewPipe(flags int) (r, w *Open) {
	p := newPipe()
	p.readers, p.writers = 1, 1
	p.settle()
	status := flags & (syscall.O_NONBLOCK | syscall.O_DIRECT)
	re := &pipeEnd{pipe: p, reads: true}
	we := &pipeEnd{pipe: p, writes: true}
	we.packets.Store(flags&syscall.O_DIRECT != 0)
	return NewOpen(re, syscall.O_RDONLY|status), NewOpen(we, syscall.O_WRONLY|status)
}

// settle makes state true. Caller must hold mu.
func (p *pipe) settle() {
	var s uint32
	if p.head != p.tail {
		s |= pipeReadable
	}
	if int(p.head-p.tail) < len(p.slots) {
		s |= pipeWritable
	}
	if p.readers == 0 {
		s |= pipeNoReader
	}
	if p.writers == 0 {
		s |= pipeNoWriter
	}
	p.state.Store(s)
}

func (p *pipe) at(i uint) *pipeBuf { return &p.slots[i&uint(len(p.slots)-1)] }
func (p *pipe) full() bool         { return int(p.head-p.tail) >= len(p.slots) }

// Caller must hold mu.
func (p *pipe) newPage() *page {
	if n := len(p.spares); n > 0 {
		g := p.spares[n-1]
		p.spares = p.spares[:n-1]
		return g
	}
	return pipePages.Get().(*page)
}

// Caller must hold mu.
func (p *pipe) freePage(g *page) {
	if len(p.spares) < pipeSpares {
		p.spares = append(p.spares, g)
		return
	}
	pipePages.Put(g)
}

// read moves bytes to d: EAGAIN where there are none but may come, 0 where there is no
// writer any more. Packets are read one at a time, their rest is dropped.
func (p *pipe) read(d vfs.Dst) (int, error) {
	if d.Room() == 0 {
		return 0, nil
	}
	p.mu.Lock()
	wasFull := p.full()
	total, freed := 0, false
	var err error
	for d.Room() > 0 && p.head != p.tail {
		b := p.at(p.tail)
		n, e := d.Put(b.page[b.off : b.off+b.n])
		total += n
		b.off += n
		b.n -= n
		p.bytes -= n
		if e != nil {
			err = e
			break
		}
		packet := b.packet
		if packet {
			p.bytes -= b.n
			b.n = 0
		}
		if b.n == 0 {
			p.drop()
			freed = true
		}
		if packet {
			break
		}
	}
	if total == 0 && err == nil && p.writers > 0 && !freed {
		err = syscall.EAGAIN
	}
	more := p.head != p.tail
	p.settle()
	p.mu.Unlock()
	if wasFull && freed {
		p.tellWriters(poll.Out)
	}
	if more && total > 0 {
		// One reader was woken for all that was written; what it leaves is the next
		// one's.
		p.rd.Notify(poll.In | passOn)
	}
	if total > 0 {
		return total, nil
	}
	return 0, err
}

// passOn marks a notification that is no news: only threads that wait in read are to
// hear it, not epoll.
const passOn poll.Events = 1 << 31

// tellWriters tells those that wait for room.
func (p *pipe) tellWriters(e poll.Events) {
	p.wr.Notify(e)
	if p.both.Load() > 0 {
		p.rd.Notify(e)
	}
}

// drop ends the slot at the tail. Caller must hold mu.
func (p *pipe) drop() {
	b := p.at(p.tail)
	if b.page != nil {
		p.freePage(b.page)
	}
	*b = pipeBuf{}
	p.tail++
}

// write takes bytes from s as far as there is room: EAGAIN where there is none, or not
// enough for a write of up to PipeBuf, EPIPE without a reader.
func (p *pipe) write(s vfs.Src, packets bool) (int, error) {
	if s.Left() == 0 {
		return 0, nil
	}
	p.mu.Lock()
	if p.readers == 0 {
		p.mu.Unlock()
		return 0, syscall.EPIPE
	}
	total := 0
	var err error
	// What does not fill a page goes to the end of the last one, if all of it fits.
	if tail := s.Left() % pipePage; tail != 0 && p.head != p.tail {
		b := p.at(p.head - 1)
		if end := b.off + b.n; !b.packet && b.page != nil && end+tail <= pipePage {
			n, e := s.Take(b.page[end : end+tail])
			b.n += n
			total += n
			err = e
		}
	}
	for err == nil && s.Left() > 0 && !p.full() {
		g := p.newPage()
		n, e := s.Take(g[:min(pipePage, s.Left())])
		err = e
		if n == 0 {
			p.freePage(g)
			break
		}
		*p.at(p.head) = pipeBuf{page: g, n: n, packet: packets}
		p.head++
		total += n
	}
	p.bytes += total
	room := !p.full()
	p.settle()
	p.mu.Unlock()
	// Every write is an edge, as programs with EPOLLET expect; on Linux even one that
	// finds no room.
	p.rd.Notify(poll.In)
	if total > 0 {
		if room && s.Left() == 0 {
			p.tellWriters(poll.Out | passOn)
		}
		return total, nil
	}
	if err == nil {
		err = syscall.EAGAIN
	}
	return 0, err
}

// resize is F_SETPIPE_SZ: the size that it has then. EBUSY where what is in it does
// not fit.
func (p *pipe) resize(n int) (int, error) {
	if n < 0 || n > 1<<31 {
		return 0, syscall.EINVAL
	}
	slots := 1
	if n > pipePage {
		slots = 1 << bits.Len(uint((n+pipePage-1)/pipePage-1))
	}
	if slots*pipePage > maxPipeSize {
		return 0, syscall.EPERM
	}
	p.mu.Lock()
	used := int(p.head - p.tail)
	if used > slots {
		p.mu.Unlock()
		return 0, syscall.EBUSY
	}
	s := make([]pipeBuf, slots)
	for i := range used {
		s[i] = *p.at(p.tail + uint(i))
	}
	p.slots, p.tail, p.head = s, 0, uint(used)
	p.settle()
	p.mu.Unlock()
	p.tellWriters(poll.Any) // without asking whether there is more room, as Linux does
	return slots * pipePage, nil
}

func (p *pipe) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots) * pipePage
}

// pipeEnd is one open end of a pipe, or both: a FIFO opened O_RDWR.
type pipeEnd struct {
	pipe          *pipe
	reads, writes bool
	packets       atomic.Bool // O_DIRECT

	// Of a FIFO.
	sawWriter      atomic.Bool // its reader has no POLLHUP until a writer was there
	wOpens, rOpens uint64      // when it was opened
	alone          bool        // nobody had the other end then
}

// handOn wakes the next thread that waits, for one that was woken and leaves.
func (e *pipeEnd) handOn(want poll.Events) {
	s := e.pipe.state.Load()
	if want&poll.In != 0 && s&pipeReadable != 0 {
		e.pipe.rd.Notify(poll.In | passOn)
	}
	if want&poll.Out != 0 && s&pipeWritable != 0 {
		e.pipe.tellWriters(poll.Out | passOn)
	}
}

// Node is the inode.
func (e *pipeEnd) Node() vfs.Node { return e.pipe.node }

// Seekable is false.
func (e *pipeEnd) Seekable() bool { return false }

// Sync is EINVAL of a pipe.
func (e *pipeEnd) Sync(bool) error { return syscall.EINVAL }

// Read takes bytes out of the pipe.
func (e *pipeEnd) Read(d vfs.Dst, _ int64) (int, error) { return e.pipe.read(d) }

// Write puts bytes in.
func (e *pipeEnd) Write(s vfs.Src, off int64, _ bool) (int, int64, error) {
	n, err := e.pipe.write(s, e.packets.Load())
	return n, off, err
}

// Ready is what can be done.
func (e *pipeEnd) Ready() poll.Events {
	s := e.pipe.state.Load()
	var r poll.Events
	if e.reads {
		if s&pipeReadable != 0 {
			r |= poll.In
		}
		if s&pipeNoWriter != 0 && e.hadWriter() {
			r |= poll.Hup
		}
	}
	if e.writes {
		if s&pipeWritable != 0 {
			r |= poll.Out
		}
		if s&pipeNoReader != 0 {
			r |= poll.Err
		}
	}
	return r
}

// hadWriter says whether somebody has had the other end since this one was opened.
func (e *pipeEnd) hadWriter() bool {
	p := e.pipe
	if !p.fifo || e.sawWriter.Load() {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wOpens != e.wOpens {
		e.sawWriter.Store(true)
	}
	return e.sawWriter.Load()
}

// Watch puts w on the lists of the ends that it is. A FIFO opened for both is told of
// what comes in, and of room by the same list.
func (e *pipeEnd) Watch(w *poll.Waiter) { e.list().Add(w) }

// Unwatch takes it off.
func (e *pipeEnd) Unwatch(w *poll.Waiter) { e.list().Remove(w) }

func (e *pipeEnd) list() *poll.List {
	if e.reads {
		return &e.pipe.rd
	}
	return &e.pipe.wr
}

// Close gives the end up; the other one is told.
func (e *pipeEnd) Close() error {
	p := e.pipe
	p.mu.Lock()
	if e.reads {
		p.readers--
	}
	if e.writes {
		p.writers--
	}
	if e.reads && e.writes {
		p.both.Add(-1)
	}
	over := p.readers == 0 && p.writers == 0
	if over {
		for p.head != p.tail {
			p.drop()
		}
		for _, g := range p.spares {
			pipePages.Put(g)
		}
		p.spares, p.bytes = nil, 0
	}
	p.settle()
	p.mu.Unlock()
	if over {
		p.leave()
		return nil
	}
	p.rd.Notify(poll.In | poll.Out | poll.Hup | poll.Err)
	p.wr.Notify(poll.In | poll.Out | poll.Hup | poll.Err)
	return nil
}

// PipeSize and SetPipeSize are F_GETPIPE_SZ and F_SETPIPE_SZ in bytes, EBADF for what
// is no pipe.
func (o *Open) PipeSize() (int, error) {
	e, ok := o.file.(*pipeEnd)
	if !ok {
		return 0, syscall.EBADF
	}
	return e.pipe.size(), nil
}

// SetPipeSize is F_SETPIPE_SZ.
func (o *Open) SetPipeSize(n int) (int, error) {
	e, ok := o.file.(*pipeEnd)
	if !ok {
		return 0, syscall.EBADF
	}
	return e.pipe.resize(n)
}

// IsPipe says whether it is the end of a pipe or a FIFO.
func (o *Open) IsPipe() bool {
	_, ok := o.file.(*pipeEnd)
	return ok
}

// Unread is FIONREAD of a pipe, ENOTTY of anything else.
func (o *Open) Unread() (int, error) {
	e, ok := o.file.(*pipeEnd)
	if !ok {
		return 0, syscall.ENOTTY
	}
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	return e.pipe.bytes, nil
}
