package file_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/abi"
)

// u64 are words in memory.
func u64(v ...uint64) (b []byte) {
	for _, x := range v {
		b = le.AppendUint64(b, x)
	}
	return b
}

func (r *run) iov(parts ...string) uint64 {
	var b []byte
	for _, p := range parts {
		b = append(b, u64(r.bytes([]byte(p)), uint64(len(p)))...)
	}
	return r.bytes(b)
}

func TestAtCallsAsLinux(t *testing.T) {
	both(t, func(r *run) {
		d := r.open("@", syscall.O_RDONLY|syscall.O_DIRECTORY)
		f := r.fd("creat", 85, r.str("@/a"), 0o640)
		r.write(f, "0123456789")
		r.do("linkat", 265, d, r.str("a"), d, r.str("b"), 0)
		r.do("linkat flag", 265, d, r.str("a"), d, r.str("b"), 1)
		r.do("symlinkat", 266, r.str("a"), d, r.str("l"))
		r.do("linkat follow", 265, d, r.str("l"), d, r.str("c"), 0x400)
		r.do("linkat link itself", 265, d, r.str("l"), d, r.str("m"), 0)
		r.stat("lstat c", 6, r.str("@/c"), buf)
		r.stat("lstat m", 6, r.str("@/m"), buf)
		out := r.space(64)
		r.do("readlinkat", 267, d, r.str("l"), r.addr(out), 64)
		l := r.fd("open link", 257, d, r.str("l"), 0x200000|syscall.O_NOFOLLOW, 0)
		r.do("readlinkat empty", 267, l, r.str(""), r.addr(out), 64)
		r.do("readlinkat empty of a file", 267, f, r.str(""), r.addr(out), 64)
		r.fd("open link NOFOLLOW", 257, d, r.str("l"), syscall.O_NOFOLLOW, 0)
		r.do("mknodat", 259, d, r.str("reg"), syscall.S_IFREG|0o644, 0)
		r.do("renameat", 264, d, r.str("reg"), d, r.str("reg2"))
		r.do("renameat missing", 264, d, r.str("reg"), d, r.str("reg2"))
		r.do("fchmodat", 268, d, r.str("a"), 0o600)
		r.do("fchmodat2 flag", 452, d, r.str("a"), 0o600, 1)
		r.do("fchmodat2 link", 452, d, r.str("l"), 0o600, 0x100)
		r.do("fchmod", 91, f, 0o4755)
		r.do("fchown", 93, f, 7, 8)
		r.stat("stat", 4, r.str("@/a"), buf)
		r.do("fchownat", 260, d, r.str("l"), 9, none, 0x100)
		r.do("fchownat flag", 260, d, r.str("l"), 9, none, 1)
		r.do("lchown", 94, r.str("@/l"), 10, 11)
		r.do("faccessat", 269, d, r.str("a"), 4)
		r.do("faccessat dangling", 269, d, r.str("none"), 4)
		r.do("faccessat2 empty", 439, f, r.str(""), 4, 0x1000)
		r.do("utimes", 235, r.str("@/a"), r.bytes(u64(10, 500000, 20, 600000)))
		r.do("utimes microseconds", 235, r.str("@/a"), r.bytes(u64(10, 1000000, 20, 0)))
		st := r.space(144)
		r.do("stat", 4, r.str("@/a"), r.addr(st))
		r.say("%x", r.get(st+72, 32))
		r.do("utime", 132, r.str("@/a"), r.bytes(u64(30, 40)))
		r.do("stat", 4, r.str("@/a"), r.addr(st))
		r.say("%x", r.get(st+72, 32))
		r.do("futimesat", 261, d, r.str("a"), r.bytes(u64(50, 1, 60, 2)))
		r.do("utimensat omit", 280, d, r.str("a"), r.bytes(u64(1, 1<<30-2, 2, 3)), 0)
		r.do("futimens", 280, f, 0, r.bytes(u64(1, 4, 2, 1<<30-2)), 0)
		r.do("futimens null path and flag", 280, f, 0, 0, 0x100)
		r.do("stat", 4, r.str("@/a"), r.addr(st))
		r.say("%x", r.get(st+72, 32))
		x := r.space(256)
		for _, c := range [][5]uint64{{d, r.str("a"), 0, 0x7ff, r.addr(x)}, {f, r.str(""), 0x1000, 0x7ff, r.addr(x)}, {d, r.str("a"), 0x6000, 0x7ff, r.addr(x)},
			{d, r.str("a"), 0, 0x80000000, r.addr(x)}, {d, r.str("l"), 0x100, 0x7ff, r.addr(x)}, {d, r.str("a"), 0x8000, 1, r.addr(x)}, {d, r.str("none"), 0, 1, r.addr(x)}, {d, r.str("a"), 0, 1, 16}} {
			if r.do("statx", 332, c[:]...) == 0 {
				b := r.get(x, 256)
				r.say("nlink %d mode %o size %d", le.Uint32(b[16:]), le.Uint16(b[28:]), le.Uint64(b[40:]))
			}
		}
		r.do("statfs", 137, r.str("@"), r.addr(x))
		r.do("statfs missing", 137, r.str("@/none"), r.addr(x))
		r.do("fstatfs", 138, d, r.addr(x))
		p := r.space(8)
		r.do("pipe", 22, r.addr(p))
		pr, pw := uint64(le.Uint32(r.get(p, 4))), uint64(le.Uint32(r.get(p+4, 4)))
		r.do("fstatfs pipe", 138, pr, r.addr(x))
		r.say("%#x", le.Uint64(r.get(x, 8)))
		r.do("fchown pipe", 93, pr, 1, 1)
		r.do("syncfs", 306, d)
		r.do("syncfs bad", 306, none)
		r.do("sync", 162)
		r.do("fdatasync", 75, f)
		r.do("sync_file_range", 277, f, 0, 4, 7)
		r.do("sync_file_range flag", 277, f, 0, 4, 8)
		r.do("sync_file_range pipe", 277, pr, 0, 4, 2)
		r.do("fadvise64", 221, f, 0, 0, 4)
		r.do("fadvise64 advice", 221, f, 0, 0, 9)
		r.do("readahead", 187, f, 0, 10)
		r.do("readahead pipe", 187, pr, 0, 10)
		names := map[string]bool{}
		big := r.space(4096)
		n := r.do("getdents old of a directory", 78, d, r.addr(big), 4096) + 0*1
		_ = n
		r.log = r.log[:len(r.log)-1] // how long records are is the file system's affair
		if n != none {
			for b := r.get(big, int(n)); len(b) > 0; b = b[le.Uint16(b[16:]):] {
				rec := b[:le.Uint16(b[16:])]
				names[fmt.Sprintf("%s %d", strings.TrimRight(string(rec[18:len(rec)-2]), "\x00"), rec[len(rec)-1])] = true
			}
		}
		r.say("%v", names)
		for _, c := range []uint64{d, f, l, pr, pw} {
			r.do("close", 3, c)
		}
	})
}

