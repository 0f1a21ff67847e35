package vfs

import (
	"sync"
	"sync/atomic"
	"syscall"

	"osv/kernel/vfs/poll"
)

// The bits of open(2) that package syscall lacks or names differently on amd64.
const (
	OPath    = 0x200000
	OTmpfile = 0x410000 // with O_DIRECTORY
	OAccmode = syscall.O_ACCMODE
	oExec    = 1 << 30 // OpenExec, not a bit of open(2)
)

// Opened is an open file with its place. Close it, not its File.
type Opened struct {
	File    File
	Path    Path
	Flags   int // as given, without O_CREAT, O_EXCL, O_TRUNC, O_NOCTTY, O_CLOEXEC
	Created bool

	closed atomic.Bool
}

// Close closes the file and lets go of its mount.
func (o *Opened) Close() error {
	if o.closed.Swap(true) {
		return syscall.EBADF
	}
	err := o.File.Close()
	o.Path.M.release()
	last := o.Path.D.opens.Add(-1) == 0
	if t := o.Path.M.tree; t.hook.Load() != nil {
		if o.Flags&OPath == 0 {
			mask := uint32(syscall.IN_CLOSE_NOWRITE)
			if o.Flags&OAccmode != syscall.O_RDONLY {
				mask = syscall.IN_CLOSE_WRITE
			}
			t.Emit(o.Path, mask|isDir(o.Path.D.typ))
		}
		if last && o.Path.D.Deleted() {
			t.emitGone(o.Path.D)
		}
	}
	return err
}

// emitGone tells of the end of a file other than a directory: its last name d has been
// removed, and nobody has it open by that.
func (t *Tree) emitGone(d *Dentry) {
	if t.hook.Load() == nil || d.typ == TypeDir || d.opens.Load() > 0 {
		return
	}
	if a, err := d.node.Attr(); err == nil && a.Nlink == 0 {
		t.emit(nil, "", d.node, 0, syscall.IN_DELETE_SELF, 0)
	}
}

func isDir(t Type) uint32 {
	if t == TypeDir {
		return syscall.IN_ISDIR
	}
	return 0
}

// OpenAt is openat(2) and openat2(2): flags are O_*, mode is of a new file before
// the umask, resolve holds NoXDev and its neighbours.
func OpenAt(c *Context, dir Path, path string, flags int, mode uint32, resolve Flags) (*Opened, error) {
	if flags&OPath != 0 {
		return openPath(c, dir, path, flags, resolve)
	}
	if flags&syscall.O_CREAT != 0 && flags&syscall.O_DIRECTORY != 0 && flags&OTmpfile != OTmpfile {
		return nil, syscall.EINVAL
	}
	if flags&OTmpfile == OTmpfile {
		return openTmpfile(c, dir, path, flags, mode, resolve)
	}
	var w walker
	if err := w.start(c, dir, path, resolve); err != nil {
		return nil, err
	}
	if path != "" {
		if err := w.walk(path); err != nil {
			return nil, err
		}
	}
	for {
		text, o, err := w.openLast(flags, mode)
		if err != nil || o != nil {
			return o, err
		}
		if err := w.walk(text); err != nil {
			return nil, err
		}
	}
}

// openLast opens what the last component stands for, or makes it; or it returns the
// text of the link there.
func (w *walker) openLast(flags int, mode uint32) (string, *Opened, error) {
	if flags&syscall.O_CREAT == 0 {
		if flags&syscall.O_DIRECTORY != 0 {
			w.flags |= Directory
		}
		w.flags |= Follow
		if flags&syscall.O_NOFOLLOW != 0 && !w.trailing {
			w.flags &^= Follow
		}
		if err := w.finish(); err != nil {
			return "", nil, err
		}
		o, err := w.t.openFound(w.creds, w.at, flags)
		return "", o, err
	}
	if w.trailing && w.kind == kindName {
		return "", nil, syscall.EISDIR
	}
	if w.kind != kindName {
		text, err := w.step(w.last, w.kind, true)
		if err != nil || text != "" {
			return text, nil, err
		}
		return "", nil, exclOr(flags, syscall.EISDIR)
	}
	dir := w.at
	d, err := w.child(dir.D, w.last)
	if err != nil {
		return "", nil, err
	}
	if d.node == nil {
		o, err := w.create(dir, flags, mode)
		if err != syscall.EEXIST || flags&syscall.O_EXCL != 0 {
			return "", o, err
		}
		// Somebody else made it meanwhile.
		if d, err = w.child(dir.D, w.last); err != nil {
			return "", nil, err
		}
		if d.node == nil {
			return "", nil, syscall.ENOENT
		}
	}
	if flags&syscall.O_EXCL != 0 {
		return "", nil, syscall.EEXIST
	}
	if d.typ == TypeLink && flags&syscall.O_NOFOLLOW == 0 {
		text, err := w.followLink(d)
		if err != nil || text != "" {
			return text, nil, err
		}
		// A magic link has led to its end.
		if w.at.D.typ == TypeDir {
			return "", nil, syscall.EISDIR
		}
		o, err := w.t.openFound(w.creds, w.at, flags)
		return "", o, err
	}
	p := Path{dir.M, d}
	if d.mounts.Load() != 0 {
		p = w.t.cross(p)
	}
	if p.D.typ == TypeDir {
		return "", nil, syscall.EISDIR
	}
	if err := createInSticky(w.creds, dir.D.node, p.D); err != nil {
		return "", nil, err
	}
	o, err := w.t.openFound(w.creds, p, flags)
	return "", o, err
}

