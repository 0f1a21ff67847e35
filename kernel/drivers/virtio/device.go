package virtio

import (
	"errors"
	"fmt"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
)

// ErrStuck is returned where a device does not finish its reset: its memory is
// still the device's and must not be used again.
var ErrStuck = errors.New("device does not finish its reset")

// ErrClosed is returned after the device was closed.
var ErrClosed = errors.New("virtio: device closed")

// Device is a virtio device that a driver has taken: Open, then Queue for each
// queue, then Start; Close at the end.
type Device struct {
	Transport Transport
	Features  Features // what both sides agreed on

	name   string
	mem    dma.Allocator
	queues []*Queue
}

// Open takes the device as far as FEATURES_OK, §3.1.1 steps 1 to 6. It accepts
// those of want that the device offers, and fails where one of need is missing.
// VERSION_1 and ACCESS_PLATFORM are seen to here. name goes into error texts.
func Open(t Transport, mem dma.Allocator, name string, want, need Features) (*Device, error) {
	d := &Device{Transport: t, name: name, mem: mem}
	if err := t.Reset(); err != nil { // step 1
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.SetStatus(StatusAcknowledge)                // step 2
	t.SetStatus(StatusAcknowledge | StatusDriver) // step 3
	if err := d.negotiate(want|need, need); err != nil {
		return nil, d.fail(err)
	}
	return d, nil
}

// Interrupt says what the interrupt of a line that all share is for. Without MSI-X
// it reads the ISR, which also quiets the device; with it, the one vector stands for
// the queues.
func (d *Device) Interrupt() (config, queues bool) {
	if d.Transport.MSIX() {
		return false, true
	}
	isr := d.Transport.AckInterrupt()
	return isr&ISRConfig != 0, isr&ISRQueue != 0
}

// negotiate is steps 4 to 6.
func (d *Device) negotiate(want, need Features) error {
	t := d.Transport
	offered := t.DeviceFeatures() // step 4
	if t.Legacy() {
		want &= 1<<32 - 1
	} else {
		// Without ACCESS_PLATFORM a device behind an IOMMU refuses FEATURES_OK;
		// with it the allocator's bus addresses are what it wants to see.
		want |= FeatureVersion1 | FeatureAccessPlatform
		need |= FeatureVersion1
	}
	if missing := need &^ offered; missing != 0 {
		return d.errorf("device offers features %#x, without %#x which the driver needs", uint64(offered), uint64(missing))
	}
	d.Features = offered & want
	t.SetDriverFeatures(d.Features)
	if t.Legacy() {
		return nil
	}
	t.SetStatus(StatusAcknowledge | StatusDriver | StatusFeaturesOK) // step 5
	if s := t.Status(); s&StatusFeaturesOK == 0 {                    // step 6
		return d.errorf("device refuses features %#x (of %#x offered): status %#x", uint64(d.Features), uint64(offered), uint8(s))
	}
	return nil
}

// Start is the end of step 7 and step 8: the device may work from here on.
func (d *Device) Start() error {
	s := StatusAcknowledge | StatusDriver | StatusDriverOK
	if !d.Transport.Legacy() {
		s |= StatusFeaturesOK
	}
	d.Transport.SetStatus(s)
	if err := d.Check(); err != nil {
		return d.fail(err)
	}
	return nil
}

// Check reads the status and returns an error where the device asks for a reset
// (§2.1.2) or has gone back to its initial state by itself.
func (d *Device) Check() error {
	s := d.Transport.Status()
	switch {
	case s&StatusNeedsReset != 0:
		return d.errorf("device needs a reset: status %#x", uint8(s))
	case s&StatusDriverOK == 0:
		return d.errorf("device was reset behind the driver's back: status %#x", uint8(s))
	}
	return nil
}

// Fail gives up on the device during initialisation: it sets FAILED, resets the
// device and frees its rings. It returns err.
func (d *Device) Fail(err error) error {
	d.fail(err)
	return errors.Join(err, d.Close())
}

func (d *Device) fail(err error) error {
	d.Transport.SetStatus(d.Transport.Status() | StatusFailed)
	return err
}

// Close resets the device and frees the rings. The driver has made sure that
// nobody uses the queues any more; buffers still in them are the driver's again.
// Where the reset fails the rings are leaked, since the device may still write.
func (d *Device) Close() error {
	if err := d.Transport.Reset(); err != nil {
		return fmt.Errorf("%s: %w; its rings are leaked", d.name, err)
	}
	for _, q := range d.queues {
		q.free(d.mem)
	}
	d.queues = nil
	return nil
}

// Name is the driver's name for error texts.
func (d *Device) Name() string { return d.name }

// Errorf makes an ErrDevice about the whole device.
func (d *Device) Errorf(format string, a ...any) error { return d.errorf(format, a...) }

func (d *Device) errorf(format string, a ...any) error {
	return &ErrDevice{Driver: d.name, Queue: -1, Msg: fmt.Sprintf(format, a...)}
}

// configTries bounds the generation loop: a device that changes its
// configuration this often in a row is not sane.
const configTries = 64

// ReadConfig reads device configuration until it is consistent: until the
// generation is the same before and after (§2.5.1), or on legacy transports,
// which have none, until two readings agree.
func ReadConfig[T comparable](d *Device, read func(*ConfigReader) T) (T, error) {
	t := d.Transport
	r := &ConfigReader{space: t.Config()}
	var last, v T
	for try := range configTries {
		gen := t.Generation()
		v = read(r)
		if r.beyond != 0 {
			return v, d.errorf("device configuration of %d bytes lacks the field that ends at %d", r.length(), r.beyond)
		}
		if t.Legacy() {
			if try > 0 && v == last {
				return v, nil
			}
			last = v
		} else if t.Generation() == gen {
			return v, nil
		}
	}
	return v, d.errorf("device configuration changed during each of %d readings", configTries)
}

// ConfigReader reads fields of the device configuration. A field that the window
// does not hold reads as 0 and makes ReadConfig fail.
type ConfigReader struct {
	space  mmio.Space
	beyond uint32
}

func (r *ConfigReader) length() uint32 {
	if r.space == nil {
		return 0
	}
	return r.space.Len()
}

func (r *ConfigReader) has(off mmio.Off, n uint32) bool {
	if end := uint32(off) + n; end > r.length() {
		r.beyond = max(r.beyond, end)
		return false
	}
	return true
}

// U8 reads the 8-bit field at off; U16, U32 and U64 likewise. A 64-bit field is
// read as two 32-bit ones, §4.1.3.1.
func (r *ConfigReader) U8(off mmio.Off) uint8 {
	if !r.has(off, 1) {
		return 0
	}
	return r.space.Load8(off)
}

// U16 reads the 16-bit field at off.
func (r *ConfigReader) U16(off mmio.Off) uint16 {
	if !r.has(off, 2) {
		return 0
	}
	return r.space.Load16(off)
}

// U32 reads the 32-bit field at off.
func (r *ConfigReader) U32(off mmio.Off) uint32 {
	if !r.has(off, 4) {
		return 0
	}
	return r.space.Load32(off)
}

// U64 reads the 64-bit field at off.
func (r *ConfigReader) U64(off mmio.Off) uint64 {
	return uint64(r.U32(off)) | uint64(r.U32(off+4))<<32
}

// How long waitReset waits: first without a pause, since most devices are done
// at once, then in steps.
const (
	resetSpins = 64
	resetStep  = time.Millisecond
	resetSteps = 2000
)

// waitReset waits until status reads 0 after a reset, §4.1.4.3.2 and §4.2.2.
func waitReset(status func() uint32) error {
	var s uint32
	for i := range resetSpins + resetSteps {
		if s = status(); s == 0 {
			return nil
		}
		if i >= resetSpins {
			time.Sleep(resetStep)
		}
	}
	return fmt.Errorf("%w: status %#x after %v", ErrStuck, s, resetSteps*resetStep)
}