func TestOpenat2AsLinux(t *testing.T) {
	both(t, func(r *run) {
		r.do("mkdir", 83, r.str("@/d"), 0o755)
		d := r.open("@/d", syscall.O_RDONLY)
		r.do("symlink", 88, r.str("../x"), r.str("@/d/up"))
		r.do("symlink", 88, r.str("/x"), r.str("@/d/root"))
		r.do("close", 3, r.open("@/d/x", syscall.O_CREAT|syscall.O_RDWR))
		r.do("close", 3, r.open("@/x", syscall.O_CREAT|syscall.O_RDWR))
		for _, c := range []struct {
			name                        string
			flags, mode, resolve, extra uint64
			size                        uint64
		}{
			{"x", 0, 0, 0, 0, 24}, {"x", 0, 0, 0, 0, 23}, {"x", 0, 0, 0, 1, 32}, {"x", 0, 0, 0, 0, 32}, {"x", 0, 0o600, 0, 0, 24},
			{"x", 1 << 40, 0, 0, 0, 24}, {"x", 0, 0, 64, 0, 24}, {"x", 0, 0, 24, 0, 24}, {"up", 0, 0, 0, 0, 24}, {"up", 0, 0, 8, 0, 24},
			{"up", 0, 0, 4, 0, 24}, {"root", 0, 0, 16, 0, 24}, {"root", 0, 0, 8, 0, 24}, {"../x", 0, 0, 8, 0, 24}, {"../x", 0, 0, 16, 0, 24},
			{"/x", 0, 0, 8, 0, 24}, {"new", syscall.O_CREAT | syscall.O_RDWR, 0o600, 8, 0, 24}, {"new", syscall.O_CREAT | syscall.O_RDWR, 0o10600, 8, 0, 24},
			{"x", 0x200000 | syscall.O_RDWR, 0, 0, 0, 24}, {".", 0x410000 | syscall.O_RDWR, 0o600, 0, 0, 24}, {".", 0x410000, 0o600, 0, 0, 24},
		} {
			v := r.fd(fmt.Sprintf("openat2 %+v", c), 437, d, r.str(c.name), r.bytes(u64(c.flags, c.mode, c.resolve, c.extra)), c.size)
			if v != none {
				r.do("close", 3, v)
			}
		}
		r.do("openat2 size", 437, d, r.str("x"), r.bytes(u64(0, 0, 0)), 5000)
		r.do("close", 3, d)
	})
}

