package udp

// Reassembly of replies that span several datagrams. They may come in any order;
// each carries its sequence number and the number of datagrams.

// maxPieces bounds a reply: 1,392 bytes of data each, so about 1 MB would not
// fit; requests that large do not fit a datagram either, and populating goes the
// same way. 64 pieces are 89 kB.
const maxPieces = 64

const assemblies = 32

type assembly struct {
	id     int32 // request id, -1 free
	total  uint16
	got    uint16
	pieces [maxPieces]piece
	used   int
	buf    []byte // pieces in the order in which they came
	out    []byte // the reply in order
}

type piece struct{ off, len int32 }

func newAssemblies(maxReply int) []assembly {
	a := make([]assembly, assemblies)
	for i := range a {
		a[i] = assembly{id: -1, buf: make([]byte, maxReply+maxPieces*headerBytes), out: make([]byte, 0, maxReply+maxPieces*headerBytes)}
	}
	return a
}

// assemble adds a datagram to its reply and returns the whole when it is
// complete. A reply that cannot be right is counted wrong; when the pool is
// exhausted the request is left to time out.
func (e *engine) assemble(s *slot, id, seq, total uint16, body []byte) ([]byte, bool) {
	if len(e.asm) == 0 || total == 0 || total > maxPieces || seq >= total {
		e.wrong(s, body)
		return nil, false
	}
	if s.asm < 0 {
		for i := range e.asm {
			if e.asm[i].id < 0 {
				a := &e.asm[i]
				a.id, a.total, a.got, a.used = int32(id), total, 0, 0
				for j := range a.pieces[:total] {
					a.pieces[j].off = -1
				}
				s.asm = int16(i)
				break
			}
		}
		if s.asm < 0 {
			return nil, false
		}
	}
	a := &e.asm[s.asm]
	if a.total != total || a.pieces[seq].off >= 0 || a.used+len(body) > len(a.buf) {
		e.wrong(s, body)
		return nil, false
	}
	a.pieces[seq] = piece{int32(a.used), int32(len(body))}
	a.used += copy(a.buf[a.used:], body)
	if a.got++; a.got < total {
		return nil, false
	}
	a.out = a.out[:0]
	for _, p := range a.pieces[:total] {
		a.out = append(a.out, a.buf[p.off:p.off+p.len]...)
	}
	return a.out, true
}
