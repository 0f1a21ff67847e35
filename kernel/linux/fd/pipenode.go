package fd

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// pipeNode is the inode of a pipe without a name, so that /proc/PID/fd/N opens the pipe
// anew: /dev/stdout, and the /dev/fd/63 of shells.
type pipeNode struct {
	vfs.NoDir
	p *pipe
}

// FS is nil: a pipe is on no file system that could be mounted.
func (n *pipeNode) FS() vfs.FileSystem { return nil }

// Attr is what fstat tells.
func (n *pipeNode) Attr() (vfs.Attr, error) {
	p := n.p
	return vfs.Attr{Dev: anonDev, Ino: p.ino, Type: vfs.TypePipe, Mode: 0o600, Nlink: 1, BlockSize: 4096,
		Atime: p.made, Mtime: p.made, Ctime: p.made}, nil
}

// SetAttr is taken and forgotten.
func (n *pipeNode) SetAttr(vfs.Set, vfs.Attr) error { return nil }

// Openable says that Open opens it.
func (n *pipeNode) Openable() {}

// Open opens one more end, as of a FIFO.
func (n *pipeNode) Open(flags int) (vfs.File, error) { return n.p.join(flags) }

// join opens an end of p, or both. Writing with O_NONBLOCK is ENXIO without a reader.
func (p *pipe) join(flags int) (*pipeEnd, error) {
	mode := flags & syscall.O_ACCMODE
	if mode == syscall.O_ACCMODE {
		return nil, syscall.EINVAL
	}
	e := &pipeEnd{pipe: p, reads: mode != syscall.O_WRONLY, writes: mode != syscall.O_RDONLY}
	e.packets.Store(flags&syscall.O_DIRECT != 0)
	p.mu.Lock()
	if !e.reads && flags&syscall.O_NONBLOCK != 0 && p.readers == 0 {
		p.mu.Unlock()
		return nil, syscall.ENXIO
	}
	had := p.writers > 0 || e.writes
	if e.reads {
		p.readers++
		p.rOpens++
	}
	if e.writes {
		p.writers++
		p.wOpens++
	}
	if e.reads && e.writes {
		p.both.Add(1)
	}
	e.sawWriter.Store(had)
	e.wOpens, e.rOpens = p.wOpens, p.rOpens
	e.alone = e.reads != e.writes && (p.readers == 0 || p.writers == 0)
	p.settle()
	p.mu.Unlock()
	p.openers.Notify(poll.In)
	return e, nil
}
