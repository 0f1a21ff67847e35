package fakedev

import (
	"encoding/binary"
	"fmt"
)

// Feature bits of the network device, §5.1.3.
const (
	NetCsum      uint64 = 1 << 0
	NetGuestCsum uint64 = 1 << 1
	NetOffloads  uint64 = 1 << 2 // CTRL_GUEST_OFFLOADS
	NetMTU       uint64 = 1 << 3
	NetMAC       uint64 = 1 << 5
	NetGuestTSO4 uint64 = 1 << 7
	NetGuestTSO6 uint64 = 1 << 8
	NetGuestECN  uint64 = 1 << 9
	NetHostTSO4  uint64 = 1 << 11
	NetHostTSO6  uint64 = 1 << 12
	NetMrgRxbuf  uint64 = 1 << 15
	NetStatus    uint64 = 1 << 16
	NetCtrlVQ    uint64 = 1 << 17
	NetCtrlRx    uint64 = 1 << 18
	NetMQ        uint64 = 1 << 22
	NetCtrlMAC   uint64 = 1 << 23
)

// NetAll is what a capable device offers: QEMU's virtio-net-pci with mq=on.
const NetAll = NetCsum | NetGuestCsum | NetOffloads | NetMTU | NetMAC | NetGuestTSO4 | NetGuestTSO6 | NetGuestECN | NetHostTSO4 | NetHostTSO6 |
	NetMrgRxbuf | NetStatus | NetCtrlVQ | NetCtrlRx | NetMQ | NetCtrlMAC |
	FeatureIndirectDesc | FeatureEventIdx | FeatureVersion1

// NetHdr is struct virtio_net_hdr, §5.1.6.
type NetHdr struct {
	Flags, GSO                           uint8
	HdrLen, GSOSize, CsumStart, CsumOffs uint16
	NumBuffers                           uint16 // set by the NIC where it may be
}

// Frame is a frame with its header.
type Frame struct {
	Hdr  NetHdr
	Data []byte
	Segs int // descriptors the driver used, header included
}

// NIC plays a network device.
type NIC struct {
	Device
	Sent [][]Frame // by transmit queue: frames the driver sent, oldest first

	// Lies. Each is used up by one received frame.
	ShortFrame   bool  // a used length below the header's
	LongFrame    bool  // a used length beyond the buffer
	BadNum       int   // this num_buffers instead of the true one (-1: 0)
	Gap          int   // this buffer of the frame (1 is the first) is not full, though others follow
	EmptyLast    bool  // the frame takes one buffer more than it needs, with nothing in it
	CtrlAck      uint8 // the control queue's answer; 0 is OK
	CtrlHang     bool  // control commands are never used
	SplitFlush   bool  // the used index moves after each buffer of a frame, a step apart
	HoldTx       bool  // transmit chains are popped but not given back
	Commands     []Command
	Pairs        int // set by VQ_PAIRS_SET
	backlog      [][]Frame
	held         [][]uint16
	splitPending []split
}

// Command is a control command as the driver sent it.
type Command struct {
	Class, Cmd uint8
	Data       []byte
}

type split struct {
	q    int
	head uint16
	n    int
}

// NewNIC makes a card with that many queue pairs of at most max descriptors.
func NewNIC(mem *Mem, features uint64, pairs, max int) *NIC {
	n := &NIC{}
	n.ID, n.Mem, n.Offered = 1, mem, features
	nq := 2 * pairs
	if features&NetCtrlVQ != 0 {
		nq++
	}
	n.Init(nq, max)
	n.Conf = make([]byte, 12)
	copy(n.Conf, []byte{0x52, 0x54, 0, 0x12, 0x34, 0x56})
	n.Conf[6] = 1 // VIRTIO_NET_S_LINK_UP
	binary.LittleEndian.PutUint16(n.Conf[8:], uint16(pairs))
	binary.LittleEndian.PutUint16(n.Conf[10:], 1500)
	n.Sent = make([][]Frame, pairs)
	n.backlog = make([][]Frame, pairs)
	n.held = make([][]uint16, pairs)
	n.onReset = func() {
		n.Pairs = 1
		n.splitPending = nil
		clear(n.held)
	}
	n.Pairs = 1
	n.onNotify = func(i int) {
		// Like QEMU, control commands are answered within the doorbell's write.
		if q := n.CtrlQueue(); q != nil && q.Index == i {
			n.StepCtrl()
		}
	}
	return n
}

