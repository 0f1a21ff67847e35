package nvme_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakenvme"
)

// ioOnly judges commands of the I/O queues by f.
func ioOnly(f func(fakenvme.Cmd) fakenvme.Verdict) func(fakenvme.Cmd) fakenvme.Verdict {
	return func(c fakenvme.Cmd) fakenvme.Verdict {
		if c.Queue == 0 {
			return fakenvme.Do
		}
		return f(c)
	}
}

func TestStatusBecomesError(t *testing.T) {
	for _, c := range []struct {
		status fakenvme.Verdict
		want   error
		text   string
	}{
		{fakenvme.Unrecovered, blk.ErrIO, "nvme: read of 8 sectors at sector 16: device reports an I/O error: status 2/81h: unrecovered read error"},
		{fakenvme.InvalidOpcode, blk.ErrUnsupported, "invalid command opcode"},
		{fakenvme.LBARange, blk.ErrRange, "LBA out of range"},
		{0x00b, blk.ErrGone, "invalid namespace"},
		{0x020, blk.ErrReadOnly, "write protected"},
		{fakenvme.AbortRequested, blk.ErrReset, "abort requested"},
		{0x4000 | 0x777, blk.ErrIO, "status 7/77h: unknown"},
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{lines: 2})
			r.fake.Set(func() { r.fake.Judge = ioOnly(func(fakenvme.Cmd) fakenvme.Verdict { return c.status }) })
			n, err := r.d.ReadAt(make([]byte, 4096), 8192)
			if n != 0 || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("status %#x: %d bytes, %v; want %v with %q", int(c.status), n, err, c.want, c.text)
			}
			r.fake.Set(func() { r.fake.Judge = nil })
			if _, err := r.d.ReadAt(make([]byte, 4096), 8192); err != nil {
				t.Errorf("given up after one bad command: %v", err)
			}
		})
	}
}

// A command that is not answered is aborted and fails; nothing else does.
func TestTimeoutAborts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 2})
		r.fake.Set(func() {
			r.fake.Judge = ioOnly(func(c fakenvme.Cmd) fakenvme.Verdict {
				if c.DW[10] == 16 {
					return fakenvme.Drop
				}
				return fakenvme.Do
			})
		})
		start := time.Now()
		_, err := r.d.ReadAt(make([]byte, 512), 16*512)
		if !errors.Is(err, blk.ErrTimeout) || !strings.Contains(err.Error(), "aborted after 4s") {
			t.Error(err)
		}
		if d := time.Since(start); d < timeout || d > 2*timeout {
			t.Errorf("after %v", d)
		}
		if n := r.fake.Resets(); n != 0 {
			t.Errorf("%d resets", n)
		}
		if _, err := r.d.ReadAt(make([]byte, 512), 0); err != nil {
			t.Error(err)
		}
	})
}

