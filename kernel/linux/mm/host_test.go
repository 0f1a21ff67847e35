package mm_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/mm"
)

// The same calls are made to a space and to the Linux that the test runs on: results,
// errors, and the mappings in the window must be equal. Nothing of the Go runtime is
// near the window.

const (
	hostBase  = 0x10_0000_0000
	hostPages = 32
)

type host struct {
	t  *testing.T
	s  *mm.Space
	fd int
	f  *fakemm.File
	r  *rand.Rand
	by strings.Builder // the calls so far
}

func hostCall(nr uintptr, a ...uint64) (uint64, error) {
	var x [6]uintptr
	for i := range a {
		x[i] = uintptr(a[i])
	}
	r, _, e := syscall.RawSyscall6(nr, x[0], x[1], x[2], x[3], x[4], x[5])
	if e != 0 {
		return 0, e
	}
	return uint64(r), nil
}

// both compares the outcome of a call.
func (h *host) both(what string, got uint64, err error, nr uintptr, a ...uint64) {
	h.t.Helper()
	fmt.Fprintf(&h.by, "%s %#x\n", what, a)
	want, wantErr := hostCall(nr, a...)
	if err == nil {
		err = error(nil)
	}
	if got != want || err != wantErr {
		h.t.Fatalf("%s %#x: %#x, %v; Linux says %#x, %v\nafter\n%s", what, a, got, err, want, wantErr, h.by.String())
	}
}

// maps lists the mappings of the window: what Linux says, and what mm says.
func (h *host) maps() (linux, ours []string) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		h.t.Skip("no /proc/self/maps")
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var start, end, off uint64
		var prot string
		if n, _ := fmt.Sscanf(sc.Text(), "%x-%x %s %x", &start, &end, &prot, &off); n != 4 {
			h.t.Fatal(sc.Text())
		}
		if start >= hostBase && start < hostBase+1<<30 {
			linux = append(linux, fmt.Sprintf("%x-%x %s %x", start-hostBase, end-hostBase, prot, off))
		}
	}
	for _, m := range h.s.Maps() {
		prot := []byte("---p")
		for i := range 3 {
			if m.Prot>>i&1 != 0 {
				prot[i] = "rwx"[i]
			}
		}
		if m.Shared {
			prot[3] = 's'
		}
		ours = append(ours, fmt.Sprintf("%x-%x %s %x", m.Start-hostBase, m.End-hostBase, prot, m.Offset))
	}
	return linux, ours
}

func (h *host) span() (addr, n uint64) {
	from := h.r.IntN(hostPages)
	return hostBase + uint64(from)*page, uint64(1+h.r.IntN(min(6, hostPages-from))) * page
}

// inOne says whether a range is inside one mapping or begins in none: mremap of several
// is allowed by Linux 6.17, and not by 6.1.
func (h *host) inOne(addr, n uint64) bool {
	for _, m := range h.s.Maps() {
		if m.Start <= addr && addr < m.End {
			return n <= m.End-addr
		}
	}
	return true
}

