package xdpcache

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
)

// Offsets in a frame without IP options, and constants of its headers.
const (
	etherType = 12
	ipStart   = 14
	ipTotal   = ipStart + 2
	ipFrag    = ipStart + 6
	ipProto   = ipStart + 9
	ipSum     = ipStart + 10
	ipSrc     = ipStart + 12
	ipDst     = ipStart + 16
	l4        = ipStart + 20
	l4Src     = l4
	l4Dst     = l4 + 2
	udpLen    = l4 + 4
	udpSum    = l4 + 6
	mcFrame   = l4 + 8 // request id, sequence, datagrams, reserved
	mcText    = mcFrame + 8
	tcpOff    = l4 + 12
	tcpFlags  = l4 + 13

	etherIPv4  = 0x0800
	fragMask   = 0x3fff // more fragments, fragment offset
	protoTCP   = 6
	protoUDP   = 17
	tcpSYN     = 0x02
	ipNoOption = 0x45
)

// XDP's verdicts.
const (
	xdpPass = 2
	xdpTx   = 3
)

// Stack, below the frame pointer.
const (
	stackKey = -64 // a key of the cache
	stackOdd = -72 // a key of odd: client's address, its port, 0
	stackTCP = -80 // u64, not zero in a TCP segment
	stackOff = -88 // u64, where the commands begin in the frame
	stackLen = -96 // u64, how long they are
)

// ingress is the XDP program, in the order in which a frame meets it. R6 is the
// context; R7 and R8 are the frame's begin and end until the commands are read,
// then R7 is the shared value.
func (cfg Config) ingress() asm.Instructions {
	c := &code{}
	c.add(asm.Mov.Reg(asm.R6, asm.R1))
	c.frame()
	c.add(asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, l4+8), asm.JGT.Reg(asm.R2, asm.R8, "pass"),
		asm.LoadMem(asm.R1, asm.R7, etherType, asm.Half), asm.JNE.Imm(asm.R1, be16(etherIPv4), "pass"),
		asm.LoadMem(asm.R5, asm.R7, ipProto, asm.Byte),
		asm.JEq.Imm(asm.R5, protoUDP, "ip"), asm.JNE.Imm(asm.R5, protoTCP, "pass"))
	// Options and fragments hide the ports, so they may hold a write.
	c.at("ip")
	c.add(asm.LoadMem(asm.R1, asm.R7, ipStart, asm.Byte), asm.JNE.Imm(asm.R1, ipNoOption, "flush"),
		asm.LoadMem(asm.R1, asm.R7, ipFrag, asm.Half), asm.And.Imm(asm.R1, be16(fragMask)), asm.JNE.Imm(asm.R1, 0, "flush"),
		asm.LoadMem(asm.R1, asm.R7, l4Dst, asm.Half), asm.JNE.Imm(asm.R1, be16(cfg.Port), "pass"))
	// Broadcasts reach memcached too.
	ip := cfg.IP.As4()
	c.add(asm.LoadMem(asm.R1, asm.R7, ipDst, asm.Word), asm.LoadImm(asm.R2, int64(binary.NativeEndian.Uint32(ip[:])), asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, "flush"))
	c.add(asm.LoadMem(asm.R4, asm.R7, ipTotal, asm.Half), asm.HostTo(asm.BE, asm.R4, asm.Half),
		asm.JEq.Imm(asm.R5, protoTCP, "tcp"))

	// UDP: R3 the datagram's length, R9 the key's.
	c.add(asm.LoadMem(asm.R3, asm.R7, udpLen, asm.Half), asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.Sub.Imm(asm.R4, 20), asm.JNE.Reg(asm.R4, asm.R3, "flush"),
		asm.JLT.Imm(asm.R3, mcText-l4, "pass"),                                                        // no frame header: memcached drops it
		asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Imm(asm.R1, mcText), asm.JGT.Reg(asm.R1, asm.R8, "pass"), // truncated: the kernel does
		asm.LoadMem(asm.R1, asm.R7, mcFrame+4, asm.Half), asm.JNE.Imm(asm.R1, be16(1), "pass"), // memcached refuses
		asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, stackTCP, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R1, mcText), asm.StoreMem(asm.RFP, stackOff, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R4, asm.R3), asm.Sub.Imm(asm.R4, mcText-l4),
		asm.StoreMem(asm.RFP, stackLen, asm.R4, asm.DWord),
		asm.Mov.Reg(asm.R9, asm.R4), asm.Sub.Imm(asm.R9, int32(len("get \r\n"))),
		asm.JSLT.Imm(asm.R9, 1, "read"), asm.JSGT.Imm(asm.R9, MaxKey, "read"))
	cfg.get(c)

	c.at("tcp")
	cfg.segment(c)
	c.at("read")
	c.commands()

	c.at("pass")
	c.ret(xdpPass)
	return c.ins
}

