package file

import (
	"syscall"

	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// Requests of ioctl that are the same for all files.
const (
	fionread  = 0x541b
	fionbio   = 0x5421
	fioasync  = 0x5452
	fionclex  = 0x5450
	fioclex   = 0x5451
	fioqsize  = 0x5460
	figetbsz  = 2
	tiocsctty = 0x540e
	tiocgpgrp = 0x540f
	tiocspgrp = 0x5410
	tiocnotty = 0x5422
	tiocgsid  = 0x5429
	tfdTicks  = 0x40085400 // TFD_IOC_SET_TICKS
)

func ioctl(t *task.Task, a *sys.Args) (uint64, error) {
	n, req, arg := int(int32(a[0])), uint32(a[1]), a[2]
	o, err := t.Files().Get(n)
	if err != nil {
		return 0, err
	}
	defer o.Release()
	switch req {
	case fioclex, fionclex:
		return no(t.Files().SetCloexec(n, req == fioclex))
	case fionbio:
		var b [4]byte
		if err := t.Mem().CopyIn(b[:], arg); err != nil {
			return 0, err
		}
		o.SetNonblock(le.Uint32(b[:]) != 0)
		return 0, nil
	case fioasync:
		var b [4]byte
		return no(t.Mem().CopyIn(b[:], arg))
	case figetbsz:
		at, err := o.Attr()
		if err != nil {
			return 0, err
		}
		return no(putInt(t, arg, int(at.BlockSize)))
	}
	if tty := o.TTY(); tty != nil {
		if r, err, done := session(t, tty, req, arg); done {
			return r, err
		}
	}
	if req == fionread {
		if n, ok, err := unread(o); ok {
			if err != nil {
				return 0, err
			}
			return no(putInt(t, arg, n))
		}
	}
	if c, ok := o.File().(vfs.Controller); ok {
		return c.Control(t.Mem(), req, arg)
	}
	return 0, syscall.ENOTTY
}

func putInt(t *task.Task, addr uint64, n int) error {
	var b [4]byte
	le.PutUint32(b[:], uint32(n))
	return t.Mem().CopyOut(addr, b[:])
}

// unread is FIONREAD of the files that this layer knows: regular files, pipes, inotify.
func unread(o *fd.Open) (n int, ok bool, err error) {
	if n, err := o.Unread(); err == nil {
		return n, true, nil
	}
	if i := o.Inotify(); i != nil {
		return i.Unread(), true, nil
	}
	if o.Stream() {
		return 0, false, nil
	}
	a, err := o.Attr()
	if err != nil || a.Type != vfs.TypeFile {
		return 0, err != nil, err
	}
	return int(a.Size - o.Pos()), true, nil
}

// session are the requests of a terminal that concern sessions and process groups.
func session(t *task.Task, tty *fd.TTY, req uint32, arg uint64) (r uint64, err error, done bool) {
	p := t.Proc()
	s := p.Session()
	mine := s.TTY() == any(tty)
	switch req {
	case tiocsctty:
		if p.SID() != p.PID() {
			return 0, syscall.EPERM, true
		}
		if mine {
			return 0, nil, true
		}
		if s.TTY() != nil || !tty.Take(s.ID, p.PGID()) {
			return 0, syscall.EPERM, true
		}
		s.SetTTY(tty)
		return 0, nil, true
	case tiocnotty:
		if !mine {
			return 0, syscall.ENOTTY, true
		}
		if p.SID() == p.PID() {
			tty.Leave(s.ID)
			s.SetTTY(nil)
		}
		return 0, nil, true
	case tiocgpgrp:
		if !mine {
			return 0, syscall.ENOTTY, true
		}
		return 0, putInt(t, arg, tty.Foreground()), true
	case tiocspgrp:
		var b [4]byte
		if !mine {
			return 0, syscall.ENOTTY, true
		}
		if err := t.Mem().CopyIn(b[:], arg); err != nil {
			return 0, err, true
		}
		g := int(int32(le.Uint32(b[:])))
		if g < 0 {
			return 0, syscall.EINVAL, true
		}
		members := t.Kernel().Members(g)
		if len(members) == 0 {
			return 0, syscall.ESRCH, true
		}
		if members[0].SID() != s.ID {
			return 0, syscall.EPERM, true
		}
		tty.SetForeground(g)
		return 0, nil, true
	case tiocgsid:
		if !mine {
			return 0, syscall.ENOTTY, true
		}
		return 0, putInt(t, arg, s.ID), true
	}
	return 0, nil, false
}

// openedTTY makes a terminal that has just been opened the controlling one of a session
// leader that has none.
func openedTTY(t *task.Task, o *fd.Open, flags int) {
	tty := o.TTY()
	if tty == nil || flags&(syscall.O_NOCTTY|vfs.OPath) != 0 {
		return
	}
	p := t.Proc()
	if s := p.Session(); p.SID() == p.PID() && s.TTY() == nil && tty.Take(s.ID, p.PGID()) {
		s.SetTTY(tty)
	}
}
