package mctext

import (
	"bytes"
	"fmt"
	"testing"

	"osv/harness/load"
	"osv/harness/load/dist"
)

func parse(t testing.TB, s string) dist.Dist {
	t.Helper()
	d, err := dist.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func items(t testing.TB, n int, key, value string) *Items {
	t.Helper()
	it, err := NewItems(n, parse(t, key), parse(t, value), MaxValue, 7)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func TestItemsFollowTheirSizes(t *testing.T) {
	it := items(t, 500, "32", "100")
	seen := map[string]bool{}
	for i := uint32(0); i < 500; i++ {
		k, v := it.Key(i), it.Value(i, 0)
		if len(k) != 32 || len(v) != 100 || seen[string(k)] {
			t.Fatalf("item %d: key %q (%d), value %d bytes", i, k, len(k), len(v))
		}
		if bytes.ContainsAny(k, " \r\n\x00") {
			t.Fatalf("key %q has a byte the protocol forbids", k)
		}
		if bytes.Equal(v, it.Value(i, 1)) {
			t.Fatalf("item %d: both epochs have the same value", i)
		}
		seen[string(k)] = true
		if f, ok := it.Find(k); !ok || f != i {
			t.Fatalf("Find(%q) = %d, %v", k, f, ok)
		}
	}
	for _, k := range []string{"", "k00", "x000001_", "k00000g_", "k000001x", "k0001f4_zzzz", "k000001_wrong-tail"} {
		if _, ok := it.Find([]byte(k)); ok {
			t.Errorf("found %q", k)
		}
	}
	etc := items(t, 2000, "fb_key", "fb_value")
	if etc.MaxKey() < 60 || etc.MaxKey() > MaxKey || etc.MaxValue() < 1000 || etc.MaxValue() > MaxValue {
		t.Errorf("ETC: largest key %d, value %d", etc.MaxKey(), etc.MaxValue())
	}
	clamped := items(t, 10, "1", "fixed:-5")
	if len(clamped.Key(3)) != MinKey || len(clamped.Value(3, 1)) != 0 {
		t.Error("sizes are not clamped")
	}
	for _, bad := range [][2]int{{0, 10}, {1 << 25, 10}, {5, MaxValue + 1}, {5, -1}} {
		if _, err := NewItems(bad[0], parse(t, "32"), parse(t, "32"), bad[1], 1); err == nil {
			t.Errorf("NewItems(%v) accepted", bad)
		}
	}
}

func TestRequests(t *testing.T) {
	it := items(t, 10, "8", "3")
	if got := string(it.AppendGet(nil, 9)); got != "get k000009_\r\n" {
		t.Errorf("%q", got)
	}
	want := fmt.Sprintf("set k000009_ 9 0 3\r\n%s\r\n", it.Value(9, 1))
	if got := string(it.AppendSet(nil, 9, 1)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := string(appendUint(nil, 4294967295)); got != "4294967295" {
		t.Errorf("%q", got)
	}
}

// Every prefix of a right reply wants more; the whole is a hit, and what follows
// it is left alone; a change of any byte is wrong, never a hit.
func TestCheckGetEveryByteMatters(t *testing.T) {
	it := items(t, 100, "20", "17")
	reply := it.AppendValue(nil, 42, 0)
	for n := range reply {
		if _, v := it.CheckGet(reply[:n], 42, 0); v != load.More {
			t.Fatalf("prefix of %d bytes: verdict %d", n, v)
		}
	}
	if n, v := it.CheckGet(append(bytes.Clone(reply), "VALUE next"...), 42, 0); n != len(reply) || v != load.Hit {
		t.Fatalf("%d, %d", n, v)
	}
	for i := range reply {
		bad := bytes.Clone(reply)
		bad[i] ^= 0x20
		if n, v := it.CheckGet(bad, 42, 0); v == load.Hit || v == load.Miss || n != 0 {
			t.Fatalf("byte %d changed: verdict %d, %d bytes", i, v, n)
		}
	}
	for _, c := range []struct {
		reply string
		v     load.Verdict
		n     int
	}{
		{"END\r\n", load.Miss, 5}, {"EN", load.More, 0}, {"END\r\nVALUE", load.Miss, 5}, {"ERROR\r\n", load.Wrong, 0},
		{"SERVER_ERROR out of memory\r\n", load.Wrong, 0}, {"", load.More, 0},
	} {
		if n, v := it.CheckGet([]byte(c.reply), 42, 0); v != c.v || n != c.n {
			t.Errorf("%q: %d bytes, verdict %d", c.reply, n, v)
		}
	}
}

func TestCheckGetEpochs(t *testing.T) {
	it := items(t, 100, "20", "50")
	r0, r1 := it.AppendValue(nil, 5, 0), it.AppendValue(nil, 5, 1)
	for _, c := range []struct {
		reply []byte
		epoch uint8
		want  load.Verdict
	}{{r0, 0, load.Hit}, {r1, 0, load.Wrong}, {r0, 1, load.Wrong}, {r1, 1, load.Hit}, {r0, epochAny, load.Hit}, {r1, epochAny, load.Hit}} {
		if _, v := it.CheckGet(c.reply, 5, c.epoch); v != c.want {
			t.Errorf("epoch %d: verdict %d, want %d", c.epoch, v, c.want)
		}
	}
}

func TestMix(t *testing.T) {
	it := items(t, 64, "20", "50")
	p, _ := dist.NewPicker("uniform", 64)
	r := dist.NewRand(1)
	m := NewMix(it, p, 0.25)
	sets := 0
	for range 10000 {
		q, ok := m.Next(r)
		if !ok {
			t.Fatal("a mix ended")
		}
		buf := m.Append(make([]byte, 0, m.MaxRequest()), q)
		if len(buf) > m.MaxRequest() {
			t.Fatalf("request of %d bytes, bound %d", len(buf), m.MaxRequest())
		}
		reply := []byte("STORED\r\n")
		want := load.Done
		if q.Op == OpSet {
			sets++
		} else {
			reply, want = it.AppendValue(nil, q.Key, 1), load.Hit
		}
		if len(reply) > m.MaxReply() {
			t.Fatalf("reply of %d bytes, bound %d", len(reply), m.MaxReply())
		}
		if n, v := m.Check(reply, q); n != len(reply) || v != want {
			t.Fatalf("%+v: %d, %d", q, n, v)
		}
	}
	if sets < 2300 || sets > 2700 {
		t.Errorf("%d SETs of 10000, want 2500", sets)
	}
	if m.StoredCount() != 64 || !m.Stored(63) {
		t.Errorf("%d items stored", m.StoredCount())
	}
	gets := NewMix(it, p, 0)
	if q, _ := gets.Next(r); q.Op != OpGet || q.Epoch != 0 {
		t.Errorf("%+v", q)
	}
	all := NewMix(it, p, 1)
	if q, _ := all.Next(r); q.Op != OpSet || all.Stored(q.Key) {
		t.Errorf("%+v", q)
	}
	if n, v := all.Check([]byte("NOT_STORED\r\n"), load.Req{Op: OpSet}); n != 0 || v != load.Wrong || all.StoredCount() != 0 {
		t.Errorf("%d %d", n, v)
	}
}

func TestJobRepeatsWhatGotLost(t *testing.T) {
	it := items(t, 5, "20", "50")
	j := NewJob(it, OpSet, 0, All(it), 3)
	r := dist.NewRand(1)
	var order []uint32
	for {
		q, ok := j.Next(r)
		if !ok {
			break
		}
		order = append(order, q.Key)
		if q.Key == 3 && len(order) < 6 || q.Key == 4 {
			continue // lost
		}
		if _, v := j.Check([]byte("STORED\r\n"), q); v != load.Done {
			t.Fatal(v)
		}
		if got := string(j.Append(nil, q)); got[:4] != "set " {
			t.Fatal(got)
		}
	}
	if got := fmt.Sprint(order); got != "[0 1 2 3 4 3 4 4]" {
		t.Errorf("order %v", got)
	}
	if j.Pending() != 1 {
		t.Errorf("%d pending", j.Pending())
	}
	g := NewJob(it, OpGet, 1, []uint32{2}, 1)
	q, _ := g.Next(r)
	if string(g.Append(nil, q)[:4]) != "get " {
		t.Error("not a get")
	}
	if _, v := g.Check([]byte("END\r\n"), q); v != load.Miss || g.Misses() != 1 || g.Pending() != 0 {
		t.Errorf("%d %d %d", v, g.Misses(), g.Pending())
	}
	if _, ok := g.Next(r); ok {
		t.Error("a finished job goes on")
	}
}

func TestNoAllocations(t *testing.T) {
	it := items(t, 1000, "32", "32")
	p, _ := dist.NewPicker("zipf:0.9", 1000)
	m := NewMix(it, p, 0.5)
	r := dist.NewRand(1)
	buf, reply := make([]byte, 0, 512), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(1000, func() {
		q, _ := m.Next(r)
		m.Append(buf[:0], q)
		m.Check(it.AppendValue(reply[:0], q.Key, 0), q)
	}); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

// A checker must not read past its buffer, panic, or consume more than it got,
// and must accept exactly the one right reply.
func FuzzCheckGet(f *testing.F) {
	it := items(f, 300, "20", "uniform:0,60")
	f.Add([]byte("END\r\n"), uint32(1))
	f.Add([]byte("VALUE k000001_"), uint32(1))
	f.Add(it.AppendValue(nil, 7, 0), uint32(7))
	f.Add(it.AppendValue(nil, 8, 1), uint32(8))
	f.Fuzz(func(t *testing.T, b []byte, i uint32) {
		i %= 300
		n, v := it.CheckGet(b[:len(b):len(b)], i, epochAny)
		right0, right1 := it.AppendValue(nil, i, 0), it.AppendValue(nil, i, 1)
		switch v {
		case load.Hit:
			if !bytes.Equal(b[:n], right0) && !bytes.Equal(b[:n], right1) {
				t.Fatalf("accepted %q", b[:n])
			}
		case load.Miss:
			if string(b[:n]) != "END\r\n" {
				t.Fatalf("miss on %q", b[:n])
			}
		case load.More, load.Wrong:
			if n != 0 || bytes.HasPrefix(b, right0) || bytes.HasPrefix(b, right1) {
				t.Fatalf("verdict %d, %d bytes of %q", v, n, b)
			}
		default:
			t.Fatalf("verdict %d for a GET", v)
		}
		if n, v := CheckSet(b); v == load.Done && string(b[:n]) != "STORED\r\n" {
			t.Fatalf("stored on %q", b[:n])
		}
	})
}
