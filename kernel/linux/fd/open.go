package fd

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Open is an open file description: a file with a position and status flags, shared
// by all descriptors that dup, fork and SCM_RIGHTS have made of one open.
//
// It is counted: NewOpen gives the caller one reference, Table.Get another, and each
// is given back by Release. The file is closed with the last, so that a call under way
// in one thread keeps the file that another thread closes.
type Open struct {
	file   vfs.File
	refs   atomic.Int64
	flags  atomic.Uint32 // as F_GETFL tells them: access mode and status
	stream bool          // without a position

	counter bool // has no normal data, poll.go
	records bool // refuses a read that has no room, others return 0

	posMu sync.Mutex // held while a call uses the position and moves it
	pos   int64

	opened *vfs.Opened // of what a path led to; nil of pipes, sockets and their kin
	where  vfs.Path    // of memory files

	epolls  atomic.Bool // has been watched by one
	watchMu sync.Mutex
	watches *item // the epolls that watch it, by item.nextWatch

	locked atomic.Bool  // may hold flock or OFD locks: they go with the last reference
	owner  atomic.Int32 // F_SETOWN
	sig    atomic.Int32 // F_SETSIG
	hint   atomic.Int64 // F_SET_RW_HINT
}

// Once is a file whose Write takes one record, however much more it is offered: a
// blocking write(2) does not go on after it (datagrams).
type Once interface{ WritesOnce() }

// Timeouts is a file whose blocking reads and writes end after a time (SO_RCVTIMEO,
// SO_SNDTIMEO); zero is never.
type Timeouts interface {
	Timeouts() (read, write time.Duration)
}

// SleeperReader is a file that reads differently for different threads (signalfd).
type SleeperReader interface {
	ReadFor(s Sleeper, d vfs.Dst) (int, error)
}

// NewOpen describes f, opened with the open(2) flags; those that matter only while it
// is opened are dropped. The caller has the one reference.
func NewOpen(f vfs.File, flags int) *Open {
	o := &Open{file: f}
	o.refs.Store(1)
	o.stream = !f.Seekable()
	switch f.(type) {
	case *eventFD, *TimerFD, *SignalFD:
		o.counter, o.records = true, true
	case *Inotify:
		o.records = true
	}
	const transient = syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOCTTY | syscall.O_TRUNC | syscall.O_CLOEXEC
	flags &^= transient
	if flags&oPath != 0 {
		flags &= oPath | syscall.O_DIRECTORY | syscall.O_NOFOLLOW
	}
	o.flags.Store(uint32(flags))
	return o
}

// NewOpenAt describes what a path led to; the description closes it.
func NewOpenAt(v *vfs.Opened) *Open {
	o := NewOpen(v.File, v.Flags)
	o.opened = v
	return o
}

// File is the file itself; nothing can be done with that of O_PATH.
func (o *Open) File() vfs.File { return o.file }

// Where is where it was opened, the zero Path of what was not opened by a path.
func (o *Open) Where() vfs.Path {
	if o.opened == nil {
		return o.where
	}
	return o.opened.Path
}

// Flags are the access mode and the status flags, as F_GETFL returns them.
func (o *Open) Flags() int { return int(o.flags.Load()) }

// SetFlags is F_SETFL: it replaces the status flags that can be changed.
func (o *Open) SetFlags(flags int) {
	for {
		old := o.flags.Load()
		if o.flags.CompareAndSwap(old, old&^setFlags|uint32(flags)&setFlags) {
			break
		}
	}
	if e, ok := o.file.(*pipeEnd); ok {
		e.packets.Store(flags&syscall.O_DIRECT != 0)
	}
}

// SetNonblock is FIONBIO.
func (o *Open) SetNonblock(on bool) {
	if on {
		o.flags.Or(syscall.O_NONBLOCK)
	} else {
		o.flags.And(^uint32(syscall.O_NONBLOCK))
	}
}

// Nonblock says whether calls on it may wait.
func (o *Open) Nonblock() bool { return o.flags.Load()&syscall.O_NONBLOCK != 0 }

// IsPath says whether it was opened with O_PATH.
func (o *Open) IsPath() bool { return o.flags.Load()&oPath != 0 }

// CanRead and CanWrite are the access mode.
func (o *Open) CanRead() bool {
	f := o.flags.Load()
	return f&oPath == 0 && f&syscall.O_ACCMODE != syscall.O_WRONLY && f&syscall.O_ACCMODE != 3
}

// CanWrite says whether it was opened for writing.
func (o *Open) CanWrite() bool {
	f := o.flags.Load()
	return f&oPath == 0 && (f&syscall.O_ACCMODE == syscall.O_WRONLY || f&syscall.O_ACCMODE == syscall.O_RDWR)
}

// Owner, Signal and Hint are the words of F_SETOWN, F_SETSIG and F_SET_RW_HINT. They
// are kept and told, no more: there is no O_ASYNC.
func (o *Open) Owner() *atomic.Int32 { return &o.owner }

// Signal is the word of F_SETSIG.
func (o *Open) Signal() *atomic.Int32 { return &o.sig }

// Hint is the word of F_SET_RW_HINT.
func (o *Open) Hint() *atomic.Int64 { return &o.hint }

// Ready, Watch and Unwatch make a description a poll.Pollable.
func (o *Open) Ready() poll.Events {
	return o.file.Ready()
}

// Watch has w told of changes of the file.
func (o *Open) Watch(w *poll.Waiter) {
	o.file.Watch(w)
}

// Unwatch ends that.
func (o *Open) Unwatch(w *poll.Waiter) {
	o.file.Unwatch(w)
}

// Retain takes one more reference. The caller has one.
func (o *Open) Retain() *Open {
	o.refs.Add(1)
	return o
}

// Hold is Retain for those who have o already (SCM_RIGHTS that are looked at).
func (o *Open) Hold() { o.refs.Add(1) }

// retainLive takes a reference unless the last is gone.
func (o *Open) retainLive() bool {
	for {
		n := o.refs.Load()
		if n <= 0 {
			return false
		}
		if o.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a reference back; with the last one the file is closed, and what that
// returns is the error.
func (o *Open) Release() error {
	if o.refs.Add(-1) > 0 {
		return nil
	}
	o.unwatchAll()
	if o.locked.Load() {
		dropLocks(o)
	}
	if o.opened != nil {
		return o.opened.Close()
	}
	return o.file.Close()
}

// NewOpenPlace describes a file that has a place without having been opened by a path:
// a memory file in the tree's anonymous mount.
func NewOpenPlace(f vfs.File, flags int, at vfs.Path) *Open {
	o := NewOpen(f, flags)
	o.where = at
	return o
}
