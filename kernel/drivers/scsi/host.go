package scsi

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
)

// Config shapes a Host; the zero value is sound.
type Config struct {
	Name    func(i int) string // of the i-th disk, from 0; nil: sda, sdb, …
	Depth   int                // commands of a disk under way; 0: 64, or what the adapter allows
	Bounces blk.Bounces        // of each disk
	Timeout time.Duration      // for a command, with all retries for a busy unit; 0: 30 s
	// AbortTimeout is how long a command may take to end once it was aborted or
	// its unit reset; 0: 5 s.
	AbortTimeout time.Duration
	ReadyTimeout time.Duration // for a unit to become ready; 0: 10 s
}

func (c *Config) check(l Limits) error {
	if c.Depth <= 0 {
		c.Depth = 64
	}
	if l.PerUnit > 0 {
		c.Depth = min(c.Depth, l.PerUnit)
	}
	for t, def := range map[*time.Duration]time.Duration{&c.Timeout: 30 * time.Second, &c.AbortTimeout: 5 * time.Second, &c.ReadyTimeout: 10 * time.Second} {
		if *t <= 0 {
			*t = def
		}
	}
	if c.Name == nil {
		c.Name = func(i int) string { return "sd" + string(rune('a'+i)) }
	}
	return c.Bounces.Check()
}

// Host is an adapter with the disks behind it.
type Host struct {
	t       Transport
	mem     dma.Allocator
	cfg     Config
	limits  Limits
	disks   []*Disk
	scratch chan *scratch
	at      dma.Region // of all scratches

	turn blk.Turn // who recovers from commands that are not answered
	work sync.WaitGroup
}

// scratch is a Command of the Host's own, with memory for its data.
type scratch struct {
	cmd  Command
	mem  dma.Region
	seg  [1]blk.Seg
	done chan struct{}
}

const (
	scratches    = 8
	scratchBytes = 512
)

// Open finds the units behind t, which works, and makes a disk of each that is
// one. An adapter without a disk is no error. To end, stop the Transport, then
// call Free; so too where there is an error, with the Host or nil that comes with
// it.
func Open(t Transport, mem dma.Allocator, cfg Config) (*Host, error) {
	h := &Host{t: t, mem: mem, cfg: cfg, limits: t.Limits(), scratch: make(chan *scratch, scratches), turn: blk.NewTurn()}
	if err := h.cfg.check(h.limits); err != nil {
		return nil, h.errorf("%v", err)
	}
	var err error
	if h.at, err = mem.Alloc(scratches*scratchBytes, scratchBytes); err != nil {
		return nil, h.errorf("%w", err)
	}
	for i := range scratches {
		s := &scratch{mem: h.at.Slice(i*scratchBytes, scratchBytes), done: make(chan struct{}, 1)}
		s.cmd.done, s.cmd.owner = scratchDone, s
		h.scratch <- s
	}
	if err := h.scan(); err != nil {
		return h, err
	}
	return h, nil
}

func (h *Host) errorf(format string, a ...any) error {
	return fmt.Errorf(h.limits.Driver+": "+format, a...)
}

// Free gives all memory back, once the Transport has stopped and will never touch
// it again, or, with lost set, leaves it to an adapter that may. Nil is allowed.
func (h *Host) Free(lost bool) {
	if h == nil {
		return
	}
	for _, d := range h.disks {
		d.end()
	}
	h.work.Wait()
	for range scratches {
		<-h.scratch
	}
	if lost {
		return
	}
	for _, d := range h.disks {
		d.release()
	}
	h.mem.Free(h.at)
}

// Disks are the disks in order of target and unit.
func (h *Host) Disks() []blk.Disk {
	var out []blk.Disk
	for _, d := range h.disks {
		out = append(out, d)
	}
	return out
}

// scan looks at all targets, several at a time, since most are not there.
func (h *Host) scan() error {
	found := make([][]*Disk, h.limits.Targets)
	next := make(chan int)
	var wg sync.WaitGroup
	for range scratches {
		wg.Go(func() {
			for target := range next {
				found[target] = h.scanTarget(target)
			}
		})
	}
	for target := range found {
		if target != h.limits.Skip {
			next <- target
		}
	}
	close(next)
	wg.Wait()
	for _, d := range slices.Concat(found...) {
		d.name = h.cfg.Name(len(h.disks))
		h.disks = append(h.disks, d)
	}
	return h.t.Err()
}

