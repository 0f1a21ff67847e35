package proto

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"osv/appliances/memcached/store"
)

// binReq is a request with opaque 0x01020304 and no CAS.
func binReq(op opcode, ext []byte, key, value string) []byte {
	return binReqCAS(op, ext, key, value, 0)
}

func binReqCAS(op opcode, ext []byte, key, value string, cas uint64) []byte {
	b := []byte{reqMagic, byte(op)}
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	b = append(b, byte(len(ext)), 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(ext)+len(key)+len(value)))
	b = binary.BigEndian.AppendUint32(b, 0x01020304)
	b = binary.BigEndian.AppendUint64(b, cas)
	b = append(b, ext...)
	b = append(b, key...)
	return append(b, value...)
}

// binRes renders a response: status, CAS, extras|key|value.
func binRes(t *testing.T, b string) string {
	t.Helper()
	var out []string
	for len(b) > 0 {
		if len(b) < 24 || b[0] != resMagic || b[12:16] != "\x01\x02\x03\x04" {
			t.Fatalf("no response: %q", b)
		}
		next, nkey := int(b[4]), int(binary.BigEndian.Uint16([]byte(b[2:])))
		body := int(binary.BigEndian.Uint32([]byte(b[8:])))
		if len(b) < 24+body {
			t.Fatalf("response is cut: %q", b)
		}
		p := b[24 : 24+body]
		out = append(out, fmt.Sprintf("%02x:%d cas %d %x|%s|%s", b[1], binary.BigEndian.Uint16([]byte(b[6:])), binary.BigEndian.Uint64([]byte(b[16:])), p[:next], p[next:next+nkey], p[next+nkey:]))
		b = b[24+body:]
	}
	return strings.Join(out, "; ")
}

func u32s(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.BigEndian.AppendUint32(b, x)
	}
	return
}

func arithExt(delta, initial uint64, exp uint32) []byte {
	b := binary.BigEndian.AppendUint64(nil, delta)
	b = binary.BigEndian.AppendUint64(b, initial)
	return binary.BigEndian.AppendUint32(b, exp)
}

func TestBinary(t *testing.T) {
	steps := []struct {
		in  []byte
		out string
	}{
		{binReq(opVersion, nil, "", ""), "0b:0 cas 0 ||1.6.18"},
		{binReq(opNoop, nil, "", ""), "0a:0 cas 0 ||"},
		{binReq(opGet, nil, "a", ""), "00:1 cas 0 ||Not found"},
		{binReq(opGetK, nil, "a", ""), "0c:1 cas 0 |a|"},
		{binReq(opGetQ, nil, "a", ""), ""},
		{binReq(opGetKQ, nil, "a", ""), ""},
		{binReq(opReplace, u32s(0, 0), "a", "v"), "03:1 cas 0 ||Not found"},
		{binReq(opAppend, nil, "a", "v"), "0e:5 cas 0 ||Not stored."},
		{binReq(opSet, u32s(0xdeadbeef, 0), "a", "value"), "01:0 cas 1 ||"},
		{binReq(opGet, nil, "a", ""), "00:0 cas 1 deadbeef||value"},
		{binReq(opGetKQ, nil, "a", ""), "0d:0 cas 1 deadbeef|a|value"},
		{binReq(opAdd, u32s(0, 0), "a", "x"), "02:2 cas 0 ||Data exists for key."},
		{binReq(opAddQ, u32s(0, 0), "b", "x"), ""},
		{binReqCAS(opSet, u32s(0, 0), "a", "w", 99), "01:2 cas 0 ||Data exists for key."},
		{binReqCAS(opSet, u32s(0, 0), "none", "w", 99), "01:1 cas 0 ||Not found"},
		{binReqCAS(opReplace, u32s(0, 0), "a", "w", 1), "03:0 cas 3 ||"},
		{binReq(opAppendQ, nil, "a", "z"), ""},
		{binReqCAS(opPrepend, nil, "a", "p", 1), "0f:2 cas 0 ||Data exists for key."},
		{binReq(opPrepend, nil, "a", "p"), "0f:0 cas 5 ||"},
		{binReq(opGet, nil, "a", ""), "00:0 cas 5 00000000||pwz"},
		{binReq(opTouch, u32s(100), "a", ""), "1c:0 cas 5 00000000||"},
		{binReq(opTouch, u32s(100), "none", ""), "1c:1 cas 0 ||Not found"},
		{binReq(opGAT, u32s(100), "a", ""), "1d:0 cas 5 00000000||pwz"},
		{binReq(opGATK, u32s(100), "none", ""), "23:1 cas 0 |none|"},
		{binReq(opGATQ, u32s(100), "none", ""), ""},
		{binReq(opGATKQ, u32s(0), "a", ""), "24:0 cas 5 00000000|a|pwz"},
		{binReq(opIncrement, arithExt(1, 5, noCreate), "n", ""), "05:1 cas 0 ||Not found"},
		{binReq(opIncrement, arithExt(1, 5, 0), "n", ""), "05:0 cas 6 ||\x00\x00\x00\x00\x00\x00\x00\x05"},
		{binReq(opIncrement, arithExt(10, 5, 0), "n", ""), "05:0 cas 7 ||\x00\x00\x00\x00\x00\x00\x00\x0f"},
		{binReq(opDecrementQ, arithExt(1, 5, 0), "n", ""), ""},
		{binReqCAS(opDecrement, arithExt(1, 5, 0), "n", "", 1), "06:2 cas 0 ||Data exists for key."},
		{binReq(opDecrement, arithExt(100, 5, 0), "n", ""), "06:0 cas 9 ||\x00\x00\x00\x00\x00\x00\x00\x00"},
		{binReq(opIncrementQ, arithExt(1, 5, 0), "a", ""), "15:6 cas 0 ||Non-numeric server-side value for incr or decr"},
		{binReqCAS(opDelete, nil, "a", "", 1), "04:2 cas 0 ||Data exists for key."},
		{binReq(opDeleteQ, nil, "a", ""), ""},
		{binReq(opDeleteQ, nil, "a", ""), "14:1 cas 0 ||Not found"},
		{binReq(opSet, u32s(0, 0), "big", strings.Repeat("x", 1<<20)), "01:3 cas 0 ||Too large."},
		{binReq(opSet, u32s(0, 0), "large", strings.Repeat("x", 700000)), "01:0 cas 10 ||"},
		{binReq(opSetQ, u32s(0, 0), "empty", ""), ""},
		{binReq(opGet, nil, "empty", ""), "00:0 cas 11 00000000||"},
		{binReq(opFlushQ, nil, "", ""), ""},
		{binReq(opFlush, u32s(0), "", ""), "08:0 cas 0 ||"},
		{binReq(opGet, nil, "empty", ""), "00:1 cas 0 ||Not found"},
		{binReq(0x1b, nil, "key", "value"), "1b:129 cas 0 ||Unknown command"},
		{binReq(opSASLList, nil, "", ""), "20:129 cas 0 ||Unknown command"},
		{binReq(opStat, nil, "nosuch", ""), "10:1 cas 0 ||Not found"},
		{binReq(opStat, nil, "reset", ""), "10:0 cas 0 ||"},
		{binReq(opStat, nil, "detail on", ""), "10:0 cas 0 ||"},
		{binReq(opStat, nil, "detail dump", ""), "10:0 cas 0 |detail dump|END\r\n; 10:0 cas 0 ||"},
		{binReq(opStat, nil, "detail off", ""), "10:0 cas 0 ||"},
		{binReq(opStat, nil, "detail x", ""), "10:1 cas 0 ||Not found"},
	}
	for _, n := range []int{1 << 22, 1, 25} {
		s := newServer(t, store.Config{})
		c := NewConn(s, 0)
		for i, st := range steps {
			o := &Out{B: make([]byte, 0, 4096)}
			for b := st.in; len(b) > 0; {
				p := b[:min(n, len(b))]
				b = b[len(p):]
				if c.Feed(p, o) != Open {
					t.Fatalf("step %d: closed", i)
				}
				if len(st.in) > 10000 && n < 1000 && len(st.in)-len(b) > 100 {
					// Byte by byte for the first hundred, then the rest.
					c.Feed(b, o)
					break
				}
			}
			if got := binRes(t, string(o.B)); got != st.out {
				t.Errorf("step %d in pieces of %d: %q, want %q", i, n, got, st.out)
			}
		}
		c.End()
	}
}

