package net_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/sock"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/sys/file"
	"osv/kernel/linux/sys/memory"
	"osv/kernel/linux/sys/net"
	"osv/kernel/linux/sys/proc"
	"osv/kernel/linux/task"
	netsock "osv/kernel/net/sock"
	"osv/kernel/net/stack"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

var le = binary.LittleEndian

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

// run runs f as a program whose sockets are on a stack with loopback.
func run(t *testing.T, creds *vfs.Creds, f func(p prog)) {
	t.Helper()
	var log console
	mem := new(dma.Host)
	st, err := stack.New(stack.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	n, err := netsock.New(st, netsock.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		st.Close()
	}()
	w := ring3.New(4096)
	table, err := sys.NewTable(sys.Options{Log: &log}, proc.Calls, memory.Calls, file.Calls, net.Calls(sock.New(sock.Config{Net: n})))
	if err != nil {
		t.Fatal(err)
	}
	k, err := task.New(task.Config{Machine: w.Machine, NewCPU: w.NewCPU, Dispatch: table.Dispatch,
		Console: &log, CPUs: 2, Features: ring3.Features})
	if err != nil {
		t.Fatal(err)
	}
	tree := vfs.NewTree(tmpfs.New(tmpfs.Options{Frames: mm.Frames{M: w.Machine}, Mode: 0o777}))
	root := vfs.NewContext(tree, vfs.RootCreds())
	err = vfs.WriteFile(root, "/init", w.ELF(func(p *ring3.Prog) {
		q := prog{Prog: p, t: t}
		q.mem = q.ok(syscall.SYS_MMAP, 0, 64*page, rw, anon, ^uint64(0), 0)
		q.next = new(uint64)
		f(q)
		p.Exit(0)
	}), 0o755)
	if err == nil {
		err = vfs.WriteFile(root, "/file", []byte("no socket"), 0o666)
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
	t    *testing.T
	mem  uint64 // of alloc
	next *uint64
}

func (p prog) ok(nr uint64, a ...uint64) uint64 {
	p.t.Helper()
	v, err := p.Call(nr, a...)
	if err != nil {
		p.t.Errorf("call %d %#x: %v", nr, a, err)
	}
	return v
}

func (p prog) fails(want syscall.Errno, nr uint64, a ...uint64) {
	p.t.Helper()
	if v, err := p.Call(nr, a...); err != want {
		p.t.Errorf("call %d %#x: %#x, %v, want %v", nr, a, v, err, want)
	}
}

// alloc is memory with b in it.
func (p prog) alloc(b []byte) uint64 {
	a := p.mem + *p.next
	*p.next += uint64(len(b)+15) &^ 15
	p.Write(a, b)
	return a
}

func (p prog) room(n int) uint64 { return p.alloc(make([]byte, n)) }

func (p prog) words(v ...uint64) uint64 {
	var b []byte
	for _, x := range v {
		b = le.AppendUint64(b, x)
	}
	return p.alloc(b)
}

func (p prog) int(a uint64) int { return int(int32(le.Uint32(p.Read(a, 4)))) }

func (p prog) addr(a sock.Addr) (at, n uint64) {
	var b [128]byte
	k := a.Put(b[:])
	return p.alloc(b[:k]), uint64(k)
}

func in4(port uint16) sock.Addr {
	return sock.Addr{Family: syscall.AF_INET, Inet: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}
}

func un(path string) sock.Addr { return sock.Addr{Family: syscall.AF_UNIX, Path: path} }

func (p prog) bind(s uint64, a sock.Addr) {
	p.t.Helper()
	at, n := p.addr(a)
	p.ok(syscall.SYS_BIND, s, at, n)
}

// name is getsockname or getpeername.
func (p prog) name(nr, s uint64) sock.Addr {
	p.t.Helper()
	at, n := p.room(128), p.words(128)
	p.ok(nr, s, at, n)
	a, err := sock.ParseAddr(p.Read(at, p.int(n)))
	if err != nil {
		p.t.Error(err)
	}
	return a
}

// thread runs f beside; it ends with the process.
func (p prog) thread(f func(p prog)) {
	p.t.Helper()
	const flags = syscall.CLONE_VM | syscall.CLONE_FS | syscall.CLONE_FILES | syscall.CLONE_SIGHAND | syscall.CLONE_THREAD | syscall.CLONE_SYSVSEM
	own := p.ok(syscall.SYS_MMAP, 0, 16*page, rw, anon, ^uint64(0), 0)
	if _, err := p.Clone(func(q *ring3.Prog) {
		f(prog{q, p.t, own, new(uint64)})
		q.Sys(syscall.SYS_EXIT, 0)
	}, flags, own+16*page, 0, 0, 0); err != nil {
		p.t.Error(err)
	}
}

// msg is a struct msghdr.
func (p prog) msg(name, nameLen, iov, iovLen, control, controlLen uint64) uint64 {
	return p.words(name, nameLen, iov, iovLen, control, controlLen, 0)
}

func TestTCPCalls(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		l := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		one := p.words(1)
		p.ok(syscall.SYS_SETSOCKOPT, l, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, one, 4)
		p.bind(l, in4(0))
		p.ok(syscall.SYS_LISTEN, l, 5)
		at, n := p.addr(p.name(syscall.SYS_GETSOCKNAME, l))
		p.thread(func(p prog) { // blocking connect, write, read
			c := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM, 0)
			p.ok(syscall.SYS_CONNECT, c, at, n)
			p.fails(syscall.EISCONN, syscall.SYS_CONNECT, c, at, n)
			p.ok(syscall.SYS_WRITE, c, p.alloc([]byte("first ")), 6)
			p.ok(syscall.SYS_SENDTO, c, p.alloc([]byte("second")), 6, 0, 0, 0)
			b := p.room(16)
			if k := p.ok(syscall.SYS_READ, c, b, 16); string(p.Read(b, int(k))) != "answer" {
				t.Errorf("read %q", p.Read(b, int(k)))
			}
			p.ok(syscall.SYS_SHUTDOWN, c, syscall.SHUT_WR)
		})
		from, fromLen := p.room(128), p.words(128)
		c := p.ok(syscall.SYS_ACCEPT4, l, from, fromLen, syscall.SOCK_CLOEXEC)
		if p.int(fromLen) != 16 || p.name(syscall.SYS_GETPEERNAME, c).Inet.Addr() != netip.MustParseAddr("127.0.0.1") {
			t.Error("where the connection is from")
		}
		b := p.room(64)
		if k := p.ok(syscall.SYS_RECVFROM, c, b, 12, syscall.MSG_WAITALL, 0, 0); k != 12 || string(p.Read(b, 12)) != "first second" {
			t.Errorf("%d octets %q", k, p.Read(b, 12))
		}
		// Two pieces by sendmsg.
		x, y := p.alloc([]byte("ans")), p.alloc([]byte("wer"))
		if k := p.ok(syscall.SYS_SENDMSG, c, p.msg(0, 0, p.words(x, 3, y, 3), 2, 0, 0), syscall.MSG_NOSIGNAL); k != 6 {
			t.Error(k)
		}
		if k := p.ok(syscall.SYS_READ, c, b, 64); k != 0 {
			t.Errorf("%d octets after the end", k)
		}
		p.fails(syscall.EAGAIN, syscall.SYS_ACCEPT4, p.nonblocking(l), 0, 0, 0)
		v, vl := p.room(256), p.words(256)
		p.ok(syscall.SYS_GETSOCKOPT, c, syscall.IPPROTO_TCP, syscall.TCP_INFO, v, vl)
		if p.int(vl) != abi.SizeofTCPInfo {
			t.Errorf("TCP_INFO of %d bytes", p.int(vl))
		}
		p.fails(syscall.EINVAL, syscall.SYS_ACCEPT4, l, 0, 0, 1)
		p.fails(syscall.EINVAL, syscall.SYS_ACCEPT, c, 0, 0)
	})
}

