package virtioblk_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtioblk"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

// call runs f while the disk works.
func (r *rig) call(f func() error) error {
	r.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	r.steps(synctest.Wait)
	select {
	case err := <-done:
		return err
	default:
		r.t.Fatal("the disk is idle and the call has not returned")
		return nil
	}
}

func (r *rig) read(n int, off int64) ([]byte, error) {
	p := make([]byte, n)
	var k int
	err := r.call(func() (err error) {
		k, err = r.dev.ReadAt(p, off)
		return err
	})
	return p[:k], err
}

func (r *rig) write(p []byte, off int64) (n int, err error) {
	err = r.call(func() (err error) {
		n, err = r.dev.WriteAt(p, off)
		return err
	})
	return n, err
}

// All transports, one queue and several, with and without the ring features.
func TestReadWriteOnEachTransport(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
	}{
		{"pci", rigOpt{features: fakedev.BlkAll}},
		{"pci msix", rigOpt{features: fakedev.BlkAll, lines: 2}},
		{"pci one vector", rigOpt{features: fakedev.BlkAll, lines: 1}},
		{"pci 4 queues", rigOpt{features: fakedev.BlkAll, queues: 4, lines: 5}},
		{"pci 4 queues, 1 line", rigOpt{features: fakedev.BlkAll, queues: 4, cfg: virtioblk.Config{Queues: 4}}},
		{"no indirect, no event index", rigOpt{features: fakedev.FeatureVersion1}},
		{"event index unwanted", rigOpt{features: fakedev.BlkAll, cfg: virtioblk.Config{NoEventIdx: true}}},
		{"small ring", rigOpt{features: fakedev.BlkAll &^ fakedev.FeatureIndirectDesc, ring: 4}},
		{"pci-legacy", rigOpt{features: fakedev.BlkAll &^ fakedev.FeatureVersion1, front: "pci-legacy"}},
		{"pci-legacy msix", rigOpt{features: fakedev.BlkAll &^ fakedev.FeatureVersion1, front: "pci-legacy", lines: 2}},
		{"mmio", rigOpt{features: fakedev.BlkAll, front: "mmio"}},
		{"mmio-legacy", rigOpt{features: fakedev.BlkAll &^ fakedev.FeatureVersion1, front: "mmio-legacy"}},
		{"size_max 4096", rigOpt{features: fakedev.BlkAll | fakedev.BlkSizeMax,
			before: func(b *fakedev.Blk) { b.SetConf(8, 0, 0x10, 0, 0) }}},
		{"seg_max 1, size_max 1000", rigOpt{features: fakedev.BlkAll | fakedev.BlkSizeMax,
			before: func(b *fakedev.Blk) { b.SetConf(8, 0xe8, 3, 0, 0, 1, 0, 0, 0) }}},
		{"blocks of 4096", rigOpt{features: fakedev.BlkAll,
			before: func(b *fakedev.Blk) { b.SetConf(20, 0, 0x10, 0, 0) }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, c.o)
				if got := r.dev.Size(); got != sectors*512 {
					t.Fatalf("size %d", got)
				}
				for _, x := range []struct{ n, off int }{{4096, 0}, {64 << 10, 8192}, {1 << 20, 12288}, {700, 5}, {1, sectors*512 - 1}} {
					got, err := r.read(x.n, int64(x.off))
					if err != nil || !bytes.Equal(got, r.disk.Disk[x.off:x.off+x.n]) {
						t.Errorf("ReadAt %d at %d: %d bytes, %v", x.n, x.off, len(got), err)
					}
				}
				for i, x := range []struct{ n, off int }{{4096, 0}, {1 << 20, 40960}, {8192, sectors*512 - 8192}} {
					p := pattern(x.n, i)
					if n, err := r.write(p, int64(x.off)); n != x.n || err != nil {
						t.Errorf("WriteAt %d at %d: %d, %v", x.n, x.off, n, err)
					}
					r.wantDisk(x.off, p)
				}
				if err := r.call(r.dev.Flush); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestReadAtEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll})
		got, err := r.read(1024, sectors*512-512)
		if len(got) != 512 || err != io.EOF {
			t.Errorf("across the end: %d bytes, %v", len(got), err)
		}
		if got, err = r.read(1, sectors*512); len(got) != 0 || err != io.EOF {
			t.Errorf("at the end: %d bytes, %v", len(got), err)
		}
		if got, err = r.read(0, sectors*512+5); len(got) != 0 || err != nil {
			t.Errorf("nothing, beyond the end: %d bytes, %v", len(got), err)
		}
		if _, err = r.read(1, -1); !errors.Is(err, virtioblk.ErrRange) {
			t.Errorf("before the start: %v", err)
		}
	})
}

func TestWriteAtRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll})
		for _, c := range []struct {
			n    int
			off  int64
			want error
		}{
			{512, sectors * 512, virtioblk.ErrRange},
			{1024, sectors*512 - 512, virtioblk.ErrRange},
			{512, -512, virtioblk.ErrRange},
			{512, 1<<63 - 512, virtioblk.ErrRange},
			{511, 0, virtioblk.ErrAlign},
			{512, 5, virtioblk.ErrAlign},
		} {
			if n, err := r.write(make([]byte, c.n), c.off); n != 0 || !errors.Is(err, c.want) {
				t.Errorf("%d at %d: %d, %v; want %v", c.n, c.off, n, err, c.want)
			}
		}
		if len(r.disk.Log) != 0 {
			t.Errorf("the disk saw %v", r.disk.Log)
		}
	})
}

func TestReadOnlyDiskTakesNoWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll | fakedev.BlkRO})
		if !r.dev.ReadOnly() {
			t.Error("not known to be read-only")
		}
		if _, err := r.write(make([]byte, 512), 0); !errors.Is(err, virtioblk.ErrReadOnly) {
			t.Error(err)
		}
		if err := r.call(func() error { return r.dev.Discard(0, 512) }); !errors.Is(err, virtioblk.ErrReadOnly) {
			t.Error(err)
		}
		if _, err := r.read(512, 0); err != nil {
			t.Error(err)
		}
	})
}

// A discard or write-zeroes beyond the device's limit goes out in parts.
func TestRangesAreSplitByTheDevicesLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll})
		if err := r.call(func() error { return r.dev.Discard(1024, 200*512) }); err != nil {
			t.Fatal(err)
		}
		r.wantDisk(1024, bytes.Repeat([]byte{0xdd}, 200*512))
		if err := r.call(func() error { return r.dev.WriteZeroes(512, 70*512) }); err != nil {
			t.Fatal(err)
		}
		r.wantDisk(512, make([]byte, 70*512))
		var sum uint64
		for _, q := range r.disk.Log {
			if q.Sectors > 64 {
				t.Errorf("range of %d sectors", q.Sectors)
			}
			sum += q.Sectors
		}
		if sum != 270 {
			t.Errorf("%d sectors in all", sum)
		}
		if err := r.call(func() error { return r.dev.Discard(0, 0) }); err != nil {
			t.Error(err)
		}
		if err := r.call(func() error { return r.dev.Discard(1, 512) }); !errors.Is(err, virtioblk.ErrAlign) {
			t.Error(err)
		}
		if err := r.call(func() error { return r.dev.Discard(0, 512*(sectors+1)) }); !errors.Is(err, virtioblk.ErrRange) {
			t.Error(err)
		}
	})
}

func TestWithoutTheFeature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.FeatureVersion1})
		if err := r.call(func() error { return r.dev.Discard(0, 512) }); !errors.Is(err, virtioblk.ErrUnsupported) {
			t.Error(err)
		}
		if err := r.call(func() error { return r.dev.WriteZeroes(0, 512) }); !errors.Is(err, virtioblk.ErrUnsupported) {
			t.Error(err)
		}
		if err := r.call(r.dev.Flush); err != nil || len(r.disk.Log) != 0 {
			t.Error(err, r.disk.Log) // no cache: nothing to do
		}
	})
}

