package file_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/sys/file"
	"osv/kernel/linux/sys/memory"
	"osv/kernel/linux/sys/proc"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/devfs"
	"osv/kernel/vfs/tmpfs"
)

// system is a kernel that a script makes calls to: ours, or the host's Linux. Its
// memory is one piece of arena bytes.
type system interface {
	call(nr uint64, args ...uint64) (uint64, error)
	addr(off int) uint64
	put(off int, b []byte)
	get(off, n int) []byte
	dir() string // an empty directory
}

const arena = 1 << 20

// host is the kernel that the test runs on.
type host struct {
	mem []byte
	d   string
}

func newHost(t *testing.T) *host {
	b, err := syscall.Mmap(-1, 0, arena+4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	// What is behind the arena is no memory.
	if err := syscall.Mprotect(b[arena:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(b) })
	return &host{b, t.TempDir()}
}

func (h *host) call(nr uint64, args ...uint64) (uint64, error) {
	var a [6]uintptr
	for i, v := range args {
		a[i] = uintptr(v)
	}
	r, _, e := syscall.Syscall6(uintptr(nr), a[0], a[1], a[2], a[3], a[4], a[5])
	for e == syscall.EINTR { // the Go runtime preempts by signals, and nobody else sends one
		r, _, e = syscall.Syscall6(uintptr(nr), a[0], a[1], a[2], a[3], a[4], a[5])
	}
	if e != 0 {
		return 0, e
	}
	return uint64(r), nil
}

func (h *host) addr(off int) uint64   { return uint64(uintptr(unsafe.Pointer(&h.mem[0]))) + uint64(off) }
func (h *host) put(off int, b []byte) { copy(h.mem[off:], b) }
func (h *host) get(off, n int) []byte { return bytes.Clone(h.mem[off : off+n]) }
func (h *host) dir() string           { return h.d }

// guest is ours, seen from a program.
type guest struct {
	p    *ring3.Prog
	base uint64
}

func (g *guest) call(nr uint64, args ...uint64) (uint64, error) { return g.p.Call(nr, args...) }
func (g *guest) addr(off int) uint64                            { return g.base + uint64(off) }
func (g *guest) put(off int, b []byte)                          { g.p.Write(g.base+uint64(off), b) }
func (g *guest) get(off, n int) []byte                          { return g.p.Read(g.base+uint64(off), n) }
func (g *guest) dir() string                                    { return "/t" }

type frames struct{ m mm.Machine }

func (f frames) Alloc(zero bool) (uint64, []byte, error) {
	var one [1]mm.Frame
	if err := f.m.Alloc(one[:], 0, zero); err != nil {
		return 0, nil, err
	}
	return uint64(one[0]), f.m.Bytes(one[0], 0), nil
}

func (f frames) Free(frame uint64, _ []byte) { f.m.Free([]mm.Frame{mm.Frame(frame)}, 0) }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// inGuest runs f as a program of ours to its end.
func inGuest(t *testing.T, f func(p *ring3.Prog, g *guest)) {
	t.Helper()
	w := ring3.New(16384)
	var log lockedBuffer
	table, err := sys.NewTable(sys.Options{Log: &log}, proc.Calls, memory.Calls, file.Calls)
	if err != nil {
		t.Fatal(err)
	}
	k, err := task.New(task.Config{Machine: w.Machine, NewCPU: w.NewCPU, Dispatch: table.Dispatch, Console: &log, CPUs: 2, Features: ring3.Features})
	if err != nil {
		t.Fatal(err)
	}
	tree := vfs.NewTree(tmpfs.New(tmpfs.Options{Frames: frames{w.Machine}, Mode: 0o755, Size: 16 << 20}))
	tree.SetOpener(vfs.TypePipe, 0, fd.OpenFIFO)
	file.SetMemfdFS(tmpfs.New(tmpfs.Options{Frames: frames{w.Machine}, Size: 8 << 20}))
	ctx := vfs.NewContext(tree, vfs.RootCreds())
	tty := fd.NewTTY(&log)
	dev, err := devfs.New(tree, devfs.Options{Console: tty.Opener(), TTY: tty.Opener()})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"/dev", "/t"} {
		if err := vfs.MkdirAt(ctx, vfs.Path{}, d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at, err := vfs.Walk(ctx, vfs.Path{}, "/dev", 0)
	if err == nil {
		_, err = tree.Mount("devtmpfs", dev, at, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	main := func(p *ring3.Prog) {
		base, err := p.Call(syscall.SYS_MMAP, 0, arena, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE, ^uint64(0), 0)
		if err != nil {
			t.Errorf("mmap: %v", err)
			p.Exit(1)
		}
		// Behind the arena there is no memory.
		f(p, &guest{p, base})
		p.Exit(0)
	}
	if err := vfs.WriteFile(ctx, "/init", w.ELF(main), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Start(task.Program{Path: "/init", Argv: []string{"/init"}, FS: ctx, Files: fd.NewTable(1024)}); err != nil {
		t.Fatal(err)
	}
	c := make(chan int32, 1)
	go func() { c <- k.Wait() }()
	select {
	case s := <-c:
		if s != 0 {
			t.Errorf("wait status %#x; console:\n%s", s, log.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the program does not end; console:\n%s", log.String())
	}
}

// run is a script under way on one system.
type run struct {
	system
	log  []string
	next int // free memory
}

// say notes something that must be the same on both.
func (r *run) say(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }

// str puts a string into memory and returns where it is; "@" stands for the directory.
func (r *run) str(s string) uint64 {
	s = strings.ReplaceAll(s, "@", r.dir())
	return r.bytes(append([]byte(s), 0))
}

func (r *run) bytes(b []byte) uint64 {
	off := r.space(len(b))
	r.put(off, b)
	return r.addr(off)
}

// space is n bytes of memory that nothing else uses.
func (r *run) space(n int) int {
	off := r.next
	r.next += (n + 15) &^ 15
	if r.next > arena/2 {
		panic("the script uses too much memory")
	}
	return off
}

// do makes a call and notes its result; descriptors are not noted, since the host's
// differ: use fd for calls that return one.
func (r *run) do(what string, nr uint64, args ...uint64) uint64 {
	v, err := r.call(nr, args...)
	if err != nil {
		r.say("%s: %v", what, err)
		return ^uint64(0)
	}
	r.say("%s: %d", what, int64(v))
	return v
}

func (r *run) fd(what string, nr uint64, args ...uint64) uint64 {
	v, err := r.call(nr, args...)
	if err != nil {
		r.say("%s: %v", what, err)
		return ^uint64(0)
	}
	r.say("%s: a descriptor", what)
	return v
}

// both runs a script on the host and on ours, and compares what it says.
func both(t *testing.T, script func(r *run)) {
	t.Helper()
	h := &run{system: newHost(t)}
	script(h)
	var g *run
	inGuest(t, func(_ *ring3.Prog, sys *guest) {
		g = &run{system: sys}
		script(g)
	})
	if g == nil {
		return
	}
	for i := range max(len(h.log), len(g.log)) {
		a, b := "(nothing)", "(nothing)"
		if i < len(g.log) {
			a = g.log[i]
		}
		if i < len(h.log) {
			b = h.log[i]
		}
		if a != b {
			t.Errorf("ours  %s\nLinux %s", a, b)
		}
	}
}
