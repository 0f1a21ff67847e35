package ext4

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// journal makes changes of metadata happen together or not at all. A file system
// without one has it too; then a commit writes to the places at once.
type journal struct {
	fs  *fileSystem
	log *logArea // nil: none

	// gate is held shared by handles, and alone by a commit while it takes the copies.
	gate sync.RWMutex

	mu      sync.Mutex
	running *transaction
	pending map[uint64]*logged // in the log, or about to be, and not in their places

	done    atomic.Uint32 // the last transaction that is on the medium
	aborted atomic.Bool
	most    int // blocks of one transaction

	turn sync.Mutex // one commit or checkpoint at a time; guards what follows
	head uint32     // where the log goes on
	tail uint32     // where it starts; 0: it is empty

	stop, stopped chan struct{}
}

// logged is a block as it was committed last.
type logged struct {
	data []byte
}

// transaction is a set of changes on its way. Guarded by journal.mu, and after the
// copies were taken by journal.turn.
type transaction struct {
	tid      uint32
	bufs     []*buf
	inodes   []*inode
	freed    []run // blocks that can be had again when it is committed
	revoked  map[uint64]struct{}
	reserved int  // blocks that handles may still add
	super    bool // the superblock changes
	since    time.Time
}

func (t *transaction) size() int { return len(t.bufs) + len(t.inodes) + 4 }

func (t *transaction) empty() bool {
	return len(t.bufs) == 0 && len(t.inodes) == 0 && len(t.freed) == 0 && len(t.revoked) == 0 && !t.super
}

// handle is the right to change metadata, which all gets into one transaction.
type handle struct {
	j       *journal
	tx      *transaction
	credits int
}

// Blocks that operations change at most, with the inodes' own. Trees of extents count
// twice their depth and one bitmap, descriptor and block for each split.
const (
	creditsInode  = 4
	creditsExtent = 3*maxDepth + 8
	creditsDir    = creditsExtent + 12
	creditsXAttr  = 8
)

// begin starts a handle that changes up to credits blocks. The caller holds no
// inode's mu.
func (fs *fileSystem) begin(credits int) (*handle, error) {
	j := &fs.journal
	for {
		if err := fs.writable(); err != nil {
			return nil, err
		}
		j.gate.RLock()
		j.mu.Lock()
		tx := j.running
		if n := tx.size() + tx.reserved; n+credits <= j.most || n == 4 {
			tx.reserved += credits
			if tx.since.IsZero() {
				tx.since = time.Now()
			}
			j.mu.Unlock()
			return &handle{j, tx, credits}, nil
		}
		j.mu.Unlock()
		j.gate.RUnlock()
		if err := j.commit(tx.tid); err != nil {
			return nil, err
		}
	}
}

// end ends it.
func (h *handle) end() {
	h.j.mu.Lock()
	h.tx.reserved -= h.credits
	h.j.mu.Unlock()
	h.j.gate.RUnlock()
}

// room says whether the transaction can take n more blocks beyond all that was asked
// for.
func (h *handle) room(n int) bool {
	h.j.mu.Lock()
	defer h.j.mu.Unlock()
	return h.tx.size()+h.tx.reserved+n <= h.j.most
}

// change enters a buffer into the transaction. Its data may be changed until end.
func (h *handle) change(b *buf) {
	j := h.j
	j.mu.Lock()
	if b.tx != h.tx {
		b.tx = h.tx
		h.tx.bufs = append(h.tx.bufs, b)
	}
	delete(h.tx.revoked, b.no)
	j.mu.Unlock()
}

// forget is for a block of metadata that was freed: what the log has of it must not be
// brought to its place any more.
func (h *handle) forget(no uint64) {
	j := h.j
	fs := j.fs
	fs.bufs.mu.Lock()
	var b *buf
	if w, ok := fs.bufs.all[no]; ok {
		b = w.Value()
	}
	fs.bufs.mu.Unlock()
	j.mu.Lock()
	if b != nil {
		b.tx = nil
	}
	if _, ok := j.pending[no]; ok {
		if h.tx.revoked == nil {
			h.tx.revoked = map[uint64]struct{}{}
		}
		h.tx.revoked[no] = struct{}{}
	}
	j.mu.Unlock()
	fs.bufs.drop(no)
}

// inode enters an inode into the transaction: its fields and raw get to the medium as
// they are when the copies are taken. Caller holds i.mu. data says that fdatasync
// must wait for it.
func (h *handle) inode(i *inode, data bool) error {
	j := h.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if i.table == nil {
		j.mu.Unlock()
		block, _ := i.fs.inodeAt(i.ino)
		b, err := i.fs.read(block, kindInodes, 0)
		j.mu.Lock()
		if err != nil {
			return err
		}
		i.table = b
	}
	i.tid = h.tx.tid
	if data {
		i.dataTid = h.tx.tid
	}
	if !i.inTx {
		i.inTx = true
		h.tx.inodes = append(h.tx.inodes, i)
	}
	return nil
}

