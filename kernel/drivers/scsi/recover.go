package scsi

import (
	"errors"
	"fmt"
	"time"

	"osv/kernel/blk"
)

// taskDone is what Finish calls for a task.
func taskDone(c *Command) List {
	t := c.owner.(*task)
	return t.d.complete(t)
}

// complete ends t, or sends it again.
func (d *Disk) complete(t *task) (more List) {
	var done blk.List
	d.mu.Lock()
	if t.Host == HostOK && t.Status == Good && t.Residual == 0 {
		d.finish(t, &done)
	} else {
		d.settle(t, &more, &done)
	}
	d.post(&more)
	d.mu.Unlock()
	done.Finish()
	return more
}

// settle decides about a task that did not simply succeed. Caller must hold mu.
func (d *Disk) settle(t *task, more *List, done *blk.List) {
	j := t.judge()
	if j.sense.key == keyUnitAttention {
		d.attentionLocked(j.sense.code)
	}
	late := t.late && (t.Host == HostAborted || t.Host == HostReset)
	switch {
	case j.verdict == ok && t.Len > 0 && t.Residual != 0:
		j = judgement{verdict: failed, why: blk.ErrProtocol, detail: fmt.Sprintf("%d of %d bytes were moved", t.Len-t.Residual, t.Len)}
		if t.Residual < 0 {
			j.detail = "fewer bytes were moved than asked for"
		}
	case j.verdict == failed && t.req.Op == blk.OpFlush && j.why == blk.ErrUnsupported:
		j.verdict = ok // a unit without SYNCHRONIZE CACHE has none
	case late:
		j = judgement{verdict: failed, why: blk.ErrTimeout, detail: fmt.Sprintf("%v after %v", t.Host, d.h.cfg.Timeout)}
	case j.verdict == again && t.tries < maxTries && !d.ended:
		t.tries++
		t.send(more)
		return
	case j.verdict == later && t.waits < maxBusy && !d.ended:
		if len(d.paused) == 0 {
			d.pause.Reset(pauseAfter(t.waits))
		}
		t.waits++
		t.held = true
		d.paused = append(d.paused, t)
		return
	}
	if j.verdict != ok {
		t.req.Fail(&blk.Error{Driver: d.limits.Driver, Op: t.req.Op, Sector: t.at, Count: t.count, Why: j.why, Detail: j.detail})
		if t.req.More { // the rest of a request that failed is of no use
			t.req.More = false
			d.waiting.Remove(t.req)
		}
	}
	d.finish(t, done)
}

// finish frees t. Caller must hold mu.
func (d *Disk) finish(t *task, done *blk.List) {
	r := t.req
	t.used, t.req = false, nil
	d.free = append(d.free, t)
	d.busy--
	if r.Parts--; r.Parts == 0 && !r.More {
		done.Push(r)
	}
}

// unpause sends what was paused.
func (d *Disk) unpause() {
	var out List
	d.mu.Lock()
	for _, t := range d.paused {
		t.send(&out)
	}
	d.paused = d.paused[:0]
	d.mu.Unlock()
	d.h.t.Queue(out)
}

func (d *Disk) attention(code uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attentionLocked(code)
}

// attentionLocked acts on a unit attention condition, SPC-4 table 56. Caller must
// hold mu.
func (d *Disk) attentionLocked(code uint16) {
	switch {
	case code == ascCapacityChanged:
		if !d.ended && d.rechecked.CompareAndSwap(false, true) {
			d.h.work.Go(d.recheck)
		}
	case code == ascLUNsChanged:
		log.Infof("%s: the target's units changed: they are looked for at start only", d.name)
	case code>>8 != ascCodeReset:
		log.Infof("%s: unit attention %02xh/%02xh", d.name, code>>8, code&0xff)
	}
}

// recheck asks for the capacity anew.
func (d *Disk) recheck() {
	d.rechecked.Store(false) // what changes from here on is another recheck's
	c, err := d.h.capacity(d.at, d.unit)
	if err == nil && int(c.blockSize) != d.limits.BlockSize {
		err = fmt.Errorf("blocks are of %d bytes now, were of %d", c.blockSize, d.limits.BlockSize)
		gone := d.h.errorf("unit %v: %w: %w", d.at, blk.ErrGone, err)
		d.gone.CompareAndSwap(nil, &gone)
	}
	if err == nil {
		err = d.setCapacity(c)
	}
	if err != nil {
		log.Warnf("%s: new capacity: %v", d.name, err)
		return
	}
	log.Infof("%s: capacity is %d sectors now", d.name, d.sectors.Load())
}

// lookAfter is called from time to time while commands are under way.
func (d *Disk) lookAfter() {
	d.h.t.Poll()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watch.Tick(d.busy > 0)
	late := false
	for i := range d.tasks {
		t := &d.tasks[i]
		if t.used && !t.held && !t.late && d.watch.Late(t.began) {
			t.late, late = true, true
		}
	}
	if late && !d.recovering && !d.ended {
		d.recovering = true
		d.h.work.Go(d.recover)
	}
}

// late are the tasks that are not answered in time. Caller does not hold mu.
func (d *Disk) late() (out []*task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.tasks {
		if t := &d.tasks[i]; t.used && t.late {
			out = append(out, t)
		}
	}
	if out == nil {
		d.recovering = false
	}
	return out
}

// recover ends late tasks: by ABORT TASK, then LOGICAL UNIT RESET, then a reset of
// the adapter, SAM-5 §7. A task that ends between two steps may be another one by
// then; what is aborted for no reason is sent again.
func (d *Disk) recover() {
	d.h.turn.Lock()
	defer d.h.turn.Unlock()
	for _, step := range []struct {
		name string
		do   func([]*task) error
	}{
		{"abort", d.abort},
		{"unit reset", func([]*task) error { return d.h.t.ResetUnit(d.at) }},
		{"adapter reset", func([]*task) error {
			d.h.t.Reset(fmt.Sprintf("unit %v does not answer", d.at))
			return nil
		}},
	} {
		late := d.late()
		if late == nil {
			return
		}
		log.Warnf("%s: %d commands are not answered within %v: %s", d.name, len(late), d.h.cfg.Timeout, step.name)
		if err := step.do(late); err != nil {
			log.Warnf("%s: %s: %v", d.name, step.name, err)
			continue
		}
		if d.waitEnd() {
			return
		}
	}
	d.mu.Lock()
	d.recovering = false // those that became late since are the next round's
	for i := range d.tasks {
		d.tasks[i].late = false
	}
	d.mu.Unlock()
}

func (d *Disk) abort(late []*task) error {
	for _, t := range late {
		err := d.h.t.Abort(&t.Command)
		if errors.Is(err, ErrWaits) { // its time begins anew
			d.mu.Lock()
			if t.used && t.late {
				t.late, t.began = false, d.watch.Begin()
			}
			d.mu.Unlock()
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// waitEnd waits for late tasks to end and reports whether they did.
func (d *Disk) waitEnd() bool {
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		d.h.t.Poll()
		if d.late() == nil {
			return true
		}
		if time.Since(begin) > d.h.cfg.AbortTimeout {
			return false
		}
	}
}
