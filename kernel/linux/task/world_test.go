package task_test

import (
	"bytes"
	"strings"
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

// frames keeps files in the machine's memory.
type frames struct{ m mm.Machine }

func (f frames) Alloc(zero bool) (uint64, []byte, error) {
	var one [1]mm.Frame
	if err := f.m.Alloc(one[:], 0, zero); err != nil {
		return 0, nil, err
	}
	return uint64(one[0]), f.m.Bytes(one[0], 0), nil
}
func (f frames) Free(frame uint64, _ []byte) { f.m.Free([]mm.Frame{mm.Frame(frame)}, 0) }

// world is a kernel whose programs are Go functions.
type world struct {
	*ring3.World
	t    *testing.T
	k    *task.Kernel
	tree *vfs.Tree
	log  lockedBuffer
}

// lockedBuffer is the console.
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

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: ring3.New(4096), t: t}
	table, err := sys.NewTable(sys.Options{Log: &w.log}, proc.Calls, memory.Calls)
	if err != nil {
		t.Fatal(err)
	}
	w.k, err = task.New(task.Config{
		Machine: w.Machine, NewCPU: w.NewCPU, Dispatch: table.Dispatch, Console: &w.log, CPUs: 2, Features: ring3.Features,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.tree = vfs.NewTree(tmpfs.New(tmpfs.Options{Frames: frames{w.Machine}, Mode: 0o755}))
	return w
}

// file writes a file.
func (w *world) file(path string, b []byte, mode uint32) {
	w.t.Helper()
	if err := vfs.WriteFile(vfs.NewContext(w.tree, vfs.RootCreds()), path, b, mode); err != nil {
		w.t.Fatal(err)
	}
}

// start runs f as the first program.
func (w *world) start(f ring3.Func, argv ...string) *task.Process {
	w.t.Helper()
	w.file("/init", w.ELF(f), 0o755)
	p, err := w.k.Start(task.Program{
		Path: "/init", Argv: append([]string{"/init"}, argv...), Env: []string{"A=1"},
		FS: vfs.NewContext(w.tree, vfs.RootCreds()), Files: fd.NewTable(1024),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// wait is the wait status of the first program.
func (w *world) wait() int32 {
	w.t.Helper()
	c := make(chan int32, 1)
	go func() { c <- w.k.Wait() }()
	select {
	case s := <-c:
		return s
	case <-time.After(20 * time.Second):
		w.t.Fatalf("the program does not end; console:\n%s", w.log.String())
	}
	return 0
}

// run runs f to its end, which must be exit(0).
func (w *world) run(f ring3.Func, argv ...string) {
	w.t.Helper()
	w.start(f, argv...)
	if s := w.wait(); s != 0 {
		w.t.Errorf("wait status %#x; console:\n%s", s, w.log.String())
	}
	w.leaks()
}

// leaks checks that all memory was given back but that of files.
func (w *world) leaks() {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		if n := w.k.Live(); n == 0 {
			break
		} else if time.Now().After(deadline) {
			w.t.Errorf("%d threads live on", n)
			return
		}
		time.Sleep(time.Millisecond) // no event tells of the last thread's end
	}
	if _, tables := w.Machine.Leaked(); tables != 0 {
		w.t.Errorf("%d page tables are left", tables)
	}
}

// must is for results of calls that have to succeed; t.Error, as programs run in
// goroutines of their own.
func (w *world) must(v uint64, err error) uint64 {
	w.t.Helper()
	if err != nil {
		w.t.Errorf("unexpected %v", err)
	}
	return v
}

// fails wants a call to fail.
func (w *world) fails(want syscall.Errno, v uint64, err error) {
	w.t.Helper()
	if err != want {
		w.t.Errorf("%d, %v, want %v", int64(v), err, want)
	}
}

func (w *world) said(what string) {
	w.t.Helper()
	if !strings.Contains(w.log.String(), what) {
		w.t.Errorf("the console does not say %q:\n%s", what, w.log.String())
	}
}
