package vm

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestConsoleLines(t *testing.T) {
	c := newConsole(nil, nil)
	for _, s := range []string{"a", "b\r\nc\n", "\x1bc\x1b[?7l\x1b[2Jred\x1b[0m\n", "10%\r20%\r\n", "last"} {
		c.Write([]byte(s))
	}
	if got := c.tail(9); !strings.HasSuffix(got, "| last") {
		t.Errorf("tail %q", got)
	}
	c.finish()
	c.finish()
	var got []string
	for i, l := range c.snapshot() {
		if l.N != i {
			t.Errorf("line %d is numbered %d", i, l.N)
		}
		got = append(got, l.Text)
	}
	if want := "ab|c|red|20%|last"; strings.Join(got, "|") != want {
		t.Errorf("lines %q, want %s", got, want)
	}
	if got := newConsole(nil, nil).tail(3); !strings.Contains(got, "nothing") {
		t.Errorf("empty tail %q", got)
	}
}

// A guest that prints for ever keeps the newest lines, with their numbers.
func TestConsoleIsBounded(t *testing.T) {
	c := newConsole(nil, nil)
	line := append(bytes.Repeat([]byte("x"), 1<<20), '\n')
	for range 20 {
		c.Write(line) // each over lineMax: dropped to nothing
	}
	chunk := bytes.Repeat(append(bytes.Repeat([]byte("y"), 1023), '\n'), 1024)
	for range 24 {
		c.Write(chunk)
	}
	c.Write([]byte("end\n"))
	ls := c.snapshot()
	if n := len(ls); n > 12<<10 {
		t.Errorf("%d lines kept", n)
	}
	if last := ls[len(ls)-1]; last.N != 20+24*1024 || last.Text != "end" {
		t.Errorf("last line %d %q", last.N, last.Text)
	}
	if l, err := c.wait(regexp.MustCompile("^end$"), 0, nil); err != nil || l.N != 20+24*1024 {
		t.Errorf("%+v %v", l, err)
	}
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("a\x1b[1mb\r\n\x1b"), 3)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		whole, parts := newConsole(nil, nil), newConsole(nil, nil)
		whole.Write(p)
		if cut = min(max(cut, 0), len(p)); true {
			parts.Write(p[:cut])
			parts.Write(p[cut:])
		}
		whole.finish()
		parts.finish()
		a, b := whole.snapshot(), parts.snapshot()
		if len(a) != len(b) {
			t.Fatalf("%d lines whole, %d in parts", len(a), len(b))
		}
		for i := range a {
			if a[i].Text != b[i].Text {
				t.Fatalf("line %d: %q whole, %q in parts", i, a[i].Text, b[i].Text)
			}
		}
	})
}

// qmpPair joins a client to a server played by f.
func qmpPair(t *testing.T, f func(net.Conn)) *QMP {
	t.Helper()
	a, b := net.Pipe()
	go f(b)
	q, err := newQMP(a, patience, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func TestQMPAnswersOutOfOrder(t *testing.T) {
	q := qmpPair(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		c.Write([]byte(`{"QMP":{}}`))
		c.Read(buf)
		c.Write([]byte(`{"id":1,"return":{}}`))
		var ids []string
		for len(ids) < 2 {
			n, _ := c.Read(buf)
			for _, m := range regexp.MustCompile(`"id":(\d+)`).FindAllStringSubmatch(string(buf[:n]), -1) {
				ids = append(ids, m[1])
			}
		}
		c.Write([]byte(`{"id":99,"return":"nobody asked"}`))
		for i := 1; i >= 0; i-- {
			c.Write([]byte(`{"id":` + ids[i] + `,"return":` + ids[i] + `}`))
		}
		c.Read(buf)
		c.Close()
	})
	type res struct {
		n   int
		err error
	}
	out := make(chan res, 2)
	for range 2 {
		go func() {
			var r res
			r.err = q.Do("x", map[string]int{"a": 1}, &r.n)
			out <- r
		}()
	}
	sum := 0
	for range 2 {
		r := <-out
		if r.err != nil {
			t.Error(r.err)
		}
		sum += r.n
	}
	if sum != 2+3 {
		t.Errorf("answers add to %d", sum)
	}
	if err := q.Do("y", nil, nil); !errors.Is(err, errQMPClosed) {
		t.Errorf("hang-up: %v", err)
	}
	<-q.Done()
	if err := q.Do("z", nil, nil); err == nil {
		t.Error("after the end: no error")
	}
}

func TestQMPBadAnswers(t *testing.T) {
	q := qmpPair(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		c.Write([]byte(`{"QMP":{}}`))
		for i := 1; ; i++ {
			if _, err := c.Read(buf); err != nil {
				return
			}
			id := strconv.Itoa(i)
			switch i {
			case 1:
				c.Write([]byte(`{"id":1,"return":{}}`))
			case 2:
				c.Write([]byte(`{"id":2,"error":{"class":"GenericError","desc":"no disk"}}`))
			case 3:
				c.Write([]byte(`{"id":` + id + `,"return":"text"}`))
			default:
				c.Write([]byte("garbage"))
			}
		}
	})
	var qe *QMPError
	if err := q.Do("eject", nil, nil); !errors.As(err, &qe) || qe.Desc != "no disk" || !strings.Contains(err.Error(), "eject: no disk (GenericError)") {
		t.Errorf("refused: %v", err)
	}
	var n int
	if err := q.Do("x", nil, &n); err == nil || !strings.Contains(err.Error(), "answer") {
		t.Errorf("wrong type: %v", err)
	}
	if err := q.Do("x", nil, nil); err == nil || !strings.Contains(err.Error(), "invalid character") {
		t.Errorf("garbage: %v", err)
	}
	if shutdownReason([]byte("7")) != "" {
		t.Error("reason of nonsense")
	}
}