func TestVectorsAndCopiesAsLinux(t *testing.T) {
	both(t, func(r *run) {
		f := r.open("@/a", syscall.O_RDWR|syscall.O_CREAT)
		r.do("pwritev", 296, f, r.iov("hello ", "world"), 2, 3)
		r.do("pwritev2 append", 328, f, r.iov("!"), 1, none, 0, 16)
		r.do("pwritev2 position", 328, f, r.iov("abc"), 1, none, 0, 2)
		r.do("pwritev2 flag", 328, f, r.iov("abc"), 1, none, 0, 1<<20)
		r.do("pwritev negative", 296, f, r.iov("abc"), 1, none)
		off := r.space(32)
		r.do("preadv", 295, f, r.bytes(u64(r.addr(off), 4, r.addr(off+8), 100)), 2, 0)
		r.say("%q %q", r.get(off, 4), r.get(off+8, 11))
		r.do("preadv2", 327, f, r.bytes(u64(r.addr(off), 4)), 1, none, 0, 0)
		r.do("preadv2 offset", 327, f, r.bytes(u64(r.addr(off), 4)), 1, ^uint64(1), 0, 0)
		r.do("readv part bad", 19, f, r.bytes(u64(r.addr(off), 2, 16, 4)), 2)
		r.do("position", 8, f, 0, 1)
		r.do("readv length", 19, f, r.bytes(u64(r.addr(off), 1<<63)), 1)
		r.do("readv kernel address", 19, f, r.bytes(u64(1<<63, 2)), 1)
		p, q := r.space(8), r.space(8)
		r.do("pipe2", 293, r.addr(p), syscall.O_NONBLOCK)
		r.do("pipe2", 293, r.addr(q), syscall.O_NONBLOCK)
		pr, pw := uint64(le.Uint32(r.get(p, 4))), uint64(le.Uint32(r.get(p+4, 4)))
		qr, qw := uint64(le.Uint32(r.get(q, 4))), uint64(le.Uint32(r.get(q+4, 4)))
		r.do("vmsplice", 278, pw, r.iov("vm", "splice"), 2, 0)
		r.do("vmsplice flag", 278, pw, r.iov("vm"), 1, 16)
		r.do("vmsplice file", 278, f, r.iov("vm"), 1, 0)
		r.do("tee", 276, pr, qw, 4, 0)
		r.read(qr, 100)
		r.do("splice pipes", 275, pr, 0, qw, 0, 5, 0)
		r.read(qr, 100)
		r.do("splice pipe offset", 275, pr, r.bytes(u64(0)), qw, 0, 5, 0)
		r.do("splice flag", 275, pr, 0, qw, 0, 5, 16)
		r.do("splice nothing", 275, none, 0, none, 0, 0, 0)
		r.do("splice wrong end", 275, pw, 0, qw, 0, 5, 0)
		r.do("splice to an offset", 275, pr, 0, f, r.bytes(u64(1)), 100, 0)
		r.do("splice empty", 275, pr, 0, f, 0, 100, 0)
		r.do("splice from an offset", 275, f, r.bytes(u64(1)), pw, 0, 3, 0)
		r.do("vmsplice out", 278, pr, r.bytes(u64(r.addr(off), 2)), 1, 0)
		r.read(pr, 100)
		r.do("splice a directory", 275, r.open("@", 0), 0, pw, 0, 3, 0)
		at := r.space(8)
		r.put(at, u64(2))
		r.do("sendfile offset", 40, pw, f, r.addr(at), 4)
		r.say("%d", le.Uint64(r.get(at, 8)))
		r.put(at, u64(none))
		r.do("sendfile negative", 40, pw, f, r.addr(at), 4)
		r.do("sendfile address", 40, pw, f, 16, 4)
		r.do("sendfile bad out", 40, none, f, 0, 4)
		r.do("sendfile read-only out", 40, pr, f, 0, 4)
		a := r.open("@/log", syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND)
		r.do("sendfile append", 40, a, f, 0, 4)
		r.do("copy_file_range append", 326, f, 0, a, 0, 4, 0)
		r.do("copy_file_range flag", 326, f, 0, f, r.bytes(u64(100)), 4, 1)
		r.do("copy_file_range pipe", 326, pr, 0, f, 0, 4, 0)
		r.do("copy_file_range", 326, f, r.bytes(u64(0)), f, r.bytes(u64(100)), 4, 0)
		r.stat("fstat", 5, f, buf)
		for _, c := range []uint64{f, a, pr, pw, qr, qw} {
			r.do("close", 3, c)
		}
	})
}

