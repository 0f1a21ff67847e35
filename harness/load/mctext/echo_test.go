package mctext

import (
	"testing"

	"osv/harness/load"
	"osv/harness/load/dist"
)

func TestEchoWantsTheRequestBack(t *testing.T) {
	size, err := dist.Parse("10")
	if err != nil {
		t.Fatal(err)
	}
	it, err := NewItems(10, size, size, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	pick, err := dist.NewPicker("", it.Len())
	if err != nil {
		t.Fatal(err)
	}
	e := NewEcho(NewMix(it, pick, 0))
	q := load.Req{Key: 3, Op: OpGet}
	req := string(e.Append(nil, q))
	for _, c := range []struct {
		reply string
		n     int
		want  load.Verdict
	}{
		{req, len(req), load.Done},
		{req + "more", len(req), load.Done},
		{req[:5], 0, load.More},
		{"", 0, load.More},
		{"END\r\n", 0, load.Wrong},
		{string(e.Append(nil, load.Req{Key: 4, Op: OpGet})), 0, load.Wrong},
	} {
		if n, v := e.Check([]byte(c.reply), q); n != c.n || v != c.want {
			t.Errorf("%q: %d bytes, %v", c.reply, n, v)
		}
	}
}