func TestIDAndTopology(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll, cfg: virtioblk.Config{Name: "vdb"}})
		var id string
		err := r.call(func() (err error) { id, err = r.dev.ID(); return err })
		if err != nil || id != "fake-serial" {
			t.Errorf("ID %q, %v", id, err)
		}
		r.disk.Serial = strings.Repeat("x", 20) // not terminated
		err = r.call(func() (err error) { id, err = r.dev.ID(); return err })
		if err != nil || id != r.disk.Serial {
			t.Errorf("ID %q, %v", id, err)
		}
		want := virtioblk.Topology{PhysicalBlock: 4096, MinIO: 512}
		if got := r.dev.Topology(); got != want {
			t.Errorf("topology %+v", got)
		}
		if r.dev.Name() != "vdb" || r.dev.BlockSize() != 512 || r.dev.Queues() != 1 || r.dev.Err() != nil {
			t.Error(r.dev.Name(), r.dev.BlockSize(), r.dev.Queues(), r.dev.Err())
		}
	})
}

// Status values become typed errors that name the sector, §5.2.6.
func TestStatusBecomesError(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*fakedev.Blk)
		want error
		text string
	}{
		{"IOERR", func(b *fakedev.Blk) { b.Fail = func(fakedev.BlkRequest) uint8 { return fakedev.BlkIOErr } }, virtioblk.ErrIO,
			"virtio-blk: read of 8 sectors at sector 16: device reports an I/O error"},
		{"UNSUPP", func(b *fakedev.Blk) { b.Fail = func(fakedev.BlkRequest) uint8 { return fakedev.BlkUnsupp } }, virtioblk.ErrUnsupported,
			"at sector 16"},
		{"garbled", func(b *fakedev.Blk) { b.BadStatus = 0x77 }, virtioblk.ErrProtocol, "status 0x77"},
		{"none", func(b *fakedev.Blk) { b.NoStatus = true }, virtioblk.ErrProtocol, "the status was not written"},
		{"short", func(b *fakedev.Blk) { b.ShortRead = true }, virtioblk.ErrProtocol, "of 4096 bytes were written"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigOpt{features: fakedev.BlkAll})
				c.set(r.disk)
				n, err := r.read(4096, 8192)
				if len(n) != 0 || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
					t.Fatalf("read %d bytes, %v; want %v with %q", len(n), err, c.want, c.text)
				}
				r.disk.Fail = nil
				if _, err := r.read(4096, 8192); err != nil {
					t.Errorf("the device is given up after one bad request: %v", err)
				}
			})
		})
	}
}

// Of a large transfer, what came before the bad sector counts; what comes after
// does not.
func TestErrorInTheMiddleOfATransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll})
		const bad = 1000
		r.disk.Fail = func(q fakedev.BlkRequest) uint8 {
			if q.Sector <= bad && bad < q.Sector+q.Sectors {
				return fakedev.BlkIOErr
			}
			return fakedev.BlkOK
		}
		n, err := r.write(pattern(1<<20, 1), 0)
		var e *virtioblk.Error
		if !errors.As(err, &e) || e.Sector > bad || e.Sector+e.Count <= bad || n != int(e.Sector)*512 {
			t.Fatalf("%d bytes written, %v", n, err)
		}
		r.wantDisk(0, pattern(1<<20, 1)[:n])
	})
}

// Requests on device memory: many pieces, more requests than the ring holds,
// completed in any order.
func TestSubmitDeepAndOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll, ring: 16, queues: 2, lines: 3})
		seed := uint32(1)
		r.disk.Pick = func(n int) int {
			seed = seed*1664525 + 1013904223
			return int(seed>>8) % n
		}
		const requests, pieces, piece = 64, 24, 1024
		mem := r.region(requests * pieces * piece)
		defer r.mem.Free(mem)
		done := make(chan *virtioblk.Request, requests)
		for i := range requests {
			q := &virtioblk.Request{Op: virtioblk.OpRead, Sector: uint64(i * 37), Done: func(q *virtioblk.Request) { done <- q }}
			for k := range pieces { // not contiguous: every second region of another request
				q.Mem = append(q.Mem, mem.Slice((k*requests+i)*piece, piece))
			}
			r.dev.Submit(q)
		}
		r.steps(synctest.Wait)
		if len(done) != requests {
			t.Fatalf("%d of %d done", len(done), requests)
		}
		for range requests {
			q := <-done
			if q.Err != nil {
				t.Fatal(q.Err)
			}
			off := int(q.Sector) * 512
			for _, m := range q.Mem {
				if !bytes.Equal(m.Bytes, r.disk.Disk[off:off+piece]) {
					t.Fatalf("request at sector %d differs at %d", q.Sector, off)
				}
				off += piece
			}
		}
	})
}

func TestSubmitRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll})
		one := dma.Region{Bytes: make([]byte, 512)}
		for _, c := range []struct {
			req  virtioblk.Request
			want error
		}{
			{virtioblk.Request{Op: virtioblk.OpRead}, virtioblk.ErrRange},
			{virtioblk.Request{Op: virtioblk.OpRead, Mem: []dma.Region{{}}}, virtioblk.ErrAlign},
			{virtioblk.Request{Op: virtioblk.OpRead, Mem: []dma.Region{{Bytes: make([]byte, 100)}}}, virtioblk.ErrAlign},
			{virtioblk.Request{Op: virtioblk.OpWrite, Sector: sectors, Mem: []dma.Region{one}}, virtioblk.ErrRange},
			{virtioblk.Request{Op: virtioblk.OpWrite, Sector: 1<<64 - 1, Mem: []dma.Region{one}}, virtioblk.ErrRange},
			{virtioblk.Request{Op: virtioblk.OpDiscard, Sectors: 1 << 63}, virtioblk.ErrRange},
			{virtioblk.Request{Op: 99}, virtioblk.ErrUnsupported},
			{virtioblk.Request{Op: 8}, virtioblk.ErrUnsupported},
		} {
			called := false
			c.req.Done = func(q *virtioblk.Request) { called = true }
			r.dev.Submit(&c.req)
			if !called || !errors.Is(c.req.Err, c.want) {
				t.Errorf("%v: done %v, %v; want %v", c.req.Op, called, c.req.Err, c.want)
			}
		}
	})
}

func TestCapacityChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.BlkAll, lines: 2})
		r.disk.SetConf(0, 0, 8, 0, 0)
		r.disk.ConfigChanged()
		synctest.Wait()
		if r.dev.Size() != 2048*512 {
			t.Errorf("size %d after the change", r.dev.Size())
		}
		if err := r.dev.Err(); err != nil {
			t.Error(err)
		}
		r.disk.SetConf(0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		r.disk.ConfigChanged()
		synctest.Wait()
		if err := r.dev.Err(); err == nil || !strings.Contains(err.Error(), "18446744073709551615 sectors") {
			t.Error(err)
		}
	})
}

func TestTroubleEndsAllRequests(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause func(*fakedev.Blk, *virtioblk.Device)
		want  string
	}{
		{"needs reset", func(b *fakedev.Blk, _ *virtioblk.Device) { b.NeedsReset() }, "device needs a reset"},
		{"forgot", func(b *fakedev.Blk, _ *virtioblk.Device) { b.ForgetDriver() }, "reset behind the driver's back"},
		{"unknown id", func(b *fakedev.Blk, _ *virtioblk.Device) { b.Queues[0].PushRaw(9999, 1); b.Queues[0].Flush() },
			"queue 0: used ring slot 0 names descriptor 9999 of 128"},
		{"idle id", func(b *fakedev.Blk, _ *virtioblk.Device) { b.Queues[0].PushRaw(127, 1); b.Queues[0].Flush() },
			"not outstanding"},
		{"used index", func(b *fakedev.Blk, _ *virtioblk.Device) { b.Queues[0].SkipUsed(400); b.Queues[0].Flush() },
			"used index went from 0 to 400"},
		{"length", func(b *fakedev.Blk, _ *virtioblk.Device) { b.LongLen = true; b.Swallow = 0; b.StepOne() },
			"device says it wrote"},
		{"close", func(_ *fakedev.Blk, d *virtioblk.Device) { d.Close() }, virtio.ErrClosed.Error()},
		{"line", func(b *fakedev.Blk, _ *virtioblk.Device) { b.Lines[1].(*fakedev.Line).Close() }, "interrupt line was closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigOpt{features: fakedev.BlkAll, lines: 2, ring: 128, cfg: virtioblk.Config{Bounces: 2}})
				const readers = 5
				errs := make(chan error, readers)
				for i := range readers { // more than there are bounce buffers
					go func() {
						_, err := r.dev.ReadAt(make([]byte, 200<<10), int64(i)<<12)
						errs <- err
					}()
				}
				synctest.Wait()
				c.cause(r.disk, r.dev)
				synctest.Wait()
				for range readers {
					if err := <-errs; err == nil || !strings.Contains(err.Error(), c.want) {
						t.Errorf("a reader got %v, want %q", err, c.want)
					}
				}
				if err := r.dev.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Err: %v", err)
				}
				if err := r.dev.Flush(); err == nil {
					t.Error("a stopped device flushes")
				}
			})
		})
	}
}