func TestFcntlAsLinux(t *testing.T) {
	both(t, func(r *run) {
		f := r.open("@/a", syscall.O_RDWR|syscall.O_CREAT)
		r.do("SETOWN", 72, f, 8, 12345)
		r.do("GETSIG", 72, f, 11)
		r.do("SETSIG", 72, f, 10, 10)
		r.do("SETSIG big", 72, f, 10, 100)
		r.do("GETSIG", 72, f, 11)
		own := r.space(8)
		r.do("SETOWN_EX type", 72, f, 15, r.bytes([]byte{9, 0, 0, 0, 1, 0, 0, 0}))
		r.do("GETOWN_EX address", 72, f, 16, 16)
		r.do("GETOWN_EX", 72, f, 16, r.addr(own))
		r.do("GETLEASE", 72, f, 1025)
		hint := r.space(8)
		r.do("SET_RW_HINT", 72, f, 1036, r.bytes(u64(3)))
		r.do("GET_RW_HINT", 72, f, 1035, r.addr(hint))
		r.say("%x", r.get(hint, 8))
		r.do("SET_RW_HINT big", 72, f, 1036, r.bytes(u64(30)))
		r.do("FIONBIO address", 16, f, 0x5421, 16)
		r.do("FIOASYNC", 16, r.fd("eventfd", 284, 1), 0x5452, r.bytes(u64(0)))
		dup := r.fd("F_DUPFD", 72, f, 0, 100)
		r.do("F_GETFD", 72, dup, 1)
		x := r.fd("F_DUPFD_CLOEXEC", 72, f, 1030, 100)
		r.do("F_GETFD", 72, x, 1)
		y := r.fd("dup3 cloexec", 292, f, 190, syscall.O_CLOEXEC)
		r.do("F_GETFD", 72, y, 1)
		z := r.fd("dup2", 33, f, 191)
		r.do("F_GETFD", 72, z, 1)
		r.do("dup2 same", 33, z, z)
		r.do("close_range cloexec", 436, 191, 191, 4)
		r.do("F_GETFD", 72, z, 1)
		r.do("close_range", 436, 190, 191, 0)
		r.do("F_GETFD", 72, y, 1)
		r.do("SETFL direct on a pipe", 72, f, 4, syscall.O_NONBLOCK)
		r.do("GETFL", 72, f, 3)
		e := r.fd("eventfd", 284, 1)
		r.do("SETFL direct on an eventfd", 72, e, 4, syscall.O_DIRECT)
		lock := r.space(32)
		r.put(lock, []byte{1, 0, 9, 0})
		r.do("SETLK whence", 72, f, 6, r.addr(lock))
		r.put(lock, []byte{1, 0, 2, 0})
		r.do("SETLK from the end", 72, f, 6, r.addr(lock))
		r.put(lock, []byte{1, 0, 1, 0})
		r.do("SETLK from the position", 72, f, 6, r.addr(lock))
		r.put(lock+24, []byte{1})
		r.do("OFD_SETLK pid", 72, f, 37, r.addr(lock))
		r.do("SETLK address", 72, f, 6, 16)
		r.do("SETLK eventfd", 72, e, 6, r.addr(lock))
		ro := r.open("@/a", syscall.O_RDONLY)
		r.put(lock, make([]byte, 32))
		r.put(lock, []byte{1})
		r.do("SETLK write on a read-only file", 72, ro, 6, r.addr(lock))
		for _, c := range []uint64{f, dup, x, e, ro} {
			r.do("close", 3, c)
		}
		r.do("xattr set", 188, r.str("@"), r.str("user.a"), r.bytes([]byte("value")), 5, 0)
		r.do("xattr set again", 188, r.str("@"), r.str("user.a"), r.bytes([]byte("value")), 5, 1)
		r.do("xattr set flag", 188, r.str("@"), r.str("user.a"), r.bytes([]byte("value")), 5, 4)
		r.do("xattr set name", 188, r.str("@"), r.str("what.a"), r.bytes([]byte("value")), 5, 0)
		r.do("xattr set no name", 188, r.str("@"), r.str(""), r.bytes([]byte("value")), 5, 0)
		r.do("xattr size", 191, r.str("@"), r.str("user.a"), 0, 0)
		v := r.space(64)
		r.do("xattr get", 191, r.str("@"), r.str("user.a"), r.addr(v), 64)
		r.do("xattr get small", 191, r.str("@"), r.str("user.a"), r.addr(v), 2)
		r.do("xattr get missing", 191, r.str("@"), r.str("user.b"), r.addr(v), 64)
		d := r.open("@", 0)
		r.do("xattr fget", 193, d, r.str("user.a"), r.addr(v), 64)
		r.do("xattr fremove", 199, d, r.str("user.a"))
		r.do("xattr remove", 197, r.str("@"), r.str("user.a"))
		r.do("xattr list bad", 196, none, r.addr(v), 64)
		r.do("close", 3, d)
	})
}

