package vfs

import (
	"strings"
	"sync/atomic"
	"syscall"
)

// The flags of renameat2(2).
const (
	RenameNoReplace uint32 = 1
	RenameExchange  uint32 = 2
)

// cookies pair the two events of a rename.
var cookies atomic.Uint32

// RenameAt is renameat2(2).
func RenameAt(c *Context, oldDir Path, oldPath string, newDir Path, newPath string, flags uint32) error {
	if flags&^(RenameNoReplace|RenameExchange) != 0 || flags == RenameNoReplace|RenameExchange {
		return syscall.EINVAL
	}
	var from, to walker
	if err := from.parent(c, oldDir, oldPath); err != nil {
		return err
	}
	if err := to.parent(c, newDir, newPath); err != nil {
		return err
	}
	switch {
	case from.at.M != to.at.M:
		return syscall.EXDEV
	case from.kind != kindName:
		return syscall.EBUSY
	case to.kind != kindName && flags&RenameNoReplace != 0:
		return syscall.EEXIST
	case to.kind != kindName:
		return syscall.EBUSY
	case from.at.M.readOnly():
		return syscall.EROFS
	}
	r := rename{c: c, t: c.Tree, flags: flags,
		from: from.at.D, old: from.last, oldSlash: from.trailing,
		to: to.at.D, new: to.last, newSlash: to.trailing}
	r.lock()
	done, err := r.do()
	r.unlock()
	if done {
		r.tell()
	}
	return err
}

// rename is one call under way.
type rename struct {
	c                  *Context
	t                  *Tree
	flags              uint32
	from, to           *Dentry // directories
	old, new           string
	oldSlash, newSlash bool

	src, dst *Dentry // what is moved; what is there
}

// lock takes both directories: an ancestor before what is below it.
func (r *rename) lock() {
	if r.from == r.to {
		r.from.mu.Lock()
		return
	}
	r.t.renameMu.Lock()
	a, b := r.from, r.to
	if a.under(b) || !b.under(a) && b.id < a.id {
		a, b = b, a
	}
	a.mu.Lock()
	b.mu.Lock()
}

func (r *rename) unlock() {
	r.from.mu.Unlock()
	if r.from != r.to {
		r.to.mu.Unlock()
		r.t.renameMu.Unlock()
	}
}

// do makes the checks in Linux's order, has the file system rename, and moves the
// dentries. done says that something was renamed.
func (r *rename) do() (done bool, err error) {
	if r.src, err = r.t.lookupLocked(r.from, r.old); err != nil {
		return false, err
	}
	if r.src.node == nil {
		return false, syscall.ENOENT
	}
	if r.dst, err = r.t.lookupLocked(r.to, r.new); err != nil {
		return false, err
	}
	exchange := r.flags&RenameExchange != 0
	exists := r.dst.node != nil
	switch {
	case r.flags&RenameNoReplace != 0 && exists:
		return false, syscall.EEXIST
	case exchange && !exists:
		return false, syscall.ENOENT
	case exchange && r.newSlash && r.dst.typ != TypeDir:
		return false, syscall.ENOTDIR
	case r.src.typ != TypeDir && (r.oldSlash || !exchange && r.newSlash):
		return false, syscall.ENOTDIR
	case r.to.under(r.src):
		return false, syscall.EINVAL
	case exists && r.from.under(r.dst):
		if exchange {
			return false, syscall.EINVAL
		}
		return false, syscall.ENOTEMPTY
	case exists && r.src.node == r.dst.node:
		return false, nil // two names of one file: nothing happens
	}
	cr := r.c.Creds
	dir := r.src.typ == TypeDir
	if err := mayDelete(cr, r.from, r.src, dir); err != nil {
		return false, err
	}
	switch {
	case !exists:
		err = mayCreate(cr, r.to)
	case exchange:
		err = mayDelete(cr, r.to, r.dst, r.dst.typ == TypeDir)
	default:
		err = mayDelete(cr, r.to, r.dst, dir)
	}
	if err != nil {
		return false, err
	}
	if r.from != r.to { // ".." of a moved directory changes
		if dir {
			err = access(cr, r.src.node, TypeDir, MayWrite)
		}
		if err == nil && exchange && r.dst.typ == TypeDir {
			err = access(cr, r.dst.node, TypeDir, MayWrite)
		}
		if err != nil {
			return false, err
		}
	}
	if r.src.mounts.Load() != 0 || r.dst.mounts.Load() != 0 {
		return false, syscall.EBUSY
	}
	if exists && !exchange && r.dst.typ == TypeDir {
		r.dst.mu.Lock() // nothing may be made in it while it goes
		defer r.dst.mu.Unlock()
	}
	if err := r.from.node.Rename(r.old, r.to.node, r.new, r.flags); err != nil {
		return false, err
	}
	r.move(exchange)
	return true, nil
}

func (r *rename) move(exchange bool) {
	oldName, newName := strings.Clone(r.old), strings.Clone(r.new)
	cache := !r.from.vola && !r.to.vola
	if r.dst.node != nil && !exchange {
		r.dst.dead.Store(true)
	}
	r.src.where.Store(&where{r.to, newName})
	if exchange {
		r.dst.where.Store(&where{r.from, oldName})
	}
	if !cache {
		return
	}
	r.t.cache.add(r.to, newName, r.src)
	if exchange {
		r.t.cache.add(r.from, oldName, r.dst)
	} else {
		r.t.cache.add(r.from, oldName, r.t.newDentry(r.from, oldName, nil, 0))
	}
}

// tell has the hook know.
func (r *rename) tell() {
	if r.t.hook.Load() == nil {
		return
	}
	one := func(from *Dentry, old string, to *Dentry, name string, d *Dentry) {
		k := cookies.Add(1)
		r.t.emit(from, old, d.node, d.typ, syscall.IN_MOVED_FROM, k)
		r.t.emit(to, name, d.node, d.typ, syscall.IN_MOVED_TO, k)
		r.t.emit(nil, "", d.node, 0, syscall.IN_MOVE_SELF, 0)
	}
	one(r.from, r.old, r.to, r.new, r.src)
	switch {
	case r.flags&RenameExchange != 0:
		one(r.to, r.new, r.from, r.old, r.dst)
	case r.dst.node != nil:
		r.t.emit(nil, "", r.dst.node, r.dst.typ, syscall.IN_ATTRIB, 0)
		r.t.emitGone(r.dst)
	}
}
