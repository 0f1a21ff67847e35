package proc_test

import (
	"bytes"
	"encoding/binary"
	"sync"
	"syscall"
	"testing"
	"time"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/sys/memory"
	"osv/kernel/linux/sys/proc"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

var le = binary.LittleEndian

// Places in a program's memory.
const (
	data  = ring3.Data
	buf   = data + 0x200
	word  = data + 0x100
	stack = data + 0x1f00
	none  = ^uint64(0)
)

type console struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.Write(p)
}

// prog is a program that knows its test.
type prog struct {
	*ring3.Prog
	t *testing.T
	k *task.Kernel
}

// run runs f as a program of root's, to exit(0).
func run(t *testing.T, f func(p prog)) *task.Kernel {
	t.Helper()
	return runAs(t, vfs.RootCreds(), f)
}

func runAs(t *testing.T, c *vfs.Creds, f func(p prog)) *task.Kernel {
	t.Helper()
	var log console
	w := ring3.New(2048)
	table, err := sys.NewTable(sys.Options{Log: &log}, proc.Calls, memory.Calls)
	if err != nil {
		t.Fatal(err)
	}
	var k *task.Kernel
	k, err = task.New(task.Config{
		Machine: w.Machine, NewCPU: w.NewCPU, Dispatch: table.Dispatch, Console: &log, CPUs: 2, Features: ring3.Features, Hostname: "box",
	})
	if err != nil {
		t.Fatal(err)
	}
	tree := vfs.NewTree(tmpfs.New(tmpfs.Options{Frames: mm.Frames{M: w.Machine}, Mode: 0o755}))
	root := vfs.NewContext(tree, vfs.RootCreds())
	for path, fn := range map[string]ring3.Func{
		"/init": func(p *ring3.Prog) { f(prog{p, t, k}); p.Exit(0) },
		"/next": func(p *ring3.Prog) { p.Exit(77) },
	} {
		if err := vfs.WriteFile(root, path, w.ELF(fn), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Start(task.Program{Path: "/init", Argv: []string{"/init"}, FS: vfs.NewContext(tree, c), Files: fd.NewTable(64)}); err != nil {
		t.Fatal(err)
	}
	done := make(chan int32, 1)
	go func() { done <- k.Wait() }()
	select {
	case s := <-done:
		if s != 0 {
			t.Errorf("wait status %#x; console:\n%s", s, log.b.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the program does not end")
	}
	return k
}

// must wants a call to succeed.
func (p prog) must(nr uint64, args ...uint64) uint64 {
	p.t.Helper()
	v, err := p.Call(nr, args...)
	if err != nil {
		p.t.Errorf("call %d: %v", nr, err)
	}
	return v
}

// fails wants it to fail.
func (p prog) fails(want syscall.Errno, nr uint64, args ...uint64) {
	p.t.Helper()
	if v, err := p.Call(nr, args...); err != want {
		p.t.Errorf("call %d: %d, %v, want %v", nr, int64(v), err, want)
	}
}

// is wants a result.
func (p prog) is(want uint64, nr uint64, args ...uint64) {
	p.t.Helper()
	if v := p.must(nr, args...); v != want {
		p.t.Errorf("call %d: %d, want %d", nr, v, want)
	}
}

// fork makes a child.
func (p prog) fork(f func(p prog)) uint64 {
	p.t.Helper()
	n, err := p.Clone(func(q *ring3.Prog) { f(prog{q, p.t, p.k}); q.Exit(0) }, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
	if err != nil {
		p.t.Errorf("fork: %v", err)
	}
	return uint64(n)
}

// join waits for a child that must have ended well.
func (p prog) join(pid uint64) {
	p.t.Helper()
	p.is(pid, syscall.SYS_WAIT4, pid, word, 0, 0)
	if s := p.Get32(word); s != 0 {
		p.t.Errorf("a child ended with %#x", s)
	}
}

// spec writes a struct timespec.
func (p prog) spec(addr uint64, d time.Duration) uint64 {
	p.Put64(addr, uint64(d/time.Second))
	p.Put64(addr+8, uint64(d%time.Second))
	return addr
}

// dur reads one.
func (p prog) dur(addr uint64) time.Duration {
	return time.Duration(p.Get64(addr))*time.Second + time.Duration(p.Get64(addr+8))
}