// Where Abort does not help, the controller is reset: what was late fails, what
// was merely under way or waiting is done.
func TestTimeoutResets(t *testing.T) {
	for name, mischief := range map[string]func(*fakenvme.Device){
		"abort does nothing":     func(d *fakenvme.Device) { d.NoAbort = true },
		"abort is not answered":  func(d *fakenvme.Device) {},
		"abort fails":            func(d *fakenvme.Device) {},
		"completions not seen":   func(d *fakenvme.Device) { d.WrongPhase = true },
		"fatal error":            func(d *fakenvme.Device) {},
		"fatal error, one queue": func(d *fakenvme.Device) {},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				lines := 3
				if strings.Contains(name, "one queue") {
					lines = 1
				}
				r := newRig(t, rigOpt{lines: lines})
				broken := true
				r.fake.Set(func() {
					mischief(r.fake)
					r.fake.Judge = func(c fakenvme.Cmd) fakenvme.Verdict {
						switch {
						case c.Queue == 0 && c.Opcode == 8 && strings.HasPrefix(name, "abort is"):
							return fakenvme.Drop
						case c.Queue == 0 && c.Opcode == 8 && strings.HasPrefix(name, "abort f"):
							return fakenvme.Internal
						case c.Queue > 0 && broken && c.DW[10] == 16:
							if strings.HasPrefix(name, "fatal") {
								r.fake.Fatal = true
							}
							return fakenvme.Drop
						}
						return fakenvme.Do
					}
				})
				r.fake.Manual = true
				errs := map[uint64]error{}
				reqs := make([]blk.Request, 20)
				m := r.region(20*512, 4096)
				defer r.mem.Free(m)
				left := len(reqs)
				done := make(chan *blk.Request, len(reqs))
				for i := range reqs {
					reqs[i] = blk.Request{Op: blk.OpRead, Sector: uint64(2 * i), Done: func(q *blk.Request) { done <- q }}
					reqs[i].Mem = append(reqs[i].Mem, m.Slice(i*512, 512))
					r.d.Submit(&reqs[i])
				}
				synctest.Wait()
				// The controller gets to some of them.
				for range 12 {
					r.fake.Step()
				}
				for range 30 {
					time.Sleep(time.Second)
					synctest.Wait()
					if r.fake.Resets() > 0 {
						r.fake.Set(func() { broken, r.fake.Fatal, r.fake.WrongPhase = false, false, false })
						r.settle()
					}
				}
				for len(done) > 0 {
					q := <-done
					errs[q.Sector] = q.Err
					left--
				}
				if left != 0 || r.fake.Resets() != 1 || r.d.Err() != nil {
					t.Fatalf("%d requests not done after %d resets, disk: %v", left, r.fake.Resets(), r.d.Err())
				}
				for s, err := range errs {
					if err != nil && !errors.Is(err, blk.ErrTimeout) {
						t.Errorf("sector %d: %v", s, err)
					}
					if err == nil && !bytes.Equal(m.Bytes[s/2*512:][:512], r.fake.Spaces[1].Disk[s*512:][:512]) {
						t.Errorf("sector %d differs", s)
					}
				}
				if strings.HasPrefix(name, "fatal") {
					for s, err := range errs {
						if err != nil {
							t.Errorf("sector %d: %v, and it was not late", s, err)
						}
					}
				} else if !slices.ContainsFunc(slices.Collect(maps.Values(errs)), func(err error) bool { return err != nil }) {
					t.Error("no command was late")
				}
			})
		})
	}
}

// A controller that completes nothing between resets, or does not come back, is
// given up; so is one that lies.
func TestGivenUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause func(*fakenvme.Device)
		want  error
		text  string
	}{
		{"never answers", func(d *fakenvme.Device) {}, blk.ErrTimeout, "nothing was completed between 5 resets"},
		{"does not come back", func(d *fakenvme.Device) { d.Fatal, d.NeverReady = true, true }, nil, "enable"},
		{"gone", func(d *fakenvme.Device) { d.Gone = true }, blk.ErrGone, "gone"},
		{"another one comes back", func(d *fakenvme.Device) { d.NoAbort = true; d.Ctrl[4] = 'X' }, nil, "says that it is"},
		{"fewer queues", func(d *fakenvme.Device) { d.NoAbort = true; d.Queues = 1 }, nil, "had 2 I/O queues and has 1"},
		{"identify fails after the reset", func(d *fakenvme.Device) {
			d.NoAbort = true
			d.Judge = func(c fakenvme.Cmd) fakenvme.Verdict {
				if c.Queue > 0 || c.Opcode == 6 {
					return fakenvme.Drop
				}
				return fakenvme.Do
			}
		}, blk.ErrTimeout, "admin command 0x06"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, err := tryRig(t, rigOpt{lines: 3})
				if err != nil {
					t.Fatal(err)
				}
				r.fake.Set(func() {
					r.fake.Judge = ioOnly(func(fakenvme.Cmd) fakenvme.Verdict { return fakenvme.Drop })
					r.fake.NoAbort = true
				})
				errs := make(chan error, 10)
				for i := range 10 {
					go func() {
						var err error
						for err == nil || r.d.Err() == nil { // keeps at it
							_, err = r.d.ReadAt(make([]byte, 512), int64(i*512))
						}
						errs <- err
					}()
				}
				synctest.Wait()
				r.fake.Set(func() { c.cause(r.fake) })
				for range 10 {
					<-errs
				}
				if err := r.d.Err(); err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("Err: %v, want %v with %q", err, c.want, c.text)
				}
				if err := r.d.Flush(); err == nil {
					t.Error("a stopped controller flushes")
				}
				r.fake.Set(func() { r.fake.Fatal = false })
				if err := r.c.Close(); err != nil {
					t.Error(err)
				}
				r.wantClean()
			})
		})
	}
}

