package fd

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Events of inotify(7) that this package tells itself.
const (
	InAccess  = syscall.IN_ACCESS
	InModify  = syscall.IN_MODIFY
	inIgnored = syscall.IN_IGNORED
)

const (
	inotifyEvents = 16384 // max_queued_events
	inotifyHeader = 16    // struct inotify_event without its name
)

// eventsOn is set while there are watches: nothing else need be asked on the way of a
// read or write.
var eventsOn atomic.Bool

// watches are all watches of all inotify descriptors, by inode.
var watches = struct {
	mu   sync.Mutex
	on   map[inode][]*watch
	next int
}{on: map[inode][]*watch{}}

// watch is one inotify descriptor's interest in one inode. Under watches.mu.
type watch struct {
	in   *Inotify
	wd   int32
	mask uint32
	at   inode
	gone bool
}

// Inotify is inotify(7). Lock order: watches.mu, then mu.
type Inotify struct {
	anon
	byWD   map[int32]*watch // under watches.mu
	nextWD int32

	mu    sync.Mutex
	queue []inEvent
	bytes int
	list  poll.List
}

type inEvent struct {
	wd           int32
	mask, cookie uint32
	name         string
}

// size is the event's in bytes, its name padded to a multiple of 16 with at least one
// zero.
func (e *inEvent) size() int {
	if e.name == "" {
		return inotifyHeader
	}
	return inotifyHeader + (len(e.name)+16)&^15
}

// NewInotify is inotify_init1(2).
func NewInotify(flags int) *Open {
	return NewOpen(&Inotify{byWD: map[int32]*watch{}}, syscall.O_RDONLY|flags&syscall.O_NONBLOCK)
}

// Inotify is what o is, nil if it is none.
func (o *Open) Inotify() *Inotify {
	i, _ := o.file.(*Inotify)
	return i
}

// Flags of inotify_add_watch that are no events.
const (
	inMaskCreate = 0x10000000
	inMaskAdd    = syscall.IN_MASK_ADD
	inOneshot    = 0x80000000
	inExclUnlink = 0x4000000
	inAllEvents  = 0xfff
)

// Add watches a node for the events in mask: inotify_add_watch(2). The result is the
// watch's descriptor, the old one where the node is watched already (EEXIST with
// IN_MASK_CREATE).
func (in *Inotify) Add(n vfs.Node, mask uint32) (int32, error) {
	at, ok := inodeOf(n)
	if !ok {
		return 0, syscall.ENOENT
	}
	watches.mu.Lock()
	defer watches.mu.Unlock()
	for _, w := range watches.on[at] {
		if w.in != in {
			continue
		}
		if mask&inMaskCreate != 0 {
			return 0, syscall.EEXIST
		}
		if mask&inMaskAdd != 0 {
			w.mask |= mask & (inAllEvents | inOneshot | inExclUnlink)
		} else {
			w.mask = mask & (inAllEvents | inOneshot | inExclUnlink)
		}
		return w.wd, nil
	}
	in.nextWD++
	w := &watch{in: in, wd: in.nextWD, mask: mask & (inAllEvents | inOneshot | inExclUnlink), at: at}
	in.byWD[w.wd] = w
	watches.on[at] = append(watches.on[at], w)
	eventsOn.Store(true)
	return w.wd, nil
}

// Remove is inotify_rm_watch(2).
func (in *Inotify) Remove(wd int32) error {
	watches.mu.Lock()
	defer watches.mu.Unlock()
	w := in.byWD[wd]
	if w == nil {
		return syscall.EINVAL
	}
	w.drop()
	in.push(inEvent{wd: wd, mask: inIgnored})
	return nil
}

// drop takes a watch away. Caller must hold watches.mu.
func (w *watch) drop() {
	w.gone = true
	delete(w.in.byWD, w.wd)
	l := watches.on[w.at]
	for i, o := range l {
		if o == w {
			l = append(l[:i:i], l[i+1:]...)
			break
		}
	}
	if len(l) == 0 {
		delete(watches.on, w.at)
	} else {
		watches.on[w.at] = l
	}
	eventsOn.Store(len(watches.on) > 0)
}

