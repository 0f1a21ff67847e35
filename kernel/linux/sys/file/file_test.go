package file_test

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"

	"osv/kernel/ktest/ring3"
)

var le = binary.LittleEndian

const (
	fdcwd = 0xffffffffffffff9c
	none  = ^uint64(0) // no descriptor
)

func (r *run) open(name string, flags int) uint64 {
	return r.fd(fmt.Sprintf("open(%s, %#x)", name, flags), 2, r.str(name), uint64(flags), 0o644)
}

func (r *run) write(f uint64, s string) {
	r.do(fmt.Sprintf("write(%.20q)", s), 1, f, r.bytes([]byte(s)), uint64(len(s)))
}

func (r *run) read(f uint64, n int) {
	off := r.space(n)
	v, err := r.call(0, f, r.addr(off), uint64(n))
	if err != nil {
		r.say("read(%d): %v", n, err)
		return
	}
	r.say("read(%d): %q", n, r.get(off, int(v)))
}

// stat notes what both systems must agree on.
func (r *run) stat(what string, nr uint64, args ...uint64) {
	off := r.space(144)
	for i, a := range args {
		if a == 1<<63 {
			args[i] = r.addr(off)
		}
	}
	if _, err := r.call(nr, args...); err != nil {
		r.say("%s: %v", what, err)
		return
	}
	b := r.get(off, 144)
	size := le.Uint64(b[48:])
	if le.Uint32(b[24:])&syscall.S_IFMT == syscall.S_IFDIR {
		size = 0 // of a directory it is the file system's affair
	}
	r.say("%s: mode %o nlink %d size %d", what, le.Uint32(b[24:]), le.Uint64(b[16:]), size)
}

const buf = 1 << 63 // stands for the result's address in stat

func TestFilesAsLinux(t *testing.T) {
	both(t, func(r *run) {
		f := r.open("@/a", syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL)
		r.open("@/a", syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL)
		r.write(f, "hello world")
		r.do("lseek", 8, f, 3, 0)
		r.read(f, 5)
		r.do("lseek cur", 8, f, 2, 1)
		r.do("lseek end", 8, f, ^uint64(1), 2)
		r.do("lseek before", 8, f, ^uint64(100), 0)
		r.do("lseek whence", 8, f, 0, 9)
		r.do("lseek data", 8, f, 2, 3)
		r.do("lseek hole", 8, f, 2, 4)
		r.do("lseek data beyond", 8, f, 100, 3)
		r.do("pwrite", 18, f, r.bytes([]byte("WORLD")), 5, 6)
		r.do("pwrite negative", 18, f, r.bytes([]byte("x")), 1, ^uint64(0))
		r.do("pread beyond", 17, f, r.addr(r.space(8)), 8, 100)
		r.stat("fstat", 5, f, buf)
		r.stat("stat", 4, r.str("@/a"), buf)
		r.stat("lstat missing", 6, r.str("@/b"), buf)
		r.stat("newfstatat empty", 262, f, r.str(""), buf, 0x1000)
		r.stat("newfstatat empty without the flag", 262, f, r.str(""), buf, 0)
		r.stat("newfstatat bad flag", 262, f, r.str(""), buf, 0x8000)
		r.do("ftruncate", 77, f, 4)
		r.do("ftruncate negative", 77, f, ^uint64(0))
		r.do("fallocate", 285, f, 0, 0, 100)
		r.do("fallocate nothing", 285, f, 0, 0, 0)
		r.stat("fstat", 5, f, buf)
		r.do("truncate", 76, r.str("@/a"), 2)
		r.do("truncate a directory", 76, r.str("@"), 2)
		ro := r.open("@/a", syscall.O_RDONLY)
		r.write(ro, "x")
		r.do("ftruncate read-only", 77, ro, 4)
		r.do("write bad address", 1, f, 16, 4)
		r.do("write kernel address", 1, f, 1<<63, 4)
		r.do("write nothing at a bad address", 1, f, 16, 0)
		r.do("write read-only at a bad address", 1, ro, 16, 4)
		r.do("read bad descriptor and address", 0, none, 16, 4)
		r.do("read huge", 0, f, r.addr(0), 1<<62)
		d := r.open("@", syscall.O_RDONLY|syscall.O_DIRECTORY)
		r.read(d, 10)
		r.open("@", syscall.O_RDWR)
		r.open("@/a", syscall.O_RDONLY|syscall.O_DIRECTORY)
		r.open("@/a/b", syscall.O_RDONLY)
		r.open("", syscall.O_RDONLY)
		r.do("open bad address", 2, 16, 0, 0)
		p := r.open("@/a", 0x200000)
		r.read(p, 1)
		r.write(p, "x")
		r.do("fcntl GETFL of O_PATH", 72, p, 3)
		r.do("fcntl SETFL of O_PATH", 72, p, 4, 0)
		r.stat("fstat O_PATH", 5, p, buf)
		r.do("fchmod O_PATH", 91, p, 0o600)
		r.do("ftruncate O_PATH", 77, p, 0)
		r.do("close", 3, p)
		r.do("close again", 3, p)
		for _, x := range []uint64{f, ro, d} {
			r.do("close", 3, x)
		}
		a := r.open("@/log", syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND)
		r.write(a, "one")
		r.do("pwrite with O_APPEND", 18, a, r.bytes([]byte("two")), 3, 0)
		r.do("position", 8, a, 0, 1)
		r.do("GETFL", 72, a, 3)
		r.do("SETFL", 72, a, 4, syscall.O_NONBLOCK)
		r.do("GETFL", 72, a, 3)
		r.stat("stat", 4, r.str("@/log"), buf)
		r.do("close", 3, a)
	})
}

