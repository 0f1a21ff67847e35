package vhost

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"osv/harness/vm"
)

// Feature bits, VIRTIO 1.2 §5.1.3 and §6, and vhost-user's own.
const (
	featCsum       = 1 << 0 // the guest may leave transport checksums to us
	featGuestCsum  = 1 << 1 // the guest takes frames whose checksum we vouch for
	featMrgRxbuf   = 1 << 15
	featMQ         = 1 << 22
	featIndirect   = 1 << 28
	featEventIdx   = 1 << 29
	featProtocol   = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES
	featVersion1   = 1 << 32
	protocolMQ     = 1 << 0
	protocolReply  = 1 << 3
	maxQueuePairs  = 8
	kickIndexMask  = 0xff
	kickNoFD       = 1 << 8
	offeredAlways  = featMrgRxbuf | featIndirect | featEventIdx | featProtocol | featVersion1
	offeredOffload = featCsum | featGuestCsum
)

// Options of a Device.
type Options struct {
	Queues int // queue pairs; 0 = 1
	// NoOffloads makes the guest compute and verify every checksum itself.
	NoOffloads bool
}

// Device is a vhost-user network card's back end.
type Device struct {
	opt    Options
	name   string // of the listening socket, in the abstract namespace
	listen int    // listening socket
	ports  []*Port
	done   chan struct{} // closed when the control goroutine has ended

	mu       sync.Mutex
	fd       int           // control socket, -1 until QEMU connects
	closed   bool          // Close was called
	changed  chan struct{} // closed and replaced when rings start or stop
	features uint64
	protocol uint64
	mem      *memory
	vrings   []vring
	err      error
}

// vring is what control knows of one queue.
type vring struct {
	num      int
	base     uint16
	addr     vringAddr
	haveAddr bool
	kick     int // eventfd the guest's doorbell ends in, -1 = none
	call     int // eventfd that interrupts the guest, -1 = none
	started  bool
	enabled  bool
	ring     *ring // not nil when started and all is known
}

// New makes a back end and starts to serve its control socket. The socket has a
// random name in the abstract namespace: no file to remove, and gone with this
// process. A stranger who connects is turned away by his user id.
func New(o Options) (*Device, error) {
	o.Queues = max(o.Queues, 1)
	if o.Queues > maxQueuePairs {
		return nil, fmt.Errorf("vhost-user: %d queue pairs, %d at most", o.Queues, maxQueuePairs)
	}
	d := &Device{
		opt: o, name: "osv-vhost-" + rand.Text(), fd: -1,
		changed: make(chan struct{}), done: make(chan struct{}), vrings: make([]vring, 2*o.Queues),
	}
	for i := range d.vrings {
		d.vrings[i].kick, d.vrings[i].call = -1, -1
	}
	var err error
	if d.listen, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("vhost-user: control socket: %w", err)
	}
	if err = unix.Bind(d.listen, &unix.SockaddrUnix{Name: "@" + d.name}); err == nil {
		err = unix.Listen(d.listen, 4)
	}
	for range o.Queues {
		if err != nil {
			break
		}
		var p *Port
		if p, err = newPort(); err == nil {
			d.ports = append(d.ports, p)
		}
	}
	if err != nil {
		d.closePorts()
		unix.Close(d.listen)
		return nil, fmt.Errorf("vhost-user: %w", err)
	}
	go d.serve()
	return d, nil
}

// NIC is the card for vm.Spec. QEMU must run in this process's own network
// namespace, to which abstract names belong.
func (d *Device) NIC(mac string, accel vm.Accel) vm.NIC {
	return vm.NIC{Kind: vm.NetVHostUser, Socket: "@" + d.name, MAC: mac, Queues: d.opt.Queues, NoMSIX: accel != vm.KVM}
}

// Port is queue pair q. It belongs to one goroutine at a time.
func (d *Device) Port(q int) *Port { return d.ports[q] }

// Features are the feature bits that the guest's driver has accepted.
func (d *Device) Features() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.features
}

// WaitReady waits until the guest's driver has started the rings of every queue
// pair that it uses, and at least of the first.
func (d *Device) WaitReady(ctx context.Context) error {
	for {
		d.mu.Lock()
		ready, changed := d.vrings[0].usable() && d.vrings[1].usable(), d.changed
		d.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-d.done:
			return d.failure()
		case <-ctx.Done():
			return fmt.Errorf("vhost-user: the guest's driver has not started the rings: %w", context.Cause(ctx))
		}
	}
}

