package pkt

// Caps is what a link can do for its user.
type Caps struct {
	MAC       [6]byte
	MTU       int // largest IP packet in bytes
	RxQueues  int
	TxQueues  int
	TxCsum    bool // takes CsumPartial frames
	RxCsum    bool // marks CsumValid or CsumPartial on receive
	TSO4      bool // takes GSOTCPv4 frames
	TSO6      bool
	GSOMax    int  // largest GSO frame in bytes, headers included; 0 without TSO
	LRO       bool // may hand up GSOTCPv4 or GSOTCPv6 frames larger than the MTU, to 64 KiB, in several pieces
	TxScatter int  // pieces (Next) a frame may have on transmit; 1 = none
}

// Link is a network device as the stack sees it. Each queue belongs to one
// goroutine (receive) or to callers that take turns (transmit: the link locks).
type Link interface {
	Name() string
	Caps() Caps
	// RxBatch fills dst with received frames of queue q and returns how many;
	// it never blocks and refills the ring as it goes. The caller owns them.
	RxBatch(q int, dst []*Buf) int
	// RxWait arms the interrupt of queue q and blocks until frames may be
	// there, RxWake was called, or the link is closed (error). It returns at
	// once where a frame came in between (no lost wake-up).
	RxWait(q int) error
	// RxWake makes a blocked RxWait(q) return nil; used to hand work to the
	// receive loop. It never blocks.
	RxWake(q int)
	// TxBatch queues frames on q, rings the doorbell at most once, and returns
	// how many it took; those are the link's now (it Puts them when the device
	// is done). It never blocks: 0 means the ring is full.
	TxBatch(q int, frames []*Buf) int
	// TxBuf returns an empty buffer for transmit, nil where none is free.
	TxBuf(q int) *Buf
	// LinkUp reports the carrier; Stats the counters.
	LinkUp() bool
	Stats() LinkStats
	// Close stops the device and wakes all waiters. Buffers still owned by
	// callers stay valid until they are Put.
	Close() error
}

// LinkStats counts frames and bytes by direction, and drops by reason.
type LinkStats struct {
	RxFrames, RxBytes, TxFrames, TxBytes uint64
	RxNoBuf                              uint64 // the pool was empty when the ring wanted a buffer
	RxErrors                             uint64 // the device broke the protocol (bad length, bad index)
	TxFull                               uint64 // TxBatch took fewer frames than offered
	TxErrors                             uint64 // frames the link could not send as they are (no headroom, unknown offload)
	RxIRQs                               uint64
	Doorbells                            uint64
}