func TestNamesAsLinux(t *testing.T) {
	both(t, func(r *run) {
		r.do("mkdir", 83, r.str("@/d"), 0o755)
		r.do("mkdir again", 83, r.str("@/d"), 0o755)
		r.do("mkdir below nothing", 83, r.str("@/x/y"), 0o755)
		d := r.open("@/d", syscall.O_RDONLY)
		f := r.fd("openat", 257, d, r.str("f"), syscall.O_CREAT|syscall.O_RDWR, 0o600)
		r.do("close", 3, f)
		r.do("mkdirat a file", 258, f, r.str("x"), 0o755)
		r.do("unlink a directory", 87, r.str("@/d"))
		r.do("rmdir not empty", 84, r.str("@/d"))
		r.do("rmdir a file", 84, r.str("@/d/f"))
		r.do("rmdir .", 84, r.str("@/d/."))
		r.do("rmdir ..", 84, r.str("@/d/.."))
		r.do("symlink", 88, r.str("f"), r.str("@/d/l"))
		r.do("symlink empty", 88, r.str(""), r.str("@/d/m"))
		r.do("symlink over", 88, r.str("f"), r.str("@/d/l"))
		out := r.space(64)
		n := r.do("readlink", 89, r.str("@/d/l"), r.addr(out), 64)
		if n != none {
			r.say("%q", r.get(out, int(n)))
		}
		r.do("readlink of a file", 89, r.str("@/d/f"), r.addr(out), 64)
		r.do("readlink size 0", 89, r.str("@/d/l"), r.addr(out), 0)
		r.do("readlink of nothing", 89, r.str("@/d/none"), r.addr(out), 64)
		r.do("link", 86, r.str("@/d/f"), r.str("@/d/g"))
		r.do("link a directory", 86, r.str("@/d"), r.str("@/e"))
		r.stat("stat g", 4, r.str("@/d/g"), buf)
		r.do("rename", 82, r.str("@/d/g"), r.str("@/d/h"))
		r.do("rename a directory below itself", 82, r.str("@/d"), r.str("@/d/d"))
		r.do("rename over a directory", 82, r.str("@/d/h"), r.str("@/d"))
		r.do("renameat2 noreplace", 316, d, r.str("h"), d, r.str("f"), 1)
		r.do("renameat2 exchange", 316, d, r.str("h"), d, r.str("l"), 2)
		r.do("renameat2 flags", 316, d, r.str("h"), d, r.str("l"), 3)
		r.stat("lstat h", 6, r.str("@/d/h"), buf)
		r.do("unlinkat flag", 263, d, r.str("h"), 1)
		r.do("unlinkat", 263, d, r.str("h"), 0)
		r.do("unlinkat directory", 263, d, r.str("f"), 0x200)
		r.do("access", 21, r.str("@/d/f"), 4)
		r.do("access mode", 21, r.str("@/d/f"), 8)
		r.do("access of nothing", 21, r.str("@/d/none"), 0)
		r.do("faccessat2 flag", 439, d, r.str("f"), 0, 0x8000)
		r.do("chmod", 90, r.str("@/d/f"), 0o4751)
		r.stat("stat f", 4, r.str("@/d/f"), buf)
		r.do("chown", 92, r.str("@/d/f"), 5, 6)
		r.stat("stat f", 4, r.str("@/d/f"), buf)
		r.do("mknod fifo", 133, r.str("@/p"), syscall.S_IFIFO|0o644, 0)
		r.do("mknod directory", 133, r.str("@/q"), syscall.S_IFDIR|0o644, 0)
		r.open("@/p", syscall.O_WRONLY|syscall.O_NONBLOCK)
		pr := r.open("@/p", syscall.O_RDONLY|syscall.O_NONBLOCK)
		r.read(pr, 1)
		pw := r.open("@/p", syscall.O_WRONLY|syscall.O_NONBLOCK)
		r.read(pr, 1)
		r.write(pw, "fifo")
		r.read(pr, 10)
		r.do("lseek", 8, pr, 0, 0)
		r.stat("fstat fifo", 5, pr, buf)
		r.do("close", 3, pw)
		r.read(pr, 10)
		r.do("close", 3, pr)
		r.do("utimensat", 280, d, r.str("f"), r.bytes(append(le.AppendUint64(le.AppendUint64(nil, 5), 6), make([]byte, 16)...)), 0)
		r.do("utimensat nanoseconds", 280, d, r.str("f"), r.bytes(append(le.AppendUint64(le.AppendUint64(nil, 5), 1e9), make([]byte, 16)...)), 0)
		r.do("utimensat flags", 280, d, r.str("f"), 0, 0x8000)
		r.do("futimens", 280, d, 0, 0, 0)
		r.do("fsync directory", 74, d)
		r.do("fsync nothing", 74, none)
		r.do("fchdir", 81, d)
		r.do("getcwd too small", 79, r.addr(out), 1)
		r.do("chdir to a file", 80, r.str("f"))
		r.stat("stat relative", 4, r.str("f"), buf)
		r.do("chdir back", 80, r.str("/"))
		r.do("umask", 95, 0o22)
		r.do("umask", 95, 0o22)
		r.do("getdents tiny", 217, d, r.addr(out), 8)
		names := map[string]bool{}
		big := r.space(4096)
		for {
			n, err := r.call(217, d, r.addr(big), 64)
			if err != nil {
				r.say("getdents: %v", err)
			}
			if err != nil || n == 0 {
				break
			}
			for b := r.get(big, int(n)); len(b) > 0; b = b[le.Uint16(b[16:]):] {
				e := b[19:le.Uint16(b[16:])]
				k := 0
				for e[k] != 0 {
					k++
				}
				names[fmt.Sprintf("%s %d", e[:k], b[18])] = true
			}
		}
		r.say("%v", names)
		r.do("getdents of a file", 217, f, r.addr(big), 4096)
		r.do("close", 3, d)
	})
}

