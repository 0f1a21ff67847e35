package memory_test

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
	"osv/kernel/linux/sys/file"
	"osv/kernel/linux/sys/memory"
	"osv/kernel/linux/sys/proc"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

const (
	page = mm.PageSize
	rw   = 3
	anon = syscall.MAP_PRIVATE | syscall.MAP_ANON
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

// run runs f as a program in a kernel with the calls of files, processes and memory.
func run(t *testing.T, creds *vfs.Creds, f func(p prog)) {
	t.Helper()
	var log console
	w := ring3.New(4096)
	table, err := sys.NewTable(sys.Options{Log: &log}, proc.Calls, memory.Calls, file.Calls)
	if err != nil {
		t.Fatal(err)
	}
	k, err := task.New(task.Config{Machine: w.Machine, NewCPU: w.NewCPU, Dispatch: table.Dispatch,
		Console: &log, CPUs: 2, Features: ring3.Features})
	if err != nil {
		t.Fatal(err)
	}
	tree := vfs.NewTree(tmpfs.New(tmpfs.Options{Frames: mm.Frames{M: w.Machine}, Mode: 0o777}))
	file.SetMemfdFS(tmpfs.New(tmpfs.Options{Frames: mm.Frames{M: w.Machine}}))
	root := vfs.NewContext(tree, vfs.RootCreds())
	err = vfs.WriteFile(root, "/init", w.ELF(func(p *ring3.Prog) {
		f(prog{p, t})
		p.Exit(0)
	}), 0o755)
	if err == nil {
		err = vfs.WriteFile(root, "/data", bytes.Repeat([]byte("0123456789abcdef"), 1024), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Start(task.Program{Path: "/init", Argv: []string{"/init"},
		FS: vfs.NewContext(tree, creds), Files: fd.NewTable(64)}); err != nil {
		t.Fatal(err)
	}
	done := make(chan int32, 1)
	go func() { done <- k.Wait() }()
	select {
	case s := <-done:
		if s != 0 {
			t.Errorf("wait status %#x; console:\n%s", s, log.b.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the program does not end")
	}
}

// prog is a program whose calls are checked.
type prog struct {
	*ring3.Prog
	t *testing.T
}

// ok makes a call that must succeed.
func (p prog) ok(nr uint64, a ...uint64) uint64 {
	p.t.Helper()
	v, err := p.Call(nr, a...)
	if err != nil {
		p.t.Errorf("call %d %#x: %v", nr, a, err)
	}
	return v
}

// fails makes one that must not.
func (p prog) fails(want syscall.Errno, nr uint64, a ...uint64) {
	p.t.Helper()
	if v, err := p.Call(nr, a...); err != want {
		p.t.Errorf("call %d %#x: %#x, %v, want %v", nr, a, v, err, want)
	}
}

func (p prog) mmap(n, prot, flags uint64) uint64 {
	p.t.Helper()
	return p.ok(syscall.SYS_MMAP, 0, n, prot, flags, ^uint64(0), 0)
}

func (p prog) open(path string, flags uint64) uint64 {
	p.t.Helper()
	a := p.mmap(page, rw, anon)
	p.String(a, path)
	fd := p.ok(syscall.SYS_OPENAT, ^uint64(99), a, flags, 0)
	p.ok(syscall.SYS_MUNMAP, a, page)
	return fd
}

func TestMmapOfFiles(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		ro, wr, both := p.open("/data", syscall.O_RDONLY), p.open("/data", syscall.O_WRONLY), p.open("/data", syscall.O_RDWR)
		p.fails(syscall.EBADF, syscall.SYS_MMAP, 0, page, 1, syscall.MAP_PRIVATE, 50, 0)
		p.fails(syscall.EINVAL, syscall.SYS_MMAP, 0, page, 1, syscall.MAP_PRIVATE, ro, 1)
		p.fails(syscall.EINVAL, syscall.SYS_MMAP, 0, 0, 1, syscall.MAP_PRIVATE, ro, 0)
		p.fails(syscall.EACCES, syscall.SYS_MMAP, 0, page, 1, syscall.MAP_PRIVATE, wr, 0)
		p.fails(syscall.EACCES, syscall.SYS_MMAP, 0, page, rw, syscall.MAP_SHARED, ro, 0)
		private := p.ok(syscall.SYS_MMAP, 0, 4*page, rw, syscall.MAP_PRIVATE, ro, 0)
		readonly := p.ok(syscall.SYS_MMAP, 0, 4*page, 1, syscall.MAP_SHARED, ro, 0)
		shared := p.ok(syscall.SYS_MMAP, 0, 4*page, rw, syscall.MAP_SHARED, both, 0)
		p.fails(syscall.EACCES, syscall.SYS_MPROTECT, readonly, page, rw)
		p.ok(syscall.SYS_CLOSE, ro)
		p.ok(syscall.SYS_CLOSE, both)
		p.String(private+page, "private")
		p.String(shared+16, "shared")
		if s := p.Read(readonly+16, 6); string(s) != "shared" {
			t.Errorf("the file has %q", s)
		}
		if s := p.Read(private+page, 7); string(s) != "private" {
			t.Errorf("the copy has %q", s)
		}
		if s := p.Read(readonly+page, 4); string(s) != "0123" {
			t.Errorf("the file has %q", s)
		}
		p.ok(syscall.SYS_MSYNC, shared, 4*page, 4)
		vec := p.mmap(page, rw, anon)
		p.ok(syscall.SYS_MINCORE, shared, 4*page, vec)
		if b := p.Read(vec, 4); b[0] != 1 {
			t.Errorf("mincore: %v", b)
		}
		p.fails(syscall.EFAULT, syscall.SYS_MINCORE, shared, 4*page, 8)
		p.fails(syscall.EINVAL, syscall.SYS_MINCORE, shared+1, 4*page, vec)
		p.fails(syscall.ENOMEM, syscall.SYS_MINCORE, shared, 1<<48, vec)
	})
}

func TestMmapOfSealedMemory(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		a := p.mmap(page, rw, anon)
		p.String(a, "m")
		f := p.ok(319, a, 2) // memfd_create, MFD_ALLOW_SEALING
		p.ok(syscall.SYS_FTRUNCATE, f, page)
		early := p.ok(syscall.SYS_MMAP, 0, page, rw, syscall.MAP_SHARED, f, 0)
		p.Put64(early, 7)
		p.ok(syscall.SYS_FCNTL, f, 1033, 16) // F_ADD_SEALS, F_SEAL_FUTURE_WRITE
		p.fails(syscall.EPERM, syscall.SYS_MMAP, 0, page, rw, syscall.MAP_SHARED, f, 0)
		late := p.ok(syscall.SYS_MMAP, 0, page, 1, syscall.MAP_SHARED, f, 0)
		p.fails(syscall.EACCES, syscall.SYS_MPROTECT, late, page, rw)
		if p.Get64(late) != 7 {
			t.Error("contents")
		}
		p.Put64(early, 8)
		p.ok(syscall.SYS_MMAP, 0, page, rw, syscall.MAP_PRIVATE, f, 0)
	})
}

func TestMemoryCalls(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		a := p.mmap(8*page, rw, anon)
		p.Put64(a, 1)
		p.ok(syscall.SYS_MPROTECT, a, page, 1)
		p.fails(syscall.EINVAL, syscall.SYS_MPROTECT, a, page, 1<<32)
		p.ok(329, a, page, 3, ^uint64(0)) // pkey_mprotect
		p.fails(syscall.EINVAL, 329, a, page, 3, 1)
		p.fails(syscall.ENOSPC, 330, 0, 0)
		p.fails(syscall.EINVAL, 330, 1, 0)
		p.fails(syscall.EINVAL, 331, 1)
		b := p.ok(syscall.SYS_MREMAP, a, 8*page, 64*page, 1, 12345)
		if p.Get64(b) != 1 {
			t.Error("mremap lost the contents")
		}
		p.fails(syscall.EINVAL, syscall.SYS_MREMAP, b, page, page, 1<<40)
		p.ok(syscall.SYS_MREMAP, b, page, page, 3, 0x50000000)
		p.ok(syscall.SYS_MADVISE, b+page, page, 4)
		p.fails(syscall.EINVAL, syscall.SYS_MADVISE, b+page, page, 99)
		p.ok(syscall.SYS_MLOCK, b+page, page)
		p.ok(325, b+page, page, 1)
		p.fails(syscall.EINVAL, 325, b+page, page, 2)
		p.ok(syscall.SYS_MUNLOCK, b+page, page)
		p.ok(syscall.SYS_MLOCKALL, 3)
		p.mmap(page, rw, anon|syscall.MAP_LOCKED)
		p.ok(syscall.SYS_MUNLOCKALL)
		brk := p.ok(syscall.SYS_BRK, 0)
		if got := p.ok(syscall.SYS_BRK, brk+page); got != brk+page {
			t.Errorf("brk: %#x", got)
		}
		p.Put64(brk, 5)
		p.ok(syscall.SYS_MUNMAP, b+page, 63*page)
		p.fails(syscall.EINVAL, syscall.SYS_MUNMAP, b+1, page)
	})
}

