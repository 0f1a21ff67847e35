// Package vfsfiles shows the guest's file tree as machine.Files and machine.Mounts.
//
// Who may use it: kernel/platform/manage, tests. Names are walked by kernel/vfs from
// the tree's root, which no ".." and no symbolic link leaves. The caller acts as root:
// whoever may call is the server's to decide. Start reading at New.
package vfsfiles

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"syscall"

	"osv/kernel/rest/machine"
	"osv/kernel/vfs"
)

// Tree is the files of a mount namespace.
type Tree struct {
	t *vfs.Tree
	c *vfs.Context // read only
}

// New returns the files of t.
func New(t *vfs.Tree) *Tree {
	c := vfs.NewContext(t, vfs.RootCreds())
	c.Dirs.SetUmask(0o022)
	return &Tree{t, c}
}

// abs is a name of machine.Files as a path.
func abs(name string) string { return path.Join("/", name) }

// failed names the file in an error.
func failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: abs(name), Err: err}
}

func (t *Tree) Stat(name string) (machine.FileInfo, error) {
	a, p, err := vfs.StatAt(t.c, vfs.Path{}, abs(name), 0)
	if err != nil {
		return machine.FileInfo{}, failed("stat", name, err)
	}
	i := info(path.Base(name), a)
	if a.Type == vfs.TypeLink {
		i.Target, _ = vfs.Readlink(t.c, p)
	}
	return i, nil
}

func info(name string, a vfs.Attr) machine.FileInfo {
	return machine.FileInfo{
		Name: name, Mode: mode(a), Size: a.Size, BlockSize: a.BlockSize, Links: int64(a.Nlink),
		Modified: a.Mtime, Accessed: a.Atime, Owner: owner(a.UID), Group: owner(a.GID),
	}
}

// owner is a user's or group's name: without files that name them there is one.
func owner(id uint32) string {
	if id == 0 {
		return "root"
	}
	return strconv.FormatUint(uint64(id), 10)
}

func mode(a vfs.Attr) fs.FileMode {
	m := fs.FileMode(a.Mode & 0o777)
	for bit, v := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if a.Mode&bit != 0 {
			m |= v
		}
	}
	switch a.Type {
	case vfs.TypeDir:
		m |= fs.ModeDir
	case vfs.TypeLink:
		m |= fs.ModeSymlink
	case vfs.TypePipe:
		m |= fs.ModeNamedPipe
	case vfs.TypeSocket:
		m |= fs.ModeSocket
	case vfs.TypeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case vfs.TypeBlock:
		m |= fs.ModeDevice
	}
	return m
}

