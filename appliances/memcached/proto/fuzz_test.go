package proto

import (
	"bytes"
	"testing"

	"osv/appliances/memcached/store"
)

// FuzzStream feeds any bytes, whole and cut in two, to equal caches: no panic,
// the same replies, and nothing left in use.
func FuzzStream(f *testing.F) {
	for _, s := range []string{
		"get a b\r\nset a 1 2 3\r\nabc\r\n", "ms a 2 T0 F1 I C1 MA c k O1 q b\r\nxx\r\nmg a v k\r\n",
		"incr a 1\r\ndecr a 2\r\nma a N0 J1 D2 M- v\r\n", "gats 0 a b c\r\ntouch a 5\r\ndelete a\r\n",
		string(binReq(opSet, u32s(1, 2), "key", "value")) + string(binReq(opGetK, nil, "key", "")),
		"stats\r\nstats items\r\nstats slabs\r\n", "flush_all 5 noreply\r\n", "lru_crawler metadump all\r\n", "\x80", "get " + string(make([]byte, 300)),
	} {
		f.Add([]byte(s), 5)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		cut = min(max(cut, 0), len(in))
		var replies [2][]byte
		for i := range replies {
			st, err := store.New(store.Config{Memory: &store.HostMemory{}, Limit: 8 << 20, Reserve: 8 << 20, Seed: 1, Now: 1_700_000_000})
			if err != nil {
				t.Fatal(err)
			}
			s := &Server{Store: st}
			c := NewConn(s, 0)
			sink := &smallSink{n: 700}
			o := &Out{B: make([]byte, 0, 700), Sink: sink}
			if i == 0 {
				c.Feed(bytes.Clone(in), o)
			} else if c.Feed(bytes.Clone(in[:cut]), o) == Open {
				c.Feed(bytes.Clone(in[cut:]), o)
			}
			c.End()
			replies[i] = append(sink.got, o.B...)
			st.Flush(0)
			for range 3 {
				st.Maintain(nil)
			}
			for _, ci := range st.Info().Classes {
				if ci.Used != 0 {
					t.Errorf("class %d: %d chunks still used", ci.Class, ci.Used)
				}
			}
			st.Close()
		}
		// A line that is too long is refused only while its end is not there,
		// and statistics count the cut.
		if len(in) < lineMax && !bytes.Contains(in, []byte("stats")) && !bytes.Contains(in, []byte{reqMagic}) && !bytes.Equal(replies[0], replies[1]) {
			t.Errorf("%q cut at %d: %q, whole: %q", in, cut, replies[1], replies[0])
		}
	})
}

// FuzzDatagram answers any datagram, in place and not, the same.
func FuzzDatagram(f *testing.F) {
	for _, s := range []string{"get a\r\n", "set a 0 0 1\r\nx\r\nget a\r\n", "get big big\r\n", "mg a k v O1\r\n"} {
		f.Add(frame(1, 0, 1, s))
	}
	f.Add(frame(1, 0, 1, string(binReq(opGet, nil, "big", ""))))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1472 {
			return
		}
		var replies [2][]byte
		for i := range replies {
			st, err := store.New(store.Config{Memory: &store.HostMemory{}, Limit: 8 << 20, Reserve: 8 << 20, Seed: 1, Now: 1_700_000_000})
			if err != nil {
				t.Fatal(err)
			}
			s := &Server{Store: st}
			talk(s, "set big 0 0 3000\r\n"+string(make([]byte, 3000))+"\r\n", 4000)
			d := NewDatagram(s, 0)
			buf, out := make([]byte, 1472), make([]byte, 1472)
			req := buf[:copy(buf, in)]
			if i == 1 {
				out = buf
			}
			for n := d.Handle(req, out, false); n > 0; n = d.More(out) {
				if n > MaxDatagram {
					t.Fatalf("datagram of %d bytes", n)
				}
				replies[i] = append(replies[i], out[:n]...)
			}
			st.Close()
		}
		if !bytes.Equal(replies[0], replies[1]) {
			t.Errorf("%q: in place %q, else %q", in, replies[1], replies[0])
		}
	})
}

// FuzzBase64 decodes anything without writing past its room.
func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "a", "YQ==", "YWI=", "YWJj", "Y!Q==", "====", "YQ==YQ=="} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		dst := make([]byte, len(in)/4*3)
		n := decodeBase64(dst, in)
		if n < 0 || n > len(dst) {
			t.Fatalf("%q: %d bytes of %d", in, n, len(dst))
		}
		if n > 0 {
			// What it decoded encodes to something that decodes to the same.
			enc := appendBase64(nil, dst[:n])
			again := make([]byte, len(enc))
			if m := decodeBase64(again, enc); !bytes.Equal(again[:m], dst[:n]) {
				t.Fatalf("%q: %q, then %q", in, dst[:n], again[:m])
			}
		}
	})
}
