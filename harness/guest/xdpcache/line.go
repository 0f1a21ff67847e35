package xdpcache

import "github.com/cilium/ebpf/asm"

// tokenise reads the first line of workText into the words of the shared value:
// workTok, workKey, workNum and the flags. R7 points to the shared value and R9
// holds the number of bytes (1 to maxText), which is also in workLen. It goes on
// with workLF set where a line feed was found, at label none otherwise. R0 to R5,
// R8 and R9 are lost.
//
// All state but the index is kept in memory, where the verifier does not follow
// it: so the paths of a loop's turn meet again, and it looks at each turn once. Of
// each conditional jump in each turn it keeps the other way for later, 8192 of them
// at most: so only the first maxLine bytes are read as tokens.
func (c *code) tokenise(none string) {
	for off := int16(workTok); off < workText; off += 8 {
		c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R7, off, asm.R1, asm.DWord))
	}
	c.add(asm.Mov.Imm(asm.R8, 0))

	c.at("turn")
	c.add(asm.JGE.Reg(asm.R8, asm.R9, none),
		asm.JGE.Imm(asm.R8, maxLine, "far"),
		asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Reg(asm.R1, asm.R8),
		asm.LoadMem(asm.R1, asm.R1, workText, asm.Byte),
		asm.JEq.Imm(asm.R1, '\n', "line"),
		asm.LoadMem(asm.R2, asm.R7, workCR, asm.Byte),
		asm.JNE.Imm(asm.R2, 0, "bad"), // CR and then no LF
		asm.JEq.Imm(asm.R1, '\r', "cr"),
		asm.JEq.Imm(asm.R1, ' ', "gap"),
		asm.JLT.Imm(asm.R1, ' ', "bad"),
		asm.StoreImm(asm.R7, workGap, 0, asm.Byte),
		asm.LoadMem(asm.R2, asm.R7, workTok, asm.DWord),
		asm.JEq.Imm(asm.R2, 0, "next"), // the verb is compared as a word
		asm.JEq.Imm(asm.R2, 1, "key"),
		asm.JGT.Imm(asm.R2, 4, "next"),
		// A digit of a number.
		asm.Sub.Imm(asm.R1, '0'),
		asm.JGT.Imm(asm.R1, 9, "nan"),
		asm.LSh.Imm(asm.R2, 3),
		asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Reg(asm.R3, asm.R2),
		asm.LoadMem(asm.R4, asm.R3, workNum, asm.DWord),
		asm.Mul.Imm(asm.R4, 10), asm.Add.Reg(asm.R4, asm.R1),
		asm.Mov.Reg(asm.R5, asm.R4), asm.RSh.Imm(asm.R5, 32),
		asm.JNE.Imm(asm.R5, 0, "nan"),
		asm.StoreMem(asm.R3, workNum, asm.R4, asm.DWord),
		asm.Ja.Label("next"))
	c.at("nan")
	c.add(asm.StoreImm(asm.R7, workNaN, 1, asm.Byte), asm.Ja.Label("next"))
	c.at("key")
	c.add(asm.LoadMem(asm.R2, asm.R7, workKlen, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.R2), asm.Add.Imm(asm.R3, 1),
		asm.StoreMem(asm.R7, workKlen, asm.R3, asm.DWord),
		asm.JGE.Imm(asm.R2, MaxKey, "next"),
		asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Reg(asm.R3, asm.R2),
		asm.StoreMem(asm.R3, workKey, asm.R1, asm.Byte),
		asm.Ja.Label("next"))
	c.at("gap")
	c.count(asm.R7, workTok)
	c.add(asm.LoadMem(asm.R2, asm.R7, workGap, asm.Byte),
		asm.StoreImm(asm.R7, workGap, 1, asm.Byte),
		asm.JEq.Imm(asm.R2, 0, "next"))
	c.at("bad")
	c.add(asm.StoreImm(asm.R7, workBad, 1, asm.Byte), asm.Ja.Label("next"))
	c.at("cr")
	c.add(asm.StoreImm(asm.R7, workCR, 1, asm.Byte))
	c.at("next")
	c.add(asm.Add.Imm(asm.R8, 1), asm.Ja.Label("turn"))

	// A line of many keys: only its end matters.
	c.at("far")
	c.add(asm.StoreImm(asm.R7, workBad, 1, asm.Byte))
	c.at("seek")
	c.add(asm.JGE.Reg(asm.R8, asm.R9, none), asm.JGE.Imm(asm.R8, maxText, none),
		asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Reg(asm.R1, asm.R8),
		asm.LoadMem(asm.R1, asm.R1, workText, asm.Byte),
		asm.Add.Imm(asm.R8, 1), asm.JNE.Imm(asm.R1, '\n', "seek"),
		asm.Sub.Imm(asm.R8, 1))

	// A space at the end makes an empty token.
	c.at("line")
	c.add(asm.StoreMem(asm.R7, workLF, asm.R8, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, workGap, asm.Byte),
		asm.JEq.Imm(asm.R1, 0, "tokens"),
		asm.StoreImm(asm.R7, workBad, 1, asm.Byte))
	c.at("tokens")
	c.add(asm.Mov.Imm(asm.R8, 0), asm.Mov.Imm(asm.R9, 0))
}

// ends goes on where the workLen bytes of workText end with s, and to label
// otherwise. R1 and R2 are lost.
func (c *code) ends(s string, otherwise string) {
	c.add(asm.LoadMem(asm.R1, asm.R7, workLen, asm.DWord),
		asm.JLT.Imm(asm.R1, int32(len(s)), otherwise),
		asm.JGT.Imm(asm.R1, maxText, otherwise),
		asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Reg(asm.R2, asm.R1))
	for i := range len(s) {
		c.add(asm.LoadMem(asm.R1, asm.R2, int16(workText-len(s)+i), asm.Byte),
			asm.JNE.Imm(asm.R1, int32(s[i]), otherwise))
	}
}
