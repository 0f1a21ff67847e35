// Package xdpcache is a cache of memcached's UDP GET replies that runs inside the
// Linux kernel, in the manner of BMC (Ghigoff et al., "BMC: Accelerating
// Memcached using Safe In-kernel Caching and Pre-stack Processing", NSDI 2021): an
// XDP program answers GETs of cached keys before the network stack sees them, and
// notes every write that passes; a program at the interface's egress fills the
// cache from memcached's own replies. It is a rival of ours: the published way to
// make Linux itself bypass its stack for this service. The design is the paper's;
// the code is ours, assembled in Go, so that nobody needs a BPF compiler.
//
// Spec: BPF instruction set and XDP (Linux Documentation/bpf, 6.1); memcached's
// doc/protocol.txt (text commands, UDP frame header); RFC 791, 768, 9293, 1624.
//
// What is answered: one GET of one key of 1 to MaxKey bytes in one datagram to
// UDP port 11211 over IPv4, whose reply is at most MaxReply bytes. All else goes
// to memcached.
//
// Coherence. A key may be filled only after a whole, well-formed "set" of it
// without an expiry time was seen to come in, and only from a reply that leaves
// Config.Settle or more after that: an older reply cannot be told from a newer
// one. Any other write of the key removes it. What the program cannot read as
// whole commands (a value that spans TCP segments, several commands in one segment,
// IP fragments and options, binary and meta commands)
// empties the cache, and all that such a TCP connection sends later does too. A
// delayed flush_all ends caching for good. So an item with an expiry time is never
// cached.
//
// What is assumed: every write comes through this interface; memcached carries a
// write out within Settle of its arrival; a delayed flush_all is not hidden among
// other commands of one segment; no "set" over an item that expires is dropped
// between the card and memcached. Items that memcached evicts may still be
// answered. UDP checksums are neither checked nor sent (RFC 768 allows 0).
// memcached's own statistics do not see the GETs answered here. One processor
// only: exclusion between the two programs is that both run with bottom halves
// off, and Attach refuses more.
//
// Who may use it: xdpload, which runs in the guest, and package linux. May not:
// take code from the harness's other packages. Start reading at New, then xdp.go,
// which follows a frame on its way in, and egress.go, on its way out.
package xdpcache

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Limits of what is cached.
const (
	MaxKey     = 64   // bytes of a key
	MaxReply   = 1088 // bytes of a reply: VALUE line, value of at least 1000, END
	MaxEntries = 8192 // keys

	maxText = 1500 // bytes of commands in a frame
	maxLine = 320  // bytes of a command line that are read as tokens
	maxOdd  = 8192 // TCP connections whose commands could not be read
)

// DefaultSettle is how long after a write a reply may still carry the value
// before it.
const DefaultSettle = 250 * time.Millisecond

// Config is what the programs are assembled with.
type Config struct {
	IP     netip.Addr    // the address that memcached is asked at, IPv4
	Port   uint16        // UDP and TCP
	Settle time.Duration // see the package comment
}

// Names of the maps and programs in a spec.
const (
	mapCache = "cache"
	mapWork  = "work"
	mapOdd   = "odd"

	progXDP    = "xdp_in"
	progEgress = "tc_out"
)

// An entry of the cache: the value of map "cache", whose key is the item's key
// padded with zeros to MaxKey.
const (
	entryState = 0  // u32, stateWritten or stateFilled
	entryKlen  = 4  // u32, bytes of the key: zeros in a key must not count as padding
	entryEpoch = 8  // u64, the epoch it belongs to; of another one, it is void
	entryStamp = 16 // u64, ns: when the last write came in
	entryLen   = 24 // u64, bytes of the reply
	entryReply = 32 // the reply after the UDP frame header
	entrySize  = entryReply + MaxReply
)

// States of an entry.
const (
	stateWritten = 1 // a "set" came in; the next reply after Settle fills it
	stateFilled  = 2 // entryReply answers GETs
)