func TestDescriptorsAsLinux(t *testing.T) {
	both(t, func(r *run) {
		f := r.open("@/a", syscall.O_RDWR|syscall.O_CREAT)
		g := r.fd("dup", 32, f)
		r.write(f, "abc")
		r.do("position of the copy", 8, g, 0, 1)
		r.do("dup2 same", 33, none, none)
		r.do("dup3 same", 292, f, f, 0)
		r.do("dup3 flag", 292, f, g, 1)
		r.do("dup3 bad", 292, f, none, 0)
		r.do("F_GETFD", 72, f, 1)
		r.do("F_SETFD", 72, f, 2, 1)
		r.do("F_GETFD", 72, f, 1)
		r.do("F_GETFD of the copy", 72, g, 1)
		r.do("F_DUPFD negative", 72, f, 0, none)
		r.do("fcntl unknown", 72, f, 999, 0)
		r.do("FIOCLEX", 16, g, 0x5451)
		r.do("F_GETFD", 72, g, 1)
		off := r.space(4)
		r.do("FIONREAD at the end", 16, f, 0x541b, r.addr(off))
		r.say("%d", le.Uint32(r.get(off, 4)))
		r.do("lseek", 8, f, 1, 0)
		r.do("FIONREAD", 16, f, 0x541b, r.addr(off))
		r.say("%d", le.Uint32(r.get(off, 4)))
		r.do("TCGETS", 16, f, 0x5401, r.addr(off))
		r.do("ioctl unknown", 16, f, 0x1234, 0)
		r.do("ioctl bad", 16, none, 0x541b, 0)
		r.do("FIONBIO", 16, f, 0x5421, r.bytes([]byte{1, 0, 0, 0}))
		r.do("GETFL", 72, f, 3)
		r.do("flock", 73, f, 2)
		h := r.open("@/a", syscall.O_RDWR)
		r.do("flock other", 73, h, 2|4)
		r.do("flock shared", 73, g, 1)
		r.do("flock other shared", 73, h, 1|4)
		r.do("flock op", 73, h, 3)
		r.do("close_range", 436, 10, 5, 0)
		r.do("close_range flag", 436, 5, 10, 1)
		p := r.space(8)
		r.do("pipe2 flag", 293, r.addr(p), 1)
		r.do("pipe2 address", 293, 16, 0)
		r.do("pipe2", 293, r.addr(p), syscall.O_NONBLOCK)
		pr, pw := uint64(le.Uint32(r.get(p, 4))), uint64(le.Uint32(r.get(p+4, 4)))
		r.stat("fstat pipe", 5, pr, buf)
		r.read(pr, 1)
		r.write(pr, "x")
		r.read(pw, 1)
		r.do("lseek pipe", 8, pr, 0, 0)
		r.do("pread pipe", 17, pr, r.addr(p), 1, 0)
		r.do("fsync pipe", 74, pr)
		r.do("ftruncate pipe", 77, pw, 0)
		r.do("fallocate pipe", 285, pw, 0, 0, 1)
		r.do("fadvise pipe", 221, pr, 0, 0, 0)
		r.do("fchmod pipe", 91, pr, 0o600)
		r.do("fchdir pipe", 81, pr)
		r.do("openat pipe", 257, pr, r.str("x"), 0)
		r.do("GETPIPE_SZ", 72, pr, 1032)
		r.do("SETPIPE_SZ", 72, pr, 1031, 5000)
		r.do("GETPIPE_SZ of a file", 72, f, 1032)
		r.do("GETFL read end", 72, pr, 3)
		r.do("GETFL write end", 72, pw, 3)
		iov := r.bytes(le.AppendUint64(le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, r.str("ab")), 2), r.str("cde")), 3))
		r.do("writev", 20, pw, iov, 2)
		r.do("writev count", 20, pw, iov, 2000)
		r.do("writev negative", 20, pw, iov, none)
		r.do("writev none", 20, pw, 0, 0)
		r.do("writev bad", 20, pw, 16, 1)
		r.do("readv", 19, pr, r.bytes(le.AppendUint64(le.AppendUint64(nil, r.addr(r.space(8))), 4)), 1)
		r.do("preadv2 flag", 327, pr, iov, 1, ^uint64(0), 0, 1<<10)
		r.do("splice", 275, pr, 0, f, 0, 10, 0)
		r.do("position", 8, f, 0, 1)
		r.do("splice from nothing", 275, pr, 0, f, 0, 10, 0)
		r.do("splice offset of a pipe", 275, pr, r.addr(p), f, 0, 10, 0)
		r.do("lseek", 8, f, 0, 0)
		r.do("splice into", 275, f, 0, pw, 0, 3, 0)
		r.do("splice files", 275, f, 0, h, 0, 3, 0)
		r.do("sendfile", 40, pw, f, 0, 100)
		r.read(pr, 100)
		r.do("sendfile from a pipe", 40, f, pr, 0, 100)
		r.do("copy_file_range", 326, f, r.bytes(make([]byte, 8)), h, r.bytes(le.AppendUint64(nil, 10)), 3, 0)
		r.do("copy_file_range overlap", 326, f, r.bytes(make([]byte, 8)), h, r.bytes(le.AppendUint64(nil, 1)), 3, 0)
		r.stat("fstat", 5, h, buf)
		r.do("tee", 276, pr, pr, 10, 0)
		for _, x := range []uint64{f, g, h, pr, pw} {
			r.do("close", 3, x)
		}
	})
}

