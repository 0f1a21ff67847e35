package proto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"osv/appliances/memcached/store"
)

func frame(id, seq, total int, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(id))
	b = binary.BigEndian.AppendUint16(b, uint16(seq))
	b = binary.BigEndian.AppendUint16(b, uint16(total))
	b = append(b, 0, 0)
	return append(b, payload...)
}

// datagrams sends a request and returns the messages of the reply, put together,
// after checking the frame headers.
func datagrams(t *testing.T, d *Datagram, req []byte, inPlace bool) []string {
	t.Helper()
	buf := make([]byte, 1500)
	in := append([]byte(nil), req...)
	out := buf
	if inPlace {
		in = buf[:copy(buf, req)]
	}
	var msgs []string
	var cur strings.Builder
	seq := 0
	for n := d.Handle(in, out, false); n > 0; n = d.More(out) {
		if n > MaxDatagram || n <= FrameHeader {
			t.Fatalf("datagram of %d bytes", n)
		}
		id, s, total, z := binary.BigEndian.Uint16(out), binary.BigEndian.Uint16(out[2:]), binary.BigEndian.Uint16(out[4:]), binary.BigEndian.Uint16(out[6:])
		if id != binary.BigEndian.Uint16(req) || int(s) != seq || z != 0 {
			t.Fatalf("frame header %d %d %d %d, want sequence %d", id, s, total, z, seq)
		}
		cur.Write(out[FrameHeader:n])
		if seq++; seq == int(total) {
			msgs = append(msgs, cur.String())
			cur.Reset()
			seq = 0
		} else if n != MaxDatagram {
			t.Fatalf("datagram %d of %d has %d bytes", s, total, n)
		}
	}
	if seq != 0 {
		t.Fatalf("reply ends after %d datagrams", seq)
	}
	return msgs
}

func TestDatagrams(t *testing.T) {
	big := strings.Repeat("0123456789", 500)
	for _, inPlace := range []bool{false, true} {
		s := newServer(t, store.Config{})
		talk(s, "set big 0 0 5000\r\n"+big+"\r\nset huge 0 0 700000\r\n"+strings.Repeat("h", 700000)+"\r\n", 1<<20)
		d := NewDatagram(s, 0)
		for _, c := range []struct {
			in   string
			want []string
		}{
			{"get a\r\n", []string{"END\r\n"}},
			{"set a 0 0 3\r\nabc\r\n", []string{"STORED\r\n"}},
			{"get a\r\n", []string{"VALUE a 0 3\r\nabc\r\nEND\r\n"}},
			{"get a\n", []string{"VALUE a 0 3\r\nabc\r\nEND\r\n"}},
			{"get a b a\r\n", []string{"VALUE a 0 3\r\nabc\r\nVALUE a 0 3\r\nabc\r\nEND\r\n"}},
			{"gets a\r\nget a\r\nset b 0 0 1 noreply\r\nx\r\nget b\r\n", []string{"VALUE a 0 3 3\r\nabc\r\nEND\r\n", "VALUE a 0 3\r\nabc\r\nEND\r\n", "VALUE b 0 1\r\nx\r\nEND\r\n"}},
			{"get big\r\n", []string{"VALUE big 0 5000\r\n" + big + "\r\nEND\r\n"}},
			{"get big big\r\nversion\r\nget a\r\n", []string{"VALUE big 0 5000\r\n" + big + "\r\nVALUE big 0 5000\r\n" + big + "\r\nEND\r\n", "VERSION 1.6.18\r\n", "VALUE a 0 3\r\nabc\r\nEND\r\n"}},
			{"mg a v k O" + strings.Repeat("x", 30) + "\r\n", []string{"VA 3 ka O" + strings.Repeat("x", 30) + "\r\nabc\r\n"}},
			{"get huge\r\n", []string{"VALUE huge 0 700000\r\n" + strings.Repeat("h", 700000) + "\r\nEND\r\n"}},
			{"get a", nil},
			{"", nil},
			{"set a 0 0 5\r\nab", []string{"CLIENT_ERROR bad data chunk\r\n"}},
			{"set a 0 0 9999999\r\nab", []string{"SERVER_ERROR object too large for cache\r\n"}},
			{"set z 0 0 1\r\nx\r\nquit\r\nget a\r\n", []string{"STORED\r\n"}},
			{"get " + strings.Repeat("k", 251) + "\r\n", []string{"CLIENT_ERROR bad command line format\r\n"}},
			{string(binReq(opVersion, nil, "", "")) + string(binReq(opNoop, nil, "", "")), []string{"V", "N"}},
			{string(binReq(opSet, u32s(0, 0), "bin", "value")), []string{"S"}},
			{string(binReq(opSet, u32s(0, 0), "bin", "value"))[:30], nil},
			{"get bin\r\n", []string{"VALUE bin 0 5\r\nvalue\r\nEND\r\n"}},
		} {
			got := datagrams(t, d, frame(77, 0, 1, c.in), inPlace)
			if len(got) != len(c.want) {
				t.Errorf("in place %v: %.60q: %d messages %.100q, want %d", inPlace, c.in, len(got), got, len(c.want))
				continue
			}
			for i := range got {
				if len(c.want[i]) > 1 && got[i] != c.want[i] {
					t.Errorf("in place %v: %.60q: message %d is %.200q, want %.200q", inPlace, c.in, i, got[i], c.want[i])
				}
			}
			if d.Pending() {
				t.Error("something is left")
			}
		}
		for _, bad := range [][]byte{nil, make([]byte, 8), frame(1, 0, 2, "get a\r\n"), frame(1, 1, 0, "get a\r\n")} {
			if got := datagrams(t, d, append(bad, make([]byte, 0, 8)...), inPlace && len(bad) > 8); len(bad) > 1 && got != nil {
				t.Errorf("%q: %q", bad, got)
			}
		}
		if n := d.Handle(frame(1, 0, 1, "get a\r\n"), make([]byte, 20), false); n != 0 {
			t.Errorf("no room, and %d bytes", n)
		}
		if d.More(make([]byte, 10)) != 0 {
			t.Error("more without room")
		}
		s.Protocol = Binary
		if got := datagrams(t, d, frame(1, 0, 1, "version\r\nversion\r\n"), inPlace); got != nil {
			t.Errorf("text at -B binary: %q", got)
		}
	}
}