func (h *Host) scanTarget(target int) (disks []*Disk) {
	at := Address{Target: target}
	u, err := h.inquire(at)
	var e *commandError
	if errors.As(err, &e) && e.host == HostNoTarget {
		return nil
	}
	if err != nil && (e == nil || e.host != HostNoUnit) {
		log.Warnf("%s: unit %v: %v", h.limits.Driver, at, err)
		return nil
	}
	luns := h.luns(target)
	if len(luns) == 0 && err == nil && u.present {
		luns = []LUN{{}} // a target that does not know REPORT LUNS
	}
	for _, l := range luns {
		at.LUN = l
		d, err := h.attach(at)
		if err != nil {
			log.Warnf("%s: unit %v: %v", h.limits.Driver, at, err)
		} else if d != nil {
			disks = append(disks, d)
		}
	}
	return disks
}

func (h *Host) luns(target int) []LUN {
	b, err := h.exec(Address{Target: target}, reportLUNs(scratchBytes), scratchBytes)
	if err != nil {
		return nil
	}
	luns, others := parseLUNs(b)
	if others > 0 {
		log.Warnf("%s: target %d: %d units with LUNs of several levels are left alone", h.limits.Driver, target, others)
	}
	return luns
}

func (h *Host) inquire(at Address) (unit, error) {
	b, err := h.exec(at, inquiry(false, 0, inquiryBytes), inquiryBytes)
	if err != nil {
		return unit{}, err
	}
	return parseInquiry(b)
}

// attach makes a disk of the unit, or nothing where it is none.
func (h *Host) attach(at Address) (*Disk, error) {
	u, err := h.inquire(at)
	if err != nil || !u.present {
		return nil, err
	}
	if u.kind != typeDisk {
		name := typeNames[u.kind]
		if name == "" {
			name = fmt.Sprintf("device of type %02xh", u.kind)
		}
		log.Infof("%s: unit %v: %v is a %s, which has no driver: left alone", h.limits.Driver, at, u, name)
		return nil, nil
	}
	if err := h.waitReady(at); err != nil {
		return nil, err
	}
	return h.newDisk(at, u)
}