// RxQueue and TxQueue are the queues of pair i; CtrlQueue the control queue.
func (n *NIC) RxQueue(i int) *Queue { return n.Queues[2*i] }

// TxQueue is the transmit queue of pair i.
func (n *NIC) TxQueue(i int) *Queue { return n.Queues[2*i+1] }

// CtrlQueue comes after all pairs the device has, used or not, §5.1.2.
func (n *NIC) CtrlQueue() *Queue {
	if n.features&NetCtrlVQ == 0 {
		return nil
	}
	if n.features&NetMQ == 0 {
		return n.Queues[2]
	}
	return n.Queues[len(n.Queues)-1]
}

// HdrLen is 12 where the header has num_buffers, else 10 (§5.1.6.1).
func (n *NIC) HdrLen() int {
	if n.features&(FeatureVersion1|NetMrgRxbuf) != 0 {
		return 12
	}
	return 10
}

// Deliver queues a frame for receive queue i; Step moves it into the guest.
func (n *NIC) Deliver(i int, f Frame) { n.backlog[i] = append(n.backlog[i], f) }

// Backlog is the number of frames not yet in the guest.
func (n *NIC) Backlog(i int) int { return len(n.backlog[i]) }

// SetLink changes the carrier and tells the driver.
func (n *NIC) SetLink(up bool) {
	var b byte
	if up {
		b = 1
	}
	n.SetConf(6, b)
	n.ConfigChanged()
}

// Step does all that the card can do now and returns the number of frames and
// commands it moved.
func (n *NIC) Step() int {
	moved := n.StepCtrl()
	for i := range n.Sent {
		moved += n.StepTx(i) + n.StepRx(i)
	}
	return moved
}

// StepTx takes what the driver sent on pair i.
func (n *NIC) StepTx(i int) (moved int) {
	q := n.TxQueue(i)
	for {
		c, ok := q.Pop()
		if !ok {
			break
		}
		moved++
		n.Sent[i] = append(n.Sent[i], n.parseTx(c))
		if n.HoldTx {
			n.held[i] = append(n.held[i], c.Head)
			continue
		}
		q.Push(c.Head, 0)
	}
	if moved > 0 {
		q.Flush()
	}
	return moved
}

// ReleaseTx gives back up to k held transmit chains of pair i.
func (n *NIC) ReleaseTx(i, k int) {
	k = min(k, len(n.held[i]))
	for _, h := range n.held[i][:k] {
		n.TxQueue(i).Push(h, 0)
	}
	n.held[i] = n.held[i][k:]
	n.TxQueue(i).Flush()
}

func (n *NIC) parseTx(c Chain) Frame {
	total, hl := c.Readable(), n.HdrLen()
	if c.Writable() != 0 || total < hl {
		panic(fmt.Sprintf("fakedev: transmit chain of %d readable and %d writable bytes", total, c.Writable()))
	}
	if n.features&(FeatureVersion1|1<<27) == 0 && len(c.Segs[0].Bytes) != hl {
		panic(fmt.Sprintf("fakedev: without ANY_LAYOUT the header needs a descriptor of its own, not %d bytes", len(c.Segs[0].Bytes)))
	}
	b := make([]byte, total)
	c.Read(0, b)
	f := Frame{Data: b[hl:], Segs: len(c.Segs)}
	f.Hdr = NetHdr{Flags: b[0], GSO: b[1],
		HdrLen: binary.LittleEndian.Uint16(b[2:]), GSOSize: binary.LittleEndian.Uint16(b[4:]),
		CsumStart: binary.LittleEndian.Uint16(b[6:]), CsumOffs: binary.LittleEndian.Uint16(b[8:])}
	if hl == 12 {
		f.Hdr.NumBuffers = binary.LittleEndian.Uint16(b[10:])
	}
	return f
}

