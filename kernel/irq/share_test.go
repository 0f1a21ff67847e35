package irq_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"osv/kernel/irq"
)

// pin is a level-triggered input: it fires while any device holds it up and it is not
// masked, and is masked then until the next Wait.
type pin struct {
	mu     sync.Mutex
	cond   *sync.Cond
	up     int // devices that hold it up
	fires  int
	closed bool
}

func newPin() *pin {
	p := &pin{}
	p.cond = sync.NewCond(&p.mu)
	return p
}

func (p *pin) Wait() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.up == 0 && !p.closed {
		p.cond.Wait()
	}
	if p.closed {
		return irq.ErrClosed
	}
	p.fires++
	return nil
}

func (p *pin) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.cond.Broadcast()
	return nil
}

func (p *pin) set(d int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up += d
	p.cond.Broadcast()
}

// device has work, holds the pin up while it has, and is quieted by its driver.
type device struct {
	p       *pin
	mu      sync.Mutex
	pending int
	done    int
}

func (d *device) raise() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending++; d.pending == 1 {
		d.p.set(1)
	}
}

func (d *device) serve() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending > 0 {
		d.p.set(-1)
	}
	d.done += d.pending
	d.pending = 0
}

// Each of several devices on a pin has all of its requests served, the pin does not
// storm, and goes on when one of them leaves.
func TestSharedPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPin()
		s := irq.Share(p)
		var devs []*device
		var lines []irq.Line
		var drivers sync.WaitGroup
		ended := make([]bool, 3)
		for i := range 3 {
			d := &device{p: p}
			l, err := s.Line()
			if err != nil {
				t.Fatal(err)
			}
			devs, lines = append(devs, d), append(lines, l)
			drivers.Go(func() { irq.Serve(l, d.serve, func() { ended[i] = true }) })
		}
		const n = 300
		for i := range n {
			devs[i%3].raise()
			if i%7 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		for i, d := range devs {
			if d.done != n/3 || d.pending != 0 {
				t.Errorf("device %d: %d of %d requests served, %d pending", i, d.done, n/3, d.pending)
			}
		}
		if p.fires == 0 || p.fires > n {
			t.Errorf("the pin fired %d times for %d requests", p.fires, n)
		}
		// One leaves, also in the middle of a firing.
		devs[1].raise()
		lines[0].Close()
		lines[0].Close()
		synctest.Wait()
		devs[2].raise()
		synctest.Wait()
		if devs[1].done != n/3+1 || devs[2].done != n/3+1 || !ended[0] || ended[1] || p.closed {
			t.Errorf("after one left: %d and %d served, ended %v, pin closed %v", devs[1].done, devs[2].done, ended, p.closed)
		}
		lines[1].Close()
		lines[2].Close()
		drivers.Wait()
		synctest.Wait()
		if !p.closed || !ended[1] || !ended[2] {
			t.Errorf("after all left: pin closed %v, ended %v", p.closed, ended)
		}
		if _, err := s.Line(); !errors.Is(err, irq.ErrClosed) {
			t.Errorf("a line of a closed pin: %v", err)
		}
	})
}

// The pin stays masked until the slowest of its devices is quiet: no device's request
// is passed on twice, and one that leaves lets the others go on.
func TestSharedPinWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPin()
		s := irq.Share(p)
		a, _ := s.Line()
		b, _ := s.Line()
		d := &device{p: p}
		d.raise()
		if err := a.Wait(); err != nil {
			t.Fatal(err)
		}
		d.serve()
		woken := make(chan error, 1)
		go func() { woken <- a.Wait() }()
		d.raise()
		synctest.Wait()
		if p.fires != 1 || len(woken) != 0 {
			t.Errorf("%d firings while b has the first before it", p.fires)
		}
		if err := b.Wait(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p.fires != 1 {
			t.Errorf("%d firings while b serves the first", p.fires)
		}
		b.Close() // with its firing not served
		if err := <-woken; err != nil || p.fires != 2 {
			t.Errorf("%v after %d firings", err, p.fires)
		}
		d.serve()
		if b.Wait() != irq.ErrClosed {
			t.Error("a closed line waits")
		}
		a.Close()
		synctest.Wait()
	})
}

// The source ends: so do all lines.
func TestSharedPinEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPin()
		s := irq.Share(p)
		a, _ := s.Line()
		b, _ := s.Line()
		p.Close()
		if a.Wait() != irq.ErrClosed || b.Wait() != irq.ErrClosed {
			t.Error("a line of a closed source waits")
		}
		a.Close()
		b.Close()
	})
}
