package proto

import (
	"encoding/binary"

	"osv/appliances/memcached/store"
)

// The binary protocol ("Memcached Binary Protocol", memcached wiki,
// BinaryProtocolRevamped). A request is a header of 24 bytes, extras, key and
// value; all numbers are big-endian.
//
//	0 magic | 1 opcode | 2 key length | 4 extras length | 5 data type |
//	6 vbucket or status | 8 total body length | 12 opaque | 16 CAS
const (
	binHeader = 24
	reqMagic  = 0x80
	resMagic  = 0x81
)

// opcode is the operation of a request. The quiet ones answer only what is
// unusual.
type opcode uint8

const (
	opGet opcode = iota
	opSet
	opAdd
	opReplace
	opDelete
	opIncrement
	opDecrement
	opQuit
	opFlush
	opGetQ
	opNoop
	opVersion
	opGetK
	opGetKQ
	opAppend
	opPrepend
	opStat
	opSetQ
	opAddQ
	opReplaceQ
	opDeleteQ
	opIncrementQ
	opDecrementQ
	opQuitQ
	opFlushQ
	opAppendQ
	opPrependQ
	_ // verbosity; upstream does not know it either
	opTouch
	opGAT
	opGATQ
	opSASLList opcode = 0x20
	opSASLAuth opcode = 0x21
	opSASLStep opcode = 0x22
	opGATK     opcode = 0x23
	opGATKQ    opcode = 0x24
)

// loud maps a quiet opcode to the same operation with an answer.
func (op opcode) loud() (opcode, bool) {
	switch {
	case op >= opSetQ && op <= opDecrementQ:
		return op - opSetQ + opSet, true
	case op == opQuitQ, op == opFlushQ:
		return op - opQuitQ + opQuit, true
	case op == opAppendQ, op == opPrependQ:
		return op - opAppendQ + opAppend, true
	case op == opGetQ:
		return opGet, true
	case op == opGetKQ:
		return opGetK, true
	case op == opGATQ:
		return opGAT, true
	case op == opGATKQ:
		return opGATK, true
	}
	return op, false
}

// binStatus is the status of a response.
type binStatus uint16

const (
	binOK           binStatus = 0x00
	binKeyNotFound  binStatus = 0x01
	binKeyExists    binStatus = 0x02
	binTooLarge     binStatus = 0x03
	binInvalid      binStatus = 0x04
	binNotStored    binStatus = 0x05
	binNonNumeric   binStatus = 0x06
	binUnknown      binStatus = 0x81
	binOutOfMemory  binStatus = 0x82
	binNotSupported binStatus = 0x83
)

func (s binStatus) text() string {
	switch s {
	case binKeyNotFound:
		return "Not found"
	case binKeyExists:
		return "Data exists for key."
	case binTooLarge:
		return "Too large."
	case binInvalid:
		return "Invalid arguments"
	case binNotStored:
		return "Not stored."
	case binNonNumeric:
		return "Non-numeric server-side value for incr or decr"
	case binUnknown:
		return "Unknown command"
	case binOutOfMemory:
		return "Out of memory"
	}
	return "UNHANDLED ERROR"
}

// binState is the request at hand.
type binState struct {
	on     bool
	op     opcode // as the client sent it
	opaque uint32
	cas    uint64
}

// feedBinary runs the first request in in as far as it is there and returns what
// follows.
func (c *Conn) feedBinary(in []byte, o *Out) []byte {
	c.bin.on = true
	for {
		have := in
		if len(c.carry) > 0 {
			have = c.carry
		}
		need := binHeader
		if len(have) >= binHeader {
			n, ok := c.binCheck(have, o)
			if !ok {
				return c.binDrop(in)
			}
			need = n
		}
		if len(have) >= need {
			rest := in
			if len(c.carry) > 0 {
				c.carry = c.carry[:0]
			} else {
				rest = in[need:]
			}
			c.binCommand(have[:need], rest, o)
			return c.after(rest)
		}
		// Carry exactly what the request still needs.
		n := min(need-len(c.carry), len(in))
		c.carry = append(c.carry, in[:n]...)
		if in = in[n:]; len(in) == 0 && len(c.carry) < need {
			return nil
		}
	}
}

