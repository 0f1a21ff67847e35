package ahci_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/ahci"
	"osv/kernel/ktest/fakeahci"
)

// touches judges transfers that touch a sector by v.
func touches(sector uint64, v fakeahci.Verdict) func(fakeahci.Cmd) fakeahci.Verdict {
	return func(c fakeahci.Cmd) fakeahci.Verdict {
		switch c.Command {
		case 0x25, 0x35, 0x60, 0x61, 0xc8, 0xca:
			if c.LBA <= sector && sector < c.LBA+uint64(c.Sectors()) {
				return v
			}
		}
		return fakeahci.Do
	}
}

// burst reads 40 pieces of the disk at once, steps the HBA in turns, and returns
// the error of each.
func (r *rig) burst(steps func()) []error {
	r.t.Helper()
	const n = 40
	m := r.region(n*1024, 4096)
	defer r.mem.Free(m)
	errs := make([]error, n)
	left := n
	reqs := make([]blk.Request, n)
	for i := range reqs {
		reqs[i] = blk.Request{Op: blk.OpRead, Sector: uint64(2 * i), Done: func(q *blk.Request) {
			errs[i] = q.Err
			left--
		}}
		reqs[i].Mem = append(reqs[i].Mem, m.Slice(i*1024, 1024))
		r.d.Submit(&reqs[i])
	}
	steps()
	for range 200 {
		r.settle()
		time.Sleep(timeout / 4)
		synctest.Wait()
	}
	if left != 0 {
		r.t.Fatalf("%d requests not done", left)
	}
	for i, err := range errs {
		if err == nil && !bytes.Equal(m.Bytes[i*1024:][:1024], r.fake.Ports[0].Disk[i*1024:][:1024]) {
			r.t.Errorf("request %d differs", i)
		}
	}
	return errs
}

// An error of one command is that command's alone, with and without queuing, with
// and without a log that tells which it was.
func TestErrorsOfDevice(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
	}{
		{"NCQ with log", rigOpt{}},
		{"NCQ without log", rigOpt{before: func(h *fakeahci.HBA) { h.Ports[0].NoLog = true }}},
		{"NCQ with a bad log", rigOpt{before: func(h *fakeahci.HBA) { h.Ports[0].BadLog = true }}},
		{"no NCQ", rigOpt{cfg: ahci.Config{NoNCQ: true}}},
		{"no NCQ, early CI", rigOpt{cfg: ahci.Config{NoNCQ: true}, before: func(h *fakeahci.HBA) { h.Ports[0].EarlyCI = true }}},
		{"NCQ without log, early CI", rigOpt{before: func(h *fakeahci.HBA) { h.Ports[0].NoLog, h.Ports[0].EarlyCI = true, true }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c.o.cfg.Timeout, c.o.cfg.ReadyTimeout = timeout, time.Second
				r := newRig(t, c.o)
				const bad = 25
				r.fake.Set(func() {
					r.fake.Manual = true
					r.fake.Judge = touches(bad, fakeahci.Fail)
					seed := uint32(1)
					r.fake.Pick = func(n int) int {
						seed = seed*1664525 + 1013904223
						return int(seed>>8) % n
					}
				})
				for i, err := range r.burst(func() {}) {
					var e *blk.Error
					if hit := i == bad/2; hit != (err != nil) || hit && (!errors.As(err, &e) || e.Why != blk.ErrIO || e.Sector != bad&^1) {
						t.Errorf("request %d: %v", i, err)
					}
				}
				if hba, _ := r.fake.Resets(); hba != 1 {
					t.Errorf("%d HBA resets", hba-1)
				}
				if err := r.d.Err(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Many bad sectors at once: each error ends all that is queued, and nobody else
// pays for it.
func TestManyErrorsAtOnce(t *testing.T) {
	for _, noLog := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{before: func(h *fakeahci.HBA) { h.Ports[0].NoLog = noLog }})
			r.fake.Set(func() {
				r.fake.Manual = true
				r.fake.Judge = func(c fakeahci.Cmd) fakeahci.Verdict {
					if c.Command != 0xec && c.Command != 0x2f && c.LBA%4 == 0 {
						return fakeahci.Fail
					}
					return fakeahci.Do
				}
			})
			for i, err := range r.burst(func() {}) {
				if (err != nil) != (i%2 == 0) {
					t.Errorf("no log %v, request %d: %v", noLog, i, err)
				}
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		r.fake.Set(func() { r.fake.Judge = touches(16, fakeahci.Fail) })
		_, err := r.d.ReadAt(make([]byte, 4096), 8192)
		if err == nil || err.Error() != "ahci: read of 8 sectors at sector 16: device reports an I/O error: status 41h, error 40h" {
			t.Error(err)
		}
	})
}

// What breaks between HBA and disk is repeated; what never works fails.
func TestLinkErrors(t *testing.T) {
	for _, never := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{})
			n := 0
			r.fake.Set(func() {
				r.fake.Judge = func(c fakeahci.Cmd) fakeahci.Verdict {
					if c.LBA == 8 && c.Command == 0x60 {
						if n++; n <= 2 || never {
							return fakeahci.CRC
						}
					}
					return fakeahci.Do
				}
			})
			_, err := r.d.ReadAt(make([]byte, 4096), 4096)
			if never != (err != nil) || never && !errors.Is(err, blk.ErrIO) {
				t.Errorf("never %v: %v", never, err)
			}
			if _, err := r.d.ReadAt(make([]byte, 4096), 0); err != nil {
				t.Error(err)
			}
			if _, c := r.fake.Resets(); c < 2 {
				t.Errorf("%d COMRESETs", c)
			}
		})
	}
}

