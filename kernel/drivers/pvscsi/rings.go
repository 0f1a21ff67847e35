package pvscsi

import (
	"encoding/binary"

	"osv/kernel/drivers/scsi"
)

// Queue is scsi.Transport's.
func (a *Adapter) Queue(l scsi.List) {
	if l.Head() == nil {
		return
	}
	a.mu.Lock()
	if a.stopped.Load() != nil {
		a.mu.Unlock()
		a.refuse(l)
		return
	}
	a.waiting.Append(&l)
	a.post()
	a.mu.Unlock()
}

// refuse ends commands that cannot be queued any more.
func (a *Adapter) refuse(l scsi.List) {
	for l.Head() != nil {
		var done scsi.List
		for c := l.Pop(); c != nil; c = l.Pop() {
			c.Host, c.Err = scsi.HostGone, a.Err()
			done.Push(c)
		}
		l = scsi.Finish(done)
	}
}

// post sends waiting commands until there is no slot. There are at most as many
// slots as entries of either ring, so neither overflows. Caller must hold mu.
func (a *Adapter) post() {
	sent, kick := false, &a.kickRW
	for a.live && len(a.free) > 0 {
		c := a.waiting.Pop()
		if c == nil {
			break
		}
		n := a.free[len(a.free)-1]
		a.free = a.free[:len(a.free)-1]
		s := &a.slots[n]
		s.cmd, s.gen = c, s.gen+1
		a.busy++
		a.build(int(n), c)
		if !isTransfer(c.CDB[0]) {
			kick = &a.kickAny
		}
		sent = true
	}
	if sent {
		store32(a.state.Bytes, stateReqProd, a.reqProd)
		kick.Ring32(0)
	}
}

// isTransfer says whether a command may be kicked off as a read or write.
func isTransfer(op byte) bool {
	switch op {
	case 0x28, 0x2a, 0x88, 0x8a: // READ and WRITE (10) and (16)
		return true
	}
	return false
}

// context names slot n: not 0, and below 2^32. Caller must hold mu.
func (a *Adapter) context(n int) uint64 {
	return uint64(uint32(n+1) | a.slots[n].gen<<16)
}

// build writes c into the next entry of the request ring. Caller must hold mu.
func (a *Adapter) build(n int, c *scsi.Command) {
	entries := uint32(a.pages * reqPerPage)
	e := a.req.Bytes[a.reqProd%entries*reqBytes:][:reqBytes]
	a.reqProd++
	le := binary.LittleEndian
	clear(e)
	le.PutUint64(e[reqContext:], a.context(n))
	flags := uint32(flagNoData)
	switch c.Dir {
	case scsi.FromUnit:
		flags = flagToHost
	case scsi.ToUnit:
		flags = flagToDevice
	}
	le.PutUint64(e[reqDataLen:], uint64(c.Len))
	switch len(c.Data) {
	case 0:
	case 1:
		le.PutUint64(e[reqDataAddr:], uint64(c.Data[0].Addr))
	default:
		flags |= flagList
		list := a.lists.Slice(n*a.listBytes(), a.listBytes())
		for i, p := range c.Data {
			b := list.Bytes[i*sgBytes:]
			le.PutUint64(b, uint64(p.Addr))
			le.PutUint32(b[8:], p.Len)
			le.PutUint32(b[12:], 0)
		}
		le.PutUint64(e[reqDataAddr:], uint64(list.Bus))
	}
	le.PutUint64(e[reqSense:], uint64(a.sense.Bus)+uint64(n*senseBytes))
	le.PutUint32(e[reqSenseLen:], scsi.SenseBytes)
	le.PutUint32(e[reqFlags:], flags)
	copy(e[reqCDB:], c.CDB[:])
	e[reqCDBLen] = byte(c.CDBLen)
	copy(e[reqLUN:], c.To.LUN[:])
	e[reqTag], e[reqTarget] = tagSimple, byte(c.To.Target)
}

