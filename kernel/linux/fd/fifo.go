package fd

import (
	"sync"
	"syscall"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// inode names a file by what stat tells: for the tables of FIFOs, locks and watches.
type inode struct{ dev, ino uint64 }

func inodeOf(n vfs.Node) (inode, bool) {
	if n == nil {
		return inode{}, false
	}
	a, err := n.Attr()
	if err != nil {
		return inode{}, false
	}
	return inode{a.Dev, a.Ino}, true
}

// fifos are the FIFOs that are open, by inode.
var fifos = struct {
	mu   sync.Mutex
	open map[inode]*pipe
}{open: map[inode]*pipe{}}

// OpenFIFO opens one end of a FIFO, or both: the vfs.Opener of vfs.TypePipe. It does
// not wait for the other end; MeetFIFO does. Writing with O_NONBLOCK is ENXIO without a
// reader.
func OpenFIFO(at vfs.Path, flags int) (vfs.File, error) { return openFIFO(at.Node(), flags) }

func openFIFO(n vfs.Node, flags int) (vfs.File, error) {
	key, ok := inodeOf(n)
	if !ok {
		return nil, syscall.EIO
	}
	fifos.mu.Lock()
	defer fifos.mu.Unlock()
	p := fifos.open[key]
	if p == nil {
		p = newPipe()
		p.fifo, p.key, p.node = true, key, n
	}
	e, err := p.join(flags)
	if err != nil {
		return nil, err
	}
	fifos.open[key] = p
	return e, nil
}

// MeetFIFO waits for the other end of a FIFO that has just been opened, unless flags
// have O_NONBLOCK or somebody has it already. Of any other file it is nil at once. With
// an error the file is still the caller's to close.
func MeetFIFO(s Sleeper, f vfs.File, flags int) error {
	e, ok := f.(*pipeEnd)
	if !ok || !e.alone || flags&syscall.O_NONBLOCK != 0 {
		return nil
	}
	p := e.pipe
	return waitOn(s, &p.openers, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if e.reads {
			return p.wOpens != e.wOpens
		}
		return p.rOpens != e.rOpens
	})
}

// waitOn waits until met, looked at after each notification of l, says so.
func waitOn(s Sleeper, l *poll.List, met func() bool) error {
	w := waits.Get().(*wait)
	select {
	case <-w.c:
	default:
	}
	w.want.Store(uint32(poll.Any))
	w.w.Exclusive = false
	l.Add(&w.w)
	var err error
	for !met() {
		// A signal that comes with it does not undo it.
		if err = s.Sleep(w.c, time.Time{}); err != nil && met() {
			err = nil
		}
		if err != nil {
			break
		}
	}
	l.Remove(&w.w)
	waits.Put(w)
	return err
}

// leave takes a FIFO that nobody has open any more out of the table.
func (p *pipe) leave() {
	if !p.fifo {
		return
	}
	fifos.mu.Lock()
	defer fifos.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readers == 0 && p.writers == 0 && fifos.open[p.key] == p {
		delete(fifos.open, p.key)
	}
}