// TestGuestOnly are calls that would change the host.
func TestGuestOnly(t *testing.T) {
	inGuest(t, func(p *ring3.Prog, g *guest) {
		r := &run{system: g}
		must := func(nr uint64, args ...uint64) uint64 {
			v, err := p.Call(nr, args...)
			if err != nil {
				t.Errorf("call %d: %v", nr, err)
			}
			return v
		}
		fails := func(want error, nr uint64, args ...uint64) {
			if v, err := p.Call(nr, args...); err != want {
				t.Errorf("call %d: %d, %v, want %v", nr, v, err, want)
			}
		}
		must(83, r.str("/m"), 0o755)
		must(165, r.str("none"), r.str("/m"), r.str("tmpfs"), 0, r.str("size=64k,mode=700,nr_inodes=10,uid=3,gid=4,other"))
		fails(syscall.EINVAL, 165, r.str("none"), r.str("/m"), r.str("tmpfs"), 0, r.str("size=x"))
		fails(syscall.ENODEV, 165, r.str("none"), r.str("/m"), r.str("what"), 0, 0)
		must(83, r.str("/m/d"), 0o755)
		must(83, r.str("/b"), 0o755)
		must(165, r.str("/m"), r.str("/b"), 0, syscall.MS_BIND, 0)
		must(165, 0, r.str("/b"), 0, syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, 0)
		must(165, 0, r.str("/b"), 0, syscall.MS_PRIVATE, 0)
		fails(syscall.EROFS, 83, r.str("/b/e"), 0o755)
		fails(syscall.EINVAL, 165, r.str("/b"), r.str("/m"), 0, syscall.MS_MOVE, 0)
		fails(syscall.EINVAL, 166, r.str("/b"), 1<<20)
		fails(syscall.EINVAL, 166, r.str("/t"), 0)
		must(166, r.str("/b"), 8)
		f := must(2, r.str("/m/big"), syscall.O_RDWR|syscall.O_CREAT, 0o644)
		if n, err := p.Call(1, f, g.addr(0), 200<<10); n != 64<<10 || err != nil {
			t.Errorf("write to a full tmpfs: %d, %v", n, err)
		}
		fails(syscall.ENOSPC, 1, f, g.addr(0), 1)
		fails(syscall.EBUSY, 166, r.str("/m"), 0)
		must(166, r.str("/m"), 2)
		must(3, f)
		fails(syscall.ENOTDIR, 161, r.str("/init"))
		must(161, r.str("/t"))
		fails(syscall.ENOENT, 4, r.str("/init"), g.addr(0))
	})
}