// superChanged has the superblock written with the transaction.
func (h *handle) superChanged() {
	h.j.mu.Lock()
	h.tx.super = true
	h.j.mu.Unlock()
}

// copied is a block of a transaction as it goes to the medium.
type copied struct {
	no   uint64
	data []byte
}

// take ends the running transaction and returns its blocks. Caller holds turn.
func (j *journal) take() (*transaction, []copied, error) {
	j.gate.Lock()
	defer j.gate.Unlock()
	fs := j.fs
	tx := j.running
	if tx.empty() {
		return tx, nil, nil
	}
	h := &handle{j: j, tx: tx}
	for _, i := range tx.inodes {
		i.mu.Lock()
		i.encode()
		_, off := fs.inodeAt(i.ino)
		i.table.mu.Lock()
		copy(i.table.data[off:], i.raw)
		i.table.mu.Unlock()
		h.change(i.table)
		i.mu.Unlock()
		j.mu.Lock()
		i.table, i.inTx = nil, false
		j.mu.Unlock()
	}
	if err := fs.putGroups(h); err != nil {
		return nil, nil, err
	}
	if tx.super {
		b, err := fs.read(sbSize>>fs.sb.blockShift, kindSuper, 0)
		if err != nil {
			return nil, nil, err
		}
		fs.putCounts()
		h.change(b)
	}
	// The blocks lie in one piece, each with room before it for nothing: commit writes
	// them as they are.
	bs := fs.sb.blockSize
	slab := make([]byte, 0, len(tx.bufs)*bs)
	out := make([]copied, 0, len(tx.bufs))
	for _, b := range tx.bufs {
		if b.tx != tx {
			continue // freed meanwhile
		}
		fs.seal(b)
		at := len(slab)
		slab = append(slab, b.data...)
		out = append(out, copied{b.no, slab[at : at+bs : at+bs]})
	}
	j.mu.Lock()
	for _, b := range tx.bufs {
		if b.tx == tx {
			b.tx = nil
		}
	}
	for _, c := range out {
		j.pending[c.no] = &logged{data: c.data}
	}
	j.running = &transaction{tid: tx.tid + 1}
	j.mu.Unlock()
	return tx, out, nil
}

// committed returns a block that is in the log and not yet in its place.
func (j *journal) committed(p []byte, no uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.pending[no]
	if l == nil {
		return false
	}
	copy(p, l.data)
	return true
}

// commit returns when transaction tid is on the medium; it is the running one, or an
// older one.
func (j *journal) commit(tid uint32) error {
	j.turn.Lock()
	defer j.turn.Unlock()
	if !before(j.done.Load(), tid) {
		return nil
	}
	if j.aborted.Load() {
		return syscall.EROFS
	}
	if j.log != nil && j.used()+2*uint32(j.most)+8 > j.log.end-j.log.first {
		if err := j.checkpoint(); err != nil {
			j.abort(err)
			return err
		}
	}
	tx, blocks, err := j.take()
	if err == nil && tx.empty() {
		return nil
	}
	if err == nil {
		if j.log != nil {
			err = j.write(tx, blocks)
		} else {
			err = j.writePlaces(blocks)
		}
	}
	if err != nil {
		j.abort(err)
		return err
	}
	j.mu.Lock()
	for no := range tx.revoked {
		delete(j.pending, no)
	}
	big := len(j.pending)<<j.fs.sb.blockShift > maxPending
	j.mu.Unlock()
	j.done.Store(tx.tid)
	j.fs.release(tx.freed)
	if j.log != nil && (big || j.used() > (j.log.end-j.log.first)/2) {
		if err := j.checkpoint(); err != nil {
			j.abort(err)
			return err
		}
	}
	return nil
}

// maxPending is how many bytes of committed blocks are kept before they are brought
// to their places.
const maxPending = 8 << 20

// abort ends writing: what is in the log stays there for the next mount.
func (j *journal) abort(err error) {
	if j.aborted.Swap(true) {
		return
	}
	j.fs.fail(0, 0, "journal: a commit failed: "+err.Error())
}

// sync commits what has been changed so far, and returns when it is on the medium.
func (j *journal) sync() error {
	j.mu.Lock()
	tid := j.running.tid
	empty := j.running.empty() && j.running.reserved == 0
	j.mu.Unlock()
	if empty {
		tid--
	}
	if !before(j.done.Load(), tid) {
		return j.fs.flush() // data may have been written
	}
	return j.commit(tid)
}

// run commits what is old enough.
func (j *journal) run(every time.Duration) {
	defer close(j.stopped)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-tick.C:
		}
		j.mu.Lock()
		tid, empty := j.running.tid, j.running.empty()
		j.mu.Unlock()
		if !empty {
			j.commit(tid) // who syncs hears of the error, and the file system is read-only
		}
	}
}