// A device that does not finish its reset keeps its memory: the errors say so, and
// nothing is freed.
func TestResetThatDoesNotFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := tryRig(t, rigOpt{features: fakedev.BlkAll})
		if err != nil {
			t.Fatal(err)
		}
		live := r.mem.Live()
		got := make(chan error, 1)
		go func() {
			_, err := r.dev.ReadAt(make([]byte, 512), 0)
			got <- err
		}()
		synctest.Wait()
		r.disk.ResetReads = -1
		if err := r.dev.Close(); !errors.Is(err, virtio.ErrStuck) {
			t.Errorf("Close: %v", err)
		}
		if err := <-got; !errors.Is(err, virtio.ErrStuck) {
			t.Errorf("ReadAt: %v", err)
		}
		if n := r.mem.Live(); n != live {
			t.Errorf("%d of %d regions were freed while the device may write to them", live-n, live)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
		want string
	}{
		{"no descriptors", rigOpt{ring: 1, before: func(b *fakedev.Blk) { b.Queues[0].Max = 0 }}, "queue 0: device offers 0 descriptors"},
		{"two descriptors", rigOpt{ring: 2}, "2 descriptors hold no request"},
		{"no queues", rigOpt{before: func(b *fakedev.Blk) { b.Queues = nil }}, "device has only 0 queues"},
		{"mq of 0", rigOpt{lines: 3, before: func(b *fakedev.Blk) { b.SetConf(34, 0, 0) }}, "multiqueue with 0 queues"},
		{"block size", rigOpt{before: func(b *fakedev.Blk) { b.SetConf(20, 0, 3, 0, 0) }}, "blocks have 768 bytes"},
		{"size max", rigOpt{features: fakedev.BlkAll | fakedev.BlkSizeMax, before: func(b *fakedev.Blk) { b.SetConf(8, 1, 0, 0, 0) }},
			"segments of 1 bytes"},
		{"capacity", rigOpt{before: func(b *fakedev.Blk) { b.SetConf(7, 0xff) }}, "sectors"},
		{"short config", rigOpt{before: func(b *fakedev.Blk) { b.Conf = b.Conf[:8] }}, "configuration of 8 bytes lacks"},
		{"not a disk", rigOpt{before: func(b *fakedev.Blk) { b.ID = 4 }}, "type 4"},
		{"bounce size", rigOpt{cfg: virtioblk.Config{BounceSize: 5000}}, "bounce buffers of 5000 bytes"},
		{"lines", rigOpt{front: "mmio", lines: 2}, "2 interrupt lines for a device with one interrupt"},
		{"no vector", rigOpt{lines: 2, before: func(b *fakedev.Blk) { b.NoVectors = true }}, "vector"},
		{"dropped", rigOpt{before: func(b *fakedev.Blk) { b.DropDriverOK = true }}, "behind the driver's back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.o.features == 0 {
				c.o.features = fakedev.BlkAll
			}
			_, err := tryRig(t, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New: %v, want %q", err, c.want)
			}
		})
	}
}
