package mctext

import (
	"bytes"

	"osv/harness/load"
	"osv/harness/load/dist"
)

// The operations of a Req.
const (
	OpGet uint8 = iota
	OpSet
)

// epochAny lets a GET find either value.
const epochAny = 2

// AppendGet writes the request for item i.
func (it *Items) AppendGet(dst []byte, i uint32) []byte {
	dst = append(dst, "get "...)
	dst = append(dst, it.Key(i)...)
	return append(dst, '\r', '\n')
}

// AppendSet writes the request that stores item i's value of an epoch.
func (it *Items) AppendSet(dst []byte, i uint32, epoch uint8) []byte {
	dst = append(dst, "set "...)
	dst = append(dst, it.Key(i)...)
	dst = append(dst, ' ')
	dst = appendUint(dst, Flags(i))
	dst = append(dst, " 0 "...)
	dst = appendUint(dst, it.valLen[i])
	dst = append(dst, '\r', '\n')
	dst = append(dst, it.Value(i, epoch)...)
	return append(dst, '\r', '\n')
}

// AppendValue writes the reply that a GET of item i must give; the null server
// uses it.
func (it *Items) AppendValue(dst []byte, i uint32, epoch uint8) []byte {
	dst = append(dst, "VALUE "...)
	dst = append(dst, it.Key(i)...)
	dst = append(dst, ' ')
	dst = appendUint(dst, Flags(i))
	dst = append(dst, ' ')
	dst = appendUint(dst, it.valLen[i])
	dst = append(dst, '\r', '\n')
	dst = append(dst, it.Value(i, epoch)...)
	return append(dst, "\r\nEND\r\n"...)
}

func appendUint(dst []byte, v uint32) []byte {
	var b [10]byte
	i := len(b)
	for {
		i--
		b[i] = '0' + byte(v%10)
		if v /= 10; v == 0 {
			return append(dst, b[i:]...)
		}
	}
}

// expect consumes want from *buf. More when buf ends inside a good prefix.
func expect(buf *[]byte, want []byte) load.Verdict {
	n := min(len(*buf), len(want))
	if !bytes.Equal((*buf)[:n], want[:n]) {
		return load.Wrong
	}
	if n < len(want) {
		return load.More
	}
	*buf = (*buf)[n:]
	return load.Done
}

func expectString(buf *[]byte, want string) load.Verdict {
	n := min(len(*buf), len(want))
	if string((*buf)[:n]) != want[:n] {
		return load.Wrong
	}
	if n < len(want) {
		return load.More
	}
	*buf = (*buf)[n:]
	return load.Done
}

// expectUint consumes a decimal number that must be v.
func expectUint(buf *[]byte, v uint32) load.Verdict {
	var room [10]byte
	return expect(buf, appendUint(room[:0], v))
}

// CheckGet checks a reply to GET of item i. epoch says which value it must be, 2
// for either.
func (it *Items) CheckGet(buf []byte, i uint32, epoch uint8) (int, load.Verdict) {
	b := buf
	if len(b) > 0 && b[0] == 'E' {
		switch v := expectString(&b, "END\r\n"); v {
		case load.Done:
			return len(buf) - len(b), load.Miss
		default:
			return 0, v
		}
	}
	if v := expectString(&b, "VALUE "); v != load.Done {
		return 0, v
	}
	if v := expect(&b, it.Key(i)); v != load.Done {
		return 0, v
	}
	if v := expectString(&b, " "); v != load.Done {
		return 0, v
	}
	if v := expectUint(&b, Flags(i)); v != load.Done {
		return 0, v
	}
	if v := expectString(&b, " "); v != load.Done {
		return 0, v
	}
	if v := expectUint(&b, it.valLen[i]); v != load.Done {
		return 0, v
	}
	if v := expectString(&b, "\r\n"); v != load.Done {
		return 0, v
	}
	n := int(it.valLen[i])
	if len(b) < n {
		return 0, load.More // compared once, when it is all there
	}
	ok := epoch != 1 && bytes.Equal(b[:n], it.Value(i, 0)) || epoch != 0 && bytes.Equal(b[:n], it.Value(i, 1))
	if !ok {
		return 0, load.Wrong
	}
	b = b[n:]
	if v := expectString(&b, "\r\nEND\r\n"); v != load.Done {
		return 0, v
	}
	return len(buf) - len(b), load.Hit
}

// CheckSet checks a reply to SET.
func CheckSet(buf []byte) (int, load.Verdict) {
	b := buf
	v := expectString(&b, "STORED\r\n")
	if v != load.Done {
		return 0, v
	}
	return len(buf) - len(b), load.Done
}

// sizes implements the bounds of load.Codec. 40 covers the fixed words and the
// numbers of a command or reply line, and the END line.
type sizes struct{ it *Items }