func (v *vring) usable() bool { return v.ring != nil && v.enabled }

// Close ends the connection; QEMU takes that as a loss of the network.
func (d *Device) Close() error {
	d.mu.Lock()
	d.closed = true
	fd := d.fd
	if fd < 0 {
		fd = d.listen
	}
	select {
	case <-d.done: // the descriptors are closed
	default:
		unix.Shutdown(fd, unix.SHUT_RDWR) //nolint:errcheck // QEMU may have done so already
	}
	d.mu.Unlock()
	<-d.done
	return nil
}

// failure is why the connection ended.
func (d *Device) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// errGone: QEMU or Close ended the connection.
var errGone = errors.New("vhost-user: connection closed")

// accept waits for QEMU, which runs as this user.
func (d *Device) accept() error {
	for {
		fd, _, err := unix.Accept4(d.listen, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return errGone // Close shut the socket down
		}
		if c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || int(c.Uid) != unix.Getuid() {
			unix.Close(fd)
			continue
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.closed {
			unix.Close(fd)
			return errGone
		}
		d.fd = fd
		return nil
	}
}

// serve runs the control goroutine: one connection, to its end.
func (d *Device) serve() {
	var buf [headerBytes + maxPayload]byte
	err := d.accept()
	for err == nil {
		var m *message
		if m, err = readMessage(d.fd, &buf); err != nil {
			break
		}
		if herr := d.handle(m); herr != nil {
			err = fmt.Errorf("vhost-user: %v: %w", m.req, herr)
		}
		m.closeFDs() // those that were not taken
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		err = errGone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
	d.change(func() {
		for i := range d.vrings {
			d.vrings[i].reset()
		}
		d.mem.unmap()
		d.mem = nil
	})
	d.closePorts()
	unix.Close(d.listen)
	closeFD(&d.fd)
	close(d.done)
}

func (d *Device) closePorts() {
	for _, p := range d.ports {
		p.destroy()
	}
}

// change shuts all ports out, runs f, gives the ports their rings anew and lets
// them in. Caller must hold mu.
func (d *Device) change(f func()) {
	for _, p := range d.ports {
		p.gate.close(p.interrupt)
	}
	f()
	for q, p := range d.ports {
		p.setRings(d.mem, &d.vrings[2*q], &d.vrings[2*q+1], d.features)
		p.failed = d.err
		p.gate.open()
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// handle does what one message asks.
func (d *Device) handle(m *message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	replied, err := d.dispatch(m)
	if err != nil {
		return err
	}
	if !replied && m.flags&flagNeedReply != 0 && d.protocol&protocolReply != 0 {
		return reply(d.fd, m.req, make([]byte, 8)) // 0 = done
	}
	return nil
}

func (d *Device) offered() uint64 {
	f := uint64(offeredAlways)
	if !d.opt.NoOffloads {
		f |= offeredOffload
	}
	if d.opt.Queues > 1 {
		f |= featMQ
	}
	return f
}

func (d *Device) dispatch(m *message) (replied bool, err error) {
	answer := func(v uint64) (bool, error) {
		return true, reply(d.fd, m.req, binary.LittleEndian.AppendUint64(nil, v))
	}
	switch m.req {
	case reqGetFeatures:
		return answer(d.offered())
	case reqGetProtocolFeatures:
		return answer(protocolMQ | protocolReply)
	case reqGetQueueNum:
		return answer(uint64(d.opt.Queues))
	case reqSetOwner, reqSetVringErr, reqSendRARP:
		return false, nil // nothing to do
	case reqResetOwner:
		d.change(func() {
			for i := range d.vrings {
				d.vrings[i].reset()
			}
		})
		return false, nil
	case reqSetProtocolFeatures:
		d.protocol, err = m.u64()
		return false, err
	case reqSetFeatures:
		f, err := m.u64()
		if err == nil && f&^d.offered() != 0 {
			err = fmt.Errorf("features %#x were not offered", f&^d.offered())
		}
		if err == nil {
			d.change(func() { d.features = f; d.restartAll() })
		}
		return false, err
	case reqSetMemTable:
		return false, d.setMemTable(m)
	case reqGetVringBase:
		v, err := d.vringOf(m)
		if err != nil {
			return false, err
		}
		d.change(func() { v.stop() })
		b := append([]byte(nil), m.payload...)
		binary.LittleEndian.PutUint32(b[4:], uint32(v.base))
		return true, reply(d.fd, m.req, b)
	case reqSetVringNum, reqSetVringBase, reqSetVringEnable:
		v, err := d.vringOf(m)
		if err != nil {
			return false, err
		}
		_, n, _ := m.vringState() // checked by vringOf
		return false, d.setVring(m.req, v, n)
	case reqSetVringAddr:
		a, err := m.vringAddr()
		if err != nil {
			return false, err
		}
		if int(a.index) >= len(d.vrings) {
			return false, fmt.Errorf("queue %d of %d", a.index, len(d.vrings))
		}
		v := &d.vrings[a.index]
		d.change(func() { v.save(); v.addr, v.haveAddr = a, true; d.start(v) })
		return false, nil
	case reqSetVringKick, reqSetVringCall:
		return false, d.setVringFD(m)
	}
	return false, errors.New("not supported")
}

// vringOf is the queue that a vring state message is about.
func (d *Device) vringOf(m *message) (*vring, error) {
	i, _, err := m.vringState()
	if err != nil {
		return nil, err
	}
	if int(i) >= len(d.vrings) {
		return nil, fmt.Errorf("queue %d of %d", i, len(d.vrings))
	}
	return &d.vrings[i], nil
}

func (d *Device) setVring(req request, v *vring, n uint32) error {
	switch req {
	case reqSetVringNum:
		if n < 1 || n > maxRing || n&(n-1) != 0 {
			return fmt.Errorf("queue size %d", n)
		}
		d.change(func() { v.save(); v.num = int(n); d.start(v) })
	case reqSetVringBase:
		if n > 0xffff {
			return fmt.Errorf("base %d", n)
		}
		d.change(func() { v.ring = nil; v.base = uint16(n); d.start(v) })
	case reqSetVringEnable:
		d.change(func() { v.enabled = n != 0 })
	}
	return nil
}

func (d *Device) setMemTable(m *message) error {
	rs, err := m.regions()
	if err != nil {
		return err
	}
	mem, err := mapMemory(rs, m.fds)
	if err != nil {
		return err
	}
	d.change(func() {
		for i := range d.vrings {
			d.vrings[i].save()
		}
		d.mem.unmap()
		d.mem = mem
		d.restartAll()
	})
	return nil
}

func (d *Device) setVringFD(m *message) error {
	u, err := m.u64()
	if err != nil {
		return err
	}
	i := int(u & kickIndexMask)
	if i >= len(d.vrings) {
		return fmt.Errorf("queue %d of %d", i, len(d.vrings))
	}
	fd := -1
	if u&kickNoFD == 0 {
		if len(m.fds) != 1 {
			return fmt.Errorf("%d file descriptors, want 1", len(m.fds))
		}
		fd, m.fds = m.fds[0], nil
		unix.SetNonblock(fd, true) //nolint:errcheck // an eventfd takes it
	}
	v := &d.vrings[i]
	d.change(func() {
		if m.req == reqSetVringCall {
			closeFD(&v.call)
			v.call = fd
			return
		}
		closeFD(&v.kick)
		v.kick = fd
		v.started = true
		if d.features&featProtocol == 0 {
			v.enabled = true // as if SET_VRING_ENABLE had come
		}
		d.start(v)
	})
	return nil
}

// start makes the ring of v where all is known. A ring that QEMU described
// wrongly stays stopped. Caller must hold mu, within change.
func (d *Device) start(v *vring) {
	if v.ring != nil || !v.started || !v.haveAddr || v.num == 0 || d.mem == nil {
		return
	}
	if r, err := newRing(d.mem, v.num, v.addr, v.base, d.features&featEventIdx != 0); err == nil {
		v.ring = r
	}
}

func (d *Device) restartAll() {
	for i := range d.vrings {
		d.vrings[i].save()
		d.start(&d.vrings[i])
	}
}

// save takes the ring apart, keeping its place.
func (v *vring) save() {
	if v.ring != nil {
		v.base, v.ring = v.ring.lastAvail, nil
	}
}

func (v *vring) stop() {
	v.save()
	v.started = false
	closeFD(&v.kick)
}

func (v *vring) reset() {
	v.stop()
	closeFD(&v.call)
	*v = vring{kick: -1, call: -1}
}

func closeFD(fd *int) {
	if *fd >= 0 {
		unix.Close(*fd)
	}
	*fd = -1
}