func TestEventsAsLinux(t *testing.T) {
	both(t, func(r *run) {
		e := r.fd("eventfd2", 290, 3, syscall.O_NONBLOCK)
		r.do("eventfd2 flag", 290, 0, 2)
		r.read(e, 8)
		r.read(e, 8)
		r.read(e, 4)
		r.write(e, "\x05\x00\x00\x00\x00\x00\x00\x00") // exactly: Linux 6.1 takes more, later ones do not
		r.write(e, "\x05")
		r.stat("fstat eventfd", 5, e, buf)
		tf := r.fd("timerfd_create", 283, 1, syscall.O_NONBLOCK)
		r.do("timerfd_create clock", 283, 99, 0)
		r.do("timerfd_create flag", 283, 1, 1)
		it := make([]byte, 32)
		r.do("timerfd_settime disarm", 286, tf, 0, r.bytes(it), 0)
		r.read(tf, 8)
		le.PutUint64(it[24:], 1e9)
		r.do("timerfd_settime nanoseconds", 286, tf, 0, r.bytes(it), 0)
		le.PutUint64(it[24:], 1)
		r.do("timerfd_settime long ago", 286, tf, 1, r.bytes(it), 0)
		r.read(tf, 8)
		r.do("timerfd_settime of an eventfd", 286, e, 1, r.bytes(it), 0)
		le.PutUint64(it[16:], 1000000)
		old := r.space(32)
		r.do("timerfd_settime", 286, tf, 0, r.bytes(it), r.addr(old))
		r.do("timerfd_gettime", 287, tf, r.addr(old))
		r.say("%d s left", (le.Uint64(r.get(old+16, 8))+100)/1000)
		s := r.fd("signalfd4", 289, none, r.bytes([]byte{0, 2, 0, 0, 0, 0, 0, 0}), 8, syscall.O_NONBLOCK)
		r.do("signalfd4 size", 289, none, r.bytes(make([]byte, 8)), 4, 0)
		r.do("signalfd4 of another", 289, e, r.bytes(make([]byte, 8)), 8, 0)
		r.read(s, 128)
		ep := r.fd("epoll_create1", 291, 0)
		r.do("epoll_create1 flag", 291, 1)
		r.do("epoll_create 0", 213, 0)
		ev := r.bytes([]byte{1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0})
		f := r.open("@/a", syscall.O_RDWR|syscall.O_CREAT)
		r.do("epoll_ctl file", 233, ep, 1, f, ev)
		null := r.open("/dev/null", syscall.O_RDWR)
		r.do("epoll_ctl /dev/null", 233, ep, 1, null, ev)
		r.do("close", 3, null)
		r.do("epoll_ctl itself", 233, ep, 1, ep, ev)
		r.do("epoll_ctl not an epoll", 233, e, 1, e, ev)
		r.do("epoll_ctl not an epoll, file", 233, e, 1, f, ev)
		r.do("epoll_ctl bad event", 233, ep, 1, e, 16)
		r.do("epoll_ctl bad both", 233, none, 1, none, 16)
		r.do("epoll_ctl bad descriptor", 233, ep, 1, none, ev)
		r.do("epoll_ctl op", 233, ep, 9, e, ev)
		r.do("epoll_ctl", 233, ep, 1, e, ev)
		r.do("epoll_ctl again", 233, ep, 1, e, ev)
		r.do("epoll_ctl delete missing", 233, ep, 2, tf, 0)
		out := r.space(120)
		r.do("epoll_wait", 232, ep, r.addr(out), 10, 0)
		r.say("%x", r.get(out, 12))
		r.do("epoll_wait none", 232, ep, r.addr(out), 0, 0)
		r.do("epoll_wait address", 232, ep, 16, 1, 0)
		r.do("epoll_wait kernel address", 232, ep, 1<<63, 1, 0)
		r.do("epoll_wait file", 232, f, r.addr(out), 1, 0)
		r.do("epoll_pwait size", 281, ep, r.addr(out), 1, 0, r.bytes(make([]byte, 8)), 4)
		r.do("epoll_pwait", 281, ep, r.addr(out), 1, 0, r.bytes(make([]byte, 8)), 8)
		r.do("epoll_pwait2", 441, ep, r.addr(out), 1, r.bytes(make([]byte, 16)), 0, 8)
		r.do("epoll_pwait2 time", 441, ep, r.addr(out), 1, r.bytes(le.AppendUint64(make([]byte, 8), 1e9)), 0, 8)
		pf := make([]byte, 40)
		for i, x := range []uint64{e, tf, f, none, ep} {
			le.PutUint32(pf[i*8:], uint32(x))
			le.PutUint16(pf[i*8+4:], 5)
		}
		off := r.space(40)
		r.put(off, pf)
		r.do("poll", 7, r.addr(off), 5, 0)
		for i := range 5 {
			r.say("%#x", le.Uint16(r.get(off+i*8+6, 2)))
		}
		r.do("close", 3, f)
		r.do("poll with a closed one", 7, r.addr(off), 5, 0)
		r.say("%#x", le.Uint16(r.get(off+2*8+6, 2)))
		r.do("poll address", 7, 16, 1, 0)
		r.do("poll 10 ms", 7, 0, 0, 10)
		r.do("ppoll time", 271, r.addr(off), 1, r.bytes(le.AppendUint64(make([]byte, 8), 1e9)), 0, 8)
		r.do("ppoll", 271, r.addr(off), 1, r.bytes(make([]byte, 16)), r.bytes(make([]byte, 8)), 8)
		set := make([]byte, 128)
		set[e/8] |= 1 << (e % 8)
		set[tf/8] |= 1 << (tf % 8)
		in, on := r.space(128), r.space(128)
		r.put(in, set)
		r.put(on, set)
		r.do("select", 23, max(e, tf)+1, r.addr(in), r.addr(on), 0, r.bytes(make([]byte, 16)))
		a, b := r.get(in, 128), r.get(on, 128)
		r.say("%t %t %t %t", a[e/8]>>(e%8)&1 != 0, a[tf/8]>>(tf%8)&1 != 0, b[e/8]>>(e%8)&1 != 0, b[tf/8]>>(tf%8)&1 != 0)
		r.do("select closed", 23, f+1, r.bytes(func() []byte { s := make([]byte, 128); s[f/8] = 1 << (f % 8); return s }()), 0, 0, 0)
		r.do("select negative", 23, none, 0, 0, 0, 0)
		tv := r.space(16)
		r.put(tv, le.AppendUint64(le.AppendUint64(nil, 0), 10000))
		r.do("select 10 ms", 23, 0, 0, 0, 0, r.addr(tv))
		r.say("%x", r.get(tv, 16))
		r.do("pselect6", 270, 0, 0, 0, 0, r.bytes(make([]byte, 16)), 0)
		m := r.fd("memfd_create", 319, r.str("m"), 2)
		r.do("memfd_create flag", 319, r.str("m"), 1<<10)
		r.write(m, "memory")
		r.stat("fstat", 5, m, buf)
		r.do("seals", 72, m, 1034)
		r.do("add seals", 72, m, 1033, 2|4)
		r.do("shrink", 77, m, 1)
		r.do("grow", 77, m, 100)
		r.write(m, "more")
		r.do("lseek", 8, m, 0, 0)
		r.write(m, "MEM")
		r.do("seal write", 72, m, 1033, 8|1)
		r.write(m, "x")
		r.do("add seals", 72, m, 1033, 2)
		r.do("seals", 72, m, 1034)
		r.do("seals of a pipe", 72, e, 1034)
		in1 := r.fd("inotify_init1", 294, syscall.O_NONBLOCK)
		r.do("inotify_add_watch mask", 254, in1, r.str("@"), 0)
		r.do("inotify_add_watch missing", 254, in1, r.str("@/none"), 2)
		r.do("inotify_add_watch file of a directory", 254, in1, r.str("@/a"), 2|syscall.IN_ONLYDIR)
		r.do("inotify_add_watch", 254, in1, r.str("@"), syscall.IN_ALL_EVENTS)
		r.do("inotify_add_watch again", 254, in1, r.str("@"), syscall.IN_ALL_EVENTS)
		r.read(in1, 200)
		x := r.open("@/new", syscall.O_RDWR|syscall.O_CREAT)
		r.write(x, "data")
		r.do("lseek", 8, x, 0, 0)
		r.read(x, 10)
		r.do("close", 3, x)
		r.do("rename", 82, r.str("@/new"), r.str("@/other"))
		r.do("chmod", 90, r.str("@/other"), 0o600)
		r.do("mkdir", 83, r.str("@/dir"), 0o700)
		r.do("rmdir", 84, r.str("@/dir"))
		r.do("unlink", 87, r.str("@/other"))
		r.read(in1, 10)
		ino := r.space(4096)
		n, err := r.call(0, in1, r.addr(ino), 4096)
		r.say("inotify: %v", err)
		for b := r.get(ino, int(n)); len(b) >= 16; b = b[16+le.Uint32(b[12:]):] {
			r.say("wd %d mask %#x cookie %t %q", le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:]) != 0, b[16:16+le.Uint32(b[12:])])
		}
		r.do("inotify_rm_watch", 255, in1, 1)
		r.do("inotify_rm_watch again", 255, in1, 1)
		r.read(in1, 100)
		for _, x := range []uint64{e, tf, s, ep, m, in1} {
			r.do("close", 3, x)
		}
	})
}

