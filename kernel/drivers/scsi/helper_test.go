package scsi_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakescsi"
)

const (
	diskBytes    = 1 << 20
	timeout      = 8 * time.Second
	abortTimeout = time.Second
)

// adapter is a scsi.Transport on a fake bus. One goroutine carries commands out,
// or, with manual, Step does.
type adapter struct {
	bus    *fakescsi.Bus
	mem    *fakedev.Mem
	limits scsi.Limits

	mu      sync.Mutex // guards all below
	hand    []*scsi.Command
	lost    []*scsi.Command // dropped by the unit
	err     error
	manual  bool
	pick    func(n int) int
	calls   []string // Abort, ResetUnit, Reset
	refuse  string   // of those, fail
	deaf    string   // of those, are answered and do nothing
	work    chan struct{}
	ended   chan struct{}
	garble  func(*scsi.Result)
	pollEnd bool // dropped commands end by Poll: an interrupt was lost
}

func newAdapter(mem *fakedev.Mem) *adapter {
	a := &adapter{bus: &fakescsi.Bus{}, mem: mem, work: make(chan struct{}, 1), ended: make(chan struct{}),
		limits: scsi.Limits{Driver: "fake", Targets: 8, MaxSegs: 8, PerUnit: 16, Queues: 1, Skip: 7}}
	go func() {
		defer close(a.ended)
		for range a.work {
			for a.one() {
			}
		}
	}()
	return a
}

func (a *adapter) Limits() scsi.Limits { return a.limits }

func (a *adapter) Queue(l scsi.List) {
	for l.Head() != nil {
		a.mu.Lock()
		if a.err == nil {
			for c := l.Pop(); c != nil; c = l.Pop() {
				a.hand = append(a.hand, c)
			}
			manual := a.manual
			a.mu.Unlock()
			if !manual {
				select {
				case a.work <- struct{}{}:
				default:
				}
			}
			return
		}
		err := a.err
		a.mu.Unlock()
		for c := l.Head(); c != nil; c = nil {
			l.Pop()
			c.Host, c.Err = scsi.HostGone, err
			var done scsi.List
			done.Push(c)
			more := scsi.Finish(done)
			l.Append(&more)
		}
	}
}

// one carries out one command and reports whether there was one.
func (a *adapter) one() bool {
	a.mu.Lock()
	if len(a.hand) == 0 {
		a.mu.Unlock()
		return false
	}
	i := 0
	if a.pick != nil {
		i = a.pick(len(a.hand))
	}
	c := a.hand[i]
	a.hand = append(a.hand[:i], a.hand[i+1:]...)
	garble := a.garble
	a.mu.Unlock()
	if !a.do(c) {
		a.mu.Lock()
		a.lost = append(a.lost, c)
		a.mu.Unlock()
		return true
	}
	if garble != nil {
		garble(&c.Result)
	}
	a.finish(c)
	return true
}

func (a *adapter) finish(cs ...*scsi.Command) {
	var done scsi.List
	for _, c := range cs {
		done.Push(c)
	}
	a.Queue(scsi.Finish(done))
}

func (a *adapter) do(c *scsi.Command) bool {
	n, ok := c.To.LUN.Flat()
	if !ok {
		a.bus.Violate("LUN %x", c.To.LUN)
	}
	f := fakescsi.Cmd{Target: c.To.Target, LUN: n, CDB: c.CDB[:c.CDBLen]}
	var data []byte
	sum := 0
	for _, s := range c.Data {
		b, ok := a.mem.BytesAt(s.Addr, int(s.Len))
		if !ok {
			a.bus.Violate("%v: no memory at %#x", f, uint64(s.Addr))
		}
		if c.Dir == scsi.ToUnit {
			data = append(data, b...)
		}
		sum += int(s.Len)
	}
	if sum != c.Len || len(c.Data) > a.limits.MaxSegs || (c.Dir == scsi.NoData) != (sum == 0) {
		a.bus.Violate("%v: %d pieces of %d bytes, said to be %d", f, len(c.Data), sum, c.Len)
	}
	f.Out = data
	if c.Dir == scsi.FromUnit {
		f.Room = sum
	}
	r := a.bus.Do(f)
	switch {
	case r.Drop:
		return false
	case r.NoTarget:
		c.Host = scsi.HostNoTarget
		return true
	case r.NoUnit:
		c.Host = scsi.HostNoUnit
		return true
	}
	c.Status, c.SenseLen = scsi.Status(r.Status), copy(c.Sense[:], r.Sense)
	if c.Dir == scsi.FromUnit && r.Status == 0 {
		in := r.In
		for _, s := range c.Data {
			b, _ := a.mem.BytesAt(s.Addr, int(s.Len))
			in = in[copy(b, in):]
			c.Residual = sum - min(len(r.In), sum)
		}
	}
	return true
}