// binDrop ends the connection after a request that cannot be understood.
func (c *Conn) binDrop(in []byte) []byte {
	c.state = stateClosed
	return in
}

// binCheck looks at a header and returns how many bytes of the request must be
// there before it can run: all but the value. It reports false where the stream
// cannot go on.
func (c *Conn) binCheck(h []byte, o *Out) (int, bool) {
	if h[0] != reqMagic {
		return 0, false
	}
	op, _ := opcode(h[1]).loud()
	nkey := int(binary.BigEndian.Uint16(h[2:]))
	next := int(h[4])
	body := int64(binary.BigEndian.Uint32(h[8:]))
	c.bin.op = opcode(h[1])
	c.bin.opaque = binary.BigEndian.Uint32(h[12:])
	c.bin.cas = binary.BigEndian.Uint64(h[16:])
	fail := func(st binStatus) (int, bool) {
		c.binError(o, st)
		return 0, false
	}
	if int64(nkey)+int64(next) > body {
		return fail(binUnknown)
	}
	if nkey > maxKey {
		return fail(binInvalid)
	}
	none := nkey == 0 && next == 0 && body == 0
	keyOnly := nkey > 0 && next == 0 && body == int64(nkey)
	ok := true
	switch op {
	case opVersion, opNoop, opQuit:
		ok = none
	case opFlush:
		ok = nkey == 0 && body == int64(next) && (next == 0 || next == 4)
	case opSet, opAdd, opReplace:
		ok = next == 8 && nkey > 0
	case opGet, opGetK, opDelete:
		ok = keyOnly
	case opIncrement, opDecrement:
		ok = nkey > 0 && next == 20 && body == int64(nkey+next)
	case opAppend, opPrepend:
		ok = nkey > 0 && next == 0
	case opStat:
		ok = next == 0
	case opTouch, opGAT, opGATK:
		ok = next == 4 && nkey > 0
	case opSASLList:
		ok = none
	case opSASLAuth, opSASLStep:
		ok = next == 0 && nkey > 0
	default:
		// Unknown: the body is thrown away.
		return binHeader, true
	}
	if !ok {
		return fail(binInvalid)
	}
	return binHeader + next + nkey, true
}

// binCommand runs the request req: header, extras, key. rest may begin with its
// value.
func (c *Conn) binCommand(req, rest []byte, o *Out) {
	next := int(req[4])
	op, quiet := opcode(req[1]).loud()
	c.noreply = quiet
	c.lastCmd = c.srv.Store.Now()
	// What the body has beyond extras and key.
	n := int(binary.BigEndian.Uint32(req[8:])) - (len(req) - binHeader)
	if len(req) == binHeader {
		next = 0
	}
	ext, key := req[binHeader:binHeader+next], req[binHeader+next:]
	switch op {
	case opGet, opGetK:
		c.binGet(key, op == opGetK, false, 0, o)
	case opTouch, opGAT, opGATK:
		c.skip(n)
		exp := binary.BigEndian.Uint32(ext)
		if op == opTouch {
			c.binTouch(key, exp, o)
			return
		}
		c.binGet(key, op == opGATK, true, exp, o)
	case opSet, opAdd, opReplace:
		c.binSet(op, key, binary.BigEndian.Uint32(ext), binary.BigEndian.Uint32(ext[4:]), n, rest, o)
	case opAppend, opPrepend:
		c.binSet(op, key, 0, 0, n, rest, o)
	case opDelete:
		c.binDelete(key, o)
	case opIncrement, opDecrement:
		c.binArith(op == opDecrement, key, ext, o)
	case opFlush:
		c.binFlush(ext, o)
	case opVersion:
		c.binReply(o, 0, nil, []byte(Version))
	case opNoop:
		c.binReply(o, 0, nil, nil)
	case opQuit:
		if !quiet {
			c.binReply(o, 0, nil, nil)
		}
		c.state = stateClosed
	case opStat:
		c.skip(n)
		c.binStats(key, o)
	default:
		c.skip(n)
		c.binError(o, binUnknown)
	}
}

