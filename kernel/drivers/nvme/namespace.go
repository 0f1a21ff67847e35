package nvme

import (
	"fmt"
	"sync/atomic"

	"osv/kernel/blk"
)

// Namespace is one disk of a controller.
type Namespace struct {
	c       *Controller
	id      uint32
	name    string
	shift   int // log2 of the sectors of a block
	sectors uint64
	limits  blk.Limits
	shape   blk.Shape

	zeroFlags uint32 // of write-zeroes
	closed    atomic.Bool

	*blk.Blocking // ReadAt, WriteAt, Flush, Discard, WriteZeroes, BlockSize, ReadOnly
}

const (
	maxBlocks    = 1 << 16   // of one command, NLB
	maxDSMBlocks = 1<<32 - 1 // of one range
)

func (c *Controller) newNamespace(id uint32, i nsInfo) (*Namespace, error) {
	n := &Namespace{c: c, id: id, name: c.cfg.Name(len(c.spaces)), shift: i.shift - 9, sectors: i.blocks << (i.shift - 9)}
	bs := 1 << i.shift
	most := c.cfg.MaxTransfer
	if m := c.info.maxTransfer; m > 0 {
		most = min(most, m)
	}
	most = min(most, maxBlocks*bs) / bs * bs
	n.shape = blk.Shape{BlockSize: bs, MaxBytes: most, Page: c.page}
	if err := n.shape.Check(2); err != nil || most == 0 {
		return nil, errorf("namespace %d: commands of %d bytes do not hold a block of %d", id, most, bs)
	}
	if i.unmap {
		n.zeroFlags = wzDeallocate
	}
	n.limits = blk.Limits{Driver: driverName, BlockSize: bs, MemAlign: 4, ReadOnly: i.protected, WriteCache: c.info.cache}
	if c.info.writeZeroes {
		blocks := uint64(maxBlocks)
		if w := c.info.wzLimit; w > 0 {
			blocks = min(blocks, uint64(w>>i.shift))
		}
		n.limits.MaxWriteZeroes = blocks << n.shift
	}
	if c.info.discard {
		blocks := uint64(maxDSMBlocks)
		if d := c.info.dsmBlocks; d > 0 {
			blocks = min(blocks, uint64(d))
		}
		n.limits.MaxDiscard = blocks << n.shift
	}
	var err error
	n.Blocking, err = blk.NewBlocking(n, &n.limits, c.mem, c.cfg.Bounces)
	if err != nil {
		return nil, errorf("namespace %d: %w", id, err)
	}
	return n, nil
}

// Submit is blk.Disk's.
func (n *Namespace) Submit(r *blk.Request) {
	if err := n.Err(); err != nil {
		n.limits.Refuse(r, err)
		return
	}
	if !n.limits.Begin(r, n.sectors) {
		return
	}
	r.Unit = n
	q := n.c.queues[0]
	if k := len(n.c.queues); k > 1 {
		q = n.c.queues[int(n.c.next.Add(1))%k]
	}
	q.submit(r)
}

// Name is blk.Disk's.
func (n *Namespace) Name() string { return n.name }

// Size is blk.Disk's.
func (n *Namespace) Size() int64 { return int64(n.sectors * blk.SectorSize) }

// NSID is the namespace's identifier.
func (n *Namespace) NSID() uint32 { return n.id }

// Queues is the number of queues that its requests go to.
func (n *Namespace) Queues() int { return len(n.c.queues) }

// ID is the controller's serial number, and the namespace's identifier where there
// are several.
func (n *Namespace) ID() (string, error) {
	if len(n.c.spaces) > 1 {
		return fmt.Sprintf("%s-n%d", n.c.info.serial, n.id), nil
	}
	return n.c.info.serial, nil
}

// Reset resets the controller, with all its namespaces, under load.
func (n *Namespace) Reset() error { return n.c.Reset() }

// Err is blk.Disk's.
func (n *Namespace) Err() error {
	if err := n.c.Err(); err != nil {
		return err
	}
	if n.closed.Load() {
		return blk.ErrClosed
	}
	return nil
}

// Close takes no more requests. With the last namespace, the controller is shut
// down and all that is under way ends.
func (n *Namespace) Close() error {
	n.closed.Store(true)
	for _, o := range n.c.spaces {
		if !o.closed.Load() {
			return nil
		}
	}
	return n.c.Close()
}