func (a *adapter) Poll() {
	a.mu.Lock()
	var out []*scsi.Command
	if a.pollEnd {
		out, a.lost = a.lost, nil
	}
	a.mu.Unlock()
	for _, c := range out {
		a.finish(c)
	}
}

// call notes a task management call and says whether it works.
func (a *adapter) call(name string) (works bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, name)
	if a.refuse == name {
		return false, errors.New(name + " was refused")
	}
	return a.deaf != name && a.deaf != "all", nil
}

// endLost ends commands that the unit dropped: that one, or all.
func (a *adapter) endLost(only *scsi.Command, how scsi.HostStatus) {
	a.mu.Lock()
	var out, rest []*scsi.Command
	for _, c := range a.lost {
		if only == nil || c == only {
			out = append(out, c)
		} else {
			rest = append(rest, c)
		}
	}
	a.lost = rest
	a.mu.Unlock()
	for _, c := range out {
		c.Host = how
	}
	a.finish(out...)
}

func (a *adapter) Abort(c *scsi.Command) error {
	works, err := a.call("abort")
	if works {
		a.endLost(c, scsi.HostAborted)
	}
	return err
}

func (a *adapter) ResetUnit(scsi.Address) error {
	works, err := a.call("unit reset")
	if works {
		a.endLost(nil, scsi.HostReset)
	}
	return err
}

func (a *adapter) Reset(string) {
	a.call("reset")
	a.endLost(nil, scsi.HostReset)
}

func (a *adapter) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *adapter) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// stop ends the adapter with all commands.
func (a *adapter) stop(err error) {
	a.mu.Lock()
	a.err = err
	out := append(a.hand, a.lost...)
	a.hand, a.lost = nil, nil
	a.mu.Unlock()
	for _, c := range out {
		c.Host, c.Err = scsi.HostGone, err
	}
	a.finish(out...)
}

// rig is the layer on a fake adapter with one disk at 0:0.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	a    *adapter
	unit *fakescsi.Unit
	h    *scsi.Host
	d    blk.Disk
}

type rigOpt struct {
	block  int
	before func(*rig)
	cfg    scsi.Config
}

// newRig is only for a synctest bubble.
func newRig(t testing.TB, o rigOpt) *rig {
	t.Helper()
	r, err := tryRig(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.close()
		for _, v := range r.a.bus.Violations() {
			t.Error("violation: ", v)
		}
	})
	return r
}

func tryRig(t testing.TB, o rigOpt) (*rig, error) {
	t.Helper()
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.a = newAdapter(r.mem)
	if o.block == 0 {
		o.block = 512
	}
	r.unit = r.a.bus.AddDisk(0, 0, diskBytes, o.block)
	copy(r.unit.Disk, pattern(diskBytes, 99))
	if o.before != nil {
		o.before(r)
	}
	if o.cfg.Timeout == 0 {
		o.cfg.Timeout, o.cfg.AbortTimeout = timeout, abortTimeout
	}
	if o.cfg.Bounces.N == 0 {
		o.cfg.Bounces = blk.Bounces{N: 4, Size: 16 << 10}
	}
	var err error
	r.h, err = scsi.Open(r.a, r.mem, o.cfg)
	if err != nil {
		r.close()
		return r, err
	}
	if d := r.h.Disks(); len(d) > 0 {
		r.d = d[0]
	}
	return r, nil
}

func (r *rig) close() {
	r.t.Helper()
	r.a.stop(blk.ErrClosed)
	r.h.Free(false)
	close(r.a.work)
	<-r.a.ended
	if n := r.mem.Live(); n != 0 {
		r.t.Errorf("%d DMA regions leaked", n)
	}
}

func (r *rig) calls() []string {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	return append([]string(nil), r.a.calls...)
}

// settle carries commands out until there are none.
func (r *rig) settle() {
	for synctest.Wait(); r.a.one(); synctest.Wait() {
	}
}

func (r *rig) region(n int) dma.Region {
	r.t.Helper()
	m, err := r.mem.Alloc(n, 4096)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func pattern(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*13 + i/512*7 + seed)
	}
	return b
}

func (r *rig) wantDisk(off int, want []byte) {
	r.t.Helper()
	if !bytes.Equal(r.unit.Disk[off:off+len(want)], want) {
		r.t.Errorf("disk at %d does not hold the %d bytes written", off, len(want))
	}
}

// judge answers commands with those operation codes by f.
func (r *rig) judge(f func(fakescsi.Cmd) (fakescsi.Reply, bool), ops ...byte) {
	r.a.bus.Set(func() {
		r.a.bus.Judge = func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
			if bytes.IndexByte(ops, c.Op()) < 0 {
				return fakescsi.Reply{}, false
			}
			return f(c)
		}
	})
}

// times answers the first n commands so, then lets all pass.
func times(n int, a fakescsi.Reply) func(fakescsi.Cmd) (fakescsi.Reply, bool) {
	return func(fakescsi.Cmd) (fakescsi.Reply, bool) {
		n--
		return a, n >= 0
	}
}

// bubble runs f where time is not real.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