func TestDatagramTooLong(t *testing.T) {
	s := newServer(t, store.Config{})
	talk(s, "set huge 0 0 1000000\r\n"+strings.Repeat("h", 1000000)+"\r\n", 1<<21)
	got := datagrams(t, NewDatagram(s, 0), frame(1, 0, 1, "get"+strings.Repeat(" huge", 10)+"\r\n"), false)
	if len(got) != 1 || got[0] != rReplyTooLong {
		t.Errorf("got %.100q", got)
	}
}

func TestUDPAmplificationCap(t *testing.T) {
	s := newServer(t, store.Config{})
	s.UDPFactor = 4
	talk(s, "set a 0 0 3\r\nabc\r\nset big 0 0 5000\r\n"+strings.Repeat("x", 5000)+"\r\n", 10000)
	d := NewDatagram(s, 0)
	if got := datagrams(t, d, frame(1, 0, 1, "get a\r\n"), false); len(got) != 1 || !strings.HasPrefix(got[0], "VALUE") {
		t.Errorf("small reply: %q", got)
	}
	if got := datagrams(t, d, frame(1, 0, 1, "get big\r\n"), false); len(got) != 1 || got[0] != rCapped {
		t.Errorf("large reply: %.60q", got)
	}
	out := make([]byte, 1500)
	if n := d.Handle(frame(1, 0, 1, "get big\r\n"), out, true); n != MaxDatagram {
		t.Errorf("large reply to a proven sender: %d bytes", n)
	}
	for d.More(out) > 0 {
	}
	// Many commands in one request share what it earns.
	req := frame(1, 0, 1, strings.Repeat("mn\r\n", 50)+"stats\r\n")
	total := 0
	for n := d.Handle(req, out, false); n > 0; n = d.More(out) {
		total += n
	}
	if total > 4*len(req) {
		t.Errorf("%d bytes for %d", total, len(req))
	}
	s.UDPFactor = 1
	if got := datagrams(t, d, frame(1, 0, 1, "get a\r\n"), false); got != nil {
		t.Errorf("no budget at all: %q", got)
	}
	if in := s.Store.Info(); in.User[countUDPCapped] < 2 {
		t.Errorf("%d capped", in.User[countUDPCapped])
	}
}