func TestLocksAsLinux(t *testing.T) {
	both(t, func(r *run) {
		f := r.open("@/a", syscall.O_RDWR|syscall.O_CREAT)
		g := r.open("@/a", syscall.O_RDONLY)
		lock := func(f uint64, cmd, typ int, start, n int64) {
			b := make([]byte, 32)
			le.PutUint16(b, uint16(typ))
			le.PutUint64(b[8:], uint64(start))
			le.PutUint64(b[16:], uint64(n))
			off := r.space(32)
			r.put(off, b)
			r.do(fmt.Sprintf("lock %d %d %d %d", cmd, typ, start, n), 72, f, uint64(cmd), r.addr(off))
			b = r.get(off, 24)
			r.say("%d %d %d", le.Uint16(b), le.Uint64(b[8:]), le.Uint64(b[16:]))
		}
		lock(f, 6, 1, 0, 10)
		lock(f, 6, 0, 5, 10)
		lock(f, 5, 1, 0, 0)
		lock(g, 6, 1, 0, 10)
		lock(g, 37, 1, 0, 10)
		lock(g, 36, 1, 0, 0)
		lock(g, 36, 0, 0, 0)
		lock(f, 37, 0, 100, 0)
		lock(g, 37, 0, 100, 0)
		lock(f, 37, 1, 150, 5)
		lock(g, 36, 0, 150, 5)
		lock(f, 36, 0, 150, 5)
		lock(f, 6, 2, 0, 0)
		lock(f, 6, 7, 0, 0)
		lock(f, 6, 1, -1, 0)
		lock(f, 6, 1, 5, -3)
		lock(g, 36, 1, 0, 0)
		lock(f, 6, 1, 5, -9)
		lock(f, 6, 1, 1<<62, 1<<62)
		lock(f, 5, 2, 0, 0)
		r.do("close", 3, g)
		r.do("close", 3, f)
	})
}