func (t *Tree) List(name string) ([]machine.FileInfo, error) {
	p, err := vfs.Walk(t.c, vfs.Path{}, abs(name), vfs.Follow|vfs.Directory)
	if err != nil {
		return nil, failed("list", name, err)
	}
	var names []string
	err = vfs.ReadDir(p, 0, func(e vfs.DirEntry, _ int64) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	if err != nil {
		return nil, failed("list", name, err)
	}
	slices.Sort(names)
	var out []machine.FileInfo
	for _, n := range names {
		if i, err := t.Stat(path.Join(name, n)); err == nil { // else it is gone
			out = append(out, i)
		}
	}
	return out, nil
}

// Open opens a regular file: others may wait for somebody.
func (t *Tree) Open(name string) (machine.File, error) {
	a, _, err := vfs.StatAt(t.c, vfs.Path{}, abs(name), vfs.Follow)
	switch {
	case err != nil:
	case a.Type == vfs.TypeDir:
		err = syscall.EISDIR
	case a.Type != vfs.TypeFile:
		err = syscall.EINVAL
	}
	if err != nil {
		return nil, failed("open", name, err)
	}
	o, err := vfs.OpenAt(t.c, vfs.Path{}, abs(name), syscall.O_RDONLY|syscall.O_NONBLOCK, 0, 0)
	if err != nil {
		return nil, failed("open", name, err)
	}
	return &file{o: o, name: name}, nil
}

func (t *Tree) Create(name string, perm fs.FileMode, appending bool) (io.WriteCloser, error) {
	a, _, err := vfs.StatAt(t.c, vfs.Path{}, abs(name), vfs.Follow)
	if err == nil && a.Type != vfs.TypeFile && a.Type != vfs.TypeDir {
		return nil, failed("create", name, syscall.EINVAL)
	}
	flags := syscall.O_WRONLY | syscall.O_CREAT | syscall.O_NONBLOCK
	if appending {
		flags |= syscall.O_APPEND
	} else {
		flags |= syscall.O_TRUNC
	}
	o, err := vfs.OpenAt(t.c, vfs.Path{}, abs(name), flags, uint32(perm.Perm()), 0)
	if err != nil {
		return nil, failed("create", name, err)
	}
	return &file{o: o, name: name, appending: appending}, nil
}

func (t *Tree) Mkdir(name string, perm fs.FileMode) error {
	return failed("mkdir", name, vfs.MkdirAt(t.c, vfs.Path{}, abs(name), uint32(perm.Perm())))
}

func (t *Tree) Chmod(name string, perm fs.FileMode) error {
	p, err := vfs.Walk(t.c, vfs.Path{}, abs(name), vfs.Follow)
	if err == nil {
		err = vfs.Chmod(t.c, p, uint32(perm.Perm()))
	}
	return failed("chmod", name, err)
}

func (t *Tree) Rename(old, new string) error {
	return failed("rename", old, vfs.RenameAt(t.c, vfs.Path{}, abs(old), vfs.Path{}, abs(new), 0))
}

func (t *Tree) Remove(name string) error {
	a, _, err := vfs.StatAt(t.c, vfs.Path{}, abs(name), 0)
	if err == nil {
		err = vfs.UnlinkAt(t.c, vfs.Path{}, abs(name), a.Type == vfs.TypeDir)
	}
	return failed("remove", name, err)
}

// ReadFile is the contents of a small file.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	b, err := vfs.ReadFile(t.c, abs(name))
	return b, failed("read", name, err)
}

// Sync returns once all that was written is on its disk.
func (t *Tree) Sync() error { return t.t.Sync() }

// FileSystems tells of all mounts that have blocks.
func (t *Tree) FileSystems() ([]machine.FileSystem, error) {
	var out []machine.FileSystem
	for _, m := range t.t.Mounts(t.t.Root()) {
		p, err := vfs.Walk(t.c, vfs.Path{}, m.Point, vfs.Follow)
		if err != nil {
			continue // mounted over
		}
		st, err := p.M.FS().StatFS()
		if err != nil || st.Blocks == 0 {
			continue
		}
		name := m.Source
		if name == "" {
			name = m.Type
		}
		out = append(out, machine.FileSystem{Filesystem: name, Mount: m.Point, BTotal: st.Blocks, BFree: st.Bfree, FTotal: st.Files, FFree: st.Ffree, BlockSize: st.BlockSize})
	}
	return out, nil
}

// file is an open file with a position.
type file struct {
	o         *vfs.Opened
	name      string
	pos       int64
	appending bool
}

func (f *file) Stat() (machine.FileInfo, error) {
	a, err := f.o.File.Node().Attr()
	if err != nil {
		return machine.FileInfo{}, failed("stat", f.name, err)
	}
	return info(path.Base(f.name), a), nil
}

func (f *file) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.o.File.Read(&vfs.Bytes{B: p}, f.pos)
	f.pos += int64(n)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, failed("read", f.name, err)
}

func (f *file) Write(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		n, at, err := f.o.File.Write(&vfs.Bytes{B: p[total:]}, f.pos, f.appending)
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, failed("write", f.name, err)
		}
		total += n
		f.pos = at + int64(n)
	}
	return total, nil
}

func (f *file) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += f.pos
	case io.SeekEnd:
		a, err := f.o.File.Node().Attr()
		if err != nil {
			return 0, failed("seek", f.name, err)
		}
		off += a.Size
	}
	if off < 0 {
		return 0, failed("seek", f.name, syscall.EINVAL)
	}
	f.pos = off
	return off, nil
}

func (f *file) Close() error { return failed("close", f.name, f.o.Close()) }

var (
	_ machine.Files  = (*Tree)(nil)
	_ machine.Mounts = (*Tree)(nil)
)