// TestNoAllocs: a request of any common kind allocates nothing, in stream and
// datagram.
func TestNoAllocs(t *testing.T) {
	s := newServer(t, store.Config{})
	v := strings.Repeat("v", 100)
	key := "a-key-of-thirty-two-bytes-length"
	talk(s, "set "+key+" 7 0 100\r\n"+v+"\r\nset n 0 0 3\r\n100\r\nset big 0 0 5000\r\n"+strings.Repeat("b", 5000)+"\r\nset large 0 0 900000\r\n"+strings.Repeat("l", 900000)+"\r\n", 1<<20)
	reqs := map[string]string{
		"get":     "get " + key + "\r\n",
		"miss":    "get none\r\n",
		"mget":    "gets " + key + " none " + key + "\r\n",
		"gat":     "gat 0 " + key + "\r\n",
		"set":     "set " + key + " 7 0 100\r\n" + v + "\r\n",
		"noreply": "set " + key + " 7 0 100 noreply\r\n" + v + "\r\n",
		"cas":     "cas " + key + " 0 0 100 1\r\n" + v + "\r\n",
		"append":  "append none 0 0 3\r\nabc\r\n",
		"incr":    "incr n 1\r\n",
		"delete":  "delete none\r\n",
		"touch":   "touch " + key + " 0\r\n",
		"error":   "bogus\r\n",
		"mg":      "mg " + key + " v c k t O123\r\n",
		"mg b64":  "mg bm9uZQ== b k\r\n",
		"ms":      "ms " + key + " 100 c k O1 T0\r\n" + v + "\r\n",
		"md":      "md none q\r\n",
		"ma":      "ma n v t c\r\n",
		"mn":      "mn\r\n",
		"me":      "me " + key + "\r\n",
		"big":     "get big\r\n",
		"large":   "get large\r\n",
		"bget":    string(binReq(opGet, nil, key, "")),
		"bgetk":   string(binReq(opGetK, nil, key, "")),
		"bset":    string(binReq(opSet, u32s(0, 0), key, v)),
		"bincr":   string(binReq(opIncrement, arithExt(1, 0, 0), "n", "")),
	}
	for name, r := range reqs {
		req := []byte(r)
		c := NewConn(s, 0)
		o := &Out{B: make([]byte, 0, 4096)}
		o.Sink = discard{}
		if n := testing.AllocsPerRun(100, func() {
			o.B = o.B[:0]
			c.Feed(req, o)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		// Cut in the middle.
		if n := testing.AllocsPerRun(100, func() {
			o.B = o.B[:0]
			c.Feed(req[:len(req)/2], o)
			c.Feed(req[len(req)/2:], o)
		}); n != 0 {
			t.Errorf("%s, cut: %v allocations", name, n)
		}
		d := NewDatagram(s, 0)
		f := frame(1, 0, 1, r)
		out := make([]byte, 1500)
		if n := testing.AllocsPerRun(100, func() {
			for n := d.Handle(f, out, false); n > 0; n = d.More(out) {
			}
		}); n != 0 {
			t.Errorf("%s, datagram: %v allocations", name, n)
		}
	}
}

type discard struct{}

func (discard) Flush(b []byte) ([]byte, error) { return b[:0], nil }

// smallSink gives a new buffer of a few bytes each time, as a transmit ring with
// small segments would.
type smallSink struct {
	got  []byte
	n    int
	fail int // error after that many flushes; 0 = never
}

func (s *smallSink) Flush(b []byte) ([]byte, error) {
	s.got = append(s.got, b...)
	if s.fail > 0 {
		if s.fail--; s.fail == 0 {
			return nil, fmt.Errorf("connection is gone")
		}
	}
	return make([]byte, 0, s.n), nil
}

// TestSmallBuffers: the replies are the same however small the buffers are.
func TestSmallBuffers(t *testing.T) {
	stream := "set a 1 0 5\r\nhello\r\nset b 0 0 3000\r\n" + strings.Repeat("b", 3000) + "\r\nset l 0 0 600000\r\n" + strings.Repeat("l", 600000) + "\r\nget a b l none a\r\nmg b v k c O1\r\nme a\r\nma n N0 v k\r\ngats 0 b a\r\nstats slabs\r\n"
	bin := string(binReq(opGet, nil, "a", "")) + string(binReq(opGetK, nil, "l", "")) + string(binReq(opTouch, u32s(0), "a", ""))
	for _, in := range []string{stream, bin} {
		s := newServer(t, store.Config{})
		if in == bin {
			talk(s, stream, 1<<20)
		}
		c := NewConn(s, 0)
		o := &Out{}
		c.Feed([]byte(in), o)
		want := o.B
		for _, n := range []int{1, 13, 1023, 1500} {
			s := newServer(t, store.Config{})
			if in == bin {
				talk(s, stream, 1<<20)
			}
			c := NewConn(s, 0)
			sink := &smallSink{n: n}
			o := &Out{B: make([]byte, 0, n), Sink: sink}
			c.Feed([]byte(in), o)
			if got := append(sink.got, o.B...); !bytes.Equal(got, want) {
				t.Errorf("buffers of %d: %d bytes, want %d", n, len(got), len(want))
			}
			if o.Written() != uint64(len(want)) {
				t.Errorf("written %d", o.Written())
			}
		}
	}
}

// TestBrokenSink: a connection that breaks in the middle of a reply ends, and
// leaves nothing pinned or pending.
func TestBrokenSink(t *testing.T) {
	s := newServer(t, store.Config{})
	talk(s, "set l 0 0 600000\r\n"+strings.Repeat("l", 600000)+"\r\n", 1<<20)
	for fail := 1; fail < 5; fail++ {
		c := NewConn(s, 0)
		o := &Out{B: make([]byte, 0, 100), Sink: &smallSink{n: 100, fail: fail}}
		if st := c.Feed([]byte("get l l l\r\nget l\r\nset x 0 0 10\r\nab"), o); st != Close {
			t.Errorf("failure at flush %d: status %d", fail, st)
		}
	}
	c := NewConn(s, 0)
	o := &Out{}
	c.Feed([]byte("set l 0 0 100000\r\nab"), o)
	c.End()
	talk(s, "delete l\r\n", 100)
	for range 3 {
		s.Store.Maintain(nil)
	}
	for _, ci := range s.Store.Info().Classes {
		if ci.Used != 0 {
			t.Errorf("class %d: %d chunks still used", ci.Class, ci.Used)
		}
	}
}
