package fd

import (
	"math"
	"syscall"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Read is read(2): from the position on for files that have one. It waits unless the
// description is O_NONBLOCK.
func (o *Open) Read(s Sleeper, d vfs.Dst) (int, error) {
	if !o.CanRead() {
		return 0, syscall.EBADF
	}
	var n int
	var err error
	if o.stream {
		n, err = o.readStream(s, d, o.Nonblock())
	} else {
		n, err = o.readPos(s, d)
	}
	if n > 0 && eventsOn.Load() {
		o.tell(InAccess)
	}
	return n, err
}

func (o *Open) readPos(s Sleeper, d vfs.Dst) (int, error) {
	for {
		o.posMu.Lock()
		n, err := o.file.Read(d, o.pos)
		if n > 0 {
			o.pos += int64(n)
		}
		o.posMu.Unlock()
		if err != syscall.EAGAIN || o.Nonblock() {
			return n, err
		}
		if err := WaitFor(s, o.file, poll.In, time.Time{}); err != nil {
			return 0, err
		}
	}
}

// read1 is one attempt on a stream.
func (o *Open) read1(s Sleeper, d vfs.Dst) (int, error) {
	if r, ok := o.file.(SleeperReader); ok {
		return r.ReadFor(s, d)
	}
	return o.file.Read(d, 0)
}

func (o *Open) readStream(s Sleeper, d vfs.Dst, nonblock bool) (int, error) {
	if d.Room() == 0 && !o.records {
		return 0, nil
	}
	n, err := o.read1(s, d)
	if err != syscall.EAGAIN || nonblock {
		return n, err
	}
	var deadline time.Time
	if t, ok := o.file.(Timeouts); ok {
		r, _ := t.Timeouts()
		deadline = after(r)
	}
	w := startWait(o.file, poll.In|poll.RdHup, handsOn(o.file))
	var stop error
	for {
		n, err = o.read1(s, d)
		if err != syscall.EAGAIN {
			break
		}
		if stop != nil {
			err = stop
			break
		}
		stop = sleepError(s.Sleep(w.c, deadline), deadline)
	}
	w.end(o.file)
	return n, err
}

// Write is write(2). A blocking write to a stream goes on until all is taken. EPIPE
// is returned as it is: the caller sends the signal.
func (o *Open) Write(s Sleeper, src vfs.Src) (int, error) {
	if !o.CanWrite() {
		return 0, syscall.EBADF
	}
	var n int
	var err error
	if o.stream {
		n, err = o.writeStream(s, src, o.Nonblock())
	} else {
		n, err = o.writePos(s, src)
	}
	if n > 0 && eventsOn.Load() {
		o.tell(InModify)
	}
	return n, err
}

func (o *Open) writePos(s Sleeper, src vfs.Src) (int, error) {
	for {
		o.posMu.Lock()
		n, at, err := o.file.Write(src, o.pos, o.flags.Load()&syscall.O_APPEND != 0)
		if n > 0 {
			o.pos = at + int64(n)
		}
		o.posMu.Unlock()
		if err != syscall.EAGAIN || o.Nonblock() {
			return n, err
		}
		if err := WaitFor(s, o.file, poll.Out, time.Time{}); err != nil {
			return 0, err
		}
	}
}

// waitingWriter is a file whose Write cannot be tried again with the same Src.
type waitingWriter interface {
	writeWaiting(s Sleeper, src vfs.Src, nonblock bool) (int, error)
}

func (o *Open) writeStream(s Sleeper, src vfs.Src, nonblock bool) (int, error) {
	if w, ok := o.file.(waitingWriter); ok {
		return w.writeWaiting(s, src, nonblock)
	}
	total, _, err := o.file.Write(src, 0, false)
	if nonblock || (err != nil && err != syscall.EAGAIN) {
		return total, err
	}
	if err == nil {
		if src.Left() == 0 || total == 0 {
			return total, nil
		}
		if _, once := o.file.(Once); once {
			return total, nil
		}
	}
	var deadline time.Time
	if t, ok := o.file.(Timeouts); ok {
		_, w := t.Timeouts()
		deadline = after(w)
	}
	w := startWait(o.file, poll.Out, handsOn(o.file))
	var stop error
	for {
		var n int
		n, _, err = o.file.Write(src, 0, false)
		total += n
		if err == nil && n > 0 && src.Left() > 0 {
			if _, once := o.file.(Once); !once {
				continue
			}
		}
		if err != syscall.EAGAIN {
			break
		}
		if stop != nil {
			err = stop
			break
		}
		stop = sleepError(s.Sleep(w.c, deadline), deadline)
	}
	w.end(o.file)
	if total > 0 {
		err = nil // an error after a part is told by the next call
	}
	return total, err
}

// ReadAt is pread(2).
func (o *Open) ReadAt(s Sleeper, d vfs.Dst, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if o.stream {
		if o.IsPath() {
			return 0, syscall.EBADF
		}
		return 0, syscall.ESPIPE
	}
	if !o.CanRead() {
		return 0, syscall.EBADF
	}
	for {
		n, err := o.file.Read(d, off)
		if err != syscall.EAGAIN || o.Nonblock() {
			if n > 0 && eventsOn.Load() {
				o.tell(InAccess)
			}
			return n, err
		}
		if err := WaitFor(s, o.file, poll.In, time.Time{}); err != nil {
			return 0, err
		}
	}
}

// WriteAt is pwrite(2): with O_APPEND it appends, as Linux does whatever POSIX says.
func (o *Open) WriteAt(s Sleeper, src vfs.Src, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if o.stream {
		if o.IsPath() {
			return 0, syscall.EBADF
		}
		return 0, syscall.ESPIPE
	}
	if !o.CanWrite() {
		return 0, syscall.EBADF
	}
	for {
		n, _, err := o.file.Write(src, off, o.flags.Load()&syscall.O_APPEND != 0)
		if err != syscall.EAGAIN || o.Nonblock() {
			if n > 0 && eventsOn.Load() {
				o.tell(InModify)
			}
			return n, err
		}
		if err := WaitFor(s, o.file, poll.Out, time.Time{}); err != nil {
			return 0, err
		}
	}
}

// ReadNow and WriteNow are one attempt without waiting whatever the flags say
// (RWF_NOWAIT, splice with SPLICE_F_NONBLOCK): EAGAIN where nothing could be done.
func (o *Open) ReadNow(s Sleeper, d vfs.Dst) (int, error) {
	if !o.CanRead() {
		return 0, syscall.EBADF
	}
	if o.stream {
		return o.readStream(s, d, true)
	}
	o.posMu.Lock()
	defer o.posMu.Unlock()
	n, err := o.file.Read(d, o.pos)
	if n > 0 {
		o.pos += int64(n)
	}
	return n, err
}

// Values of whence, those that package syscall lacks.
const (
	SeekData = 3
	SeekHole = 4
)

// Seek is lseek(2).
func (o *Open) Seek(off int64, whence int) (int64, error) {
	if o.IsPath() {
		return 0, syscall.EBADF
	}
	if whence < 0 || whence > SeekHole {
		return 0, syscall.EINVAL
	}
	if _, ok := o.file.(vfs.Unmoving); ok {
		return 0, nil
	}
	if o.stream {
		return 0, syscall.ESPIPE
	}
	o.posMu.Lock()
	defer o.posMu.Unlock()
	at, err := o.seekTo(off, whence)
	if err != nil {
		return 0, err
	}
	if at == 0 && whence == 0 {
		if r, ok := o.file.(vfs.DirPositioner); ok {
			r.Rewind()
		}
	}
	o.pos = at
	return at, nil
}

func (o *Open) seekTo(off int64, whence int) (int64, error) {
	base := int64(0)
	switch whence {
	case 1:
		base = o.pos
	case 2:
		size, err := o.size()
		if err != nil {
			return 0, err
		}
		base = size
	case SeekData, SeekHole:
		if k, ok := o.file.(vfs.Seeker); ok {
			return k.SeekData(off, whence == SeekHole)
		}
		// A file that knows no holes is data up to its end.
		size, err := o.size()
		if err != nil {
			return 0, err
		}
		if off < 0 || off >= size {
			return 0, syscall.ENXIO
		}
		if whence == SeekHole {
			return size, nil
		}
		return off, nil
	}
	if off > 0 && base > math.MaxInt64-off {
		return 0, syscall.EOVERFLOW
	}
	if base+off < 0 {
		return 0, syscall.EINVAL
	}
	return base + off, nil
}

// size is the file's length, 0 for what has no node.
func (o *Open) size() (int64, error) {
	n := o.file.Node()
	if n == nil {
		return 0, nil
	}
	a, err := n.Attr()
	if err != nil {
		return 0, err
	}
	if a.Type != vfs.TypeFile && a.Type != vfs.TypeBlock && a.Type != vfs.TypeDir {
		return 0, nil
	}
	return a.Size, nil
}

// WithPos calls f with the position and keeps what f returns, with the position
// locked: getdents and sendfile.
func (o *Open) WithPos(f func(pos int64) (int64, error)) error {
	o.posMu.Lock()
	defer o.posMu.Unlock()
	pos, err := f(o.pos)
	o.pos = pos
	return err
}

// Pos is the position.
func (o *Open) Pos() int64 {
	o.posMu.Lock()
	defer o.posMu.Unlock()
	return o.pos
}

// Stream says whether it has no position.
func (o *Open) Stream() bool { return o.stream }

// WriteNow is one attempt to write, whatever O_NONBLOCK says.
func (o *Open) WriteNow(s Sleeper, src vfs.Src) (int, error) {
	if !o.CanWrite() {
		return 0, syscall.EBADF
	}
	if o.stream {
		return o.writeStream(s, src, true)
	}
	o.posMu.Lock()
	defer o.posMu.Unlock()
	n, at, err := o.file.Write(src, o.pos, o.flags.Load()&syscall.O_APPEND != 0)
	if n > 0 {
		o.pos = at + int64(n)
	}
	return n, err
}
