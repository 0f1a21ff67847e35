package vmxnet3

import (
	"encoding/binary"

	"osv/kernel/hw/mmio"
	"osv/kernel/pkt"
)

var le = binary.LittleEndian

// Offsets in the shared region of what the shared area points to.
const (
	rssOff    = 768
	tableOff  = 1024
	maxGroups = 512
	tableLen  = maxGroups * 6
)

// command gives the device a command, which it has done when the write returns.
func (d *Device) command(c uint32) { d.vd.Store32(regCMD, c) }

// ask gives the device a command that has an answer.
func (d *Device) ask(c uint32) uint32 {
	d.command(c)
	return d.vd.Load32(regCMD)
}

// start brings the device from any state to work.
func (d *Device) start() error {
	v := d.vd.Load32(regVRRS)
	if v == allOnes {
		return d.errorf("VRRS reads %#x: there is no device", v)
	}
	if v&revision1 == 0 {
		return d.errorf("the device offers revisions %#x, and not the first", v)
	}
	if u := d.vd.Load32(regUVRS); u&revision1 == 0 {
		return d.errorf("the device offers UPT versions %#x, and not the first", u)
	}
	rev := uint32(revision1)
	if d.cfg.LRO && v&revision2 != 0 {
		rev = revision2
	}
	d.vd.Store32(regVRRS, rev)
	d.vd.Store32(regUVRS, revision1)
	d.command(cmdReset)
	conf := d.ask(cmdGetConfIntr)
	d.active = conf>>2&3 == maskActive

	var mac [6]byte
	lo, hi := d.vd.Load32(regMACL), d.vd.Load32(regMACH)
	le.PutUint32(mac[:], lo)
	le.PutUint16(mac[4:], uint16(hi))
	if mac == [6]byte{} || mac[0]&1 != 0 {
		return d.errorf("the MAC address is %x", mac)
	}
	d.mode = modeUnicast | modeBroadcast | modeMulticast | modeAllMulticast

	n := 1
	if d.cfg.MSIX {
		n = min(len(d.lines)-2, MaxQueues)
	}
	for {
		err := d.allocate(n)
		if err == nil {
			d.setCaps(mac, n)
			err = d.activate()
		}
		if err == nil || n == 1 {
			return err
		}
		// A device may have fewer queues and does not say how many.
		d.faultf("with %d queues: %w", n, err)
		d.command(cmdReset)
		d.release()
		d.rx, d.tx, n = nil, nil, 1
	}
}