func TestLockLimit(t *testing.T) {
	for _, user := range []bool{false, true} {
		creds := vfs.RootCreds()
		if user {
			creds = vfs.UserCreds(1000, 1000)
		}
		run(t, creds, func(p prog) {
			a := p.mmap(4*page, rw, anon)
			p.Put64(a, page)
			p.Put64(a+8, page)
			p.ok(syscall.SYS_SETRLIMIT, 8, a) // RLIMIT_MEMLOCK
			p.ok(syscall.SYS_MLOCK, a, page)
			if user {
				p.fails(syscall.ENOMEM, syscall.SYS_MLOCK, a, 2*page)
			} else {
				p.ok(syscall.SYS_MLOCK, a, 2*page)
			}
		})
	}
}

func TestMemoryPolicies(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		a := p.mmap(4*page, rw, anon)
		mode, mask := a, a+64
		p.Put64(mask, 1)
		for m := uint64(0); m <= 5; m++ {
			want := syscall.Errno(0)
			if m == 0 || m == 4 {
				want = syscall.EINVAL
			}
			if _, err := p.Call(238, m, mask, 64); want != 0 && err != want || want == 0 && err != nil {
				t.Errorf("set_mempolicy %d: %v", m, err)
			}
		}
		p.ok(238, 0, 0, 0)
		p.ok(238, 4, 0, 0)
		p.Put64(mask, 2)
		p.fails(syscall.EINVAL, 238, 2, mask, 64)
		p.fails(syscall.EINVAL, 238, 9, 0, 0)
		p.fails(syscall.EFAULT, 238, 2, 8, 64)
		p.fails(syscall.EINVAL, 238, 2, mask, 1<<40)
		p.ok(239, mode, mask, 65, 0, 4)
		if p.Get64(mask) != 1 || p.Get32(mode) != 0 {
			t.Error("the allowed nodes")
		}
		p.ok(239, mode, 0, 0, a, 3)
		p.fails(syscall.EINVAL, 239, mode, 0, 0, a, 0)
		p.fails(syscall.EINVAL, 239, mode, 0, 0, 0, 1)
		p.fails(syscall.EINVAL, 239, mode, 0, 0, 0, 8)
		p.fails(syscall.EINVAL, 239, mode, 0, 0, 0, 5)
		p.fails(syscall.EFAULT, 239, mode, 0, 0, 8, 3)
		p.fails(syscall.EFAULT, 239, 8, 0, 0, 0, 0)
		p.Put64(mask, 1)
		p.ok(237, a, 4*page, 2, mask, 64, 0)
		p.fails(syscall.EINVAL, 237, a+1, 4*page, 2, mask, 64, 0)
		p.fails(syscall.EINVAL, 237, a, 4*page, 2, mask, 64, 64)
		p.fails(syscall.EFAULT, 237, a, 1<<30, 2, mask, 64, 0)
		p.ok(450, a, page, 0, 0)
		p.fails(syscall.EINVAL, 450, a, page, 1, 0)
		p.ok(256, 0, 64, mask, mask)
		p.fails(syscall.ESRCH, 256, 999, 64, mask, mask)
		pages, status := a+page, a+2*page
		p.Put64(pages, a)
		p.Put64(pages+8, a+3*page)
		p.Put64(pages+16, 8)
		p.ok(279, 0, 3, pages, 0, status, 2)
		got := [3]int32{int32(p.Get32(status)), int32(p.Get32(status + 4)), int32(p.Get32(status + 8))}
		if got[0] != 0 || got[2] != -int32(syscall.EFAULT) {
			t.Errorf("move_pages: %v", got)
		}
		p.fails(syscall.EINVAL, 279, 0, 3, pages, 0, status, 1)
		p.Put64(status+64, 1)
		p.fails(syscall.ENODEV, 279, 0, 1, pages, status+64, status, 0)
	})
}

