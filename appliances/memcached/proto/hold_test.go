package proto

import (
	"bytes"
	"strings"
	"testing"

	"osv/appliances/memcached/store"
)

// holdTalk runs in as an engine does that must not block: at most n bytes of
// reply at a time.
func holdTalk(c *Conn, in []byte, n int) ([]byte, Status) {
	var got []byte
	buf := make([]byte, 0, n)
	st := Open
	for {
		o := &Out{B: buf, Hold: true}
		if c.Pending() {
			c.Resume(o)
		} else if len(in) > 0 && st == Open {
			var k int
			k, st = c.FeedHold(in, o)
			in = in[k:]
		} else {
			return got, st
		}
		got = append(got, o.B...)
	}
}

func TestHold(t *testing.T) {
	stream := "set a 1 0 5\r\nhello\r\nset b 0 0 3000\r\n" + strings.Repeat("b", 3000) + "\r\nset l 0 0 600000\r\n" + strings.Repeat("l", 600000) + "\r\nget b\r\nget l\r\nget a b l none a\r\ngets l l l\r\nmg b v k c O1\r\nmg l v\r\nme a\r\nma n N0 v k\r\ngats 0 b a\r\nget" + strings.Repeat(" a", 300) + "\r\nstats slabs\r\nmn\r\nquit\r\nget a\r\n"
	bin := string(binReq(opGet, nil, "a", "")) + string(binReq(opGetK, nil, "l", "")) + string(binReq(opTouch, u32s(0), "a", "")) + string(binReq(opGet, nil, "b", "")) + string(binReq(opNoop, nil, "", ""))
	for _, in := range []string{stream, bin} {
		prepare := func() *Server {
			s := newServer(t, store.Config{})
			if in == bin {
				talk(s, stream, 1<<20)
			}
			return s
		}
		want, wantSt := talk(prepare(), in, 1<<20)
		for _, n := range []int{HeaderMax, HeaderMax + 1, 1500, 65536, 1 << 20} {
			c := NewConn(prepare(), 0)
			got, st := holdTalk(c, []byte(in), n)
			if !bytes.Equal(got, []byte(want)) || st != wantSt {
				i := 0
				for i < min(len(got), len(want)) && got[i] == want[i] {
					i++
				}
				t.Errorf("buffers of %d: %d bytes, want %d; they part at %d: %.60q", n, len(got), len(want), i, got[i:])
			}
		}
	}
}

// TestHoldEnds: a connection that ends while a value is held back lets go of it.
func TestHoldEnds(t *testing.T) {
	s := newServer(t, store.Config{})
	talk(s, "set l 0 0 600000\r\n"+strings.Repeat("l", 600000)+"\r\n", 1<<20)
	c := NewConn(s, 0)
	o := &Out{B: make([]byte, 0, 2000), Hold: true}
	n, st := c.FeedHold([]byte("get l l\r\nget l\r\n"), o)
	if n != len("get l l\r\n") || st != Open || !c.Pending() || c.Closed() {
		t.Errorf("took %d bytes, status %d, pending %v", n, st, c.Pending())
	}
	c.End()
	if c.Pending() || !c.Closed() {
		t.Error("still pending")
	}
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

func TestHoldRefusesMetadump(t *testing.T) {
	c := NewConn(newServer(t, store.Config{}), 0)
	if got, _ := holdTalk(c, []byte("lru_crawler metadump all\r\n"), 4096); string(got) != "ERROR metadump needs -engine=socket\r\n" {
		t.Errorf("%q", got)
	}
}

func TestHoldNoAllocs(t *testing.T) {
	s := newServer(t, store.Config{})
	talk(s, "set b 0 0 9000\r\n"+strings.Repeat("b", 9000)+"\r\n", 1<<20)
	c := NewConn(s, 0)
	req := []byte("get b none b\r\n")
	buf := make([]byte, 0, 4096)
	o := &Out{}
	if n := testing.AllocsPerRun(100, func() {
		for in := req; len(in) > 0 || c.Pending(); {
			*o = Out{B: buf, Hold: true}
			if c.Pending() {
				c.Resume(o)
				continue
			}
			k, _ := c.FeedHold(in, o)
			in = in[k:]
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