func (s sizes) MaxRequest() int { return s.it.maxKey + s.it.maxVal + 40 }
func (s sizes) MaxReply() int   { return s.it.maxKey + s.it.maxVal + 40 }

// Mix is the measuring codec: GETs with a share of SETs, keys by popularity.
type Mix struct {
	sizes
	pick     *dist.Picker
	setRatio float64
	stored   []uint64 // bit per item: a SET of the load was acknowledged
	nstored  int
}

var _ load.Codec = (*Mix)(nil)

// NewMix makes a codec over the items.
func NewMix(it *Items, pick *dist.Picker, setRatio float64) *Mix {
	return &Mix{sizes: sizes{it}, pick: pick, setRatio: setRatio, stored: make([]uint64, (it.Len()+63)/64)}
}

// Next draws an operation and a key.
func (m *Mix) Next(r dist.Rand) (load.Req, bool) {
	q := load.Req{Key: m.pick.Pick(r), Op: OpGet, Epoch: epochAny}
	if m.setRatio > 0 && (m.setRatio >= 1 || r.Float64() < m.setRatio) {
		q.Op, q.Epoch = OpSet, 1
	}
	if m.setRatio == 0 {
		q.Epoch = 0
	}
	return q, true
}

// Append writes the request.
func (m *Mix) Append(dst []byte, q load.Req) []byte {
	if q.Op == OpSet {
		return m.it.AppendSet(dst, q.Key, q.Epoch)
	}
	return m.it.AppendGet(dst, q.Key)
}

// Check checks the reply and remembers acknowledged SETs.
func (m *Mix) Check(buf []byte, q load.Req) (int, load.Verdict) {
	if q.Op == OpGet {
		return m.it.CheckGet(buf, q.Key, q.Epoch)
	}
	n, v := CheckSet(buf)
	if v == load.Done {
		if w, b := q.Key/64, uint64(1)<<(q.Key%64); m.stored[w]&b == 0 {
			m.stored[w] |= b
			m.nstored++
		}
	}
	return n, v
}

// Stored reports whether item i was stored with epoch 1 by the load.
func (m *Mix) Stored(i uint32) bool { return m.stored[i/64]>>(i%64)&1 != 0 }

// StoredCount is the number of such items.
func (m *Mix) StoredCount() int { return m.nstored }

// Job is a finite codec: one operation on each of a list of items, repeated for
// those whose reply got lost, up to a number of rounds.
type Job struct {
	sizes
	op      uint8
	epoch   uint8
	todo    []uint32
	done    []bool // by position in todo
	pos     map[uint32]int
	at      int
	rounds  int
	pending int
	misses  int
}

var _ load.Codec = (*Job)(nil)

// NewJob makes a job. For OpSet epoch is what to store, for OpGet what to find.
func NewJob(it *Items, op, epoch uint8, items []uint32, rounds int) *Job {
	j := &Job{sizes: sizes{it}, op: op, epoch: epoch, todo: items, done: make([]bool, len(items)),
		pos: make(map[uint32]int, len(items)), rounds: rounds, pending: len(items)}
	for i, k := range items {
		j.pos[k] = i
	}
	return j
}

// All lists every item.
func All(it *Items) []uint32 {
	l := make([]uint32, it.Len())
	for i := range l {
		l[i] = uint32(i)
	}
	return l
}

// Next gives the next item that has no reply yet.
func (j *Job) Next(dist.Rand) (load.Req, bool) {
	for j.pending > 0 {
		if j.at == len(j.todo) {
			if j.rounds--; j.rounds <= 0 {
				return load.Req{}, false
			}
			j.at = 0
		}
		i := j.at
		j.at++
		if !j.done[i] {
			return load.Req{Key: j.todo[i], Op: j.op, Epoch: j.epoch}, true
		}
	}
	return load.Req{}, false
}

// Append writes the request.
func (j *Job) Append(dst []byte, q load.Req) []byte {
	if q.Op == OpSet {
		return j.it.AppendSet(dst, q.Key, q.Epoch)
	}
	return j.it.AppendGet(dst, q.Key)
}

// Check checks the reply and crosses the item off.
func (j *Job) Check(buf []byte, q load.Req) (n int, v load.Verdict) {
	if q.Op == OpSet {
		n, v = CheckSet(buf)
	} else {
		n, v = j.it.CheckGet(buf, q.Key, q.Epoch)
	}
	if v == load.Hit || v == load.Done || v == load.Miss {
		if i := j.pos[q.Key]; !j.done[i] {
			j.done[i] = true
			j.pending--
			if v == load.Miss {
				j.misses++
			}
		}
	}
	return n, v
}

// Pending is the number of items without a reply, Misses of those not found.
func (j *Job) Pending() int { return j.pending }
func (j *Job) Misses() int  { return j.misses }