// service takes all completions and messages, and sends what waited for room.
func (a *Adapter) service() {
	var done scsi.List
	var changes []change
	a.mu.Lock()
	if a.live {
		a.reap(&done)
		changes = a.takeMessages()
		if a.broken == nil {
			a.post()
		}
	}
	err := a.broken
	a.mu.Unlock()
	a.Queue(scsi.Finish(done))
	if h := a.host.Load(); h != nil {
		for _, c := range changes {
			c.tell(h)
		}
	}
	if err != nil {
		a.stop(err)
	}
}

// reap ends the commands that the adapter has completed. Caller must hold mu.
func (a *Adapter) reap(done *scsi.List) {
	prod := load32(a.state.Bytes, stateCmpProd)
	if n := prod - a.cmpCons; n > uint32(a.busy) {
		a.broken = protocolf("completion index went from %d to %d with %d commands under way", a.cmpCons, prod, a.busy)
		return
	}
	entries := uint32(a.pages * (page / cmpBytes))
	old := a.cmpCons
	for a.cmpCons != prod {
		e := a.cmp.Bytes[a.cmpCons%entries*cmpBytes:][:cmpBytes]
		a.cmpCons++
		// One read of each field: the adapter may change them behind our back.
		context := binary.LittleEndian.Uint64(e[cmpContext:])
		n := int(context&0xffff) - 1
		if n < 0 || n >= len(a.slots) || a.slots[n].cmd == nil || a.context(n) != context {
			a.broken = protocolf("completion of command %#x, which is not under way", context)
			break
		}
		c := a.slots[n].cmd
		judge(c, hostStatus(binary.LittleEndian.Uint16(e[cmpHostStatus:])), binary.LittleEndian.Uint16(e[cmpSCSIStatus:]),
			binary.LittleEndian.Uint64(e[cmpDataLen:]))
		if c.Status != scsi.Good {
			length := min(binary.LittleEndian.Uint32(e[cmpSenseLen:]), scsi.SenseBytes)
			c.SenseLen = copy(c.Sense[:], a.sense.Bytes[n*senseBytes:][:length])
		}
		a.good = a.good || c.Host != scsi.HostAborted && c.Host != scsi.HostReset
		a.put(n)
		done.Push(c)
	}
	if a.cmpCons != old {
		store32(a.state.Bytes, stateCmpCons, a.cmpCons)
	}
}

// put frees a slot. Caller must hold mu.
func (a *Adapter) put(n int) {
	a.slots[n].cmd = nil
	a.free = append(a.free, uint16(n))
	a.busy--
}

// takeAll moves all commands under way to l. Caller must hold mu.
func (a *Adapter) takeAll(l *scsi.List) {
	for n := range a.slots {
		if c := a.slots[n].cmd; c != nil {
			a.put(n)
			l.Push(c)
		}
	}
}

// change is a message: a unit that came or went.
type change struct {
	kind uint32
	at   scsi.Address
}

func (c change) tell(h *scsi.Host) {
	switch c.kind {
	case msgAdded:
		h.Added(c.at)
	case msgRemoved:
		h.Removed(c.at)
	default:
		log.Infof("unit %v: message %d", c.at, c.kind)
	}
}

// takeMessages reads the message ring. Caller must hold mu.
func (a *Adapter) takeMessages() (out []change) {
	if !a.messages {
		return nil
	}
	prod := load32(a.state.Bytes, stateMsgProd)
	if prod == a.msgCons {
		return nil
	}
	const entries = page / msgBytes
	if n := prod - a.msgCons; n > entries {
		a.broken = protocolf("message index went from %d to %d in a ring of %d", a.msgCons, prod, entries)
		return nil
	}
	for ; a.msgCons != prod; a.msgCons++ {
		e := a.msg.Bytes[a.msgCons%entries*msgBytes:][:msgBytes]
		out = append(out, change{binary.LittleEndian.Uint32(e[msgType:]),
			scsi.Address{Target: int(binary.LittleEndian.Uint32(e[msgTarget:])), LUN: scsi.LUN(e[msgLUN : msgLUN+8])}})
	}
	store32(a.state.Bytes, stateMsgCons, a.msgCons)
	return out
}