// frame sets R7 and R8 to the frame's begin and end.
func (c *code) frame() {
	c.add(asm.LoadMem(asm.R7, asm.R6, 0, asm.Word), asm.LoadMem(asm.R8, asm.R6, 4, asm.Word))
}

// get answers a datagram of the form "get KEY\r\n" out of the cache. What has that
// form and is none, two keys say, is not found there, since what is put there has
// been read byte by byte.
func (cfg Config) get(c *code) {
	c.add(asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Reg(asm.R2, asm.R9),
		asm.Mov.Reg(asm.R1, asm.R2), asm.Add.Imm(asm.R1, mcText+6), asm.JGT.Reg(asm.R1, asm.R8, "pass"), // truncated
		asm.LoadMem(asm.R1, asm.R2, mcText+4, asm.Half), asm.JNE.Imm(asm.R1, int32(word("\r\n")), "read"),
		asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Imm(asm.R1, mcText+4), asm.JGT.Reg(asm.R1, asm.R8, "pass"),
		asm.LoadMem(asm.R1, asm.R7, mcText, asm.Word), asm.JNE.Imm32(asm.R1, int32(word("get ")), "read"),
		asm.LoadMem(asm.R1, asm.R7, mcFrame+2, asm.Word), asm.JNE.Imm32(asm.R1, int32(word("\x00\x00\x00\x01")), "read"))
	for off := int16(stackKey); off < 0; off += 8 {
		c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, off, asm.R1, asm.DWord))
	}
	c.add(asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, mcText+4),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stackKey),
		asm.Mov.Reg(asm.R4, asm.R9), asm.FnXdpLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.LoadMapPtr(asm.R1, 0).WithReference(mapCache),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackKey),
		asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "read"),
		asm.LoadMem(asm.R1, asm.R0, entryState, asm.Word), asm.JNE.Imm(asm.R1, stateFilled, "read"),
		asm.LoadMem(asm.R1, asm.R0, entryKlen, asm.Word), asm.JNE.Reg(asm.R1, asm.R9, "read"))
	c.work(asm.R4)
	c.add(asm.LoadMem(asm.R1, asm.R0, entryEpoch, asm.DWord), asm.LoadMem(asm.R2, asm.R4, workEpoch, asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, "read"),
		asm.Mov.Reg(asm.R9, asm.R0))

	// The frame becomes as long as the reply; it may have been padded.
	c.add(asm.LoadMem(asm.R2, asm.R9, entryLen, asm.DWord), asm.Add.Imm(asm.R2, mcText),
		asm.Sub.Reg(asm.R8, asm.R7), asm.Sub.Reg(asm.R2, asm.R8),
		asm.Mov.Reg(asm.R1, asm.R6), asm.FnXdpAdjustTail.Call(), asm.JNE.Imm(asm.R0, 0, "pass"))
	c.work(asm.R4)
	c.count(asm.R4, workHits)
	c.frame()
	c.add(asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, mcText), asm.JGT.Reg(asm.R2, asm.R8, "drop"))
	swap := func(a, b int16, size asm.Size) {
		c.add(asm.LoadMem(asm.R1, asm.R7, a, size), asm.LoadMem(asm.R2, asm.R7, b, size),
			asm.StoreMem(asm.R7, a, asm.R2, size), asm.StoreMem(asm.R7, b, asm.R1, size))
	}
	swap(0, 6, asm.Word)
	swap(4, 10, asm.Half)
	swap(ipSrc, ipDst, asm.Word)
	swap(l4Src, l4Dst, asm.Half)
	// R8 = bytes of the reply. The IP header's sum changes with its length alone
	// (RFC 1624): HC' = ~(~HC + ~m + m').
	c.add(asm.LoadMem(asm.R8, asm.R9, entryLen, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, ipSum, asm.Half), asm.Xor.Imm(asm.R1, 0xffff),
		asm.LoadMem(asm.R2, asm.R7, ipTotal, asm.Half), asm.Xor.Imm(asm.R2, 0xffff), asm.Add.Reg(asm.R1, asm.R2),
		asm.Mov.Reg(asm.R2, asm.R8), asm.Add.Imm(asm.R2, mcText-ipStart), asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.StoreMem(asm.R7, ipTotal, asm.R2, asm.Half), asm.Add.Reg(asm.R1, asm.R2))
	for range 2 {
		c.add(asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, 16), asm.And.Imm(asm.R1, 0xffff), asm.Add.Reg(asm.R1, asm.R2))
	}
	c.add(asm.Xor.Imm(asm.R1, 0xffff), asm.StoreMem(asm.R7, ipSum, asm.R1, asm.Half),
		asm.Mov.Reg(asm.R2, asm.R8), asm.Add.Imm(asm.R2, mcText-l4), asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.StoreMem(asm.R7, udpLen, asm.R2, asm.Half),
		asm.StoreImm(asm.R7, udpSum, 0, asm.Half),
		asm.StoreImm(asm.R7, mcFrame+6, 0, asm.Half),
		asm.JSLT.Imm(asm.R8, 1, "drop"), asm.JSGT.Imm(asm.R8, MaxReply, "drop"), // for the verifier
		asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, mcText),
		asm.Mov.Reg(asm.R3, asm.R9), asm.Add.Imm(asm.R3, entryReply),
		asm.Mov.Reg(asm.R4, asm.R8), asm.FnXdpStoreBytes.Call(), asm.JNE.Imm(asm.R0, 0, "drop"))
	c.ret(xdpTx)
	c.at("drop")
	c.ret(1) // XDP_DROP; memcached would not know the frame any more
}

