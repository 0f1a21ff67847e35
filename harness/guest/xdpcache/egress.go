package xdpcache

import "github.com/cilium/ebpf/asm"

// Offsets in struct __sk_buff.
const (
	skbData    = 76
	skbDataEnd = 80
)

// egress is the program at the interface's egress: it keeps a reply of one value
// for a key that was written and has settled. It never changes the packet.
func (cfg Config) egress() asm.Instructions {
	c := &code{}
	c.add(asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, skbData, asm.Word), asm.LoadMem(asm.R8, asm.R6, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, mcText+4), asm.JGT.Reg(asm.R2, asm.R8, "ok"),
		asm.LoadMem(asm.R1, asm.R7, etherType, asm.Half), asm.JNE.Imm(asm.R1, be16(etherIPv4), "ok"),
		asm.LoadMem(asm.R1, asm.R7, ipProto, asm.Byte), asm.JNE.Imm(asm.R1, protoUDP, "ok"),
		asm.LoadMem(asm.R1, asm.R7, ipStart, asm.Byte), asm.JNE.Imm(asm.R1, ipNoOption, "ok"),
		asm.LoadMem(asm.R1, asm.R7, ipFrag, asm.Half), asm.And.Imm(asm.R1, be16(fragMask)), asm.JNE.Imm(asm.R1, 0, "ok"),
		asm.LoadMem(asm.R1, asm.R7, l4Src, asm.Half), asm.JNE.Imm(asm.R1, be16(cfg.Port), "ok"),
		asm.LoadMem(asm.R1, asm.R7, mcFrame+2, asm.Word), asm.JNE.Imm32(asm.R1, int32(word("\x00\x00\x00\x01")), "ok"), // one datagram of one
		asm.LoadMem(asm.R1, asm.R7, mcText, asm.Word), asm.JNE.Imm32(asm.R1, int32(word("VALU")), "ok"),
		asm.LoadMem(asm.R9, asm.R7, udpLen, asm.Half), asm.HostTo(asm.BE, asm.R9, asm.Half), asm.Sub.Imm(asm.R9, mcText-l4),
		asm.JSLT.Imm(asm.R9, 1, "ok"), asm.JSGT.Imm(asm.R9, MaxReply, "ok"))
	c.work(asm.R7)
	c.add(asm.StoreMem(asm.R7, workLen, asm.R9, asm.DWord))
	c.copy(asm.R7, workText)
	c.tokenise("ok")

	// "VALUE key flags bytes" CR LF, the value, CR LF "END" CR LF.
	c.add(asm.LoadMem(asm.R1, asm.R7, workBad, asm.Byte), asm.JNE.Imm(asm.R1, 0, "ok"),
		asm.LoadMem(asm.R1, asm.R7, workNaN, asm.Byte), asm.JNE.Imm(asm.R1, 0, "ok"),
		asm.LoadMem(asm.R1, asm.R7, workTok, asm.DWord), asm.JNE.Imm(asm.R1, 3, "ok"),
		asm.LoadMem(asm.R1, asm.R7, workKlen, asm.DWord), asm.JGT.Imm(asm.R1, MaxKey, "ok"),
		asm.LoadMem(asm.R1, asm.R7, workLF, asm.DWord), asm.LoadMem(asm.R2, asm.R7, workNum+3*8, asm.DWord),
		asm.Add.Reg(asm.R1, asm.R2), asm.Add.Imm(asm.R1, int32(1+len("\r\nEND\r\n"))),
		asm.LoadMem(asm.R2, asm.R7, workLen, asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, "ok"))
	c.ends("\r\nEND\r\n", "ok")

	c.add(asm.LoadMapPtr(asm.R1, 0).WithReference(mapCache),
		asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, workKey),
		asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "ok"), asm.Mov.Reg(asm.R8, asm.R0),
		asm.LoadMem(asm.R1, asm.R8, entryState, asm.Word), asm.JNE.Imm(asm.R1, stateWritten, "ok"),
		asm.LoadMem(asm.R1, asm.R8, entryEpoch, asm.DWord), asm.LoadMem(asm.R2, asm.R7, workEpoch, asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, "ok"),
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(asm.R1, asm.R0), asm.LoadMem(asm.R2, asm.R8, entryStamp, asm.DWord), asm.Sub.Reg(asm.R1, asm.R2), asm.JLT.Imm(asm.R1, int32(cfg.Settle), "ok"),
		asm.LoadMem(asm.R2, asm.R7, workFlushed, asm.DWord), asm.Sub.Reg(asm.R0, asm.R2), asm.JLT.Imm(asm.R0, int32(cfg.Settle), "ok"),
		asm.LoadMem(asm.R9, asm.R7, workLen, asm.DWord),
		asm.JSLT.Imm(asm.R9, 1, "ok"), asm.JSGT.Imm(asm.R9, MaxReply, "ok")) // for the verifier
	c.copy(asm.R8, entryReply)
	c.add(asm.StoreMem(asm.R8, entryLen, asm.R9, asm.DWord), asm.StoreImm(asm.R8, entryState, stateFilled, asm.Word))
	c.count(asm.R7, workFills)
	c.at("ok")
	c.ret(0) // TC_ACT_OK
	return c.ins
}

// copy loads R9 bytes of the reply to r+off.
func (c *code) copy(r asm.Register, off int32) {
	c.add(asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, mcText),
		asm.Mov.Reg(asm.R3, r), asm.Add.Imm(asm.R3, off),
		asm.Mov.Reg(asm.R4, asm.R9), asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "ok"))
}
