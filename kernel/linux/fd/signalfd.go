package fd

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Signals is a thread as signalfd sees it. Sets have bit n-1 for signal n.
type Signals interface {
	// Take takes a pending signal of the set.
	Take(set uint64) (abi.Siginfo, bool)
	// Pending are those of the set that Take would find.
	Pending(set uint64) uint64
	WatchSignals(w *poll.Waiter)
	UnwatchSignals(w *poll.Waiter)
}

// SignalFD is signalfd(2). Whoever reads gets signals of his own; who waits for it
// waits for those of the thread that made it.
type SignalFD struct {
	anon
	mask atomic.Uint64
	of   Signals
	call func(s Sleeper) Signals
}

// siginfoSize is that of struct signalfd_siginfo.
const siginfoSize = 128

// NewSignalFD is signalfd4(2) of a new descriptor: of is the thread that makes it, call
// finds a Signals of one that reads.
func NewSignalFD(mask uint64, flags int, of Signals, call func(s Sleeper) Signals) *Open {
	f := &SignalFD{of: of, call: call}
	f.SetMask(mask)
	return NewOpen(f, syscall.O_RDWR|flags&syscall.O_NONBLOCK)
}

// SignalFD is what o is, nil if it is none.
func (o *Open) SignalFD() *SignalFD {
	f, _ := o.file.(*SignalFD)
	return f
}

// SetMask says which signals are read; SIGKILL and SIGSTOP never are.
func (f *SignalFD) SetMask(mask uint64) {
	const never = 1<<(uint(syscall.SIGKILL)-1) | 1<<(uint(syscall.SIGSTOP)-1)
	f.mask.Store(mask &^ never)
}

// ReadFor fills d with as many signals as there are and fit.
func (f *SignalFD) ReadFor(s Sleeper, d vfs.Dst) (int, error) { return f.read(f.call(s), d) }

// Read is ReadFor of the thread that made it.
func (f *SignalFD) Read(d vfs.Dst, _ int64) (int, error) { return f.read(f.of, d) }

func (f *SignalFD) read(from Signals, d vfs.Dst) (int, error) {
	if d.Room() < siginfoSize {
		return 0, syscall.EINVAL
	}
	total := 0
	for d.Room() >= siginfoSize {
		i, ok := from.Take(f.mask.Load())
		if !ok {
			break
		}
		var b [siginfoSize]byte
		encodeSiginfo(b[:], &i)
		n, err := d.Put(b[:])
		if err != nil {
			if total == 0 {
				return 0, err
			}
			break
		}
		total += n
	}
	if total == 0 {
		return 0, syscall.EAGAIN
	}
	return total, nil
}

// encodeSiginfo writes struct signalfd_siginfo.
func encodeSiginfo(b []byte, i *abi.Siginfo) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(i.Signo))
	le.PutUint32(b[4:], uint32(i.Errno))
	le.PutUint32(b[8:], uint32(i.Code))
	le.PutUint32(b[12:], uint32(i.PID))
	le.PutUint32(b[16:], i.UID)
	le.PutUint32(b[20:], uint32(i.FD))
	le.PutUint32(b[24:], uint32(i.Timer))
	le.PutUint32(b[28:], uint32(i.Band))
	le.PutUint32(b[32:], uint32(i.Overrun))
	le.PutUint32(b[40:], uint32(i.Status))
	le.PutUint32(b[44:], uint32(i.Value))
	le.PutUint64(b[48:], i.Value)
	le.PutUint64(b[56:], uint64(i.Utime))
	le.PutUint64(b[64:], uint64(i.Stime))
	le.PutUint64(b[72:], i.Addr)
}

// Ready is In where a signal of the set is pending.
func (f *SignalFD) Ready() poll.Events {
	if f.of.Pending(f.mask.Load()) != 0 {
		return poll.In
	}
	return 0
}

// Watch has w told of signals.
func (f *SignalFD) Watch(w *poll.Waiter) { f.of.WatchSignals(w) }

// Unwatch ends that.
func (f *SignalFD) Unwatch(w *poll.Waiter) { f.of.UnwatchSignals(w) }

// Close does nothing.
func (f *SignalFD) Close() error { return nil }