// waitReady is TEST UNIT READY until the unit is, SPC-4 §6.47. A unit that waits
// for it is started.
func (h *Host) waitReady(at Address) error {
	started := false
	for begin, pause := time.Now(), time.Millisecond; ; {
		_, err := h.exec(at, cdb6(opTestUnitReady), 0)
		var e *commandError
		if err == nil || !errors.As(err, &e) || e.sense.key != keyNotReady || e.host != HostOK {
			return err
		}
		switch {
		case e.sense.code == ascNeedsStart && !started:
			started = true
			if _, err := h.exec(at, startUnit(), 0); err != nil {
				return err
			}
		case e.sense.code != ascBecomingReady || time.Since(begin) > h.cfg.ReadyTimeout:
			return err
		}
		time.Sleep(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// commandError is a command of the Host's own that failed.
type commandError struct {
	op    byte
	host  HostStatus
	sense sense
	judgement
}

func (e *commandError) Error() string {
	if e.detail == "" {
		return fmt.Sprintf("command %02xh: %v", e.op, e.why)
	}
	return fmt.Sprintf("command %02xh: %v: %s", e.op, e.why, e.detail)
}

func (e *commandError) Unwrap() error { return e.why }

// Tries of a command. A unit may have several attentions to give, each ends one.
const (
	maxTries = 10
	maxBusy  = 40 // of those, with pauses of 1 ms, 2 ms, … up to maxPause
	maxPause = time.Second
)

func pauseAfter(busy int) time.Duration {
	return min(time.Millisecond<<min(busy, 20), maxPause)
}

// exec runs a command with n bytes of data-in, and returns them: as many as were
// moved, or n, the rest zeroes, where the adapter does not tell.
func (h *Host) exec(at Address, c cdb, n int) ([]byte, error) {
	s := <-h.scratch
	defer func() { h.scratch <- s }()
	begin := time.Now()
	for tries, busy := 1, 0; ; {
		h.run(s, at, c, n)
		j := s.cmd.judge()
		switch {
		case j.verdict == ok:
			if s.cmd.Residual > 0 {
				n -= min(s.cmd.Residual, n)
			}
			return slices.Clone(s.mem.Bytes[:n]), nil
		case j.verdict == again && tries < maxTries:
			tries++
		case j.verdict == later && j.sense.key == keyNotReady:
			// waitReady has its own patience
			return nil, &commandError{c.b[0], s.cmd.Host, j.sense, j}
		case j.verdict == later && busy < maxBusy && time.Since(begin) < h.cfg.Timeout:
			time.Sleep(pauseAfter(busy))
			busy++
		default:
			return nil, &commandError{c.b[0], s.cmd.Host, j.sense, j}
		}
	}
}

// run runs a command once and waits for it, whatever it takes.
func (h *Host) run(s *scratch, at Address, c cdb, n int) {
	clear(s.mem.Bytes)
	s.cmd.clear()
	s.cmd.To, s.cmd.CDB, s.cmd.CDBLen = at, c.b, c.n
	s.cmd.Dir, s.cmd.Data, s.cmd.Len = NoData, nil, 0
	if n > 0 {
		s.seg[0] = blk.Seg{Addr: s.mem.Bus, Len: uint32(n)}
		s.cmd.Dir, s.cmd.Data, s.cmd.Len = FromUnit, s.seg[:], n
	}
	var l List
	l.Push(&s.cmd)
	h.t.Queue(l)
	limit := time.NewTimer(h.cfg.Timeout)
	defer limit.Stop()
	for !s.wait(limit) {
		h.t.Poll()
		if s.ended() {
			return
		}
		if err := h.t.Abort(&s.cmd); !errors.Is(err, ErrWaits) {
			h.giveUp(s, at, err, limit)
			return
		}
		limit.Reset(h.cfg.Timeout) // it begins anew
	}
}

// giveUp ends a command that is not answered and was aborted, with that error.
func (h *Host) giveUp(s *scratch, at Address, err error, limit *time.Timer) {
	h.turn.Lock()
	defer h.turn.Unlock()
	log.Warnf("%s: unit %v: command %02xh is not answered within %v", h.limits.Driver, at, s.cmd.CDB[0], h.cfg.Timeout)
	for i := range 2 {
		if err != nil {
			log.Warnf("%s: unit %v: %v", h.limits.Driver, at, err)
		}
		limit.Reset(h.cfg.AbortTimeout)
		if s.wait(limit) {
			s.cmd.lateResult(h.cfg.Timeout)
			return
		}
		if i == 0 {
			err = h.t.ResetUnit(at)
		}
	}
	h.t.Reset(fmt.Sprintf("unit %v does not answer", at))
	<-s.done
	s.cmd.lateResult(h.cfg.Timeout)
}

// wait waits for the command to end, and reports false once limit is over.
func (s *scratch) wait(limit *time.Timer) bool {
	select {
	case <-s.done:
		return true
	case <-limit.C:
		return false
	}
}

func (s *scratch) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// lateResult makes an aborted command one that was not answered.
func (c *Command) lateResult(limit time.Duration) {
	if c.Host == HostAborted || c.Host == HostReset {
		c.Host, c.Err = HostGone, fmt.Errorf("%w within %v", blk.ErrTimeout, limit)
	}
}

func scratchDone(c *Command) List {
	c.owner.(*scratch).done <- struct{}{}
	return List{}
}

// Removed says that a unit has gone: what is sent to it fails from now on.
func (h *Host) Removed(at Address) {
	for _, d := range h.disks {
		if d.at == at {
			log.Warnf("%s: unit %v was removed", d.name, at)
			err := h.errorf("unit %v was removed: %w", at, blk.ErrGone)
			d.gone.Store(&err)
			return
		}
	}
	log.Infof("%s: unit %v was removed", h.limits.Driver, at)
}

// Added says that there is a new unit. It is not taken while the system runs.
func (h *Host) Added(at Address) {
	log.Infof("%s: unit %v is new: units are looked for at start only", h.limits.Driver, at)
}

// Changed says that a parameter of a unit changed, by an additional sense code.
func (h *Host) Changed(at Address, code, qualifier uint8) {
	for _, d := range h.disks {
		if d.at == at {
			d.attention(uint16(code)<<8 | uint16(qualifier))
			return
		}
	}
}