// nonblocking is s with O_NONBLOCK.
func (p prog) nonblocking(s uint64) uint64 {
	p.ok(syscall.SYS_FCNTL, s, syscall.F_SETFL, syscall.O_NONBLOCK)
	return s
}

func TestRefusedAndTimedOut(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		c := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM, 0)
		at, n := p.addr(in4(9))
		p.fails(syscall.ECONNREFUSED, syscall.SYS_CONNECT, c, at, n)
		// A signal for who writes to nobody.
		p.ok(syscall.SYS_RT_SIGPROCMASK, 0, p.words(1<<(syscall.SIGPIPE-1)), 0, 8)
		b := p.room(8)
		p.fails(syscall.EPIPE, syscall.SYS_SENDTO, c, b, 1, syscall.MSG_NOSIGNAL, 0, 0)
		pending := p.room(8)
		p.ok(syscall.SYS_RT_SIGPENDING, pending, 8)
		if p.int(pending) != 0 {
			t.Error("a signal for MSG_NOSIGNAL")
		}
		p.fails(syscall.EPIPE, syscall.SYS_SENDTO, c, b, 1, 0, 0, 0)
		p.ok(syscall.SYS_RT_SIGPENDING, pending, 8)
		if p.int(pending) != 1<<(syscall.SIGPIPE-1) {
			t.Error("no SIGPIPE")
		}
		u := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM, 0)
		p.ok(syscall.SYS_SETSOCKOPT, u, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, p.words(0, 20000), 16)
		begin := time.Now()
		p.fails(syscall.EAGAIN, syscall.SYS_RECVFROM, u, b, 8, 0, 0, 0)
		if time.Since(begin) < 20*time.Millisecond {
			t.Error("SO_RCVTIMEO is over early")
		}
		p.fails(syscall.EAGAIN, syscall.SYS_RECVFROM, u, b, 8, syscall.MSG_DONTWAIT, 0, 0)
		l := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		p.bind(l, in4(0))
		p.ok(syscall.SYS_LISTEN, l, 1)
		at, n = p.addr(p.name(syscall.SYS_GETSOCKNAME, l))
		d := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		p.fails(syscall.EINPROGRESS, syscall.SYS_CONNECT, d, at, n)
	})
}

