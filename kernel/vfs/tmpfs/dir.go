package tmpfs

import (
	"sort"
	"strings"
	"syscall"
	"time"

	"osv/kernel/vfs"
)

// dir is what a directory holds. Entries have positions that grow with each one
// added, so that a reader meets each that stays exactly once.
type dir struct {
	parent *node
	names  map[string]*dirent
	order  []*dirent // by position; those taken away have no node
	next   int64
	holes  int // entries of order without a node
	subs   uint32
	dead   bool
}

type dirent struct {
	name string
	n    *node
	pos  int64
}

func (d *dir) add(name string, n *node) {
	d.next++
	e := &dirent{strings.Clone(name), n, d.next}
	d.names[e.name] = e
	d.order = append(d.order, e)
}

func (d *dir) drop(e *dirent) {
	delete(d.names, e.name)
	e.n = nil
	if d.holes++; d.holes > 32 && d.holes > len(d.order)/2 {
		keep := d.order[:0]
		for _, x := range d.order {
			if x.n != nil {
				keep = append(keep, x)
			}
		}
		clear(d.order[len(keep):])
		d.order, d.holes = keep, 0
	}
}

// into is n as a directory of this file system that is still there.
func (n *node) into() (*dir, error) {
	switch {
	case n.dir == nil:
		return nil, syscall.ENOTDIR
	case n.dir.dead:
		return nil, syscall.ENOENT
	}
	return n.dir, nil
}

func checkName(name string) error {
	if len(name) > vfs.NameMax {
		return syscall.ENAMETOOLONG
	}
	return nil
}

// Lookup finds a name.
func (n *node) Lookup(name string) (vfs.Node, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	n.fs.names.RLock()
	defer n.fs.names.RUnlock()
	d, err := n.into()
	if err != nil {
		return nil, err
	}
	e := d.names[name]
	if e == nil {
		return nil, syscall.ENOENT
	}
	return e.n, nil
}

// Make makes a node of any type.
func (n *node) Make(name string, nn vfs.NewNode) (vfs.Node, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	n.fs.names.Lock()
	defer n.fs.names.Unlock()
	d, err := n.into()
	if err != nil {
		return nil, err
	}
	if d.names[name] != nil {
		return nil, syscall.EEXIST
	}
	c, err := n.fs.newNode(nn)
	if err != nil {
		return nil, err
	}
	if c.dir != nil {
		c.nlink = 2
		c.dir.parent = n
		n.nlink++
	}
	d.add(name, c)
	n.touch()
	return c, nil
}

// TmpFile makes a file without a name.
func (n *node) TmpFile(nn vfs.NewNode) (vfs.Node, error) {
	if n.dir == nil {
		return nil, syscall.ENOTDIR
	}
	c, err := n.fs.newNode(nn)
	if err != nil {
		return nil, err
	}
	c.nlink, c.gone = 0, true
	return c, nil
}

// Link makes another name of a node.
func (n *node) Link(name string, other vfs.Node) error {
	if err := checkName(name); err != nil {
		return err
	}
	c, ok := other.(*node)
	if !ok || c.fs != n.fs {
		return syscall.EXDEV
	}
	n.fs.names.Lock()
	defer n.fs.names.Unlock()
	d, err := n.into()
	switch {
	case err != nil:
		return err
	case c.dir != nil:
		return syscall.EPERM
	case d.names[name] != nil:
		return syscall.EEXIST
	}
	d.add(name, c)
	c.nlink++
	c.mu.Lock()
	c.gone = false
	c.mu.Unlock()
	c.changed()
	n.touch()
	return nil
}

// Remove takes a name away.
func (n *node) Remove(name string, isDir bool) error {
	n.fs.names.Lock()
	defer n.fs.names.Unlock()
	d, err := n.into()
	if err != nil {
		return err
	}
	e := d.names[name]
	switch {
	case e == nil:
		return syscall.ENOENT
	case isDir && e.n.dir == nil:
		return syscall.ENOTDIR
	case !isDir && e.n.dir != nil:
		return syscall.EISDIR
	case isDir && len(e.n.dir.names) != 0:
		return syscall.ENOTEMPTY
	}
	c := e.n
	d.drop(e)
	n.lost(c)
	n.touch()
	return nil
}