// The single value of map "work": what both programs share. They never run at the
// same time (one processor).
const (
	workEpoch   = 0  // u64, grows when the cache is emptied
	workFlushed = 8  // u64, ns: when that was last
	workOff     = 16 // u64, not zero: nothing is cached any more
	workHits    = 24 // u64, GETs answered; with the next three, Stats
	workFills   = 32
	workWrites  = 40
	workFlushes = 48

	workLen  = 56 // u64, bytes in workText
	workLF   = 64 // u64, index of the first line feed
	workTok  = 72 // u64, index of the token, from 0
	workKlen = 80 // u64, bytes of token 1
	workBad  = 88 // u8, the line is not plain tokens with one space between
	workCR   = 89 // u8, the last byte was CR
	workGap  = 90 // u8, the last byte was a space
	workNaN  = 91 // u8, token 2, 3 or 4 is not a number below 2^32

	workNum   = 96              // 5 × u64, tokens as numbers; 2, 3 and 4 are used
	workKey   = workNum + 5*8   // token 1, padded with zeros
	workText  = workKey + 64    // the commands
	workEntry = workText + 1536 // a new entry to be put into the cache
	workSize  = workEntry + entrySize
)

// New assembles the programs and describes their maps.
func New(c Config) (*ebpf.CollectionSpec, error) {
	if !c.IP.Is4() || c.Port == 0 || c.Settle < 0 || c.Settle > math.MaxInt32 {
		return nil, fmt.Errorf("xdpcache: address %v, port %d, settle %v: want IPv4, a port, 0 to 2 s", c.IP, c.Port, c.Settle)
	}
	const license = "Dual BSD/GPL"
	return &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{
			mapCache: {Name: mapCache, Type: ebpf.LRUHash, KeySize: MaxKey, ValueSize: entrySize, MaxEntries: MaxEntries},
			mapWork:  {Name: mapWork, Type: ebpf.Array, KeySize: 4, ValueSize: workSize, MaxEntries: 1},
			mapOdd:   {Name: mapOdd, Type: ebpf.Hash, KeySize: 8, ValueSize: 1, MaxEntries: maxOdd},
		},
		Programs: map[string]*ebpf.ProgramSpec{
			progXDP:    {Name: progXDP, Type: ebpf.XDP, License: license, Instructions: c.ingress()},
			progEgress: {Name: progEgress, Type: ebpf.SchedCLS, License: license, Instructions: c.egress()},
		},
	}, nil
}

// be16 is v as a 16-bit load on a little-endian machine sees it in a packet.
func be16(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}

// word is the first bytes of s as a load of their size sees them.
func word(s string) int64 {
	var b [8]byte
	copy(b[:], s)
	return int64(binary.NativeEndian.Uint64(b[:]))
}

// mask has ones for the first n bytes of a 64-bit load.
func mask(n int) int64 {
	var b [8]byte
	for i := range n {
		b[i] = 0xff
	}
	return int64(binary.NativeEndian.Uint64(b[:]))
}

// code collects instructions; at names the next one.
type code struct {
	ins   asm.Instructions
	label string
}

func (c *code) at(label string) {
	if c.label != "" { // two names of one place
		c.add(asm.Mov.Reg(asm.R0, asm.R0))
	}
	c.label = label
}

func (c *code) add(ins ...asm.Instruction) {
	if c.label != "" {
		ins[0] = ins[0].WithSymbol(c.label)
		c.label = ""
	}
	c.ins = append(c.ins, ins...)
}

// work points r at the shared value.
func (c *code) work(r asm.Register) {
	c.add(asm.LoadMapValue(r, 0, 0).WithReference(mapWork))
}

// count adds one to a 64-bit word of the shared value at r; R1 is lost.
func (c *code) count(r asm.Register, off int16) {
	c.add(asm.LoadMem(asm.R1, r, off, asm.DWord), asm.Add.Imm(asm.R1, 1), asm.StoreMem(r, off, asm.R1, asm.DWord))
}

func (c *code) ret(v int32) {
	c.add(asm.Mov.Imm(asm.R0, v), asm.Return())
}