func TestDatagramCalls(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		a := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM, 0)
		b := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM, 0)
		p.bind(b, in4(5000))
		one := p.words(1)
		p.ok(syscall.SYS_SETSOCKOPT, b, syscall.IPPROTO_IP, syscall.IP_PKTINFO, one, 4)
		to, n := p.addr(in4(5000))
		data := p.alloc([]byte("0123456789"))
		p.ok(syscall.SYS_SENDTO, a, data, 10, 0, to, n)
		from, fromLen, buf := p.room(128), p.words(128), p.room(64)
		if k := p.ok(syscall.SYS_RECVFROM, b, buf, 4, syscall.MSG_PEEK|syscall.MSG_TRUNC, from, fromLen); k != 10 || p.int(fromLen) != 16 {
			t.Error(k, p.int(fromLen))
		}
		control := p.room(64)
		m := p.msg(from, 128, p.words(buf, 4), 1, control, 64)
		if k := p.ok(syscall.SYS_RECVMSG, b, m, 0); k != 4 || p.int(m+48) != syscall.MSG_TRUNC || p.int(m+8) != 16 || p.int(m+40) != 32 {
			t.Errorf("%d octets, flags %#x, name of %d, control of %d", k, p.int(m+48), p.int(m+8), p.int(m+40))
		}
		// Back by the address it came to, and several at once.
		info := make([]byte, 32)
		le.PutUint64(info, 28)
		le.PutUint32(info[12:], syscall.IP_PKTINFO)
		copy(info[20:], []byte{127, 0, 0, 1})
		p.ok(syscall.SYS_SENDMSG, b, p.msg(from, 16, p.words(data, 5), 1, p.alloc(info), 32), 0)
		if k := p.ok(syscall.SYS_RECVMSG, a, p.msg(0, 0, p.words(buf, 64), 1, 0, 0), 0); k != 5 {
			t.Error(k)
		}
		iov := p.words(data, 3)
		vec := p.words(to, n, iov, 1, 0, 0, 0, 0, to, n, iov, 1, 0, 0, 0, 0)
		if k := p.ok(307, a, vec, 2, 0); k != 2 || p.int(vec+56) != 3 || p.int(vec+64+56) != 3 {
			t.Error("sendmmsg", k)
		}
		into := p.words(buf, 64)
		got := p.words(0, 0, into, 1, 0, 0, 0, 0, 0, 0, into, 1, 0, 0, 0, 0, 0, 0, into, 1, 0, 0, 0, 0)
		if k := p.ok(syscall.SYS_RECVMMSG, b, got, 3, abi.MSG_WAITFORONE, 0); k != 2 || p.int(got+56) != 3 {
			t.Error("recvmmsg", k)
		}
		p.ok(307, a, vec, 1, 0)
		if k := p.ok(syscall.SYS_RECVMMSG, b, got, 3, 0, p.words(0, 0)); k != 1 {
			t.Error("recvmmsg whose time is over", k)
		}
		p.fails(syscall.EINVAL, syscall.SYS_RECVMMSG, b, got, 3, 0, p.words(0, 1e9))
		p.fails(syscall.EDESTADDRREQ, 307, a, p.words(0, 0, iov, 1, 0, 0, 0, 0), 1, 0)
		p.fails(syscall.EINVAL, syscall.SYS_SENDMSG, a, p.msg(to, n, iov, 1, p.alloc(make([]byte, 16)), 16), 0)
		p.fails(syscall.ENOBUFS, syscall.SYS_SENDMSG, a, p.msg(to, n, iov, 1, data, 30000), 0)
	})
}