// allocate makes all shared memory for n queue pairs.
func (d *Device) allocate(n int) (err error) {
	if d.shared, err = d.mem.Alloc(tableOff+tableLen, 4096); err != nil {
		return err
	}
	if d.queues, err = d.mem.Alloc(2*n*queueDescBytes, queueDescAlign); err != nil {
		return err
	}
	d.rx, d.tx = make([]rxQueue, n), make([]txQueue, n)
	for i := range n {
		if err := d.rx[i].init(d, i); err != nil {
			return err
		}
		if err := d.tx[i].init(d, i); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) setCaps(mac [6]byte, n int) {
	on := !d.cfg.NoOffload
	d.caps = pkt.Caps{
		MAC: mac, MTU: d.cfg.MTU, RxQueues: n, TxQueues: n,
		TxCsum: on, RxCsum: on, TSO4: on, TSO6: on, LRO: d.rx[0].lro,
		TxScatter: min(40, (d.cfg.TxRing-1)/2),
	}
	if on {
		d.caps.GSOMax = etherLen + 65535
	}
}

// Interrupts, by index: events, receive queue i, transmit.
func (d *Device) rxIntr(i int) int {
	if d.cfg.MSIX {
		return 1 + i
	}
	return 0
}

func (d *Device) txIntr() int {
	if d.cfg.MSIX {
		return 1 + len(d.rx)
	}
	return 0
}

func (d *Device) intrs() int { return d.txIntr() + 1 }

func (d *Device) mask(intr int, masked uint32) {
	d.pt.Store32(regIMR+mmio.Off(intr*regStride), masked)
}

// fill writes the driver shared area and all queue descriptors.
func (d *Device) fill() {
	clear(d.shared.Bytes)
	clear(d.queues.Bytes)
	s, n := d.shared.Bytes, len(d.rx)
	le.PutUint32(s[dsMagic:], sharedMagic)
	le.PutUint32(s[dsVersion:], 1)
	le.PutUint32(s[dsGOS:], gosLinux64)
	le.PutUint32(s[dsRevisions:], revision1)
	le.PutUint32(s[dsUPTVersions:], revision1)
	le.PutUint64(s[dsDriverData:], uint64(d.shared.Bus))
	le.PutUint64(s[dsQueueDesc:], uint64(d.queues.Bus))
	le.PutUint32(s[dsQueueDescLen:], uint32(len(d.queues.Bytes)))
	le.PutUint32(s[dsMTU:], uint32(d.cfg.MTU))
	le.PutUint16(s[dsMaxRxSG:], uint16(d.rx[0].maxBufs))
	s[dsTxQueues], s[dsRxQueues] = byte(n), byte(n)
	if !d.active {
		s[dsAutoMask] = 1
	}
	s[dsIntrs] = byte(d.intrs())
	for i := range d.intrs() {
		s[dsModLevels+i] = modAdapt
	}
	for i := range 512 { // all VLANs pass
		s[dsVLANTable+i] = 0xFF
	}
	var feat uint64
	if d.caps.RxCsum {
		feat |= featRxCsum
	}
	if d.caps.LRO {
		feat |= featLRO
	}
	if n > 1 {
		feat |= featRSS
		d.fillRSS(s[rssOff:])
		le.PutUint32(s[dsRSSVersion:], 1)
		le.PutUint32(s[dsRSSLen:], rssBytes)
		le.PutUint64(s[dsRSSConf:], uint64(d.shared.Bus)+rssOff)
	}
	le.PutUint64(s[dsFeatures:], feat)
	d.fillFilter()
	for i := range n {
		d.tx[i].describe(d.queues.Bytes[i*queueDescBytes:])
		d.rx[i].describe(d.queues.Slice((n+i)*queueDescBytes, queueDescBytes))
	}
}

// rssKey is the key of the Toeplitz hash that its users publish.
var rssKey = [rssKeyBytes]byte{
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
}

func (d *Device) fillRSS(b []byte) {
	le.PutUint16(b, rssTypes)
	le.PutUint16(b[2:], rssToeplitz)
	le.PutUint16(b[4:], rssKeyBytes)
	le.PutUint16(b[6:], rssTable)
	copy(b[8:], rssKey[:])
	for i := range rssTable {
		b[8+rssKeyBytes+i] = byte(i % len(d.rx))
	}
}

// activate has the device work with what is allocated, which is empty.
func (d *Device) activate() error {
	d.fill()
	d.vd.Store32(regDSAL, uint32(d.shared.Bus))
	d.vd.Store32(regDSAH, uint32(d.shared.Bus>>32))
	d.vd.Store32(regMACL, le.Uint32(d.caps.MAC[:]))
	d.vd.Store32(regMACH, uint32(le.Uint16(d.caps.MAC[4:])))
	for i := range d.intrs() {
		d.mask(i, 1)
	}
	for i := range d.rx {
		if d.rx[i].refill(); d.rx[i].ring[0].posted == 0 {
			return d.errorf("queue %d: the pool has no buffer to start with", i)
		}
	}
	if err := d.ask(cmdActivate); err != 0 {
		return d.errorf("ACTIVATE_DEV with %d queues answers %#x", len(d.rx), err)
	}
	for i := range d.rx {
		d.rx[i].ringAll()
	}
	d.command(cmdUpdateRxMode)
	d.command(cmdUpdateMACFilters)
	d.command(cmdUpdateVLAN)
	d.readLink()
	d.mask(0, 0) // events
	return nil
}

// readLink asks for the state of the link. Caller holds mu, or is New.
func (d *Device) readLink() {
	v := d.ask(cmdGetLink)
	if v == allOnes {
		d.fail(d.errorf("GET_LINK answers %#x: the device is gone", v))
		return
	}
	d.speed = 0
	if v&linkUpBit != 0 {
		d.speed = int(v >> speedShift)
	}
	d.linkUp.Store(v&linkUpBit != 0 && d.Err() == nil)
}

// halt ends all that the device does with memory.
func (d *Device) halt() {
	for i := range d.intrs() {
		d.mask(i, 1)
	}
	d.command(cmdQuiesce)
	d.command(cmdReset)
}

// Reset brings the device back from any state, with the same configuration. What
// was received and not yet taken, and what was taken to be sent and is not
// reported as sent, is dropped; the latter is counted in TxErrors. It may be
// called at any time.
func (d *Device) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.restart()
}

// restart is Reset. Caller holds mu. Lock order: mu, gates, transmit queues.
func (d *Device) restart() error {
	if d.closing {
		return ErrClosed
	}
	if err := d.stopped(); err != nil {
		return err
	}
	for i := range d.rx {
		if !d.rx[i].gate.Hold() {
			for j := range i {
				d.rx[j].gate.Leave()
			}
			return ErrClosed
		}
	}
	for i := range d.tx {
		d.tx[i].mu.Lock()
	}
	d.resets.Add(1)
	d.halt()
	for i := range d.rx {
		d.rx[i].restart()
		d.tx[i].restart()
	}
	err := d.activate()
	for i := range d.rx {
		d.tx[i].mu.Unlock()
		d.rx[i].gate.Leave()
	}
	if err != nil {
		d.fail(err)
		return err
	}
	d.wakeAll() // whoever slept arms its interrupt anew
	return nil
}
