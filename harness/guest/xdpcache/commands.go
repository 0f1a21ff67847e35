package xdpcache

import "github.com/cilium/ebpf/asm"

// maxMemcachedKey is memcached's own limit; the value after a longer key is read
// as commands.
const maxMemcachedKey = 250

// commands reads what the stack says is in the frame as memcached would, and
// notes what it writes. It ends the program.
func (c *code) commands() {
	c.work(asm.R7)
	c.add(asm.LoadMem(asm.R9, asm.RFP, stackLen, asm.DWord),
		asm.JSLT.Imm(asm.R9, 1, "pass"), asm.JSGT.Imm(asm.R9, maxText, "unknown"),
		asm.StoreMem(asm.R7, workLen, asm.R9, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R6), asm.LoadMem(asm.R2, asm.RFP, stackOff, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Imm(asm.R3, workText),
		asm.Mov.Reg(asm.R4, asm.R9), asm.FnXdpLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "unknown"))
	c.tokenise("unknown")

	verbs := func(label string, names ...string) {
		for _, v := range names {
			c.add(asm.LoadMem(asm.R1, asm.R7, workText, asm.DWord))
			if len(v) < 8 {
				c.add(asm.LoadImm(asm.R2, mask(len(v)), asm.DWord), asm.And.Reg(asm.R1, asm.R2))
			}
			c.add(asm.LoadImm(asm.R2, word(v), asm.DWord), asm.JEq.Reg(asm.R1, asm.R2, label))
		}
	}
	verbs("reads", "get ", "gets ", "stats", "version\r", "quit\r\n")
	c.add(asm.LoadMem(asm.R1, asm.R7, workBad, asm.Byte), asm.JNE.Imm(asm.R1, 0, "unknown"))
	verbs("set", "set ")
	verbs("stores", "add ", "replace ", "append ", "prepend ")
	verbs("changes", "delete ", "incr ", "decr ", "touch ")
	verbs("all", "flush_al")
	c.add(asm.Ja.Label("unknown"))

	// single goes on where the line is all there is.
	single := func() {
		c.add(asm.LoadMem(asm.R1, asm.R7, workLF, asm.DWord), asm.Add.Imm(asm.R1, 1),
			asm.LoadMem(asm.R2, asm.R7, workLen, asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, "unknown"))
	}
	// keyed goes on with a key that the cache may hold.
	keyed := func() {
		c.add(asm.LoadMem(asm.R1, asm.R7, workKlen, asm.DWord),
			asm.JEq.Imm(asm.R1, 0, "unknown"), asm.JGT.Imm(asm.R1, maxMemcachedKey, "unknown"), asm.JGT.Imm(asm.R1, MaxKey, "pass"))
	}
	// stored goes on with a whole storage command: "verb key flags exptime bytes
	// [noreply]" CR LF, the value, CR LF.
	stored := func() {
		c.add(asm.LoadMem(asm.R1, asm.R7, workTok, asm.DWord), asm.JLT.Imm(asm.R1, 4, "unknown"), asm.JGT.Imm(asm.R1, 5, "unknown"),
			asm.LoadMem(asm.R1, asm.R7, workNaN, asm.Byte), asm.JNE.Imm(asm.R1, 0, "unknown"),
			asm.LoadMem(asm.R1, asm.R7, workLF, asm.DWord), asm.LoadMem(asm.R2, asm.R7, workNum+4*8, asm.DWord),
			asm.Add.Reg(asm.R1, asm.R2), asm.Add.Imm(asm.R1, 3),
			asm.LoadMem(asm.R2, asm.R7, workLen, asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, "unknown"))
		c.ends("\r\n", "unknown")
		keyed()
	}

	c.at("reads")
	single()
	c.add(asm.Ja.Label("pass"))

	c.at("set")
	stored()
	c.count(asm.R7, workWrites)
	c.add(asm.LoadMem(asm.R1, asm.R7, workNum+3*8, asm.DWord), asm.JNE.Imm(asm.R1, 0, "forget"), // it expires
		asm.LoadMem(asm.R1, asm.R7, workOff, asm.DWord), asm.JNE.Imm(asm.R1, 0, "pass"))
	c.remember()

	c.at("stores")
	stored()
	c.count(asm.R7, workWrites)
	c.add(asm.Ja.Label("forget"))

	c.at("changes")
	single()
	keyed()
	c.count(asm.R7, workWrites)
	c.at("forget")
	c.add(asm.LoadMapPtr(asm.R1, 0).WithReference(mapCache),
		asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, workKey),
		asm.FnMapDeleteElem.Call(), asm.Ja.Label("pass"))

	// flush_all at once, or in some seconds: what is written until then, too, is
	// void then.
	c.at("all")
	single()
	c.add(asm.LoadMem(asm.R1, asm.R7, workTok, asm.DWord), asm.JEq.Imm(asm.R1, 0, "flush"),
		asm.LoadMem(asm.R1, asm.R7, workText+int16(len("flush_all ")), asm.Byte), asm.JEq.Imm(asm.R1, 'n', "flush"))
	c.at("off")
	c.work(asm.R7)
	c.add(asm.Mov.Imm(asm.R1, 1), asm.StoreMem(asm.R7, workOff, asm.R1, asm.DWord), asm.Ja.Label("flush"))

	// What a connection sent cannot be read: neither can what it sends next.
	c.at("unknown")
	c.add(asm.LoadMem(asm.R1, asm.RFP, stackTCP, asm.DWord), asm.JEq.Imm(asm.R1, 0, "flush"),
		asm.Mov.Imm(asm.R1, 1), asm.StoreMem(asm.RFP, stackKey, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, 0).WithReference(mapOdd),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackOdd),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stackKey),
		asm.Mov.Imm(asm.R4, 0), asm.FnMapUpdateElem.Call(), asm.JNE.Imm(asm.R0, 0, "off"))
	c.at("flush")
	c.add(asm.FnKtimeGetNs.Call())
	c.work(asm.R7)
	c.add(asm.StoreMem(asm.R7, workFlushed, asm.R0, asm.DWord))
	c.count(asm.R7, workEpoch)
	c.count(asm.R7, workFlushes)
}

