package fd

import (
	"strconv"
	"sync/atomic"
	"time"

	"osv/kernel/vfs"
)

// Stater is a file without a node that tells its own attributes (sockets).
type Stater interface {
	Attr() (vfs.Attr, error)
}

// Described is a file without a path that has a name of its own for /proc/PID/fd:
// "socket:[12]".
type Described interface {
	Describe() string
}

// anonDev is the device of files that exist only as descriptors, anonIno the inode
// number that they share; pipes have numbers of their own.
var (
	anonDev = vfs.AnonDev()
	anonIno = nextIno.Add(1)
	nextIno atomic.Uint64
)

// Attr is fstat(2).
func (o *Open) Attr() (vfs.Attr, error) {
	if n := o.file.Node(); n != nil {
		return n.Attr()
	}
	if s, ok := o.file.(Stater); ok {
		return s.Attr()
	}
	return vfs.Attr{Dev: anonDev, Ino: anonIno, Mode: 0o600, Nlink: 1, BlockSize: 4096}, nil
}

// Describe is the text of the link in /proc/PID/fd of what has no path, "" of what has
// one.
func (o *Open) Describe() string {
	if o.opened != nil {
		return ""
	}
	kind := ""
	switch f := o.file.(type) {
	case Described:
		return f.Describe()
	case *pipeEnd:
		return "pipe:[" + strconv.FormatUint(f.pipe.ino, 10) + "]"
	case interface{ String() string }:
		return f.String()
	case *eventFD:
		kind = "eventfd"
	case *TimerFD:
		kind = "timerfd"
	case *SignalFD:
		kind = "signalfd"
	case *Epoll:
		kind = "eventpoll"
	case *Inotify:
		return "anon_inode:inotify"
	default:
		if a, err := o.Attr(); err == nil && a.Type == vfs.TypeSocket {
			return "socket:[" + strconv.FormatUint(a.Ino, 10) + "]"
		}
		kind = "file"
	}
	return "anon_inode:[" + kind + "]"
}

// Info are the lines of /proc/PID/fdinfo that are particular to the kind of file.
func (o *Open) Info() string {
	s := ""
	switch f := o.file.(type) {
	case *eventFD:
		s += "eventfd-count: " + strconv.FormatUint(f.n.Load(), 16) + "\n"
	case *Epoll:
		f.ctl.Lock()
		for k, i := range f.items {
			f.mu.Lock()
			s += "tfd: " + strconv.Itoa(k.fd) + " events: " + strconv.FormatUint(uint64(i.events), 16) + " data: " + strconv.FormatUint(i.data, 16) + "\n"
			f.mu.Unlock()
		}
		f.ctl.Unlock()
	}
	return s
}

// born is when a pipe was made, and its number.
func born() (uint64, time.Time) { return nextIno.Add(1), time.Now() }
