// Package vhost is a vhost-user network back end in this process: QEMU hands over
// the guest's memory and rings, and the load generator puts frames into them and
// takes frames out itself. QEMU's main loop is out of the data path (interrupts
// still pass through it), no interface and no privilege is needed, and either
// guest can be offered packet rates far above a TAP's.
//
// Spec: Vhost-user Protocol (QEMU docs/interop/vhost-user.rst, 7.2); VIRTIO 1.2
// §2.7 split virtqueues, §5.1.6 network device operation. Offered: VERSION_1,
// EVENT_IDX, INDIRECT_DESC, MRG_RXBUF, CSUM and GUEST_CSUM, MQ; the protocol
// features MQ and REPLY_ACK. Not offered: segmentation offloads (a frame is a
// frame), migration, packed rings.
//
// QEMU: memory-backend-memfd,share=on; netdev vhost-user; under TCG the card must
// have vectors=0, since QEMU 7.2 crashes with MSI-X there. Device.NIC says so.
//
// Memory: everything read from guest memory is a value chosen by the guest.
// Indices are masked, lengths and addresses checked against the mapped regions,
// chains bounded by the ring's size. Frames are copied out and in, so no slice of
// guest memory leaves this package.
//
// Concurrency: one goroutine serves the control socket; each Port belongs to the
// caller's goroutine. They meet in gate (gate.go): a port's batch runs inside it,
// a change of memory or rings waits for it to be empty. The data path takes no
// lock and allocates nothing.
//
// Who may use it: the bench and tests. Start reading at device.go (what QEMU
// says), then port.go (frames), ring.go, mem_unsafe.go.
package vhost