func TestReadThreads(t *testing.T) {
	dir := t.TempDir()
	old := procRoot
	procRoot = dir
	defer func() { procRoot = old }()
	write := func(tid, file, text string) {
		p := filepath.Join(dir, "7", "task", tid)
		if err := os.MkdirAll(p, 0o755); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(filepath.Join(p, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	const tail = " S 1 1 1 0 -1 0 0 0 0 0 %U %S 0 0 20 0\n"
	stat := func(u, s string) string {
		return strings.NewReplacer("%U", u, "%S", s).Replace(tail)
	}
	write("7", "stat", "7 (qemu-system-x86)"+stat("3", "4"))
	write("7", "schedstat", "80000000 9000 12\n")
	write("8", "stat", "8 (CPU 0) (TCG) x)"+stat("100", "0"))
	write("8", "schedstat", "1000000000 5000000 3\n")
	write("9", "stat", "9 (worker)"+stat("1", "1")) // no schedstat
	write("10", "stat", "")                         // ended between readdir and open
	write("self", "stat", "")
	ts, err := readThreads(7, map[int]int{8: 0})
	if err != nil || len(ts) != 3 {
		t.Fatalf("%+v %v", ts, err)
	}
	want := []ThreadTime{
		{7, "qemu-system-x86", RoleMain, -1, 80 * time.Millisecond, 9 * time.Microsecond, 30 * time.Millisecond, 40 * time.Millisecond},
		{8, "CPU 0) (TCG) x", RoleVCPU, 0, time.Second, 5 * time.Millisecond, time.Second, 0},
		{9, "worker", RoleOther, -1, 20 * time.Millisecond, 0, 10 * time.Millisecond, 10 * time.Millisecond},
	}
	for i := range want {
		if ts[i] != want[i] {
			t.Errorf("thread %d: %+v, want %+v", i, ts[i], want[i])
		}
	}
	u := SumThreads(ts)
	if u.Total() != 1100*time.Millisecond || u.VCPU.Wait != 5*time.Millisecond {
		t.Errorf("usage %+v", u)
	}
	if d := u.Sub(u); d.Total() != 0 {
		t.Errorf("difference %+v", d)
	}
	for file, text := range map[string]string{"schedstat": "x", "stat": "9 (w) S 1"} {
		write("9", file, text)
		if _, err := readThreads(7, nil); err == nil {
			t.Errorf("%s %q: no error", file, text)
		}
	}
	write("9", "stat", "nonsense")
	if _, err := readThreads(7, nil); err == nil || !strings.Contains(err.Error(), "no command name") {
		t.Errorf("%v", err)
	}
	if _, err := readThreads(99, nil); err == nil {
		t.Error("no process: no error")
	}
}

func TestExitStrings(t *testing.T) {
	for want, e := range map[string]Exit{
		"guest exit code 9":                {Kind: ExitGuest, Code: 9},
		"power-off":                        {Kind: ExitShutdown},
		"qemu failed with status 4: a; b":  {Kind: ExitFailed, Status: 4, Stderr: "a\nb\n"},
		"qemu failed (segmentation fault)": {Kind: ExitFailed, Signal: 11},
		"killed (killed): late":            {Kind: ExitKilled, Signal: 9, Cause: errors.New("late")},
		ExitKind(77).String():              {Kind: ExitKind(77)},
		"reset or triple fault":            {Kind: ExitReset},
	} {
		if got := e.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSetAffinity(t *testing.T) {
	if err := SetAffinity(0, []int{0, 0}); err == nil {
		t.Error("repeated core: no error")
	}
	if AllowedCPUs() < 1 {
		t.Error("no cores")
	}
}

func TestTailBuffer(t *testing.T) {
	var b tailBuffer
	b.Write(bytes.Repeat([]byte("a"), 20<<10))
	b.Write([]byte("end\n"))
	if s := b.String(); len(s) > 16<<10 || !strings.HasSuffix(s, "aend") {
		t.Errorf("%d bytes", len(s))
	}
}