// createInSticky is EACCES where O_CREAT meets a link, socket or device of somebody
// else in a sticky directory that all may write: Linux refuses these whatever
// protected_regular and protected_fifos say.
func createInSticky(c *Creds, dir Node, d *Dentry) error {
	if d.typ == TypeFile || d.typ == TypePipe {
		return nil
	}
	da, err := dir.Attr()
	if err != nil || da.Mode&syscall.S_ISVTX == 0 || da.Mode&0o002 == 0 {
		return err
	}
	a, err := d.node.Attr()
	if err != nil || a.UID == da.UID || a.UID == c.FSUID {
		return err
	}
	return syscall.EACCES
}

func exclOr(flags int, err error) error {
	if flags&syscall.O_EXCL != 0 {
		return syscall.EEXIST
	}
	return err
}

// create makes a regular file and opens it, whatever its mode says.
func (w *walker) create(dir Path, flags int, mode uint32) (*Opened, error) {
	if dir.M.readOnly() {
		return nil, syscall.EROFS
	}
	d, err := w.t.makeNode(w.ctx, dir.D, w.last, NewNode{Type: TypeFile, Mode: mode & 0o7777})
	if err != nil {
		return nil, err
	}
	o, err := w.t.openNode(Path{dir.M, d}, flags&^syscall.O_TRUNC)
	if o != nil {
		o.Created = true
	}
	return o, err
}

// Open opens a file found already, with the checks of open(2) (O_CREAT has no
// meaning here).
func Open(c *Context, p Path, flags int) (*Opened, error) {
	if flags&OPath != 0 {
		return openedPath(p, flags), nil
	}
	if flags&syscall.O_DIRECTORY != 0 && p.D.typ != TypeDir {
		return nil, syscall.ENOTDIR
	}
	return c.Tree.openFound(c.Creds, p, flags)
}

// OpenExec opens a program for execve(2): a regular file that may be executed, on a
// mount that lets it; EACCES.
func OpenExec(c *Context, dir Path, path string, flags Flags) (*Opened, error) {
	p, err := Walk(c, dir, path, flags)
	if err != nil {
		return nil, err
	}
	if p.D.typ == TypeLink {
		return nil, syscall.ELOOP
	}
	if p.D.typ != TypeFile {
		return nil, syscall.EACCES
	}
	if err := MayAccess(c.Creds, p, MayExec); err != nil {
		return nil, err
	}
	return c.Tree.openNode(p, syscall.O_RDONLY|oExec)
}