func TestReachIntoAnotherProcess(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		a := p.mmap(4*page, rw, anon)
		iov := func(at uint64, v ...uint64) uint64 {
			var b []byte
			for _, x := range v {
				b = binary.LittleEndian.AppendUint64(b, x)
			}
			p.Write(at, b)
			return at
		}
		p.String(a, "before the fork")
		hold := p.mmap(page, rw, syscall.MAP_SHARED|syscall.MAP_ANON)
		child, err := p.Clone(func(c *ring3.Prog) {
			c.String(a, "in the child")
			c.Put32(hold, 1)
			for c.Get32(hold) != 2 {
				c.Sys(syscall.SYS_SCHED_YIELD)
			}
			if string(c.Read(a+64, 4)) == "poke" {
				c.Exit(0)
			}
			c.Exit(1)
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
			return
		}
		for p.Get32(hold) != 1 {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		local := iov(a+page, a+2*page, 6, a+3*page, 100)
		remote := iov(a+page+64, a, 3, a+3, 9)
		if n := p.ok(310, uint64(child), local, 2, remote, 2, 0); n != 12 {
			t.Errorf("process_vm_readv: %d", n)
		}
		if s := string(p.Read(a+2*page, 6)) + string(p.Read(a+3*page, 6)); s != "in the child" {
			t.Errorf("read %q", s)
		}
		p.String(a+2*page, "poke")
		iov(local, a+2*page, 4)
		iov(remote, a+64, 4)
		p.ok(311, uint64(child), local, 1, remote, 1, 0)
		iov(remote, 8, 4)
		p.fails(syscall.EFAULT, 311, uint64(child), local, 1, remote, 1, 0)
		iov(remote, a+4*page-2, 4)
		if n := p.ok(310, uint64(child), local, 1, remote, 1, 0); n != 2 && n != 4 {
			t.Errorf("a part: %d", n)
		}
		p.fails(syscall.ESRCH, 310, 9999, local, 1, remote, 1, 0)
		p.fails(syscall.EINVAL, 310, uint64(child), local, 1, remote, 1, 1)
		p.fails(syscall.EINVAL, 310, uint64(child), local, 1025, remote, 1, 0)
		p.fails(syscall.EFAULT, 310, uint64(child), 8, 1, remote, 1, 0)
		iov(local, a, 1<<63)
		p.fails(syscall.EINVAL, 310, uint64(child), local, 1, remote, 1, 0)
		p.Put32(hold, 2)
		status := a + 2*page
		p.ok(syscall.SYS_WAIT4, uint64(child), status, 0, 0)
		if p.Get32(status) != 0 {
			t.Errorf("the child saw nothing: %#x", p.Get32(status))
		}
	})
}

func TestMembarrier(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		all := p.ok(324, 0, 0)
		for bit := uint64(1); bit <= 64; bit <<= 1 {
			if all&bit == 0 {
				t.Errorf("command %d is not supported", bit)
			}
		}
		p.fails(syscall.EPERM, 324, 8, 0)
		p.ok(324, 16, 0)
		p.ok(324, 8, 0)
		p.fails(syscall.EPERM, 324, 32, 0)
		p.ok(324, 1, 0)
		p.ok(324, 4, 0)
		p.ok(324, 2, 0)
		p.fails(syscall.EINVAL, 324, 128, 0)
		p.fails(syscall.EINVAL, 324, 8, 1)
	})
}
