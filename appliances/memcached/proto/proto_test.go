package proto

import (
	"bytes"
	"testing"

	"osv/appliances/memcached/store"
)

func newServer(t testing.TB, c store.Config) *Server {
	t.Helper()
	c.Memory = &store.HostMemory{}
	if c.Now == 0 {
		c.Now = 1_700_000_000
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
	st, err := store.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return &Server{Store: st}
}

// talk feeds in to a new connection, in pieces of n bytes, and returns the reply.
func talk(s *Server, in string, n int) (string, Status) {
	c := NewConn(s, 0)
	o := &Out{B: make([]byte, 0, 4096)}
	st := Open
	for b := []byte(in); len(b) > 0 && st == Open; {
		p := b[:min(n, len(b))]
		b = b[len(p):]
		st = c.Feed(bytes.Clone(p), o)
	}
	c.End()
	return string(o.B), st
}

func BenchmarkGetText(b *testing.B) {
	s := newServer(b, store.Config{})
	c := NewConn(s, 0)
	o := &Out{B: make([]byte, 0, 16384)}
	key := "abcdefghijklmnopqrstuvwxyz012345"
	c.Feed([]byte("set "+key+" 0 0 100\r\n"+string(make([]byte, 100))+"\r\n"), o)
	req := []byte("get " + key + "\r\n")
	b.ReportAllocs()
	for b.Loop() {
		o.B = o.B[:0]
		c.Feed(req, o)
	}
}

func BenchmarkGetUDP(b *testing.B) {
	s := newServer(b, store.Config{})
	c := NewConn(s, 0)
	o := &Out{B: make([]byte, 0, 16384)}
	key := "abcdefghijklmnopqrstuvwxyz012345"
	c.Feed([]byte("set "+key+" 0 0 100\r\n"+string(make([]byte, 100))+"\r\n"), o)
	d := NewDatagram(s, 0)
	req := []byte("\x00\x01\x00\x00\x00\x01\x00\x00get " + key + "\r\n")
	out := make([]byte, 1500)
	b.ReportAllocs()
	for b.Loop() {
		if d.Handle(req, out, false) != 8+6+32+1+1+1+3+2+102+5 {
			b.Fatal("bad reply")
		}
	}
}

func BenchmarkSetText(b *testing.B) {
	s := newServer(b, store.Config{})
	c := NewConn(s, 0)
	o := &Out{B: make([]byte, 0, 16384)}
	req := []byte("set abcdefghijklmnopqrstuvwxyz012345 0 0 100\r\n" + string(make([]byte, 100)) + "\r\n")
	b.ReportAllocs()
	for b.Loop() {
		o.B = o.B[:0]
		c.Feed(req, o)
	}
}