// StepRx puts waiting frames of pair i into posted buffers; what does not fit
// stays in the backlog.
func (n *NIC) StepRx(i int) (moved int) {
	q := n.RxQueue(i)
	if k := len(n.splitPending); k > 0 {
		p := n.splitPending[0]
		n.splitPending = n.splitPending[1:]
		n.Queues[2*p.q].Push(p.head, p.n)
		n.Queues[2*p.q].Flush()
		return 1
	}
	for len(n.backlog[i]) > 0 && n.receive(i, q, n.backlog[i][0]) {
		n.backlog[i] = n.backlog[i][1:]
		moved++
		if n.SplitFlush {
			return moved
		}
	}
	if moved > 0 {
		q.Flush()
	}
	return moved
}

// receive writes one frame into as many buffers as it takes, §5.1.6.4. It reports
// false where they are not there (the card waits: nothing is lost).
func (n *NIC) receive(i int, q *Queue, f Frame) bool {
	mrg := n.features&NetMrgRxbuf != 0
	b := make([]byte, n.HdrLen(), n.HdrLen()+len(f.Data))
	b[0], b[1] = f.Hdr.Flags, f.Hdr.GSO
	for k, v := range []uint16{f.Hdr.HdrLen, f.Hdr.GSOSize, f.Hdr.CsumStart, f.Hdr.CsumOffs} {
		binary.LittleEndian.PutUint16(b[2+2*k:], v)
	}
	b = append(b, f.Data...)

	start := q.lastAvail
	var heads []uint16
	var lens []int
	var chains []Chain
	for done := 0; done < len(b); {
		c, ok := q.Pop()
		if !ok || !mrg && c.Writable() < len(b) {
			q.lastAvail = start // not enough room yet
			return false
		}
		c.Segs = append([]Seg(nil), c.Segs...)
		k := min(c.Writable(), len(b)-done)
		chains, heads, lens = append(chains, c), append(heads, c.Head), append(lens, k)
		done += k
	}
	if n.EmptyLast {
		if c, ok := q.Pop(); ok {
			c.Segs = append([]Seg(nil), c.Segs...)
			chains, heads, lens = append(chains, c), append(heads, c.Head), append(lens, 0)
			n.EmptyLast = false
		}
	}
	if n.HdrLen() == 12 {
		num := uint16(len(chains))
		if n.BadNum != 0 {
			num, n.BadNum = uint16(max(n.BadNum, 0)), 0
		}
		binary.LittleEndian.PutUint16(b[10:], num)
	}
	done := 0
	for k, c := range chains {
		c.Write(0, b[done:done+lens[k]])
		done += lens[k]
	}
	if n.ShortFrame {
		lens[0], n.ShortFrame = n.HdrLen()-1, false
	}
	if n.LongFrame {
		lens[0], n.LongFrame = chains[0].Writable()+1, false
	}
	if n.Gap > 0 {
		lens[n.Gap-1], n.Gap = lens[n.Gap-1]-1, 0
	}
	for k := range heads {
		if n.SplitFlush && k > 0 {
			n.splitPending = append(n.splitPending, split{i, heads[k], lens[k]})
			continue
		}
		q.Push(heads[k], lens[k])
	}
	if n.SplitFlush {
		q.Flush()
	}
	return true
}

// StepCtrl answers control commands, §5.1.6.5.
func (n *NIC) StepCtrl() (moved int) {
	q := n.CtrlQueue()
	if q == nil || n.CtrlHang {
		return 0
	}
	for {
		c, ok := q.Pop()
		if !ok {
			break
		}
		b := make([]byte, c.Readable())
		c.Read(0, b)
		if len(b) < 2 || c.Writable() != 1 {
			panic(fmt.Sprintf("fakedev: control command of %d bytes with %d for the answer", len(b), c.Writable()))
		}
		cmd := Command{b[0], b[1], b[2:]}
		n.Commands = append(n.Commands, cmd)
		if cmd.Class == 4 && cmd.Cmd == 0 && n.CtrlAck == 0 {
			n.Pairs = int(binary.LittleEndian.Uint16(cmd.Data))
		}
		c.Write(0, []byte{n.CtrlAck})
		q.Push(c.Head, 1)
		moved++
	}
	if moved > 0 {
		q.Flush()
	}
	return moved
}
