// Package devfs is /dev: a tmpfs with the device files that programs expect, and the
// devices behind them.
//
// Spec: Documentation/admin-guide/devices.txt of Linux 6.1 for numbers; null(4),
// random(4), full(4), tty(4). Not covered: ptmx and pts (there are no pseudo-terminals),
// block devices, input. Who may use it: kernel/platform and kernel/linux. Start
// reading at New.
package devfs

import (
	"crypto/rand"
	"sync"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
	"osv/kernel/vfs/tmpfs"
)

// The device numbers of what is in /dev.
var (
	Null    = vfs.Mkdev(1, 3)
	Zero    = vfs.Mkdev(1, 5)
	Full    = vfs.Mkdev(1, 7)
	Random  = vfs.Mkdev(1, 8)
	URandom = vfs.Mkdev(1, 9)
	KMsg    = vfs.Mkdev(1, 11)
	TTY     = vfs.Mkdev(5, 0)
	Console = vfs.Mkdev(5, 1)
)

// Options of a /dev.
type Options struct {
	Frames tmpfs.Frames // nil: the Go heap
	// Console opens the console; nil: there is none, ENXIO.
	Console vfs.Opener
	// TTY opens the caller's terminal; nil: nobody has one, ENXIO.
	TTY vfs.Opener
	// KMsg takes what is written to /dev/kmsg, line by line; nil drops it.
	KMsg func(line []byte)
}

// New makes the file system and has t know the devices, wherever their files are.
func New(t *vfs.Tree, opt Options) (*tmpfs.FS, error) {
	fs := tmpfs.New(tmpfs.Options{Frames: opt.Frames, Mode: 0o755, Type: "devtmpfs"})
	root := fs.Root()
	for _, d := range []struct {
		name string
		mode uint32
		rdev uint64
	}{
		{"null", 0o666, Null}, {"zero", 0o666, Zero}, {"full", 0o666, Full},
		{"random", 0o666, Random}, {"urandom", 0o666, URandom}, {"kmsg", 0o644, KMsg},
		{"tty", 0o666, TTY}, {"console", 0o600, Console},
	} {
		if _, err := root.Make(d.name, vfs.NewNode{Type: vfs.TypeChar, Mode: d.mode, Rdev: d.rdev}); err != nil {
			return nil, err
		}
	}
	for _, l := range [][2]string{{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"}} {
		if _, err := root.Make(l[0], vfs.NewNode{Type: vfs.TypeLink, Mode: 0o777, Target: l[1]}); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{"shm", "mqueue"} {
		if _, err := root.Make(d, vfs.NewNode{Type: vfs.TypeDir, Mode: 0o1777}); err != nil {
			return nil, err
		}
	}
	Register(t, opt)
	return fs, nil
}

// Register has t know the devices, for a /dev that is elsewhere.
func Register(t *vfs.Tree, opt Options) {
	zero := &zeroPage{frames: opt.Frames}
	for rdev, dev := range map[uint64]func(p vfs.Path) vfs.File{
		Null:    func(p vfs.Path) vfs.File { return null{base{n: p.Node()}} },
		Zero:    func(p vfs.Path) vfs.File { return zeros{base{n: p.Node()}, zero} },
		Full:    func(p vfs.Path) vfs.File { return full{base{n: p.Node()}} },
		Random:  func(p vfs.Path) vfs.File { return random{base{n: p.Node()}} },
		URandom: func(p vfs.Path) vfs.File { return random{base{n: p.Node()}} },
		KMsg:    func(p vfs.Path) vfs.File { return kmsg{base{n: p.Node()}, opt.KMsg} },
	} {
		t.SetOpener(vfs.TypeChar, rdev, func(p vfs.Path, _ int) (vfs.File, error) { return dev(p), nil })
	}
	if opt.Console != nil {
		t.SetOpener(vfs.TypeChar, Console, opt.Console)
	}
	if opt.TTY != nil {
		t.SetOpener(vfs.TypeChar, TTY, opt.TTY)
	}
}

// base is what the devices have in common: a position that means nothing.
type base struct {
	vfs.Always
	n vfs.Node
}

func (b base) Node() vfs.Node  { return b.n }
func (b base) Seekable() bool  { return true }
func (b base) Unmoving()       {} // Linux's null_lseek and noop_llseek
func (b base) Sync(bool) error { return syscall.EINVAL }
func (b base) Close() error    { return nil }

// swallow takes all of s. The bytes are copied, so that bad memory is told.
func swallow(s vfs.Src, off int64, f func(p []byte)) (int, int64, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	done := 0
	for s.Left() > 0 {
		n, err := s.Take((*buf)[:min(len(*buf), s.Left())])
		if f != nil && n > 0 {
			f((*buf)[:n])
		}
		done += n
		if err != nil {
			if done == 0 {
				return 0, off, err
			}
			break
		}
		if n == 0 {
			break
		}
	}
	return done, off, nil
}

// fill fills d with chunks made by f.
func fill(d vfs.Dst, f func(p []byte)) (int, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	done := 0
	for d.Room() > 0 {
		p := (*buf)[:min(len(*buf), d.Room())]
		f(p)
		n, err := d.Put(p)
		done += n
		if err != nil || n < len(p) {
			if done == 0 {
				return 0, err
			}
			break
		}
	}
	return done, nil
}

// zeroer is a Dst that makes zeros of its own: user memory.
type zeroer interface{ PutZeros(n int) (int, error) }

// zero fills d with zeros.
func zero(d vfs.Dst) (int, error) {
	z, ok := d.(zeroer)
	if !ok {
		return fill(d, func(p []byte) { clear(p) })
	}
	n, err := z.PutZeros(d.Room())
	if n > 0 {
		err = nil
	}
	return n, err
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 4096); return &b }}