// lost notes that n has lost the entry of c. Caller holds fs.names.
func (n *node) lost(c *node) {
	if c.dir != nil {
		n.nlink--
		c.nlink = 0
		c.dir.dead = true
		c.unnamed()
		return
	}
	c.nlink--
	c.changed()
	if c.nlink == 0 {
		c.unnamed()
	}
}

// Rename moves a name; it knows RENAME_NOREPLACE and RENAME_EXCHANGE.
func (n *node) Rename(old string, to vfs.Node, name string, flags uint32) error {
	if flags&^(vfs.RenameNoReplace|vfs.RenameExchange) != 0 {
		return syscall.EINVAL
	}
	if err := checkName(name); err != nil {
		return err
	}
	t, ok := to.(*node)
	if !ok || t.fs != n.fs {
		return syscall.EXDEV
	}
	n.fs.names.Lock()
	defer n.fs.names.Unlock()
	from, err := n.into()
	if err != nil {
		return err
	}
	into, err := t.into()
	if err != nil {
		return err
	}
	a, b := from.names[old], into.names[name]
	exchange := flags&vfs.RenameExchange != 0
	switch {
	case a == nil, exchange && b == nil:
		return syscall.ENOENT
	case b != nil && flags&vfs.RenameNoReplace != 0:
		return syscall.EEXIST
	case b != nil && a.n == b.n:
		return nil
	}
	src := a.n
	if b != nil && !exchange {
		switch {
		case src.dir != nil && b.n.dir == nil:
			return syscall.ENOTDIR
		case src.dir == nil && b.n.dir != nil:
			return syscall.EISDIR
		case b.n.dir != nil && len(b.n.dir.names) != 0:
			return syscall.ENOTEMPTY
		}
	}
	var dst *node
	if b != nil {
		dst = b.n
		into.drop(b)
		if !exchange {
			t.lost(dst)
		}
	}
	from.drop(a)
	into.add(name, src)
	n.moved(src, t)
	if exchange {
		from.add(old, dst)
		t.moved(dst, n)
		dst.changed()
	}
	src.changed()
	n.touch()
	t.touch()
	return nil
}

// moved passes c's ".." from n to t.
func (n *node) moved(c, t *node) {
	if c.dir != nil && n != t {
		n.nlink--
		t.nlink++
		c.dir.parent = t
	}
}

// ReadDir tells entries from the position off on, in the order they were made.
func (n *node) ReadDir(off int64, f func(e vfs.DirEntry, next int64) bool) error {
	if n.dir == nil {
		return syscall.ENOTDIR
	}
	var batch [32]vfs.DirEntry
	var next [32]int64
	for {
		k := 0
		n.fs.names.RLock()
		o := n.dir.order
		i := sort.Search(len(o), func(i int) bool { return o[i].pos > off })
		for ; i < len(o) && k < len(batch); i++ {
			if e := o[i]; e.n != nil {
				batch[k], next[k] = vfs.DirEntry{Name: e.name, Ino: e.n.ino, Type: e.n.typ}, e.pos
				k++
			}
		}
		n.fs.names.RUnlock()
		for i := range k {
			if !f(batch[i], next[i]) {
				n.accessed()
				return nil
			}
			off = next[i]
		}
		if k == 0 {
			n.accessed()
			return nil
		}
	}
}

// accessed updates the time of access as relatime does: only where it is not newer
// than that of change.
func (n *node) accessed() {
	n.mu.RLock()
	old := !n.atime.After(n.mtime) || !n.atime.After(n.ctime)
	n.mu.RUnlock()
	if old {
		now := time.Now()
		n.mu.Lock()
		n.atime = now
		n.mu.Unlock()
	}
}