func TestTerminalCalls(t *testing.T) {
	inGuest(t, func(p *ring3.Prog, g *guest) {
		r := &run{system: g}
		tty, err := p.Call(2, r.str("/dev/console"), syscall.O_RDWR)
		if err != nil {
			t.Error(err)
		}
		call := func(what string, want error, nr uint64, args ...uint64) {
			if _, err := p.Call(nr, args...); err != want {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		b := g.addr(1024)
		call("TCGETS", nil, 16, tty, 0x5401, b)
		call("TIOCGWINSZ", nil, 16, tty, 0x5413, b)
		call("TIOCGPGRP", nil, 16, tty, 0x540f, b)
		if pid, _ := p.Call(39); uint64(p.Get32(b)) != pid {
			t.Errorf("foreground group %d, process %d", p.Get32(b), pid)
		}
		call("TIOCSPGRP", nil, 16, tty, 0x5410, b)
		call("TIOCGSID", nil, 16, tty, 0x5429, b)
		call("TIOCSCTTY", nil, 16, tty, 0x540e, 0)
		p.Put32(b, 9999)
		call("TIOCSPGRP of nobody", syscall.ESRCH, 16, tty, 0x5410, b)
		call("TIOCSPGRP address", syscall.EFAULT, 16, tty, 0x5410, 16)
		call("TIOCNOTTY", nil, 16, tty, 0x5422, 0)
		call("TIOCGPGRP without a terminal", syscall.ENOTTY, 16, tty, 0x540f, b)
		call("TIOCSCTTY again", nil, 16, tty, 0x540e, 0)
		call("ioctl", syscall.ENOTTY, 16, tty, 0x9999, 0)
		call("write", nil, 1, tty, r.str("hello\n"), 6)
		// RLIMIT_FSIZE: SIGXFSZ, ignored here.
		call("sigaction", nil, 13, uint64(syscall.SIGXFSZ), r.bytes(u64(1, 0, 0, 0)), 0, 8)
		call("prlimit", nil, 302, 0, abi.RLIMIT_FSIZE, r.bytes(u64(10, 10)), 0)
		f, _ := p.Call(2, r.str("/t/f"), syscall.O_RDWR|syscall.O_CREAT, 0o644)
		call("write at the limit", nil, 18, f, b, 4, 0)
		if n, err := p.Call(18, f, b, 8, 6); n != 4 || err != nil {
			t.Errorf("write across the limit: %d, %v", n, err)
		}
		big, _ := p.Call(2, r.str("/t/big"), syscall.O_RDWR|syscall.O_CREAT|syscall.O_APPEND, 0o644)
		for _, want := range []uint64{7, 3} {
			if n, err := p.Call(1, big, b, 7); n != want || err != nil {
				t.Errorf("append across the limit: %d, %v", n, err)
			}
		}
		call("append at the limit", syscall.EFBIG, 1, big, b, 1)
		call("writev at the limit", syscall.EFBIG, 20, big, r.iov("x"), 1)
		to, _ := p.Call(2, r.str("/t/to"), syscall.O_RDWR|syscall.O_CREAT, 0o644)
		call("lseek", nil, 8, to, 5, 0)
		call("lseek", nil, 8, f, 0, 0)
		if n, err := p.Call(40, to, f, 0, 100); n != 5 || err != nil {
			t.Errorf("sendfile across the limit: %d, %v", n, err)
		}
		call("sendfile at the limit", syscall.EFBIG, 40, to, big, b+8, 1)
		call("write beyond the limit", syscall.EFBIG, 18, f, b, 4, 10)
		call("truncate beyond the limit", syscall.EFBIG, 77, f, 11)
		call("fallocate beyond the limit", syscall.EFBIG, 285, f, 0, 0, 100)
		call("hole without KEEP_SIZE", syscall.EOPNOTSUPP, 285, f, 2, 0, 1)
		call("hole of zeros", syscall.EOPNOTSUPP, 285, f, 2|16|1, 0, 1)
		// SIGPIPE kills who does not ignore it.
		call("sigaction", nil, 13, uint64(syscall.SIGPIPE), r.bytes(u64(1, 0, 0, 0)), 0, 8)
		call("pipe", nil, 22, b)
		pr, pw := uint64(p.Get32(b)), uint64(p.Get32(b+4))
		call("close", nil, 3, pr)
		call("write without a reader", syscall.EPIPE, 1, pw, b, 1)
		// signalfd.
		call("sigprocmask", nil, 14, 0, r.bytes(u64(1<<9)), 0, 8)
		s, err := p.Call(282, none, r.bytes(u64(1<<9)), 8)
		if err != nil {
			t.Error(err)
		}
		ep, _ := p.Call(291, 0)
		call("epoll_ctl", nil, 233, ep, 1, s, r.bytes([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}))
		pid, _ := p.Call(39)
		call("kill", nil, 62, pid, 10)
		if n, err := p.Call(232, ep, b, 1, 0); n != 1 || err != nil {
			t.Errorf("epoll_wait: %d, %v", n, err)
		}
		if n, err := p.Call(0, s, b, 128); n != 128 || err != nil || p.Get32(b) != 10 {
			t.Errorf("read of a signalfd: %d, %v, signal %d", n, err, p.Get32(b))
		}
		call("signalfd mask", nil, 282, s, r.bytes(u64(1<<11)), 8)
		call("inotify_init", nil, 253)
	})
}
