package fd

import (
	"encoding/binary"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

func (k *termios) encode(b []byte) {
	for i, v := range [...]uint32{k.iflag, k.oflag, k.cflag, k.lflag} {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	b[16] = k.line
	copy(b[17:], k.cc[:])
}

func (k *termios) decode(b []byte) {
	for i, v := range [...]*uint32{&k.iflag, &k.oflag, &k.cflag, &k.lflag} {
		*v = binary.LittleEndian.Uint32(b[4*i:])
	}
	k.line = b[16]
	copy(k.cc[:], b[17:])
}

// Control is ioctl(2) of a terminal, but for what has to do with sessions, which is the
// caller's: TIOCSCTTY, TIOCNOTTY, TIOCGPGRP, TIOCSPGRP, TIOCGSID.
func (f *ttyFile) Control(mem vfs.Memory, req uint32, arg uint64) (uint64, error) {
	t := f.TTY
	var b [termiosSize]byte
	switch req {
	case tcgets:
		t.mu.Lock()
		t.t.encode(b[:])
		t.mu.Unlock()
		return 0, mem.CopyOut(arg, b[:])
	case tcsets, tcsetsw, tcsetsf:
		if err := mem.CopyIn(b[:], arg); err != nil {
			return 0, err
		}
		t.set(b[:], req == tcsetsf)
		return 0, nil
	case tiocgwinsz:
		t.mu.Lock()
		copy(b[:], t.winsize[:])
		t.mu.Unlock()
		return 0, mem.CopyOut(arg, b[:8])
	case tiocswinsz:
		if err := mem.CopyIn(b[:8], arg); err != nil {
			return 0, err
		}
		t.SetSize(binary.LittleEndian.Uint16(b[0:]), binary.LittleEndian.Uint16(b[2:]))
		return 0, nil
	case fionread, tiocoutq:
		t.mu.Lock()
		n := len(t.input)
		t.mu.Unlock()
		if req == tiocoutq {
			n = 0
		}
		binary.LittleEndian.PutUint32(b[:], uint32(n))
		return 0, mem.CopyOut(arg, b[:4])
	case tcflsh:
		if arg == 0 || arg == 2 {
			t.mu.Lock()
			t.input, t.edit, t.eofs = t.input[:0], t.edit[:0], t.eofs[:0]
			t.mu.Unlock()
		}
		return 0, nil
	case tcsbrk, tcsbrkp, tcxonc, tiocsetd:
		return 0, nil
	case tiocgetd:
		return 0, mem.CopyOut(arg, b[:4])
	}
	return 0, syscall.ENOTTY
}

// set is TCSETS; with flush set what was typed is forgotten. A line that is being
// typed is readable once canonical mode ends.
func (t *TTY) set(b []byte, flush bool) {
	t.mu.Lock()
	was := t.t.lflag & icanon
	t.t.decode(b)
	if flush {
		t.input, t.edit, t.eofs = t.input[:0], t.edit[:0], t.eofs[:0]
	}
	if was != 0 && t.t.lflag&icanon == 0 {
		t.commit()
		t.eofs = t.eofs[:0]
	}
	ready := t.readable()
	t.mu.Unlock()
	if ready {
		t.list.Notify(poll.In)
	}
}

// SetSize sets rows and columns; the foreground group gets SIGWINCH where they change.
func (t *TTY) SetSize(rows, columns uint16) {
	t.mu.Lock()
	old := t.winsize
	binary.LittleEndian.PutUint16(t.winsize[0:], rows)
	binary.LittleEndian.PutUint16(t.winsize[2:], columns)
	changed, pgrp, f := old != t.winsize, t.pgrp, t.Signal
	t.mu.Unlock()
	if changed && pgrp != 0 && f != nil {
		f(pgrp, syscall.SIGWINCH)
	}
}
