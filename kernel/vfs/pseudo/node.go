package pseudo

import (
	"sync"
	"syscall"

	"osv/kernel/vfs"
)

// Dir is a directory: names put there once, and perhaps others that come and go.
type Dir struct {
	Node
	mu    sync.RWMutex
	names map[string]vfs.Node
	order []string

	// More is set before the directory is used by those with names that come and go.
	More Names
}

// Names are names that come and go.
type Names interface {
	// Find is the node of a name: ENOENT.
	Find(name string) (vfs.Node, error)
	// Each calls f for each name from the position off on, with the position after it,
	// until f returns false. Positions grow with the names.
	Each(off int64, f func(e vfs.DirEntry, next int64) bool)
}

// NewDir makes a directory.
func (f *FS) NewDir(mode uint32) *Dir {
	return &Dir{Node: Node{Fs: f, Ino: f.NewIno(), Kind: vfs.TypeDir, Mode: mode, Nlink: 2}, names: map[string]vfs.Node{}}
}

// Add puts n under a name, in place of what was there.
func (d *Dir) Add(name string, n vfs.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[name] == nil {
		d.order = append(d.order, name)
	}
	d.names[name] = n
}

// Dir is the directory of that name below d, made if it is not there. It panics where
// the name is something else's.
func (d *Dir) Dir(name string) *Dir {
	d.mu.RLock()
	n := d.names[name]
	d.mu.RUnlock()
	if n == nil {
		s := d.Fs.NewDir(0o555)
		d.Add(name, s)
		return s
	}
	return n.(*Dir)
}

// File puts a file there whose text is made by read.
func (d *Dir) File(name string, read func() []byte) {
	d.Add(name, d.Fs.NewFile(0o444, func() ([]byte, error) { return read(), nil }, nil))
}

// Text puts a file there with a text that stays.
func (d *Dir) Text(name, text string) { d.File(name, func() []byte { return []byte(text) }) }

// Symlink puts a symbolic link there.
func (d *Dir) Symlink(name, target string) { d.Add(name, d.Fs.NewLink(target)) }

// Volatile says whether names come and go: then they are not cached.
func (d *Dir) Volatile() bool { return d.More != nil }

// Lookup finds a name.
func (d *Dir) Lookup(name string) (vfs.Node, error) {
	d.mu.RLock()
	n := d.names[name]
	d.mu.RUnlock()
	switch {
	case n != nil:
		return n, nil
	case d.More != nil:
		return d.More.Find(name)
	}
	return nil, syscall.ENOENT
}

// moreAt is the position from which on More's names are told.
const moreAt = 1 << 20

// ReadDir tells the names put there, then those of More.
func (d *Dir) ReadDir(off int64, f func(e vfs.DirEntry, next int64) bool) error {
	for off < moreAt {
		d.mu.RLock()
		if off >= int64(len(d.order)) {
			d.mu.RUnlock()
			off = moreAt
			break
		}
		name := d.order[off]
		n := d.names[name]
		d.mu.RUnlock()
		a, err := n.Attr()
		if err != nil {
			return err
		}
		off++
		if !f(vfs.DirEntry{Name: name, Ino: a.Ino, Type: a.Type}, off) {
			return nil
		}
	}
	if d.More != nil {
		d.More.Each(off-moreAt, func(e vfs.DirEntry, next int64) bool { return f(e, next+moreAt) })
	}
	return nil
}

// Make, Link, Remove and Rename are refused: nothing is made here by hand.
func (d *Dir) Make(string, vfs.NewNode) (vfs.Node, error)    { return nil, syscall.EPERM }
func (d *Dir) Remove(string, bool) error                     { return syscall.EPERM }
func (d *Dir) Rename(string, vfs.Node, string, uint32) error { return syscall.EPERM }

// Open opens it.
func (d *Dir) Open(int) (vfs.File, error) { return &vfs.DirFile{N: d}, nil }

// Link is a symbolic link.
type Link struct {
	Node
	target string
}

// NewLink makes a symbolic link.
func (f *FS) NewLink(target string) *Link {
	return &Link{Node: Node{Fs: f, Ino: f.NewIno(), Kind: vfs.TypeLink, Mode: 0o777, Size: int64(len(target))}, target: target}
}

// ReadLink is the target.
func (l *Link) ReadLink() (string, error) { return l.target, nil }

// Open is refused: links are followed.
func (l *Link) Open(int) (vfs.File, error) { return nil, syscall.ELOOP }

// File is a file whose text is made when it is read.
type File struct {
	Node
	read  func() ([]byte, error)
	write func(p []byte) error
}

// NewFile makes one. Without read, reading it is EINVAL; without write, writing it.
// write gets what one write(2) call wrote.
func (f *FS) NewFile(mode uint32, read func() ([]byte, error), write func(p []byte) error) *File {
	return &File{Node: Node{Fs: f, Ino: f.NewIno(), Kind: vfs.TypeFile, Mode: mode, Size: f.size}, read: read, write: write}
}

// MakeFile is NewFile with the inode number and owner of the caller.
func MakeFile(n Node, read func() ([]byte, error), write func(p []byte) error) *File {
	return &File{Node: n, read: read, write: write}
}

// Open opens it.
func (f *File) Open(int) (vfs.File, error) { return &open{f: f}, nil }

// open is an open File.
type open struct {
	vfs.Always
	f *File

	mu   sync.Mutex
	text []byte
	made bool
}

// maxWrite bounds what one write takes: as Linux, a page less one byte.
const maxWrite = 4095

func (o *open) Node() vfs.Node  { return o.f }
func (o *open) Seekable() bool  { return true }
func (o *open) Sync(bool) error { return nil }
func (o *open) Close() error    { return nil }

// Read copies the text from off on. The text is made at off 0, and kept.
func (o *open) Read(d vfs.Dst, off int64) (int, error) {
	if o.f.read == nil {
		return 0, syscall.EINVAL
	}
	if off < 0 {
		return 0, syscall.EINVAL
	}
	o.mu.Lock()
	if off == 0 || !o.made {
		text, err := o.f.read()
		if err != nil {
			o.mu.Unlock()
			return 0, err
		}
		o.text, o.made = text, true
	}
	text := o.text
	o.mu.Unlock()
	if off >= int64(len(text)) || d.Room() == 0 {
		return 0, nil
	}
	n, err := d.Put(text[off:min(int64(len(text)), off+int64(d.Room()))])
	if n > 0 {
		err = nil
	}
	return n, err
}

// Write hands over what is written.
func (o *open) Write(s vfs.Src, off int64, _ bool) (int, int64, error) {
	if o.f.write == nil {
		return 0, off, syscall.EINVAL
	}
	p := make([]byte, min(s.Left(), maxWrite))
	n, err := s.Take(p)
	if err != nil {
		return 0, off, err
	}
	if err := o.f.write(p[:n]); err != nil {
		return 0, off, err
	}
	return n, off, nil
}

// Renumber gives what is in d inode numbers from n on, for a directory that is made
// anew at each look and must have the same each time. It returns the next one.
func (d *Dir) Renumber(n uint64) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range d.order {
		switch c := d.names[name].(type) {
		case *File:
			c.Ino = n
		case *Link:
			c.Ino = n
		case *Dir:
			c.Ino = n
			n = c.Renumber(n+1) - 1
		}
		n++
	}
	return n
}