// binHead appends a response header.
func (c *Conn) binHead(b []byte, st binStatus, nkey, next, body int, cas uint64) []byte {
	b = append(b, resMagic, byte(c.bin.op))
	b = binary.BigEndian.AppendUint16(b, uint16(nkey))
	b = append(b, byte(next), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(st))
	b = binary.BigEndian.AppendUint32(b, uint32(body))
	b = binary.BigEndian.AppendUint32(b, c.bin.opaque)
	return binary.BigEndian.AppendUint64(b, cas)
}

// binReply puts a successful response with an optional key and value.
func (c *Conn) binReply(o *Out, cas uint64, key, value []byte) {
	var t [binHeader]byte
	o.put(c.binHead(t[:0], binOK, len(key), 0, len(key)+len(value), cas))
	o.put(key)
	o.put(value)
}

func (c *Conn) binError(o *Out, st binStatus) {
	var t [binHeader]byte
	text := st.text()
	o.put(c.binHead(t[:0], st, 0, 0, len(text), 0))
	o.str(text)
}

// done puts the plain success that quiet requests go without.
func (c *Conn) done(o *Out, cas uint64) {
	if !c.noreply {
		c.binReply(o, cas, nil, nil)
	}
}

func (c *Conn) binGet(key []byte, withKey, touch bool, exp uint32, o *Out) {
	var it store.Item
	var ok bool
	if touch {
		it, ok = c.w.Touch(key, c.srv.Store.Deadline(int64(exp)), true)
	} else {
		it, ok = c.w.Get(key)
	}
	if c.srv.Detail.on.Load() {
		c.srv.Detail.get(key, ok)
	}
	if !ok {
		c.binMiss(key, withKey, o)
		return
	}
	nkey := 0
	if withKey {
		nkey = len(key)
	}
	b, direct := c.header(o)
	b = c.binHead(b, binOK, nkey, 4, 4+nkey+it.Len(), it.CAS())
	b = binary.BigEndian.AppendUint32(b, it.Flags())
	b = append(b, it.Key()[:nkey]...)
	if direct {
		o.B = b
		c.value(o, it, false)
		return
	}
	c.sendSlow(o, b, it, true, false)
}

// binMiss says that a key is not there; with its key where a hit would have it.
func (c *Conn) binMiss(key []byte, withKey bool, o *Out) {
	if c.noreply {
		return
	}
	if !withKey {
		c.binError(o, binKeyNotFound)
		return
	}
	var t [binHeader]byte
	o.put(c.binHead(t[:0], binKeyNotFound, len(key), 0, len(key), 0))
	o.put(key)
}

func (c *Conn) binTouch(key []byte, exp uint32, o *Out) {
	it, ok := c.w.Touch(key, c.srv.Store.Deadline(int64(exp)), false)
	if !ok {
		c.binMiss(key, false, o)
		return
	}
	var t [binHeader + 4]byte
	b := c.binHead(t[:0], binOK, 0, 4, 4, it.CAS())
	b = binary.BigEndian.AppendUint32(b, it.Flags())
	c.w.Leave()
	o.put(b)
}

// binSet stores a value of n bytes, of which rest may hold all.
func (c *Conn) binSet(op opcode, key []byte, flags, exp uint32, n int, rest []byte, o *Out) {
	s := &c.set
	s.isMeta, s.cas = false, c.bin.cas
	switch op {
	case opSet:
		s.mode = store.Set
	case opAdd:
		s.mode = store.Add
	case opReplace:
		s.mode = store.Replace
	case opAppend:
		s.mode = store.Append
	case opPrepend:
		s.mode = store.Prepend
	}
	if s.cas != 0 && op != opAppend && op != opPrepend {
		s.mode = store.CAS
	}
	if c.srv.Detail.on.Load() {
		c.srv.Detail.set(key)
	}
	deadline := c.srv.Store.Deadline(int64(exp))
	if len(rest) >= n {
		s.took = n
		st, cas := c.w.Store(s.mode, key, flags, deadline, rest[:n], s.cas)
		c.binStoreReply(st, cas, key, o)
		return
	}
	if st := c.w.Begin(&s.p, key, flags, deadline, n, false); st != store.OK {
		c.binStoreReply(st, 0, key, o)
		c.skip(n)
		return
	}
	c.state = stateValue
}