func TestUnixCalls(t *testing.T) {
	run(t, vfs.RootCreds(), func(p prog) {
		l := p.ok(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		p.bind(l, un("/sock"))
		at, n := p.addr(un("/sock"))
		p.fails(syscall.EADDRINUSE, syscall.SYS_BIND, p.ok(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_STREAM, 0), at, n)
		p.ok(syscall.SYS_LISTEN, l, 0)
		var last uint64
		for range 2 { // one waits, one more fits: the third blocks until one is accepted
			last = p.ok(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if _, err := p.Call(syscall.SYS_CONNECT, p.nonblocking(last), at, n); err != nil {
				break
			}
		}
		p.thread(func(p prog) {
			c := p.ok(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			p.ok(syscall.SYS_CONNECT, c, at, n)
			p.ok(syscall.SYS_WRITE, c, p.alloc([]byte("late")), 4)
		})
		p.ok(syscall.SYS_ACCEPT, l, 0, 0)
		c := p.ok(syscall.SYS_ACCEPT, l, 0, 0)
		buf := p.room(16)
		if k := p.ok(syscall.SYS_READ, c, buf, 16); string(p.Read(buf, int(k))) != "late" {
			t.Errorf("%q", p.Read(buf, int(k)))
		}
		file, fn := p.addr(un("/file"))
		p.fails(syscall.ECONNREFUSED, syscall.SYS_CONNECT, p.ok(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_STREAM, 0), file, fn)

		pair := p.room(8)
		p.ok(syscall.SYS_SOCKETPAIR, syscall.AF_UNIX, syscall.SOCK_STREAM, 0, pair)
		a, b := uint64(p.int(pair)), uint64(p.int(pair+4))
		open := p.ok(syscall.SYS_OPENAT, ^uint64(99), p.alloc([]byte("/file\x00")), 0, 0)
		rights := make([]byte, 24)
		le.PutUint64(rights, 20)
		le.PutUint32(rights[8:], syscall.SOL_SOCKET)
		le.PutUint32(rights[12:], abi.SCM_RIGHTS)
		le.PutUint32(rights[16:], uint32(open))
		iov := p.words(p.alloc([]byte("f")), 1)
		send := func() { p.ok(syscall.SYS_SENDMSG, a, p.msg(0, 0, iov, 1, p.alloc(rights), 24), 0) }
		send()
		p.ok(syscall.SYS_CLOSE, open)
		control := p.room(64)
		m := p.msg(0, 0, p.words(buf, 8), 1, control, 64)
		p.ok(syscall.SYS_RECVMSG, b, m, abi.MSG_CMSG_CLOEXEC)
		got := uint64(p.int(control + 16))
		if p.int(m+40) != 24 || p.ok(syscall.SYS_FCNTL, got, syscall.F_GETFD, 0) != syscall.FD_CLOEXEC {
			t.Errorf("control of %d bytes", p.int(m+40))
		}
		if k := p.ok(syscall.SYS_READ, got, buf, 9); string(p.Read(buf, int(k))) != "no socket" {
			t.Errorf("the file that was passed has %q", p.Read(buf, int(k)))
		}
		// No room for the descriptor: it is closed, and that is told.
		le.PutUint32(rights[16:], uint32(got))
		send()
		m = p.msg(0, 0, p.words(buf, 8), 1, control, 16)
		p.ok(syscall.SYS_RECVMSG, b, m, 0)
		if p.int(m+48)&syscall.MSG_CTRUNC == 0 {
			t.Errorf("flags %#x", p.int(m+48))
		}
		le.PutUint32(rights[16:], 63)
		p.fails(syscall.EBADF, syscall.SYS_SENDMSG, a, p.msg(0, 0, iov, 1, p.alloc(rights), 24), 0)
	})
}

func TestBadArguments(t *testing.T) {
	run(t, vfs.UserCreds(1000, 1000), func(p prog) {
		const bad = 0x1000
		s := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK, 0)
		file := p.ok(syscall.SYS_OPENAT, ^uint64(99), p.alloc([]byte("/file\x00")), 0, 0)
		at, n := p.addr(in4(80))
		for _, nr := range []uint64{syscall.SYS_BIND, syscall.SYS_CONNECT, syscall.SYS_LISTEN, syscall.SYS_ACCEPT, syscall.SYS_SHUTDOWN, syscall.SYS_GETSOCKNAME, syscall.SYS_GETPEERNAME,
			syscall.SYS_SETSOCKOPT, syscall.SYS_GETSOCKOPT, syscall.SYS_SENDTO, syscall.SYS_RECVFROM, syscall.SYS_SENDMSG, syscall.SYS_RECVMSG, 307, syscall.SYS_RECVMMSG} {
			p.fails(syscall.ENOTSOCK, nr, file, at, n, at, n, at)
			p.fails(syscall.EBADF, nr, 55, at, n, at, n, at)
		}
		p.fails(syscall.EINVAL, syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM|1<<20, 0)
		p.fails(syscall.EINVAL, syscall.SYS_SOCKETPAIR, syscall.AF_UNIX, syscall.SOCK_STREAM|1<<20, 0, at)
		p.fails(syscall.EOPNOTSUPP, syscall.SYS_SOCKETPAIR, syscall.AF_INET, syscall.SOCK_STREAM, 0, at)
		p.fails(syscall.EFAULT, syscall.SYS_SOCKETPAIR, syscall.AF_UNIX, syscall.SOCK_STREAM, 0, bad)
		p.fails(syscall.EACCES, syscall.SYS_BIND, s, at, n)
		p.fails(syscall.EFAULT, syscall.SYS_BIND, s, bad, n)
		p.fails(syscall.EINVAL, syscall.SYS_BIND, s, at, 200)
		p.fails(syscall.EINVAL, syscall.SYS_BIND, s, at, 1<<32-1)
		p.fails(syscall.EINVAL, syscall.SYS_BIND, s, at, 3)
		p.fails(syscall.ENOTCONN, syscall.SYS_GETPEERNAME, s, at, p.words(16))
		p.fails(syscall.EFAULT, syscall.SYS_GETSOCKNAME, s, 0, p.words(16))
		p.fails(syscall.EINVAL, syscall.SYS_GETSOCKNAME, s, at, p.words(1<<32-1))
		p.fails(syscall.EFAULT, syscall.SYS_GETSOCKNAME, s, at, bad)
		p.fails(syscall.EINVAL, syscall.SYS_SETSOCKOPT, s, 1, 2, at, 1<<32-1)
		p.fails(syscall.EFAULT, syscall.SYS_SETSOCKOPT, s, 1, 2, bad, 4)
		p.fails(syscall.EINVAL, syscall.SYS_GETSOCKOPT, s, 1, 2, at, p.words(1<<32-1))
		p.fails(syscall.EFAULT, syscall.SYS_GETSOCKOPT, s, 1, 2, at, bad)
		p.fails(syscall.EFAULT, syscall.SYS_GETSOCKOPT, s, 1, 2, bad, p.words(4))
		p.fails(syscall.EFAULT, syscall.SYS_SENDMSG, s, bad, 0)
		p.fails(syscall.EFAULT, syscall.SYS_SENDMSG, s, p.msg(0, 0, bad, 1, 0, 0), 0)
		p.fails(syscall.EMSGSIZE, syscall.SYS_SENDMSG, s, p.msg(0, 0, at, 2000, 0, 0), 0)
		p.fails(syscall.EINVAL, syscall.SYS_SENDMSG, s, p.msg(at, n, p.words(at, 1<<63), 1, 0, 0), 0)
		p.fails(syscall.EINVAL, syscall.SYS_SENDMSG, s, p.msg(at, 1<<31, p.words(at, 1), 1, 0, 0), 0)
		p.fails(syscall.EFAULT, syscall.SYS_SENDMSG, s, p.msg(bad, n, p.words(at, 1), 1, 0, 0), 0)
		p.fails(syscall.EFAULT, syscall.SYS_SENDMSG, s, p.msg(at, n, p.words(at, 1), 1, bad, 32), 0)
		p.fails(syscall.EFAULT, syscall.SYS_SENDTO, s, bad, 10, 0, at, n)
		p.fails(syscall.EINVAL, syscall.SYS_RECVMSG, s, p.msg(at, 1<<31, p.words(at, 1), 1, 0, 0), 0)
		p.fails(syscall.EFAULT, syscall.SYS_RECVMMSG, s, at, 1, 0, bad)
		to, tn := p.addr(in4(5000))
		r := p.ok(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM, 0)
		p.bind(r, in4(5000))
		p.ok(syscall.SYS_SENDTO, s, at, 4, 0, to, tn)
		p.fails(syscall.EFAULT, syscall.SYS_RECVFROM, r, bad, 4, 0, 0, 0)
		p.ok(syscall.SYS_SENDTO, s, at, 4, 0, to, tn)
		p.fails(syscall.EFAULT, syscall.SYS_RECVFROM, r, at, 4, 0, at, bad)
		p.ok(syscall.SYS_SENDTO, s, at, 4, 0, to, tn)
		p.fails(syscall.EFAULT, syscall.SYS_RECVMSG, r, p.msg(bad, 16, p.words(at, 4), 1, 0, 0), 0)
		// Many pieces.
		var v []uint64
		x := p.room(16)
		for range 20 {
			v = append(v, x, 1)
		}
		if k := p.ok(syscall.SYS_SENDMSG, s, p.msg(to, tn, p.words(v...), 20, 0, 0), 0); k != 20 {
			t.Error(k)
		}
	})
}
