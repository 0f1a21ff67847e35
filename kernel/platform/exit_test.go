package platform

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
)

// endDisk notes what is done to it.
type endDisk struct {
	blk.Disk
	name  string
	stuck chan struct{}
	err   error

	mu    sync.Mutex
	calls []string
}

func (d *endDisk) note(what string) error {
	if d.stuck != nil {
		<-d.stuck
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, what)
	return nil
}

func (d *endDisk) seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

func (d *endDisk) Name() string   { return d.name }
func (d *endDisk) ReadOnly() bool { return false }
func (d *endDisk) Err() error     { return d.err }
func (d *endDisk) Flush() error   { return d.note("flush") }
func (d *endDisk) Close() error   { return d.note("close") }

// Functions run last first, then disks are flushed and closed, each once, however many
// end the machine; a disk that stopped before is left alone, and one that does not
// answer holds up neither the others nor the end.
func TestEnd(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			good, gone, hangs := &endDisk{name: "blk0"}, &endDisk{name: "blk1", err: errors.New("gone")}, &endDisk{name: "blk2"}
			if stuck {
				hangs.stuck = make(chan struct{})
			}
			s := &System{Disks: []blk.Disk{good, gone, hangs}}
			var mu sync.Mutex
			var order []int
			off := make(chan struct{})
			for i := range 3 {
				s.AtExit(func() {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, i)
				})
			}
			began := time.Now()
			go s.end.run(s.Disks, func() { close(off) })
			<-off
			want := time.Duration(0)
			if stuck {
				want = ExitPatience
			}
			if got := time.Since(began); got != want {
				t.Errorf("off after %v, want %v", got, want)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(order, []int{2, 1, 0}) {
				t.Errorf("order %v", order)
			}
			s.end.run(s.Disks, func() { t.Error("the machine ends twice") })
			if got := good.seen(); !slices.Equal(got, []string{"flush", "close"}) || len(gone.seen()) != 0 {
				t.Errorf("%v, and %v", got, gone.seen())
			}
			s.flushDisks()
			if stuck {
				close(hangs.stuck)
			}
			if got := good.seen(); len(got) != 3 || got[2] != "flush" {
				t.Errorf("%v", got)
			}
		})
	}
}