// segment finds the commands of a TCP segment. R4 is the packet's length, R5 is
// free. Segments of an odd connection empty the cache.
func (cfg Config) segment(c *code) {
	c.add(asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, l4+20), asm.JGT.Reg(asm.R2, asm.R8, "pass"),
		asm.LoadMem(asm.R1, asm.R7, ipSrc, asm.Word), asm.StoreMem(asm.RFP, stackOdd, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, l4Src, asm.Half), asm.StoreMem(asm.RFP, stackOdd+4, asm.R1, asm.Word),
		asm.LoadMem(asm.R5, asm.R7, tcpOff, asm.Byte), asm.RSh.Imm(asm.R5, 4), asm.LSh.Imm(asm.R5, 2),
		asm.Sub.Imm(asm.R4, 20), asm.Sub.Reg(asm.R4, asm.R5), asm.StoreMem(asm.RFP, stackLen, asm.R4, asm.DWord),
		asm.Mov.Reg(asm.R9, asm.R4),
		asm.Add.Imm(asm.R5, l4), asm.StoreMem(asm.RFP, stackOff, asm.R5, asm.DWord),
		asm.Mov.Imm(asm.R1, 1), asm.StoreMem(asm.RFP, stackTCP, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, tcpFlags, asm.Byte), asm.And.Imm(asm.R1, tcpSYN), asm.JEq.Imm(asm.R1, 0, "known"),
		// A new connection begins with a command.
		asm.LoadMapPtr(asm.R1, 0).WithReference(mapOdd), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackOdd),
		asm.FnMapDeleteElem.Call())
	c.at("known")
	c.add(asm.JSLT.Imm(asm.R9, 1, "pass"),
		asm.LoadMapPtr(asm.R1, 0).WithReference(mapOdd), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackOdd),
		asm.FnMapLookupElem.Call(), asm.JNE.Imm(asm.R0, 0, "flush"))
}
