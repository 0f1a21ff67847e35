package fd

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// The halves of splice(2). Each is one attempt under the pipe's lock, which is why
// nothing is lost where the other side takes less than was offered.

// PipeTo moves up to n bytes out of the pipe o to f, which says how many it took:
// EAGAIN where there are none, 0 with nil at the end.
func (o *Open) PipeTo(n int, f func(p []byte) (int, error)) (int, error) {
	e, ok := o.file.(*pipeEnd)
	if !ok || !e.reads {
		return 0, syscall.EINVAL
	}
	return e.pipe.read(&sink{f: f, room: n})
}

// sink is a Dst that hands what is put to a function.
type sink struct {
	f    func(p []byte) (int, error)
	room int
}

func (s *sink) Room() int { return s.room }

// Put passes p on; one that is not taken whole is the last.
func (s *sink) Put(p []byte) (int, error) {
	p = p[:min(len(p), s.room)]
	n, err := s.f(p)
	s.room -= n
	if n < len(p) {
		s.room = 0
	}
	return n, err
}

// ToPipe moves up to n bytes from f into the pipe o; f fills p and says with how many,
// 0 for its end. EAGAIN where there is no room, EPIPE without a reader.
func (o *Open) ToPipe(n int, f func(p []byte) (int, error)) (int, error) {
	e, ok := o.file.(*pipeEnd)
	if !ok || !e.writes {
		return 0, syscall.EINVAL
	}
	total := 0
	for total < n {
		p := e.pipe
		p.mu.Lock()
		err := error(nil)
		switch {
		case p.readers == 0:
			err = syscall.EPIPE
		case p.full():
			err = syscall.EAGAIN
		}
		if err != nil {
			p.mu.Unlock()
			return done(total, err)
		}
		g := p.newPage()
		k, err := f(g[:min(pipePage, n-total)])
		if k > 0 {
			*p.at(p.head) = pipeBuf{page: g, n: k}
			p.head++
			p.bytes += k
			p.settle()
		} else {
			p.freePage(g)
		}
		p.mu.Unlock()
		if k > 0 {
			p.rd.Notify(poll.In)
		}
		total += k
		if err != nil || k == 0 {
			return done(total, err)
		}
	}
	return total, nil
}

func done(n int, err error) (int, error) {
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// PipeToPipe moves, or with keep set copies (tee), up to n bytes from one pipe to
// another: EINVAL for one and the same, EAGAIN where from is empty or to is full.
func PipeToPipe(from, to *Open, n int, keep bool) (int, error) {
	a, ok := from.file.(*pipeEnd)
	b, ok2 := to.file.(*pipeEnd)
	if !ok || !ok2 || !a.reads || !b.writes || a.pipe == b.pipe {
		return 0, syscall.EINVAL
	}
	src, dst := a.pipe, b.pipe
	first, second := src, dst
	if first.ino > second.ino {
		first, second = second, first
	}
	first.mu.Lock()
	second.mu.Lock()
	wasFull := src.full()
	total, freed := 0, false
	err := error(nil)
	if dst.readers == 0 {
		err = syscall.EPIPE
	}
	for i := src.tail; err == nil && total < n && i != src.head && !dst.full(); i++ {
		s := src.at(i)
		k := min(s.n, n-total)
		g := dst.newPage()
		copy(g[:], s.page[s.off:s.off+k])
		*dst.at(dst.head) = pipeBuf{page: g, n: k, packet: s.packet}
		dst.head++
		dst.bytes += k
		total += k
		if keep {
			continue
		}
		s.off += k
		s.n -= k
		src.bytes -= k
		if s.n == 0 {
			src.drop()
			freed = true
		}
	}
	if err == nil && total == 0 && n > 0 {
		if src.head != src.tail || src.writers > 0 {
			err = syscall.EAGAIN
		}
	}
	src.settle()
	dst.settle()
	second.mu.Unlock()
	first.mu.Unlock()
	if wasFull && freed {
		src.tellWriters(poll.Out)
	}
	if total > 0 {
		dst.rd.Notify(poll.In)
	}
	return total, err
}

// ReadPipe and WritePipe say which ends of a pipe o is.
func (o *Open) ReadPipe() bool {
	e, ok := o.file.(*pipeEnd)
	return ok && e.reads
}

// WritePipe says whether it is one that is written to.
func (o *Open) WritePipe() bool {
	e, ok := o.file.(*pipeEnd)
	return ok && e.writes
}

var _ vfs.Dst = (*sink)(nil)
