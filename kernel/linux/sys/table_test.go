package sys

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// memory is one piece of user memory at base.
type memory struct {
	base uint64
	b    []byte
}

func (m *memory) CopyIn(p []byte, addr uint64) error {
	if addr < m.base || addr-m.base+uint64(len(p)) > uint64(len(m.b)) {
		return syscall.EFAULT
	}
	copy(p, m.b[addr-m.base:])
	return nil
}

func (m *memory) CopyOut(addr uint64, p []byte) error { return syscall.EFAULT }

func ok(t *task.Task, a *Args) (uint64, error) { return a[2], nil }

func TestNewTableRefuses(t *testing.T) {
	for _, c := range []struct {
		e    Entry
		want string
	}{
		{Entry{Nr: 335, Name: "x", Level: Full, Fn: ok}, "no call 335"},
		{Entry{Nr: 9999, Name: "x", Level: Full, Fn: ok}, "no call 9999"},
		{Entry{Nr: 0, Name: "write", Level: Full, Fn: ok}, "is read, not write"},
		{Entry{Nr: 0, Name: "read", Level: Full}, "no function"},
		{Entry{Nr: 0, Name: "read", Level: Partial, Fn: ok}, "without a note"},
		{Entry{Nr: 1, Name: "write", Level: Full, Fn: ok}, "twice"},
	} {
		_, err := NewTable(Options{}, []Entry{{Nr: 1, Name: "write", Level: Full, Fn: ok}}, []Entry{c.e})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.e, err)
		}
	}
}