// remember marks workKey as written now: its next reply after Config.Settle may be
// kept. It ends the program.
func (c *code) remember() {
	c.add(asm.FnKtimeGetNs.Call(), asm.Mov.Reg(asm.R9, asm.R0),
		asm.LoadMapPtr(asm.R1, 0).WithReference(mapCache),
		asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, workKey),
		asm.FnMapLookupElem.Call())
	mark := func(r asm.Register, base int16) {
		c.add(asm.StoreImm(r, base+entryState, stateWritten, asm.Word),
			asm.LoadMem(asm.R1, asm.R7, workKlen, asm.DWord), asm.StoreMem(r, base+entryKlen, asm.R1, asm.Word),
			asm.LoadMem(asm.R1, asm.R7, workEpoch, asm.DWord), asm.StoreMem(r, base+entryEpoch, asm.R1, asm.DWord),
			asm.StoreMem(r, base+entryStamp, asm.R9, asm.DWord),
			asm.Mov.Imm(asm.R1, 0), asm.StoreMem(r, base+entryLen, asm.R1, asm.DWord))
	}
	c.add(asm.JEq.Imm(asm.R0, 0, "new"))
	mark(asm.R0, 0)
	c.add(asm.Ja.Label("pass"))
	c.at("new")
	mark(asm.R7, workEntry)
	c.add(asm.LoadMapPtr(asm.R1, 0).WithReference(mapCache),
		asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, workKey),
		asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Imm(asm.R3, workEntry),
		asm.Mov.Imm(asm.R4, 0), asm.FnMapUpdateElem.Call(), asm.Ja.Label("pass"))
}
