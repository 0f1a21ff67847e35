package fd

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Control is epoll_ctl(2): op on the file o under the number fd. The checks of the
// arguments themselves (epfd is an epoll, fd is not epfd) are made here too, in
// Linux's order.
func (ep *Epoll) Control(op, fd int, o *Open, events uint32, data uint64) error {
	if !CanPoll(o) {
		return syscall.EPERM
	}
	if o.file == vfs.File(ep) {
		return syscall.EINVAL
	}
	if op != EPOLLCtlDel && events&EPOLLExclusive != 0 {
		const ok = 0x1 | 0x4 | 0x8 | 0x10 | EPOLLWakeup | EPOLLET | EPOLLExclusive
		if op == EPOLLCtlMod {
			return syscall.EINVAL
		}
		if op == EPOLLCtlAdd && (o.Epoll() != nil || events&^uint32(ok) != 0) {
			return syscall.EINVAL
		}
	}
	inner := o.Epoll()
	if op == EPOLLCtlAdd && inner != nil {
		epollTree.Lock()
		defer epollTree.Unlock()
		if loops(ep, inner) {
			return syscall.ELOOP
		}
	}
	ep.ctl.Lock()
	defer ep.ctl.Unlock()
	key := itemKey{fd, o}
	i := ep.items[key]
	switch op {
	case EPOLLCtlAdd:
		if i != nil {
			return syscall.EEXIST
		}
		ep.insert(key, events|alwaysBits, data)
	case EPOLLCtlDel:
		if i == nil {
			return syscall.ENOENT
		}
		ep.remove(i)
		delete(ep.items, key)
	case EPOLLCtlMod:
		if i == nil {
			return syscall.ENOENT
		}
		ep.mu.Lock()
		exclusive := i.events&EPOLLExclusive != 0
		if !exclusive {
			i.events, i.data = events|alwaysBits, data
		}
		ep.mu.Unlock()
		if exclusive {
			return syscall.EINVAL
		}
		ep.recheck(i)
	default:
		return syscall.EINVAL
	}
	return nil
}

// Plain is a file that cannot be waited for: regular files, directories.
type Plain interface{ CannotPoll() }

// CanPoll says whether epoll takes o: not what is always ready.
func CanPoll(o *Open) bool {
	if _, plain := o.file.(Plain); plain {
		return false
	}
	n := o.file.Node()
	if n == nil {
		return true
	}
	a, err := n.Attr()
	return err == nil && a.Type != vfs.TypeFile && a.Type != vfs.TypeDir && a.Type != vfs.TypeBlock
}

// insert adds a file. Caller must hold ctl.
func (ep *Epoll) insert(key itemKey, events uint32, data uint64) {
	i := &item{ep: ep, key: key, events: events, data: data}
	i.w.Notify = i.notify
	i.w.Exclusive = events&EPOLLExclusive != 0
	ep.items[key] = i
	key.open.watched(i)
	key.open.Watch(&i.w)
	ep.recheck(i)
}

// recheck queues an item that is ready already. Caller must hold ctl.
func (ep *Epoll) recheck(i *item) {
	is := i.key.open.expand(i.key.open.Ready())
	ep.mu.Lock()
	hit := is&i.events&^epollPrivate != 0 && !i.dead && !i.queued
	if hit {
		ep.enqueue(i)
		ep.wakeOne()
	}
	ep.mu.Unlock()
	if hit {
		ep.pollers.Notify(poll.In)
	}
}

// remove takes an item away for good, but for the set itself. Caller must hold ctl.
func (ep *Epoll) remove(i *item) {
	i.key.open.Unwatch(&i.w)
	i.key.open.unwatched(i)
	ep.scan.Lock() // nobody asks its file any more once this is done
	ep.mu.Lock()
	i.dead = true
	ep.dequeue(i)
	ep.mu.Unlock()
	ep.scan.Unlock()
}

// watched and unwatched keep the list of items of one description.
func (o *Open) watched(i *item) {
	o.watchMu.Lock()
	defer o.watchMu.Unlock()
	i.nextWatch = o.watches
	if o.watches != nil {
		o.watches.prevWatch = i
	}
	o.watches = i
	o.epolls.Store(true)
}

func (o *Open) unwatched(i *item) {
	o.watchMu.Lock()
	defer o.watchMu.Unlock()
	if i.prevWatch == nil && o.watches != i {
		return
	}
	if i.prevWatch != nil {
		i.prevWatch.nextWatch = i.nextWatch
	} else {
		o.watches = i.nextWatch
	}
	if i.nextWatch != nil {
		i.nextWatch.prevWatch = i.prevWatch
	}
	i.prevWatch, i.nextWatch = nil, nil
}

// unwatchAll takes a description whose last reference is gone out of all epolls.
func (o *Open) unwatchAll() {
	if !o.epolls.Load() {
		return
	}
	for {
		o.watchMu.Lock()
		i := o.watches
		o.watchMu.Unlock()
		if i == nil {
			return
		}
		i.ep.ctl.Lock()
		if i.ep.items[i.key] == i {
			i.ep.remove(i)
			delete(i.ep.items, i.key)
		}
		i.ep.ctl.Unlock()
	}
}

// loops says whether outer, if it watched inner, would watch itself, or more epolls
// deep than Linux allows. Caller must hold epollTree.
func loops(outer, inner *Epoll) bool {
	below, found := depth(inner, outer, 0)
	if found {
		return true
	}
	return above(outer, 0)+1+below > epollNests
}

// depth is how many epolls deep the set of e goes, 0 for one that watches none.
func depth(e, target *Epoll, level int) (int, bool) {
	if e == target {
		return 0, true
	}
	if level > epollNests {
		return level, false
	}
	most := 0
	e.ctl.Lock()
	var inner []*Epoll
	for k := range e.items {
		if in := k.open.Epoll(); in != nil {
			inner = append(inner, in)
		}
	}
	e.ctl.Unlock()
	for _, in := range inner {
		d, found := depth(in, target, level+1)
		if found {
			return 0, true
		}
		most = max(most, d+1)
	}
	return most, false
}

// above is how many epolls watch e, one over the other.
func above(e *Epoll, level int) int {
	if level > epollNests {
		return level
	}
	most := 0
	e.self.watchMu.Lock()
	var outer []*Epoll
	for i := e.self.watches; i != nil; i = i.nextWatch {
		outer = append(outer, i.ep)
	}
	e.self.watchMu.Unlock()
	for _, o := range outer {
		most = max(most, above(o, level+1)+1)
	}
	return most
}