func TestDispatch(t *testing.T) {
	var log bytes.Buffer
	tab, err := NewTable(Options{Log: &log, Count: true, Time: true,
		Who: func(*task.Task) (int, string, vfs.Memory) { return 7, "prog", nil },
	}, []Entry{{Nr: 1, Name: "write", Level: Full, Fn: ok}})
	if err != nil {
		t.Fatal(err)
	}
	a := [6]uint64{1, 0, 5}
	if r, err := tab.Dispatch(nil, 1, &a); r != 5 || err != nil {
		t.Fatal(r, err)
	}
	for range 2 {
		for _, nr := range []uint64{425, 1 << 40, 340} {
			if _, err := tab.Dispatch(nil, nr, &a); err != syscall.ENOSYS {
				t.Fatalf("call %d: %v", nr, err)
			}
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 3 || !strings.Contains(log.String(), "prog[7]: system call 425, io_uring_setup, is not served") {
		t.Fatalf("log:\n%s", log.String())
	}
	st := tab.Stats()
	if len(st) != 3 || st[0].Calls != 1 || st[0].Name != "write" || st[2].Calls != 2 {
		t.Fatalf("%+v", st)
	}
	if es := tab.Entries(); es[0].Name != "read" || es[len(es)-1].Nr != 462 || es[1].Level != Full {
		t.Fatal("entries")
	}
}

func TestDispatchAllocatesNothing(t *testing.T) {
	tab, _ := NewTable(Options{}, []Entry{{Nr: 1, Name: "write", Level: Full, Fn: ok}})
	a := [6]uint64{1, 0, 5}
	if n := testing.AllocsPerRun(100, func() { _, _ = tab.Dispatch(nil, 1, &a) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// The lines are what strace 6.1 prints for the same calls.
func TestTrace(t *testing.T) {
	m := &memory{0x1000, make([]byte, 300)}
	copy(m.b, "/etc/pass\"wd\x00")
	copy(m.b[100:], "a\n\x01\x0128\xff")
	long := strings.Repeat("x", 200)
	copy(m.b[120:], long[:180])
	var out bytes.Buffer
	fails := func(e error) Fn { return func(*task.Task, *Args) (uint64, error) { return 0, e } }
	returns := func(r uint64) Fn { return func(*task.Task, *Args) (uint64, error) { return r, nil } }
	for _, c := range []struct {
		e    Entry
		a    [6]uint64
		want string
	}{
		{Entry{Nr: 257, Name: "openat", Fn: returns(3), Sig: "asom"}, [6]uint64{0xffffff9c, 0x1000, 0x80241, 0o644}, `7 openat(AT_FDCWD, "/etc/pass\"wd", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0644) = 3`},
		{Entry{Nr: 257, Name: "openat", Fn: fails(syscall.ENOENT), Sig: "asom"}, [6]uint64{5, 0x10, 2, 0}, `7 openat(5, 0x10, O_RDWR) = -1 ENOENT (no such file or directory)`},
		{Entry{Nr: 0, Name: "read", Fn: returns(7), Sig: "fBu"}, [6]uint64{3, 0x1064, 100}, `7 read(3, "a\n\1\00128\377", 100) = 7`},
		{Entry{Nr: 1, Name: "write", Fn: fails(abi.ERESTARTSYS), Sig: "fbu"}, [6]uint64{1, 0x1078, 50}, `7 write(1, "` + long[:32] + `"..., 50) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)`},
		{Entry{Nr: 9, Name: "mmap", Fn: returns(0x7f0000001000), Sig: "puPMfx"}, [6]uint64{0, 4096, 3, 0x22, 0xffffffff, 0}, `7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0x0) = 0x7f0000001000`},
		{Entry{Nr: 10, Name: "mprotect", Fn: returns(0), Sig: "puP"}, [6]uint64{0x5000, 4096, 0}, `7 mprotect(0x5000, 4096, PROT_NONE) = 0`},
		{Entry{Nr: 62, Name: "kill", Fn: returns(0), Sig: "dS"}, [6]uint64{^uint64(0), 34}, `7 kill(-1, SIGRT_2) = 0`},
		{Entry{Nr: 202, Name: "futex", Fn: returns(0), Sig: "pUdpp"}, [6]uint64{0x1000, 0x189, 2, 0, 0}, `7 futex(0x1000, FUTEX_WAIT_BITSET|FUTEX_PRIVATE_FLAG|FUTEX_CLOCK_REALTIME, 2, NULL, NULL) = 0`},
		{Entry{Nr: 56, Name: "clone", Fn: returns(9), Sig: "Cp"}, [6]uint64{0x3d0f00, 0x1000}, `7 clone(CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM|CLONE_SETTLS|CLONE_PARENT_SETTID|CLONE_CHILD_CLEARTID, 0x1000) = 9`},
	} {
		out.Reset()
		c.e.Level = Full
		tab, err := NewTable(Options{Trace: &out, Who: func(*task.Task) (int, string, vfs.Memory) { return 7, "prog", m }}, []Entry{c.e})
		if err != nil {
			t.Fatal(err)
		}
		a := c.a
		_, _ = tab.Dispatch(nil, uint64(c.e.Nr), &a)
		if got := strings.TrimSuffix(out.String(), "\n"); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		_, _ = tab.Dispatch(nil, 425, &a)
		if !strings.Contains(out.String(), "ENOSYS") {
			t.Error("a call that nobody serves is not traced")
		}
	}
}

func TestTraceRate(t *testing.T) {
	var out bytes.Buffer
	tab, _ := NewTable(Options{Trace: &out, TraceRate: 10}, []Entry{{Nr: 39, Name: "getpid", Level: Full, Fn: ok}})
	for range 1000 {
		_, _ = tab.Dispatch(nil, 39, &[6]uint64{})
	}
	if n := strings.Count(out.String(), "\n"); n < 10 || n > 100 {
		t.Fatalf("%d lines", n)
	}
	tab.tracer.window = tab.tracer.window.Add(-2e9)
	_, _ = tab.Dispatch(nil, 39, &[6]uint64{})
	if !strings.Contains(out.String(), "calls not shown") {
		t.Fatal("what was left out is not told")
	}
}

// Every name that nobody serves says what its lack costs, or belongs to a topic.
func TestSpecNames(t *testing.T) {
	seen := map[string]bool{}
	for nr, s := range spec {
		if s.name == "" && (nr < 335 || nr > 423) {
			t.Errorf("number %d has no name", nr)
		}
		if s.name != "" && seen[s.name] {
			t.Errorf("%s twice", s.name)
		}
		seen[s.name] = true
	}
	if fmt.Sprint(spec[0].name, spec[231].name, spec[435].name) != "readexit_groupclone3" {
		t.Error("names are shifted")
	}
}
