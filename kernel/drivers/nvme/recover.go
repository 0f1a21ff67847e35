package nvme

import (
	"errors"
	"fmt"

	"osv/kernel/blk"
)

const (
	maxResends = 3 // of one command, each after a reset
	maxResets  = 5 // in a row, with nothing completed in between
)

// lookAfter is called from time to time while commands are under way: it takes
// completions whose interrupt was lost, and does something about commands that are
// late: first Abort (§5.1), then a controller reset.
func (q *queue) lookAfter() {
	epoch := q.c.epoch.Load()
	q.interrupt()
	var aborts []command
	reset := false
	q.mu.Lock()
	q.watch.Tick(q.busy > 0)
	if q.state == live && q.id > 0 { // exec has a limit of its own
		for i := range q.slots {
			s := &q.slots[i]
			if !s.used || !q.watch.Late(s.began) {
				continue
			}
			if reset = reset || s.late; !s.late {
				s.late, s.began = true, q.watch.Begin()
				cmd := newCommand(adminAbort, 0)
				cmd[10] = uint32(s.cid)<<16 | uint32(q.id)
				aborts = append(aborts, cmd)
			}
		}
	}
	busy, state := q.busy > 0, q.state
	q.mu.Unlock()
	if busy && state == live {
		if s := q.c.regs.Load32(regCSTS); s == cstsGone {
			q.c.stop(errorf("queue %d: %w", q.id, blk.ErrGone))
			return
		} else if s&cstsFatal != 0 {
			q.c.reset(epoch, fmt.Sprintf("controller reports a fatal error (CSTS %#x)", s))
			return
		}
	}
	if reset {
		q.c.reset(epoch, fmt.Sprintf("queue %d: a command was neither completed nor aborted", q.id))
		return
	}
	for i := range aborts {
		log.Warnf("queue %d: command %#x is not answered within %v: abort", q.id, aborts[i][10]>>16, q.c.cfg.Timeout)
		_, err := q.c.exec(&aborts[i])
		if status := (*adminError)(nil); err != nil && !errors.As(err, &status) {
			q.c.reset(epoch, err.Error())
			return
		}
	}
}

// reset is a controller reset, §3.7.2, with all queues created anew. Commands that
// were late fail, the others are sent again. Of several who saw trouble in the same
// epoch, one resets; what was seen during a reset counts for nothing, since the
// epoch is another after it.
func (c *Controller) reset(epoch uint32, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped.Load() != nil || !c.epoch.CompareAndSwap(epoch, epoch+1) {
		return
	}
	defer c.epoch.Add(1)
	log.Warnf("%s: reset", why)
	good, late := false, false
	for _, q := range c.queues {
		q.mu.Lock()
		good = good || q.good
		q.good = false
		for i := range q.slots {
			late = late || q.slots[i].used && q.slots[i].late
		}
		q.mu.Unlock()
	}
	if c.resets++; good {
		c.resets = 1
	}
	if c.resets > maxResets {
		c.stopLocked(errorf("nothing was completed between %d resets: %w", maxResets, blk.ErrTimeout))
		return
	}
	c.restart(why, !late)
}

// restart resets the controller and goes on; count is resume's. Caller must hold
// mu.
func (c *Controller) restart(why string, count bool) {
	if c.regs.Load32(regCSTS)&cstsFatal == 0 { // a reset is safer with nothing under way
		c.deleteQueues()
	}
	for _, q := range c.all() {
		q.setState(frozen)
	}
	if err := c.comeBack(); err != nil {
		c.stopLocked(errorf("reset for %q: %w", why, err))
		return
	}
	for _, q := range c.queues {
		q.resume(count)
	}
}

// Reset is a controller reset under load: what is under way is sent again.
func (c *Controller) Reset() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped.Load() == nil {
		c.epoch.Add(1)
		c.restart("a caller", false)
		c.epoch.Add(1)
	}
	return c.Err()
}

// comeBack takes a frozen controller to where its queues are created. Caller must
// hold mu.
func (c *Controller) comeBack() error {
	if err := c.disable(); err != nil {
		return err
	}
	c.admin.dropCommands()
	if err := c.enable(); err != nil {
		return err
	}
	b, err := c.identifyPage(cnsController, 0, 0)
	if err != nil {
		return err
	}
	if i := parseController(b, c.cap.minPage()); i.serial != c.info.serial {
		return errorf("controller %q says that it is %q", c.info.serial, i.serial)
	}
	n, err := c.setQueueCount(len(c.queues))
	if err != nil {
		return err
	}
	if n < len(c.queues) {
		return errorf("controller had %d I/O queues and has %d", len(c.queues), n)
	}
	for _, q := range c.queues {
		q.mu.Lock()
		q.rewind()
		q.mu.Unlock()
		if err := c.create(q); err != nil {
			return err
		}
	}
	return nil
}

// dropCommands ends admin commands under way, after a reset.
func (q *queue) dropCommands() {
	var none blk.List
	q.mu.Lock()
	for i := range q.slots {
		if q.slots[i].used {
			q.complete(i, completion{err: blk.ErrReset}, &none)
		}
	}
	q.mu.Unlock()
}

// resume sends again what a reset has interrupted, and goes on. With count set, a
// command that was sent too often fails: the reset ended none by itself, which would
// be progress.
func (q *queue) resume(count bool) {
	var done blk.List
	q.mu.Lock()
	sent := false
	for i := range q.slots {
		s := &q.slots[i]
		switch {
		case !s.used:
		case s.late:
			q.complete(i, completion{err: blk.ErrTimeout}, &done)
		case count && s.resets >= maxResends:
			q.complete(i, completion{err: blk.ErrReset}, &done)
		default:
			if count {
				s.resets++
			}
			q.send(s)
			sent = true
		}
	}
	if sent {
		q.ring()
	}
	if q.state == frozen {
		q.state = live
	}
	q.post()
	q.mu.Unlock()
	done.Finish()
}
