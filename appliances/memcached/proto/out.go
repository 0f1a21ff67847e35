package proto

// Sink takes the replies of a stream when the buffer is full.
type Sink interface {
	// Flush sends b, which is what the last Flush or the creator of the Out
	// provided, filled, and returns an empty buffer (len 0) for what follows,
	// which may be the same memory. It may block.
	Flush(b []byte) ([]byte, error)
}

// Out is where replies go: bytes are added to B up to its capacity, then Sink
// takes it. Without a Sink B grows. After an error everything is dropped.
//
// Hold is for an engine that must not block, and has no Sink: commands stop when
// B has less than HeaderMax of room, and values that do not fit are held back
// (Conn.FeedHold, Conn.Resume). Only the replies of statistics and dumps then
// make B grow.
type Out struct {
	B    []byte
	Sink Sink
	Err  error
	Hold bool

	flushed uint64 // bytes that Sink took
}

// Written is the number of reply bytes so far, those still in B included.
func (o *Out) Written() uint64 { return o.flushed + uint64(len(o.B)) }

func (o *Out) room() int { return cap(o.B) - len(o.B) }

func (o *Out) put(p []byte) {
	if len(p) <= o.room() {
		o.B = append(o.B, p...)
		return
	}
	o.putSlow(p)
}

func (o *Out) putSlow(p []byte) {
	if o.Sink == nil {
		o.B = append(o.B, p...)
		return
	}
	for o.Err == nil {
		n := min(len(p), o.room())
		o.B = append(o.B, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			return
		}
		o.flush()
	}
}

func (o *Out) flush() {
	o.flushed += uint64(len(o.B))
	o.B, o.Err = o.Sink.Flush(o.B)
	if o.Err == nil && cap(o.B) == 0 {
		panic("proto: Flush returned no room")
	}
}

func (o *Out) str(s string) {
	if len(s) <= o.room() {
		o.B = append(o.B, s...)
		return
	}
	var t [256]byte
	for len(s) > 0 {
		n := copy(t[:], s)
		o.putSlow(t[:n])
		s = s[n:]
	}
}

func (o *Out) uint(v uint64) {
	if o.room() >= maxDigits {
		o.B = appendUint(o.B, v)
		return
	}
	var t [maxDigits]byte
	o.putSlow(appendUint(t[:0], v))
}

const maxDigits = 20

// appendUint appends v in decimal.
func appendUint(b []byte, v uint64) []byte {
	if v < 10 {
		return append(b, byte('0'+v))
	}
	if v < 100 {
		return append(b, byte('0'+v/10), byte('0'+v%10))
	}
	if v < 1000 {
		return append(b, byte('0'+v/100), byte('0'+v/10%10), byte('0'+v%10))
	}
	var t [maxDigits]byte
	i := len(t)
	for v > 0 {
		i--
		t[i] = byte('0' + v%10)
		v /= 10
	}
	return append(b, t[i:]...)
}
