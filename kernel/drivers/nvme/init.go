package nvme

import (
	"time"

	"osv/kernel/blk"
	"osv/kernel/hw/mmio"
)

const adminDepth = 32

// bringUp finds out what the controller is, and starts it with its namespaces.
// Caller must hold mu.
func (c *Controller) bringUp() error {
	c.cap = capReg(load64(c.regs, regCAP))
	c.version = c.regs.Load32(regVS)
	if err := c.checkCapabilities(); err != nil {
		return err
	}
	c.listBytes = max(c.cfg.MaxTransfer/c.page*8, dsmRangeBytes)
	var err error
	if c.buffer, err = c.mem.Alloc(max(c.page, 4096), max(c.page, 4096)); err != nil {
		return errorf("%w", err)
	}
	if c.admin, err = newQueue(c, 0, 0, min(adminDepth, c.cap.mqes()), 0, 0); err != nil {
		return err
	}
	if err := c.enable(); err != nil {
		return err
	}
	c.startLines()
	if err := c.identify(); err != nil {
		return err
	}
	n, err := c.setQueueCount(c.cfg.Queues)
	if err != nil {
		return err
	}
	if err := c.makeQueues(min(n, c.cfg.Queues)); err != nil {
		return err
	}
	if err := c.findNamespaces(); err != nil {
		return err
	}
	for _, q := range c.queues {
		q.setState(live)
	}
	return nil
}

func (c *Controller) checkCapabilities() error {
	switch {
	case uint64(c.cap) == 1<<64-1:
		return errorf("no controller answers: %w", blk.ErrGone)
	case c.cap.css()&(cssNVM|cssSelected) == 0:
		return errorf("controller has no I/O command set (CAP.CSS %#x)", c.cap.css())
	case c.cap.mqes() < 2:
		return errorf("controller takes queues of %d entries", c.cap.mqes())
	case c.cap.minPage() > 64<<10:
		return errorf("controller wants pages of %d bytes", c.cap.minPage())
	}
	c.page = c.cap.minPage()
	c.cfg.MaxTransfer = max(c.cfg.MaxTransfer, c.page)
	last := regDoorbells + mmio.Off(2*c.cfg.Queues+2)*c.cap.stride()
	if uint32(last) > c.regs.Len() {
		return errorf("doorbells of %d queues end at %#x of a register window of %#x bytes", c.cfg.Queues, uint32(last), c.regs.Len())
	}
	return nil
}

// enable resets and enables the controller, Base 2.0 §3.5.1, steps 2 to 7, with
// empty queues. Caller must hold mu.
func (c *Controller) enable() error {
	if err := c.disable(); err != nil {
		c.stuck = err
		return err
	}
	a := c.admin
	a.mu.Lock()
	a.rewind()
	a.mu.Unlock()
	c.regs.Store32(regAQA, uint32(a.depth-1)<<16|uint32(a.depth-1))
	store64(c.regs, regASQ, uint64(a.sq.Bus))
	store64(c.regs, regACQ, uint64(a.cq.Bus))
	cc := ccEntrySizes | uint32(log2(c.page)-12)<<ccMPSShift
	if c.cap.css()&cssNVM == 0 {
		cc |= ccCSSAll
	}
	c.regs.Store32(regCC, cc)
	c.regs.Store32(regCC, cc|ccEnable)
	if err := c.waitStatus("enable", cstsReady|cstsFatal, cstsReady, c.cap.timeout()); err != nil {
		return err
	}
	a.setState(live)
	return nil
}

// disable is a controller reset by CC.EN, §3.7.2. A controller that is being
// enabled is waited for first: CC.EN must not go back before that (§3.1.3.5).
func (c *Controller) disable() error {
	cc := c.regs.Load32(regCC)
	if c.regs.Load32(regCSTS) == cstsGone {
		return nil // nothing there to reach memory
	}
	if cc&ccEnable != 0 {
		if c.regs.Load32(regCSTS)&(cstsReady|cstsFatal) == 0 {
			c.waitStatus("enable of old", cstsReady, cstsReady, c.cap.timeout()) // as long as it may take; then all the same
		}
		c.regs.Store32(regCC, cc&^(ccEnable|ccSHNMask))
	}
	return c.waitStatus("reset", cstsReady, 0, c.cap.timeout())
}

// shutdown is the normal shutdown of §3.6.1: no new commands, queues deleted,
// CC.SHN. Caller must hold mu.
func (c *Controller) shutdown() error {
	c.deleteQueues()
	c.regs.Store32(regCC, c.regs.Load32(regCC)&^ccSHNMask|ccSHNNormal)
	return c.waitStatus("shutdown", cstsSHSTMask, cstsSHSTDone, c.cfg.AdminTimeout)
}

// deleteQueues freezes and deletes all I/O queues, as far as the controller answers:
// the reset that follows deletes them anyway. Caller must hold mu.
func (c *Controller) deleteQueues() {
	for _, q := range c.queues {
		q.setState(frozen)
	}
	for _, q := range c.queues {
		for _, op := range []uint8{adminDeleteSQ, adminDeleteCQ} {
			cmd := newCommand(op, 0)
			cmd[10] = uint32(q.id)
			if _, err := c.exec(&cmd); err != nil {
				log.Warnf("queue %d: %v", q.id, err)
				return
			}
		}
	}
}