// A command that is not answered fails after a COMRESET, or after a reset of the
// HBA where the port does not stop. The others are done.
func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
		hba  int // resets, with the one of New
	}{
		{"NCQ", rigOpt{}, 1},
		{"no NCQ", rigOpt{cfg: ahci.Config{NoNCQ: true}}, 1},
		{"port does not stop", rigOpt{before: func(h *fakeahci.HBA) { h.Ports[0].StuckCR = true }}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c.o.cfg.Timeout, c.o.cfg.ReadyTimeout = timeout, time.Second
				before := c.o.before
				c.o.before = nil
				r := newRig(t, c.o)
				r.fake.Set(func() {
					if before != nil {
						before(r.fake)
					}
					r.fake.Manual = true
					r.fake.Judge = touches(25, fakeahci.Drop)
				})
				late := 0
				for i, err := range r.burst(func() { r.settle() }) {
					if err != nil && !errors.Is(err, blk.ErrTimeout) || i == 12 && err == nil {
						t.Errorf("request %d: %v", i, err)
					}
					if err != nil {
						late++
					}
				}
				if hba, _ := r.fake.Resets(); hba != c.hba || late != 1 {
					t.Errorf("%d HBA resets, %d late", hba, late)
				}
			})
		})
	}
}

// An HBA reset under load loses nothing.
func TestHotReset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{before: func(h *fakeahci.HBA) { h.AddDisk(2, 1<<20, 9) }})
		r.fake.Set(func() { r.fake.Manual = true })
		for i, err := range r.burst(func() {
			for range 3 {
				r.fake.Step()
				if err := r.c.Reset(); err != nil {
					t.Error(err)
				}
				synctest.Wait()
			}
		}) {
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
		r.fake.Set(func() { r.fake.Manual = false })
		if _, err := r.c.Disks()[1].ReadAt(make([]byte, 4096), 0); err != nil {
			t.Error(err)
		}
		if hba, _ := r.fake.Resets(); hba != 4 {
			t.Errorf("%d HBA resets", hba)
		}
	})
}

func TestLostInterrupts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		r.fake.Set(func() { r.fake.NoInterrupts = true })
		if _, err := r.d.ReadAt(make([]byte, 1<<20), 0); err != nil {
			t.Error(err)
		}
		if hba, com := r.fake.Resets(); hba != 1 || com != 0 {
			t.Errorf("%d, %d resets", hba, com)
		}
	})
}

func TestShortTransfer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{cfg: ahci.Config{NoNCQ: true}})
		r.fake.Set(func() { r.fake.Ports[0].ShortReads = true })
		if _, err := r.d.ReadAt(make([]byte, 4096), 0); !errors.Is(err, blk.ErrProtocol) || !strings.Contains(err.Error(), "2048 of 4096 bytes were moved") {
			t.Error(err)
		}
		r.fake.Set(func() { r.fake.Ports[0].ShortReads = false })
	})
}

// What ends a disk ends all its requests, with the reason.
func TestGivenUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause func(*rig)
		want  string
	}{
		{"lies", func(r *rig) {
			r.fake.Set(func() { r.fake.Ports[0].ExtraSACT = 1 << 30 })
			r.fake.Raise(0, 1<<3)
		}, "device breaks the protocol: commands 0x4"},
		{"unplugged", func(r *rig) { r.fake.Unplug(0) }, "device is gone"},
		{"HBA gone", func(r *rig) {
			r.fake.Set(func() { r.fake.Gone = true })
			r.fake.Line.Fire()
		}, "device is gone"},
		{"another disk comes back", func(r *rig) {
			r.fake.Set(func() { r.fake.Ports[0].SetString(10, 20, "another"); r.fake.Ports[0].Seal() })
			r.fake.Raise(0, 1<<27)
		}, `is now "another"`},
		{"busy for good", func(r *rig) {
			r.fake.Set(func() { r.fake.Ports[0].Busy = true })
			r.fake.Raise(0, 1<<27)
		}, "device does not answer within 1s after COMRESET"},
		{"HBA does not reset", func(r *rig) {
			r.fake.Set(func() { r.fake.Ports[0].StuckCR, r.fake.StuckReset = true, true })
			r.fake.Raise(0, 1<<27)
		}, "HBA reset: device does not answer"},
		{"line", func(r *rig) { r.fake.Line.Close() }, "interrupt line was closed"},
		{"close", func(r *rig) { r.d.Close() }, "device is closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, err := tryRig(t, rigOpt{})
				if err != nil {
					t.Fatal(err)
				}
				drop := fakeahci.Drop
				r.fake.Set(func() {
					r.fake.Judge = func(c fakeahci.Cmd) fakeahci.Verdict {
						if c.Queued() {
							return drop
						}
						return fakeahci.Do
					}
				})
				errs := make(chan error, 5)
				for i := range 5 {
					go func() {
						_, err := r.d.ReadAt(make([]byte, 200<<10), int64(i)<<12)
						errs <- err
					}()
				}
				synctest.Wait()
				c.cause(r)
				for range 5 {
					if err := <-errs; err == nil || !strings.Contains(err.Error(), c.want) {
						t.Errorf("a reader got %v, want %q", err, c.want)
					}
				}
				if err := r.d.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Err: %v", err)
				}
				if err := r.d.Flush(); err == nil {
					t.Error("a stopped disk flushes")
				}
				live := r.mem.Live()
				err = r.c.Close()
				if strings.HasPrefix(c.name, "HBA does not") {
					if err == nil || r.mem.Live() != live {
						t.Errorf("Close: %v, %d regions of %d left", err, r.mem.Live(), live)
					}
					return
				}
				if err != nil {
					t.Error(err)
				}
				r.fake.Set(func() { r.fake.Gone = false })
				r.wantClean()
			})
		})
	}
}