// A program with a thread in a blocking call, which the other ends.
func TestBlockingCalls(t *testing.T) {
	inGuest(t, func(p *ring3.Prog, g *guest) {
		must := func(v uint64, err error) uint64 {
			if err != nil {
				t.Errorf("unexpected %v", err)
			}
			return v
		}
		must(p.Call(293, g.addr(0), 0))
		pr, pw := uint64(p.Get32(g.addr(0))), uint64(p.Get32(g.addr(4)))
		ep := must(p.Call(291, 0))
		p.Write(g.addr(16), []byte{1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0})
		must(p.Call(233, ep, 1, pr, g.addr(16)))
		thread := func(p *ring3.Prog) {
			p.Call(1, pw, g.addr(16), 4)
			p.Sys(60, 0)
		}
		const flags = 0x3d0f00
		must(uint64(0), func() error {
			_, err := p.Clone(thread, flags, g.base+arena-4096, g.addr(64), g.addr(64), 0)
			return err
		}())
		if n := must(p.Call(232, ep, g.addr(32), 1, ^uint64(0))); n != 1 || p.Get32(g.addr(36)) != 9 {
			t.Errorf("epoll_wait: %d, data %d", n, p.Get32(g.addr(36)))
		}
		if n := must(p.Call(0, pr, g.addr(128), 100)); n != 4 {
			t.Errorf("read: %d", n)
		}
	})
}