func TestBinaryStats(t *testing.T) {
	s := newServer(t, store.Config{})
	got, _ := talk(s, string(binReq(opStat, nil, "", "")), 100)
	r := binRes(t, got)
	if !strings.Contains(r, "|cmd_get|0") || !strings.HasSuffix(r, "10:0 cas 0 ||") {
		t.Errorf("stats: %.300q", r)
	}
	if got, _ := talk(s, string(binReq(opStat, nil, "settings", "")), 100); binRes(t, got) != "10:0 cas 0 ||" {
		t.Errorf("settings without a server: %q", got)
	}
}

func TestBinaryBadRequests(t *testing.T) {
	s := newServer(t, store.Config{})
	bad := func(op opcode, f func(h []byte)) string {
		b := binReq(op, nil, "k", "")
		f(b)
		return string(b)
	}
	for name, c := range map[string]struct {
		in  string
		out string
	}{
		"magic":      {"\x80" + string(make([]byte, 23+24)), "00:4 cas 0 ||Invalid arguments"},
		"long key":   {bad(opGet, func(h []byte) { h[2], h[9] = 1, 1 }), "00:4 cas 0 ||Invalid arguments"},
		"long parts": {bad(opGet, func(h []byte) { h[4] = 200 }), "00:129 cas 0 ||Unknown command"},
		"extras":     {string(binReq(opGet, []byte{1}, "k", "")), "00:4 cas 0 ||Invalid arguments"},
		"no key":     {string(binReq(opDelete, nil, "", "")), "04:4 cas 0 ||Invalid arguments"},
		"no extras":  {string(binReq(opSet, nil, "k", "v")), "01:4 cas 0 ||Invalid arguments"},
		"body":       {string(binReq(opNoop, nil, "", "x")), "0a:4 cas 0 ||Invalid arguments"},
	} {
		got, st := talk(s, c.in, 1000)
		got = strings.Replace(got, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00Invalid", "\x01\x02\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00Invalid", 1)
		if r := binRes(t, got); r != c.out || st != Close {
			t.Errorf("%s: %q, status %d; want %q", name, r, st, c.out)
		}
	}
	if got, st := talk(s, string(binReq(opNoop, nil, "", ""))+"get a\r\n"+strings.Repeat(" ", 30), 1000); len(got) != 24 || st != Close {
		t.Errorf("text after binary: %q, %d", got, st)
	}
	for _, op := range []opcode{opQuit, opQuitQ} {
		got, st := talk(s, string(binReq(op, nil, "", "")), 1000)
		if st != Close || (op == opQuit) != (len(got) == 24) {
			t.Errorf("quit %d: %q, %d", op, got, st)
		}
	}
	if binStatus(0x55).text() != "UNHANDLED ERROR" {
		t.Error("text of an unknown status")
	}
}