func (h *host) step() {
	addr, n := h.span()
	if h.r.IntN(20) == 0 {
		addr += 100
	}
	if h.r.IntN(10) == 0 {
		n -= uint64(h.r.IntN(4096))
	}
	if h.r.IntN(30) == 0 {
		n = []uint64{0, 1 << 47, 1 << 63, ^uint64(0), ^uint64(4095)}[h.r.IntN(5)]
	}
	prots := []uint64{1, 3, 1, 3, 5, 0, 8, 16}
	prot := prots[h.r.IntN(len(prots))]
	const noReserve = syscall.MAP_NORESERVE
	switch h.r.IntN(12) {
	case 0, 1, 2, 3:
		if prot > 5 {
			prot = 3
		}
		flags := uint64(syscall.MAP_PRIVATE | syscall.MAP_ANON | noReserve)
		if h.r.IntN(12) == 0 {
			flags = []uint64{0, noReserve, 0x23}[h.r.IntN(3)] | noReserve
		}
		switch h.r.IntN(4) {
		case 0:
			if flags&3 == 2 { // of several errors Linux finds that of the place first
				flags |= 0x100000
			} else {
				flags |= syscall.MAP_FIXED
			}
		case 1:
			if addr&4095 != 0 || addr+n > hostBase+hostPages*page || n == 0 || n > 1<<40 {
				flags |= syscall.MAP_FIXED
				break
			}
			// A hint: taken if free. What Linux does where it is not is its own affair.
			for _, m := range h.s.Maps() {
				if m.Start < addr+n+page && m.End > addr {
					flags |= syscall.MAP_FIXED
				}
			}
		default:
			flags |= syscall.MAP_FIXED
		}
		fd, off := ^uint64(0), uint64(0)
		r := mm.MapRequest{Addr: addr, Length: n, Prot: mm.Prot(prot)}
		if flags&syscall.MAP_ANON != 0 && h.r.IntN(3) == 0 && flags&0x100 == 0 {
			flags &^= syscall.MAP_ANON
			if h.r.IntN(2) == 0 {
				flags = flags&^3 | syscall.MAP_SHARED
			}
			fd, off = uint64(h.fd), uint64(h.r.IntN(4))*page
			if h.r.IntN(20) == 0 {
				off = []uint64{100, 1 << 63, ^uint64(4095)}[h.r.IntN(3)]
			}
			r = h.f.Request(addr, n, off, mm.Prot(prot), 0)
		} else if flags&syscall.MAP_ANON == 0 {
			flags |= syscall.MAP_ANON
		}
		r.Flags = int(flags)
		got, err := h.s.Mmap(r)
		h.both("mmap", got, err, syscall.SYS_MMAP, addr, n, prot, flags, fd, off)
	case 4:
		h.both("munmap", 0, h.s.Munmap(addr, n), syscall.SYS_MUNMAP, addr, n)
	case 5, 6:
		h.both("mprotect", 0, h.s.Mprotect(addr, n, uint32(prot)), syscall.SYS_MPROTECT, addr, n, prot)
	case 7:
		if n > 1<<40 {
			return // would reach what is not the test's
		}
		advice := []int{0, 1, 2, 3, 4, 8, 10, 11, 16, 17, 18, 19, 20, 21, 5, 26, 1000}[h.r.IntN(17)]
		h.both("madvise", 0, h.s.Madvise(addr, n, advice), syscall.SYS_MADVISE, addr, n, uint64(advice))
	case 8:
		flags := h.r.IntN(9)
		h.both("msync", 0, h.s.Msync(addr, n, flags), syscall.SYS_MSYNC, addr, n, uint64(flags))
	case 9:
		if h.r.IntN(2) == 0 {
			h.both("mlock2", 0, h.s.Mlock(addr, n, 1), 325, addr, n, 1)
		} else {
			h.both("munlock", 0, h.s.Munlock(addr, n), syscall.SYS_MUNLOCK, addr, n)
		}
	case 10:
		to, k := h.span()
		flags := h.r.IntN(9)
		if flags&2 == 0 && flags&4 == 0 {
			// Where it goes is Linux's affair; but growing and shrinking in place is not.
			flags &^= 1
			to = 0
		}
		if flags&4 != 0 {
			n = (n + 4095) &^ 4095 // Linux 6.1 compares the lengths before it rounds them
		}
		if flags&6 != 4 && (n+4095)&^4095 != 0 && (n > 1<<40 && flags&6 == 0 || h.inOne(addr&^4095, (n+4095)&^4095)) {
			got, err := h.s.Mremap(addr, n, k, flags, to)
			if err == syscall.EFAULT && flags&6 != 0 {
				// Of several errors Linux 6.18 finds another one first.
				if _, e := hostCall(syscall.SYS_MREMAP, addr, n, k, uint64(flags), to); e != syscall.EFAULT && e != syscall.EINVAL {
					h.t.Fatalf("mremap of nothing: %v\nafter\n%s", e, h.by.String())
				}
				return
			}
			h.both("mremap", got, err, syscall.SYS_MREMAP, addr, n, k, uint64(flags), to)
		}
	case 11:
		// What can be read: of each page a byte.
		for i := range uint64(hostPages) {
			var b, c [1]byte
			a := hostBase + i*page
			err := h.s.CopyIn(b[:], a)
			local := [2]uint64{uint64(uintptr(unsafe.Pointer(&c[0]))), 1}
			remote := [2]uint64{a, 1}
			_, want := hostCall(310, uint64(os.Getpid()), uint64(uintptr(unsafe.Pointer(&local))), 1,
				uint64(uintptr(unsafe.Pointer(&remote))), 1, 0)
			runtime.KeepAlive(&c)
			if (err == nil) != (want == nil) || b != c {
				h.t.Fatalf("page %d: %v, %v; Linux: %v, %v\nafter\n%s", i, b, err, c, want, h.by.String())
			}
		}
	}
}

func TestCallsAsOnLinux(t *testing.T) {
	name := []byte("mm\x00")
	fd, err := hostCall(319, uint64(uintptr(unsafe.Pointer(&name[0]))), 0)
	if err != nil {
		t.Skipf("memfd_create: %v", err)
	}
	defer syscall.Close(int(fd))
	for i := range 6 {
		syscall.Pwrite(int(fd), []byte{byte(i + 1)}, int64(i)*page)
	}
	syscall.Ftruncate(int(fd), 6*page)
	if _, err := hostCall(syscall.SYS_MMAP, hostBase, page, 0, 0x100000|anon, ^uint64(0)); err != nil {
		t.Skipf("the window is not free: %v", err)
	}
	seed := rand.Uint64()
	rounds := 200
	if testing.Short() {
		rounds = 50
	}
	for round := range rounds {
		m := fakemm.New(2048)
		s, err := mm.New(m, mm.Options{Limits: mm.Limits{AS: ^uint64(0), Data: ^uint64(0), Stack: 8 << 20, Memlock: ^uint64(0)}})
		if err != nil {
			t.Fatal(err)
		}
		h := &host{t: t, s: s, fd: int(fd), f: m.NewFile(6 * page), r: rand.New(rand.NewPCG(seed, uint64(round)))}
		hostCall(syscall.SYS_MUNMAP, hostBase, 64*page)
		for range 40 {
			h.step()
			if linux, ours := h.maps(); strings.Join(linux, "\n") != strings.Join(ours, "\n") {
				t.Fatalf("seed %d, round %d: mappings\n%s\nLinux has\n%s\nafter\n%s", seed, round,
					strings.Join(ours, "\n"), strings.Join(linux, "\n"), h.by.String())
			}
		}
		hostCall(syscall.SYS_MUNMAP, hostBase, 64*page)
		s.Close()
		h.f.Drop()
	}
}