// openFound is may_open and what follows it.
func (t *Tree) openFound(c *Creds, p Path, flags int) (*Opened, error) {
	want := MayRead
	switch flags & OAccmode {
	case syscall.O_WRONLY:
		want = MayWrite
	case syscall.O_RDWR, OAccmode:
		want = MayRead | MayWrite
	}
	if flags&syscall.O_TRUNC != 0 {
		want |= MayWrite
	}
	switch p.D.typ {
	case TypeLink:
		return nil, syscall.ELOOP
	case TypeDir:
		if want&MayWrite != 0 {
			return nil, syscall.EISDIR
		}
	case TypeBlock, TypeChar:
		if p.M.Flags()&MountNoDev != 0 {
			return nil, syscall.EACCES
		}
		flags &^= syscall.O_TRUNC
	case TypePipe, TypeSocket:
		flags &^= syscall.O_TRUNC
	}
	if err := MayAccess(c, p, want); err != nil {
		return nil, err
	}
	if flags&syscall.O_NOATIME != 0 && !c.Has(CapFOwner) {
		a, err := p.D.node.Attr()
		if err != nil {
			return nil, err
		}
		if a.UID != c.FSUID {
			return nil, syscall.EPERM
		}
	}
	o, err := t.openNode(p, flags&^syscall.O_TRUNC)
	if err != nil || flags&syscall.O_TRUNC == 0 {
		return o, err
	}
	if err := t.truncate(c, p, 0); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// The flags that open files do not keep.
const openOnce = syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOCTTY | syscall.O_TRUNC | syscall.O_CLOEXEC | oExec

// openNode has the file system, or the opener of the device, open it.
func (t *Tree) openNode(p Path, flags int) (*Opened, error) {
	n := p.D.node
	var f File
	var err error
	switch p.D.typ {
	case TypeChar, TypeBlock, TypePipe:
		f, err = t.openSpecial(p, flags&^openOnce)
	case TypeSocket:
		err = syscall.ENXIO
	default:
		f, err = n.Open(flags &^ openOnce)
	}
	if err != nil {
		return nil, err
	}
	p.M.hold()
	p.D.opens.Add(1)
	if t.hook.Load() != nil {
		t.Emit(p, syscall.IN_OPEN|isDir(p.D.typ))
	}
	return &Opened{File: f, Path: p, Flags: flags &^ openOnce}, nil
}

// Openable is a device or FIFO that opens by itself.
type Openable interface{ Openable() }

func (t *Tree) openSpecial(p Path, flags int) (File, error) {
	if _, ok := p.D.node.(Openable); ok {
		return p.D.node.Open(flags)
	}
	k := openerKey{p.D.typ, 0}
	if p.D.typ != TypePipe {
		a, err := p.D.node.Attr()
		if err != nil {
			return nil, err
		}
		k.rdev = a.Rdev
	}
	if f := t.openers.Load().m[k]; f != nil {
		return f(p, flags)
	}
	return nil, syscall.ENXIO
}

// openTmpfile is open(2) with O_TMPFILE: a file without a name in the file system of
// a directory.
func openTmpfile(c *Context, dir Path, path string, flags int, mode uint32, resolve Flags) (*Opened, error) {
	if flags&OAccmode == syscall.O_RDONLY {
		return nil, syscall.EINVAL
	}
	p, err := Walk(c, dir, path, resolve|Follow|Directory)
	if err != nil {
		return nil, err
	}
	if p.M.readOnly() {
		return nil, syscall.EROFS
	}
	if err := mayCreate(c.Creds, p.D); err != nil {
		return nil, err
	}
	m, ok := p.D.node.(TmpFiler)
	if !ok {
		return nil, syscall.EOPNOTSUPP
	}
	nn, err := inherit(c, p.D.node, NewNode{Type: TypeFile, Mode: mode & 0o7777})
	if err != nil {
		return nil, err
	}
	n, err := m.TmpFile(nn)
	if err != nil {
		return nil, err
	}
	d := c.Tree.newDentry(p.D, "#tmpfile", n, TypeFile)
	d.dead.Store(true)
	d.tmp.Store(flags&syscall.O_EXCL == 0)
	o, err := c.Tree.openNode(Path{p.M, d}, flags&^OTmpfile)
	if o != nil {
		o.Created = true
	}
	return o, err
}

// TmpFiler is a directory that can make a file without a name.
type TmpFiler interface {
	TmpFile(n NewNode) (Node, error)
}

// openPath is open(2) with O_PATH: a place, not a file.
func openPath(c *Context, dir Path, path string, flags int, resolve Flags) (*Opened, error) {
	if flags&syscall.O_NOFOLLOW == 0 {
		resolve |= Follow
	}
	if flags&syscall.O_DIRECTORY != 0 {
		resolve |= Directory
	}
	p, err := Walk(c, dir, path, resolve)
	if err != nil {
		return nil, err
	}
	return openedPath(p, flags), nil
}

func openedPath(p Path, flags int) *Opened {
	p.M.hold()
	p.D.opens.Add(1)
	return &Opened{File: pathFile{p.D.node}, Path: p, Flags: flags & (OPath | syscall.O_DIRECTORY | syscall.O_NOFOLLOW)}
}

// pathFile is what O_PATH opens: nothing can be done with it.
type pathFile struct{ n Node }

func (f pathFile) Ready() poll.Events                         { return 0 }
func (f pathFile) Watch(*poll.Waiter)                         {}
func (f pathFile) Unwatch(*poll.Waiter)                       {}
func (f pathFile) Node() Node                                 { return f.n }
func (f pathFile) Read(Dst, int64) (int, error)               { return 0, syscall.EBADF }
func (f pathFile) Write(Src, int64, bool) (int, int64, error) { return 0, 0, syscall.EBADF }
func (f pathFile) Seekable() bool                             { return false }
func (f pathFile) Sync(bool) error                            { return syscall.EBADF }
func (f pathFile) Close() error                               { return nil }

// readBuffers are for those who need a moment's memory for file contents.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// ReadFile is the whole contents of a file, for the kernel's own use.
func ReadFile(c *Context, path string) ([]byte, error) {
	o, err := OpenAt(c, Path{}, path, syscall.O_RDONLY, 0, 0)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	buf := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buf)
	var out []byte
	for {
		n, err := o.File.Read(&Bytes{B: *buf}, int64(len(out)))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return out, nil
		}
		out = append(out, (*buf)[:n]...)
	}
}

// WriteFile makes or replaces a file, for the kernel's own use.
func WriteFile(c *Context, path string, p []byte, mode uint32) error {
	o, err := OpenAt(c, Path{}, path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC, mode, 0)
	if err != nil {
		return err
	}
	for done := 0; done < len(p) && err == nil; {
		var n int
		if n, _, err = o.File.Write(&Bytes{B: p[done:]}, int64(done), false); err == nil && n == 0 {
			err = syscall.EIO
		}
		done += n
	}
	if e := o.Close(); err == nil {
		err = e
	}
	return err
}
