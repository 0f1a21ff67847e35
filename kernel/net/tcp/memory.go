package tcp

import "sync/atomic"

// Memory bounds the packet buffers that all connections of a host hold together,
// so that windows promise no more than the links have buffers for: octets wait in
// the buffers they came in, and a ring without buffers loses everyone's packets.
// Connections on different goroutines share it.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory returns a bound of limit bytes of packet buffers.
func NewMemory(limit int) *Memory { return &Memory{limit: int64(limit)} }

// Used is the bytes held now.
func (m *Memory) Used() int { return int(m.used.Load()) }

// left is the bytes that are free; negative when more is held than should be.
func (m *Memory) left() int { return int(m.limit - m.used.Load()) }

// charge tells Config.Memory what c holds now.
func (c *Conn) charge() {
	m := c.cfg.Memory
	if m == nil {
		return
	}
	if held := c.rcv.mem + c.ooo.mem; held != c.charged {
		m.used.Add(int64(held - c.charged))
		c.charged = held
	}
}

// memoryBound is how many octets of a window the host's memory allows: half of
// what is left, since others take from it too; less where the peer's segments fill
// less than half of their buffers. A connection that holds nothing is always
// promised something, or its peer could never send again.
func (c *Conn) memoryBound() int {
	if c.cfg.Memory == nil {
		return 1 << 30
	}
	left := max(0, c.cfg.Memory.left())
	floor := memoryFloor - c.rcv.mem - c.ooo.mem
	if n, mem := c.rcv.lateLen, c.rcv.lateMem; 2*n < mem {
		return max(floor, int(int64(left)*int64(n)/int64(mem)))
	}
	return max(floor, left/2)
}

// memoryShort reports that buffers should not grow.
func (c *Conn) memoryShort() bool {
	m := c.cfg.Memory
	return m != nil && int64(m.left()) < m.limit/2
}

// memoryFloor is what a connection may hold in any case, bytes: others that are
// not read must not stop it.
const memoryFloor = 16 << 10

// sendFloor is how many octets a connection may hold to send when the memory for
// them is short.
const sendFloor = 32 << 10

// sendLimit is how many octets the send buffer may hold now.
func (c *Conn) sendLimit() int {
	if c.sndLimit > sendFloor && c.cfg.ChunksShort != nil && c.cfg.ChunksShort() {
		return sendFloor
	}
	return c.sndLimit
}

// memoryOut reports that c can hold no more: windows were promised when there
// was more memory. What comes in is dropped as if the network had lost it.
func (c *Conn) memoryOut() bool {
	return c.cfg.Memory != nil && c.rcv.mem+c.ooo.mem >= memoryFloor && c.cfg.Memory.left() <= 0
}