// binStored stores the value that has come in parts.
func (c *Conn) binStored(o *Out) {
	s := &c.set
	st, cas := c.w.Commit(&s.p, s.mode, s.cas)
	c.binStoreReply(st, cas, nil, o)
}

func (c *Conn) binStoreReply(st store.Status, cas uint64, key []byte, o *Out) {
	switch st {
	case store.OK:
		c.done(o, cas)
	case store.Exists:
		c.binError(o, binKeyExists)
	case store.NotFound:
		c.binError(o, binKeyNotFound)
	case store.TooLarge, store.NoMemory:
		if c.set.mode == store.Set || c.set.mode == store.CAS {
			c.w.Forget(key)
		}
		if st == store.TooLarge {
			c.binError(o, binTooLarge)
		} else {
			c.binError(o, binOutOfMemory)
		}
	default:
		switch c.set.mode {
		case store.Add:
			c.binError(o, binKeyExists)
		case store.Replace:
			c.binError(o, binKeyNotFound)
		default:
			c.binError(o, binNotStored)
		}
	}
}

func (c *Conn) binDelete(key []byte, o *Out) {
	if c.srv.Detail.on.Load() {
		c.srv.Detail.delete(key)
	}
	switch c.w.Delete(key, c.bin.cas) {
	case store.OK:
		c.done(o, 0)
	case store.Exists:
		c.binError(o, binKeyExists)
	default:
		c.binError(o, binKeyNotFound)
	}
}

// noCreate as expiry of an increment means that a missing key stays missing.
const noCreate = 0xffffffff

func (c *Conn) binArith(decr bool, key, ext []byte, o *Out) {
	a := store.Arith{Delta: binary.BigEndian.Uint64(ext), Decr: decr, CAS: c.bin.cas}
	initial, exp := binary.BigEndian.Uint64(ext[8:]), binary.BigEndian.Uint32(ext[16:])
	for {
		it, v, st := c.w.Arith(key, &a)
		switch st {
		case store.OK:
			cas := it.CAS()
			c.w.Leave()
			c.binNumber(v, cas, o)
			return
		case store.NotFound:
			if exp == noCreate {
				c.binError(o, binKeyNotFound)
				return
			}
			var num [maxDigits]byte
			st, cas := c.w.Store(store.Add, key, 0, c.srv.Store.Deadline(int64(exp)), appendUint(num[:0], initial), 0)
			switch st {
			case store.OK:
				c.binNumber(initial, cas, o)
				return
			case store.NotStored:
				continue // someone else made it just now
			case store.NoMemory:
				c.binError(o, binOutOfMemory)
				return
			}
			c.binError(o, binNotStored)
		case store.NonNumeric:
			c.binError(o, binNonNumeric)
		case store.Exists:
			c.binError(o, binKeyExists)
		default:
			c.binError(o, binOutOfMemory)
		}
		return
	}
}

func (c *Conn) binNumber(v, cas uint64, o *Out) {
	if c.noreply {
		return
	}
	var t [8]byte
	binary.BigEndian.PutUint64(t[:], v)
	c.binReply(o, cas, nil, t[:])
}

func (c *Conn) binFlush(ext []byte, o *Out) {
	c.w.Count(countFlush, 1)
	if c.srv.NoFlush {
		c.binError(o, binOutOfMemory)
		return
	}
	var exp uint32
	if len(ext) == 4 {
		exp = binary.BigEndian.Uint32(ext)
	}
	c.srv.Store.Flush(int64(exp))
	c.done(o, 0)
}
