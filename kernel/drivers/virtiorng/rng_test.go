package virtiorng_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtiorng"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
)

const features = fakedev.FeatureVersion1 | fakedev.FeatureEventIdx

func newDev(t *testing.T, rng *fakedev.RNG, line irq.Line) *virtiorng.Device {
	t.Helper()
	d, err := virtiorng.New(front(t, rng), rng.Mem, line)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if n := rng.Mem.Live(); n != 0 {
			t.Errorf("%d regions live after Close", n)
		}
	})
	return d
}

func front(t *testing.T, rng *fakedev.RNG) virtio.Transport {
	t.Helper()
	tr, err := virtio.NewMMIO(rng.MMIO(2))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func wantCounter(t *testing.T, p []byte) {
	t.Helper()
	for i, b := range p {
		if b != byte(i+1) {
			t.Fatalf("byte %d is %d, not the device's", i, b)
		}
	}
}

func TestReadFillsAllOfP(t *testing.T) {
	for _, chunk := range []int{0, 7} {
		rng := fakedev.NewRNG(&fakedev.Mem{}, features, 8)
		rng.Chunk = chunk
		rng.Auto()
		d := newDev(t, rng, nil)
		p := make([]byte, 700)
		if n, err := d.Read(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		wantCounter(t, p)
	}
}

func TestReadWaitsForInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakedev.Line{}
		rng := fakedev.NewRNG(&fakedev.Mem{}, features, 8)
		rng.Lines = []interface{ Fire() }{line}
		d := newDev(t, rng, line)
		p := make([]byte, 300)
		done := make(chan error)
		go func() {
			_, err := d.Read(p)
			done <- err
		}()
		for range 2 {
			synctest.Wait()
			if rng.Step() != 1 {
				t.Fatal("no buffer is posted")
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		wantCounter(t, p)
		if rng.ISR() != 0 {
			t.Error("the interrupt was not acknowledged")
		}
		if rng.Queues[0].Notified() != 2 {
			t.Errorf("%d doorbells for 2 buffers", rng.Queues[0].Notified())
		}
	})
}

func TestDeviceLies(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(*fakedev.RNG)
		want string
	}{
		{"empty", func(r *fakedev.RNG) { r.Empty = true }, "nothing in it"},
		{"long", func(r *fakedev.RNG) { r.LongLen = true }, "device says it wrote 33 bytes into 32"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := fakedev.NewRNG(&fakedev.Mem{}, features, 8)
			rng.Auto()
			d := newDev(t, rng, nil)
			c.lie(rng)
			n, err := d.Read(make([]byte, 32))
			if n != 0 || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Read = %d, %v; want error with %q", n, err, c.want)
			}
			if _, again := d.Read(make([]byte, 1)); again == nil {
				t.Error("the device is trusted again")
			}
		})
	}
}

func TestPollGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := fakedev.NewRNG(&fakedev.Mem{}, features, 8) // never steps
		d := newDev(t, rng, nil)
		if _, err := d.Read(make([]byte, 4)); err == nil || !strings.Contains(err.Error(), "no bytes for 10s") {
			t.Fatal(err)
		}
	})
}

func TestNeedsResetAndCloseEndARead(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*fakedev.RNG, *virtiorng.Device)
		want string
	}{
		{"needs-reset", func(r *fakedev.RNG, _ *virtiorng.Device) { r.NeedsReset() }, "needs a reset"},
		{"close", func(_ *fakedev.RNG, d *virtiorng.Device) { d.Close() }, virtio.ErrClosed.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := &fakedev.Line{}
				rng := fakedev.NewRNG(&fakedev.Mem{}, features, 8)
				rng.Lines = []interface{ Fire() }{line}
				d := newDev(t, rng, line)
				done := make(chan error)
				go func() {
					_, err := d.Read(make([]byte, 1))
					done <- err
				}()
				synctest.Wait()
				c.end(rng, d)
				if err := <-done; err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("Read: %v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestCloseEndsAPoll(t *testing.T) {
	rng := fakedev.NewRNG(&fakedev.Mem{}, features, 8)
	d := newDev(t, rng, nil)
	done := make(chan error)
	go func() {
		_, err := d.Read(make([]byte, 1))
		done <- err
	}()
	d.Close()
	if err := <-done; !errors.Is(err, virtio.ErrClosed) {
		t.Fatal(err)
	}
}

func TestNewRefuses(t *testing.T) {
	mem := &fakedev.Mem{}
	rng := fakedev.NewRNG(mem, features, 8)
	rng.ID = 1
	if _, err := virtiorng.New(front(t, rng), mem, nil); err == nil {
		t.Error("a network device is taken for an entropy device")
	}
	rng = fakedev.NewRNG(mem, features, 0)
	if _, err := virtiorng.New(front(t, rng), mem, nil); err == nil || !strings.Contains(err.Error(), "offers 0 descriptors") {
		t.Errorf("queue of size 0: %v", err)
	}
	rng = fakedev.NewRNG(mem, fakedev.FeatureEventIdx, 8)
	if _, err := virtiorng.New(front(t, rng), mem, nil); err == nil {
		t.Error("a device without VERSION_1 is taken on a modern transport")
	}
	if n := mem.Live(); n != 0 {
		t.Errorf("%d regions leaked", n)
	}
}

func TestBytesAreWipedAfterUse(t *testing.T) {
	mem := &fakedev.Mem{}
	rng := fakedev.NewRNG(mem, features, 8)
	rng.Auto()
	d := newDev(t, rng, nil)
	p := make([]byte, 64)
	if _, err := d.Read(p); err != nil {
		t.Fatal(err)
	}
	for i := range mem.Live() {
		if bytes.Contains(mem.Region(i), p[:32]) {
			t.Fatal("the device's buffer still holds what was handed out")
		}
	}
}