// A reset that is asked for loses nothing, however often.
func TestResetUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 3})
		r.fake.Set(func() { r.fake.Manual = true })
		m := r.region(40*512, 4096)
		defer r.mem.Free(m)
		reqs := make([]blk.Request, 40)
		done := 0
		for i := range reqs {
			reqs[i] = blk.Request{Op: blk.OpRead, Sector: uint64(i), Mem: []dma.Region{m.Slice(i*512, 512)}, Done: func(*blk.Request) { done++ }}
			r.d.Submit(&reqs[i])
		}
		for range 8 {
			r.fake.Step()
			if err := r.c.Reset(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		r.settle()
		for i := range reqs {
			if reqs[i].Err != nil {
				t.Error(reqs[i].Err)
			}
		}
		if done != len(reqs) || r.fake.Resets() != 8 || !bytes.Equal(m.Bytes, r.fake.Spaces[1].Disk[:len(m.Bytes)]) {
			t.Errorf("%d requests done after %d resets, or data differ", done, r.fake.Resets())
		}
	})
}

func TestLiesEndAllRequests(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause func(*rig)
		want  string
	}{
		{"never sent", func(r *rig) { r.fake.Post(1, 1, 100, 0) }, "queue 1: completion of command 0x64, which is not under way"},
		{"beyond the slots", func(r *rig) { r.fake.Post(1, 1, 1023, 0) }, "command 0x3ff, which is not under way"},
		{"of an older command", func(r *rig) { r.fake.Post(1, 1, 63<<10, 0) }, "command 0xfc00, which is not under way"},
		{"of another queue", func(r *rig) { r.fake.Post(1, 2, 0, 0) }, "queue 1: completion for queue 2"},
		{"admin", func(r *rig) { r.fake.Post(0, 0, 3, 0) }, "queue 0: completion of command 0x3"},
		{"line", func(r *rig) { r.fake.Lines[1].Close() }, "interrupt line was closed"},
		{"close", func(r *rig) { r.d.Close() }, "device is closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{lines: 2})
				r.fake.Set(func() { r.fake.Judge = ioOnly(func(fakenvme.Cmd) fakenvme.Verdict { return fakenvme.Drop }) })
				errs := make(chan error, 5)
				for i := range 5 {
					go func() {
						_, err := r.d.ReadAt(make([]byte, 200<<10), int64(i)<<12)
						errs <- err
					}()
				}
				synctest.Wait()
				c.cause(r)
				synctest.Wait()
				for range 5 {
					if err := <-errs; err == nil || !strings.Contains(err.Error(), c.want) {
						t.Errorf("a reader got %v, want %q", err, c.want)
					}
				}
				if err := r.d.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Err: %v", err)
				}
			})
		})
	}
}

// Lost interrupts cost time, nothing else.
func TestLostInterrupts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 2})
		r.fake.Set(func() { r.fake.NoInterrupts = true })
		if _, err := r.d.ReadAt(make([]byte, 1<<20), 0); err != nil {
			t.Error(err)
		}
		if n := r.fake.Resets(); n != 0 {
			t.Errorf("%d resets", n)
		}
	})
}

// Of a large transfer, what came before the bad sector counts.
func TestErrorInTheMiddleOfATransfer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 2})
		const bad = 1000
		r.fake.Set(func() {
			r.fake.Judge = ioOnly(func(c fakenvme.Cmd) fakenvme.Verdict {
				if n := c.DW[12]&0xffff + 1; c.DW[10] <= bad && bad < c.DW[10]+n {
					return fakenvme.WriteFault
				}
				return fakenvme.Do
			})
		})
		n, err := r.d.WriteAt(pattern(1<<20, 1), 0)
		var e *blk.Error
		if !errors.As(err, &e) || e.Sector > bad || e.Sector+e.Count <= bad || n != int(e.Sector)*512 {
			t.Fatalf("%d bytes written, %v", n, err)
		}
		r.wantDisk(0, pattern(1<<20, 1)[:n])
	})
}