// push queues an event, unless it repeats the last one; a full queue gets one
// IN_Q_OVERFLOW.
func (in *Inotify) push(e inEvent) {
	in.mu.Lock()
	n := len(in.queue)
	if n > 0 && in.queue[n-1] == e {
		in.mu.Unlock()
		return
	}
	if n >= inotifyEvents {
		if in.queue[n-1].mask == syscall.IN_Q_OVERFLOW {
			in.mu.Unlock()
			return
		}
		e = inEvent{wd: -1, mask: syscall.IN_Q_OVERFLOW}
	}
	in.queue = append(in.queue, e)
	in.bytes += e.size()
	in.mu.Unlock()
	in.list.Notify(poll.In)
}

// TellEvent is the vfs.Hook: mask has happened to node, which is the entry name of dir
// (nil where it has none or that does not matter).
func TellEvent(dir vfs.Node, name string, node vfs.Node, mask, cookie uint32) {
	if !eventsOn.Load() {
		return
	}
	if dir != nil {
		if at, ok := inodeOf(dir); ok && mask&(syscall.IN_MOVE_SELF|syscall.IN_DELETE_SELF) == 0 {
			tellInode(at, name, mask, cookie)
		}
	}
	if node != nil && mask&(syscall.IN_CREATE|syscall.IN_DELETE|syscall.IN_MOVED_FROM|syscall.IN_MOVED_TO) == 0 {
		if at, ok := inodeOf(node); ok {
			tellInode(at, "", mask, cookie)
		}
	}
}

// tellInode tells whoever watches an inode.
func tellInode(at inode, name string, mask, cookie uint32) {
	watches.mu.Lock()
	defer watches.mu.Unlock()
	for _, w := range append([]*watch(nil), watches.on[at]...) {
		if mask&w.mask&inAllEvents == 0 && mask&(syscall.IN_UNMOUNT|syscall.IN_IGNORED) == 0 && mask&syscall.IN_DELETE_SELF == 0 {
			continue
		}
		if mask&w.mask&inAllEvents != 0 {
			e := inEvent{wd: w.wd, mask: mask, cookie: cookie}
			if name != "" {
				e.name = string(append([]byte(nil), name...)) // the hook's is good for the call only
			}
			w.in.push(e)
		}
		if w.mask&inOneshot != 0 || mask&syscall.IN_DELETE_SELF != 0 {
			w.drop()
			w.in.push(inEvent{wd: w.wd, mask: inIgnored})
		}
	}
}

// tell tells of something that a descriptor was used for.
func (o *Open) tell(mask uint32) {
	if o.opened == nil || o.IsPath() {
		return
	}
	d := o.opened.Path.D
	var dir vfs.Node
	name := ""
	if p := d.Parent(); p != nil && !d.Deleted() {
		dir, name = p.Node(), d.Name()
	}
	if d.Type() == vfs.TypeDir {
		mask |= syscall.IN_ISDIR
	}
	TellEvent(dir, name, d.Node(), mask, 0)
}

// Read fills d with whole events: EINVAL where it has no room for the first.
func (in *Inotify) Read(d vfs.Dst, _ int64) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) == 0 {
		return 0, syscall.EAGAIN
	}
	total, k := 0, 0
	var buf [inotifyHeader + 256 + 16]byte
	for ; k < len(in.queue); k++ {
		e := &in.queue[k]
		n := e.size()
		if d.Room() < n {
			break
		}
		b := buf[:n]
		clear(b)
		binary.LittleEndian.PutUint32(b, uint32(e.wd))
		binary.LittleEndian.PutUint32(b[4:], e.mask)
		binary.LittleEndian.PutUint32(b[8:], e.cookie)
		binary.LittleEndian.PutUint32(b[12:], uint32(n-inotifyHeader))
		copy(b[inotifyHeader:], e.name)
		if _, err := d.Put(b); err != nil {
			if total == 0 {
				return 0, err
			}
			break
		}
		total += n
	}
	in.queue = in.queue[:copy(in.queue, in.queue[k:])]
	in.bytes -= total
	if total == 0 {
		return 0, syscall.EINVAL
	}
	return total, nil
}

// Unread is FIONREAD.
func (in *Inotify) Unread() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.bytes
}

// Ready is In where there are events.
func (in *Inotify) Ready() poll.Events {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) > 0 {
		return poll.In
	}
	return 0
}

// Watch has w told of events.
func (in *Inotify) Watch(w *poll.Waiter) { in.list.Add(w) }

// Unwatch ends that.
func (in *Inotify) Unwatch(w *poll.Waiter) { in.list.Remove(w) }

// Close takes all watches away.
func (in *Inotify) Close() error {
	watches.mu.Lock()
	defer watches.mu.Unlock()
	for _, w := range in.byWD {
		w.drop()
	}
	return nil
}
