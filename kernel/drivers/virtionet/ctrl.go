package virtionet

import (
	"encoding/binary"
	"runtime"
	"sync"
	"time"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
)

// Control commands, §5.1.6.5: class and command.
const (
	ctrlRx         = 0
	ctrlRxPromisc  = 0
	ctrlRxAllMulti = 1

	ctrlMAC     = 1
	ctrlMACAddr = 1 // VIRTIO_NET_CTRL_MAC_ADDR_SET

	ctrlMQ         = 4
	ctrlMQPairsSet = 0

	ctrlOffloads    = 5 // VIRTIO_NET_CTRL_GUEST_OFFLOADS
	ctrlOffloadsSet = 0
)

const ctrlOK = 0 // VIRTIO_NET_OK

// ctrlQueue sends commands, one at a time. Its memory holds the command at 0 and
// the device's answer, one byte, at ctrlAck.
type ctrlQueue struct {
	mu  sync.Mutex // guards all below
	dev *virtio.Device
	vq  *virtio.Queue
	mem dma.Allocator
	buf dma.Region
	// dead: closed, or a command was never answered, so that buf is the device's.
	dead error
}

const (
	ctrlBytes = 64
	ctrlAck   = 32
)

// The device answers while the doorbell's write is being carried out, or soon
// after; a host under load may take a while.
const (
	ctrlSpins = 128
	ctrlStep  = 100 * time.Microsecond
	ctrlSteps = 50_000 // 5 s
)

func newCtrlQueue(dev *virtio.Device, mem dma.Allocator, index int) (*ctrlQueue, error) {
	vq, err := dev.Queue(index, virtio.QueueOptions{MaxSize: 64, Vector: virtio.NoVector})
	if err != nil {
		return nil, err
	}
	c := &ctrlQueue{dev: dev, vq: vq, mem: mem}
	if c.buf, err = mem.Alloc(ctrlBytes, ctrlBytes); err != nil {
		return nil, dev.Errorf("control queue: %v", err)
	}
	return c, nil
}

// do sends a command and waits for the answer.
func (c *ctrlQueue) do(class, cmd byte, data ...byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return c.dead
	}
	b := c.buf.Bytes
	b[0], b[1] = class, cmd
	n := 2 + copy(b[2:ctrlAck], data)
	b[ctrlAck] = ^byte(ctrlOK)
	segs := [2]virtio.Seg{{Addr: c.buf.Bus, Len: uint32(n)}, {Addr: c.buf.Bus + ctrlAck, Len: 1}}
	if _, ok := c.vq.Post(segs[:], 1); !ok {
		return c.dev.Errorf("control queue is full")
	}
	c.vq.Publish()
	for i := 0; ; i++ {
		if _, _, ok := c.vq.Reap(); ok {
			break
		}
		if err := c.vq.Err(); err != nil {
			c.dead = err
			return err
		}
		switch {
		case i < ctrlSpins:
			runtime.Gosched()
		case i < ctrlSpins+ctrlSteps:
			time.Sleep(ctrlStep)
		default:
			c.dead = c.dev.Errorf("control command %d.%d is not answered after %v", class, cmd, ctrlSteps*ctrlStep)
			return c.dead
		}
	}
	if a := b[ctrlAck]; a != ctrlOK {
		return c.dev.Errorf("device refuses control command %d.%d: %d", class, cmd, a)
	}
	return nil
}

// setPairs is VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, §5.1.6.5.5.
func (c *ctrlQueue) setPairs(n int) error {
	var b [2]byte
	binary.LittleEndian.PutUint16(b[:], uint16(n))
	return c.do(ctrlMQ, ctrlMQPairsSet, b[:]...)
}

func (c *ctrlQueue) shut() {
	c.mu.Lock()
	if c.dead == nil {
		c.dead = virtio.ErrClosed
	}
	c.mu.Unlock()
}

func (c *ctrlQueue) release() { c.mem.Free(c.buf) }

// SetPromiscuous asks the device to hand up frames for any address, or stop.
func (d *Device) SetPromiscuous(on bool) error { return d.rxMode(ctrlRxPromisc, on) }

// SetAllMulticast asks the device to hand up frames for any group address.
func (d *Device) SetAllMulticast(on bool) error { return d.rxMode(ctrlRxAllMulti, on) }

func (d *Device) rxMode(cmd byte, on bool) error {
	if !d.dev.Features.Has(featCtrlRx) {
		return d.dev.Errorf("device has no control of receive modes")
	}
	var b byte
	if on {
		b = 1
	}
	return d.ctrl.do(ctrlRx, cmd, b)
}

// SetLRO has the device merge received TCP segments, or stop (§5.1.6.5.6), where
// Config.LRO had it agree to that at all. Frames on their way may still be as
// before.
func (d *Device) SetLRO(on bool) error {
	f := d.dev.Features
	if !f.Has(featOffloads) {
		return d.dev.Errorf("device's receive offloads cannot be changed")
	}
	set := f & featGuestCsum
	if on {
		set = f & (featGuestCsum | featGuestTSO4 | featGuestTSO6 | featGuestECN)
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(set)) // the bits are those of the features
	return d.ctrl.do(ctrlOffloads, ctrlOffloadsSet, b[:]...)
}

// SetMAC changes the device's address, §5.1.6.5.2. Caps keeps telling the address
// that the device came up with.
func (d *Device) SetMAC(mac [6]byte) error {
	if !d.dev.Features.Has(featCtrlMAC) {
		return d.dev.Errorf("device's address cannot be changed")
	}
	return d.ctrl.do(ctrlMAC, ctrlMACAddr, mac[:]...)
}