// waitStatus waits until the bits of CSTS in mask are want.
func (c *Controller) waitStatus(what string, mask, want uint32, limit time.Duration) error {
	start, pause := time.Now(), 50*time.Microsecond
	for {
		s := c.regs.Load32(regCSTS)
		switch {
		case s == cstsGone:
			return errorf("%s: %w", what, blk.ErrGone)
		case s&mask == want:
			return nil
		case mask&cstsFatal != 0 && s&cstsFatal != 0:
			return errorf("%s: controller reports a fatal error (CSTS %#x)", what, s)
		case time.Since(start) > limit:
			return errorf("%s: %w within %v (CSTS %#x)", what, blk.ErrTimeout, limit, s)
		}
		time.Sleep(pause)
		pause = min(2*pause, 10*time.Millisecond)
	}
}

// exec runs an admin command and waits for its completion.
func (c *Controller) exec(cmd *command) (result uint32, err error) {
	a := c.admin
	reply := make(chan completion, 1)
	a.mu.Lock()
	var s *slot
	if a.state == live {
		s, _ = a.take()
	}
	if s == nil {
		a.mu.Unlock()
		return 0, errorf("admin command %#02x: the admin queue takes none", cmd[0]&0xff)
	}
	s.cmd, s.replyTo = *cmd, reply
	a.send(s)
	a.ring()
	a.mu.Unlock()
	limit := time.NewTimer(c.cfg.AdminTimeout)
	defer limit.Stop()
	var got completion
	select {
	case got = <-reply:
	case <-limit.C:
		a.look() // an interrupt may be lost; who gets one stops a broken queue
		select {
		case got = <-reply:
			log.Warnf("admin command %#02x: its interrupt did not come", cmd[0]&0xff)
		default:
			got.err = blk.ErrTimeout
		}
	}
	switch {
	case got.err != nil:
		return 0, errorf("admin command %#02x: %w", cmd[0]&0xff, got.err)
	case !got.status.ok():
		return 0, &adminError{uint8(cmd[0]), got.status}
	}
	return got.result, nil
}

// adminError is a command that was completed with an error: the controller works.
type adminError struct {
	opcode uint8
	status status
}

func (e *adminError) Error() string {
	return errorf("admin command %#02x: %v", e.opcode, e.status).Error()
}

func (e *adminError) Unwrap() error { return e.status.why() }

// setQueueCount asks for n pairs of I/O queues, §5.27.1.5, and returns how many
// there are.
func (c *Controller) setQueueCount(n int) (int, error) {
	cmd := newCommand(adminSetFeatures, 0)
	cmd[10], cmd[11] = featNumberOfQueues, uint32(n-1)<<16|uint32(n-1)
	v, err := c.exec(&cmd)
	return min(int(v&0xffff), int(v>>16)) + 1, err
}

// makeQueues allocates n pairs of I/O queues and creates them. Caller must hold mu.
func (c *Controller) makeQueues(n int) error {
	depth := min(c.cfg.Depth, c.cap.mqes())
	for i := 1; i <= n; i++ {
		vector := 0
		if len(c.lines) > 1 {
			vector = i
		}
		q, err := newQueue(c, i, vector, depth, c.listBytes, c.cfg.MaxTransfer/c.page+1)
		if err != nil {
			return err
		}
		c.queues = append(c.queues, q)
		if err := c.create(q); err != nil {
			return err
		}
		if len(c.lines) > 1 {
			c.pump(c.lines[i], q.interrupt)
		}
	}
	c.shared.Store(&c.queues)
	return nil
}

// create makes q known to the controller, its completion queue first, §5.4, §5.5.
func (c *Controller) create(q *queue) error {
	const contiguous, interrupts = 1 << 0, 1 << 1
	size := uint32(q.depth-1)<<16 | uint32(q.id)
	cmd := newCommand(adminCreateCQ, 0)
	cmd.setPRP(q.cq.Bus, 0)
	cmd[10], cmd[11] = size, uint32(q.vector)<<16|interrupts|contiguous
	if _, err := c.exec(&cmd); err != nil {
		return err
	}
	cmd = newCommand(adminCreateSQ, 0)
	cmd.setPRP(q.sq.Bus, 0)
	cmd[10], cmd[11] = size, uint32(q.id)<<16|contiguous
	_, err := c.exec(&cmd)
	return err
}

// 64-bit properties may be accessed as two dwords, the lower first, §3.1.2.

func load64(s mmio.Space, o mmio.Off) uint64 {
	lo := s.Load32(o)
	return uint64(s.Load32(o+4))<<32 | uint64(lo)
}

func store64(s mmio.Space, o mmio.Off, v uint64) {
	s.Store32(o, uint32(v))
	s.Store32(o+4, uint32(v>>32))
}

func log2(n int) (l int) {
	for ; n > 1; n >>= 1 {
		l++
	}
	return l
}
