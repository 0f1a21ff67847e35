// Package virtiorng drives a virtio entropy device (device ID 4), which seeds the
// runtime and crypto/rand.
//
// Spec: VIRTIO 1.2 (OASIS, 2022-07-01) §5.4, on the transports and queues of
// drivers/virtio.
//
// QEMU: -device virtio-rng-pci
//
// Memory: the ring and one buffer come from the dma.Allocator. Bytes are wiped
// from the buffer once they were handed out.
//
// Concurrency: any goroutine may Read; calls take turns. Whoever reads waits for
// the interrupt itself, or polls where there is none (at boot, before interrupts).
//
// Start reading at New, then Read. Tests play the device with ktest/fakedev.RNG.
package virtiorng

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
)

const (
	driverName = "virtio-rng"
	bufBytes   = 256
)

// A device without an interrupt is asked this often. Hosts give what they have
// within microseconds; one that has run out of entropy may take long.
const (
	pollSpins = 256
	pollStep  = 100 * time.Microsecond
	pollSteps = 100_000 // 10 s
)

// Device is a virtio entropy device; it is an io.Reader.
type Device struct {
	dev  *virtio.Device
	mem  dma.Allocator
	line irq.Line // nil: poll

	closing atomic.Bool // a Read that polls gives up

	mu  sync.Mutex // guards all below
	vq  *virtio.Queue
	buf dma.Region
	err error // why nothing goes on any more
}

var _ io.Reader = (*Device)(nil)

// New takes the device behind t. line is its interrupt (with MSI-X, of table entry
// 0), and is closed by Close; nil makes Read poll.
func New(t virtio.Transport, mem dma.Allocator, line irq.Line) (*Device, error) {
	if id := t.DeviceID(); id != virtio.IDEntropy {
		return nil, fmt.Errorf("%s: device is of type %d", driverName, id)
	}
	dev, err := virtio.Open(t, mem, driverName, virtio.FeatureEventIdx, 0)
	if err != nil {
		return nil, err
	}
	d := &Device{dev: dev, mem: mem, line: line}
	if err := d.setup(); err != nil {
		if err = dev.Fail(err); !errors.Is(err, virtio.ErrStuck) {
			d.free()
		}
		return nil, err
	}
	return d, nil
}

func (d *Device) setup() (err error) {
	vector := uint16(0)
	if d.line == nil {
		vector = virtio.NoVector
	}
	if d.vq, err = d.dev.Queue(0, virtio.QueueOptions{MaxSize: 8, Vector: vector}); err != nil {
		return err
	}
	if d.buf, err = d.mem.Alloc(bufBytes, 64); err != nil {
		return fmt.Errorf("%s: %w", driverName, err)
	}
	// The same entry for configuration changes: they tell of a device in trouble.
	if err := d.dev.Transport.SetConfigVector(vector); err != nil {
		return d.dev.Errorf("%v", err)
	}
	return d.dev.Start()
}

func (d *Device) free() {
	if d.buf.Bytes != nil {
		d.mem.Free(d.buf)
		d.buf = dma.Region{}
	}
}

// Read fills all of p with random bytes from the device, unless there is an error.
func (d *Device) Read(p []byte) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n < len(p) {
		if d.err != nil {
			return n, d.err
		}
		k, err := d.fill(min(len(p)-n, bufBytes))
		if err != nil {
			d.err = err
			return n, err
		}
		copy(p[n:], d.buf.Bytes[:k])
		clear(d.buf.Bytes[:k])
		n += k
	}
	return n, nil
}

// fill has the device write up to want bytes into buf and returns how many. Caller
// must hold mu.
func (d *Device) fill(want int) (int, error) {
	if _, ok := d.vq.PostWrite(d.buf.Bus, uint32(want)); !ok {
		return 0, d.dev.Errorf("queue is full")
	}
	d.vq.Publish()
	for i := 0; ; i++ {
		if _, k, ok := d.vq.Reap(); ok {
			d.vq.Disarm()
			if k == 0 { // §5.4.6.2: at least one byte
				return 0, d.dev.Errorf("device gives back a buffer with nothing in it")
			}
			return int(k), nil
		}
		if err := d.vq.Err(); err != nil {
			return 0, err
		}
		if err := d.pause(i); err != nil {
			return 0, err
		}
	}
}

// pause waits for the device, the i-th time for one buffer.
func (d *Device) pause(i int) error {
	if d.closing.Load() {
		return virtio.ErrClosed
	}
	if d.line != nil {
		if !d.vq.Arm() {
			return nil
		}
		if err := d.line.Wait(); err != nil {
			return virtio.ErrClosed
		}
		if !d.dev.Transport.MSIX() {
			d.dev.Transport.AckInterrupt()
		}
		if d.vq.Pending() {
			return nil
		}
		return d.dev.Check() // no buffer: is the device in trouble?
	}
	switch {
	case i < pollSpins:
		runtime.Gosched()
	case i < pollSpins+pollSteps:
		time.Sleep(pollStep)
	default:
		return d.dev.Errorf("device gives no bytes for %v", pollSteps*pollStep)
	}
	return nil
}

// Close resets the device; a Read under way returns virtio.ErrClosed.
func (d *Device) Close() error {
	var errs []error
	d.closing.Store(true)
	if d.line != nil {
		errs = append(errs, d.line.Close()) // wakes a Read, which holds mu
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.buf.Bytes == nil {
		return nil
	}
	d.err = virtio.ErrClosed
	if err := d.dev.Close(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	d.free()
	return errors.Join(errs...)
}