// null is /dev/null.
type null struct{ base }

// CannotPoll says that epoll takes neither null, zero nor full: EPERM.
func (null) CannotPoll()  {}
func (zeros) CannotPoll() {}
func (full) CannotPoll()  {}

func (null) Read(vfs.Dst, int64) (int, error) { return 0, nil }

// Write takes everything without looking at it, as Linux does.
func (null) Write(s vfs.Src, off int64, _ bool) (int, int64, error) { return s.Left(), off, nil }

// zeros is /dev/zero.
type zeros struct {
	base
	page *zeroPage
}

func (zeros) Read(d vfs.Dst, _ int64) (int, error) { return zero(d) }
func (zeros) Write(s vfs.Src, off int64, _ bool) (int, int64, error) {
	return s.Left(), off, nil
}

// PageAt lets /dev/zero be mapped privately; what is shared has to be anonymous.
func (z zeros) PageAt(_ int64, write bool) (vfs.Page, error) {
	if write {
		return nil, syscall.ENODEV
	}
	return z.page.get()
}

// zeroPage is the page behind private mappings of /dev/zero.
type zeroPage struct {
	frames tmpfs.Frames
	mu     sync.Mutex
	frame  uint64
	b      []byte
}

func (z *zeroPage) get() (vfs.Page, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.b == nil {
		if z.frames == nil {
			z.b = make([]byte, tmpfs.PageSize)
			return z, nil
		}
		frame, b, err := z.frames.Alloc(true)
		if err != nil {
			return nil, err
		}
		z.frame, z.b = frame, b
	}
	return z, nil
}

func (z *zeroPage) Frame() uint64 { return z.frame }
func (z *zeroPage) Bytes() []byte { return z.b }
func (z *zeroPage) Dirty()        {}
func (z *zeroPage) Release()      {}

// full is /dev/full.
type full struct{ base }

func (full) Read(d vfs.Dst, _ int64) (int, error) { return zero(d) }
func (full) Write(_ vfs.Src, off int64, _ bool) (int, int64, error) {
	return 0, off, syscall.ENOSPC
}

// random is /dev/random and /dev/urandom: the runtime's generator, which never waits.
type random struct{ base }

func (random) Read(d vfs.Dst, _ int64) (int, error) {
	return fill(d, func(p []byte) { rand.Read(p) })
}

// Write would stir the generator; it needs none of it.
func (random) Write(s vfs.Src, off int64, _ bool) (int, int64, error) { return swallow(s, off, nil) }

// kmsg is /dev/kmsg, for writing.
type kmsg struct {
	base
	f func([]byte)
}

// Ready never says that there is something to read: nothing is kept.
func (kmsg) Ready() poll.Events { return poll.Out }

func (kmsg) Read(vfs.Dst, int64) (int, error) { return 0, syscall.EAGAIN }
func (k kmsg) Write(s vfs.Src, off int64, _ bool) (int, int64, error) {
	return swallow(s, off, k.f)
}
