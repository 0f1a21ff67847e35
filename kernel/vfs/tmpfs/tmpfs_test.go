package tmpfs

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"osv/kernel/vfs"
)

// counted are frames that are counted, and spoilt when they are freed.
type counted struct {
	n    atomic.Int64
	next atomic.Uint64
	max  int64
}

func (c *counted) Alloc(zero bool) (uint64, []byte, error) {
	if n := c.n.Add(1); c.max != 0 && n > c.max {
		c.n.Add(-1)
		return 0, nil, syscall.ENOMEM
	}
	b := make([]byte, PageSize)
	if !zero {
		for i := range b {
			b[i] = 0xa5
		}
	}
	return c.next.Add(1) << 12, b, nil
}

func (c *counted) Free(_ uint64, b []byte) {
	for i := range b {
		b[i] = 0x5a
	}
	c.n.Add(-1)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err error, e syscall.Errno) {
	t.Helper()
	if e == 0 && err != nil || e != 0 && err != e {
		t.Errorf("%s: %v, want %v", what, err, e)
	}
}

func newFile(t testing.TB, fs *FS, name string) *file {
	t.Helper()
	n, err := fs.Root().Make(name, vfs.NewNode{Type: vfs.TypeFile, Mode: 0o644})
	must(t, err)
	f, err := n.Open(syscall.O_RDWR)
	must(t, err)
	return f.(*file)
}

// TestContentsAgainstLinux writes, truncates, allocates, punches and seeks at random
// in a file of ours and in one of the host's tmpfs.
func TestContentsAgainstLinux(t *testing.T) {
	dir := "/dev/shm"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no tmpfs on the host")
	}
	seed := uint64(time.Now().UnixNano())
	for i := range 30 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		h, err := os.CreateTemp(dir, "tmpfs")
		must(t, err)
		os.Remove(h.Name())
		fd := int(h.Fd())
		frames := &counted{}
		fs := New(Options{Frames: frames})
		f := newFile(t, fs, "f")
		var trace []string
		ahead := false // Linux tells pages allocated ahead as holes until they are used
		off := func() int64 {
			o := r.Int64N(20) * 1024
			if r.IntN(10) == 0 {
				o += r.Int64N(1 << 22)
			}
			return o + r.Int64N(3)
		}
		for range 150 {
			var a, b string
			o, n := off(), 1+r.IntN(9000)
			switch k := r.IntN(8); k {
			case 0, 1:
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(r.Uint32()) | 1
				}
				trace = append(trace, fmt.Sprintf("pwrite %d at %d", n, o))
				x, err := unix.Pwrite(fd, p, o)
				a = fmt.Sprint(x, err)
				y, _, err := f.Write(&vfs.Bytes{B: p}, o, false)
				b = fmt.Sprint(y, err)
			case 2, 3:
				p, q := make([]byte, n), make([]byte, n)
				trace = append(trace, fmt.Sprintf("pread %d at %d", n, o))
				x, err := unix.Pread(fd, p, o)
				a = fmt.Sprint(x, err)
				y, err := f.Read(&vfs.Bytes{B: q}, o)
				b = fmt.Sprint(y, err)
				if !bytes.Equal(p, q) {
					b += " with other bytes"
				}
			case 4:
				trace = append(trace, fmt.Sprintf("ftruncate %d", o))
				a = fmt.Sprint(unix.Ftruncate(fd, o))
				b = fmt.Sprint(f.n.SetAttr(vfs.SetSize, vfs.Attr{Size: o}))
			case 5:
				mode := []uint32{0, 1, 3, 2, 8}[r.IntN(5)]
				trace = append(trace, fmt.Sprintf("fallocate %d %d %d", mode, o, n))
				ahead = ahead || mode&^1 == 0
				a = fmt.Sprint(unix.Fallocate(fd, mode, o, int64(n)))
				b = fmt.Sprint(f.Allocate(mode, o, int64(n)))
			case 6:
				hole := r.IntN(2) == 0
				w := unix.SEEK_DATA
				if hole {
					w = unix.SEEK_HOLE
				}
				trace = append(trace, fmt.Sprintf("lseek %d hole %v", o, hole))
				if ahead {
					continue
				}
				x, err := unix.Seek(fd, o, w)
				if err != nil {
					x = 0
				}
				a = fmt.Sprint(x, err)
				y, err := f.SeekData(o, hole)
				b = fmt.Sprint(y, err)
			case 7:
				var st unix.Stat_t
				unix.Fstat(fd, &st)
				at, _ := f.n.Attr()
				trace = append(trace, "fstat")
				a, b = fmt.Sprint(st.Size, st.Blocks), fmt.Sprint(at.Size, at.Blocks)
			}
			if a != b {
				t.Fatalf("seed %d/%d: Linux %s, ours %s\n%q", seed, i, a, b, trace)
			}
		}
		h.Close()
		must(t, fs.Root().Remove("f", false))
		if frames.n.Load() == 0 && fs.Used() != 0 {
			t.Error("used pages without frames")
		}
		must(t, f.Close())
		if frames.n.Load() != 0 || fs.Used() != 0 {
			t.Errorf("%d frames left, %d bytes used", frames.n.Load(), fs.Used())
		}
	}
}

// TestDirectoryModel compares a directory with a map, and readers with positions.
func TestDirectoryModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := New(Options{})
		root := fs.root
		model := map[string]bool{}
		name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		t.Repeat(map[string]func(*rapid.T){
			"make": func(t *rapid.T) {
				n := name.Draw(t, "name")
				_, err := root.Make(n, vfs.NewNode{Type: vfs.TypeFile})
				if (err == nil) == model[n] {
					t.Fatalf("make %s: %v", n, err)
				}
				model[n] = true
			},
			"remove": func(t *rapid.T) {
				n := name.Draw(t, "name")
				if err := root.Remove(n, false); (err == nil) != model[n] {
					t.Fatalf("remove %s: %v", n, err)
				}
				delete(model, n)
			},
			"rename": func(t *rapid.T) {
				a, b := name.Draw(t, "from"), name.Draw(t, "to")
				flags := rapid.SampledFrom([]uint32{0, vfs.RenameNoReplace, vfs.RenameExchange}).Draw(t, "flags")
				ok := model[a]
				switch flags {
				case vfs.RenameNoReplace:
					ok = ok && !model[b]
				case vfs.RenameExchange:
					ok = ok && model[b]
				}
				if err := root.Rename(a, root, b, flags); (err == nil) != ok {
					t.Fatalf("rename %s %s %d: %v", a, b, flags, err)
				}
				if ok && flags != vfs.RenameExchange && a != b {
					delete(model, a)
					model[b] = true
				}
			},
			"read": func(t *rapid.T) {
				step := rapid.IntRange(1, 7).Draw(t, "step")
				var got []string
				for pos := int64(0); ; {
					k := 0
					root.ReadDir(pos, func(e vfs.DirEntry, next int64) bool {
						if k == step {
							return false
						}
						k++
						got, pos = append(got, e.Name), next
						return true
					})
					if k == 0 {
						break
					}
				}
				slices.Sort(got)
				var all []string
				for n := range model {
					all = append(all, n)
				}
				slices.Sort(all)
				if !slices.Equal(got, all) {
					t.Fatalf("names %q, want %q", got, all)
				}
			},
		})
	})
}

// A reader in the middle of a directory meets all that stays, whatever is made and
// removed meanwhile.
func TestReadDirWhileChanging(t *testing.T) {
	fs := New(Options{})
	for i := range 200 {
		newFile(t, fs, fmt.Sprintf("stay%d", i))
		newFile(t, fs, fmt.Sprintf("go%d", i))
	}
	seen := map[string]int{}
	i := 0
	fs.root.ReadDir(0, func(e vfs.DirEntry, _ int64) bool {
		seen[e.Name]++
		if i < 200 {
			fs.root.Remove(fmt.Sprintf("go%d", i), false)
			newFile(t, fs, fmt.Sprintf("new%d", i))
			i++
		}
		return true
	})
	for k := range 200 {
		if n := seen[fmt.Sprintf("stay%d", k)]; n != 1 {
			t.Errorf("stay%d was met %d times", k, n)
		}
	}
}

func TestLimits(t *testing.T) {
	frames := &counted{}
	fs := New(Options{Frames: frames, Size: 3*PageSize - 1, Inodes: 3})
	f := newFile(t, fs, "a")
	n, _, err := f.Write(&vfs.Bytes{B: make([]byte, 5*PageSize)}, 0, false)
	if n != 3*PageSize || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	_, _, err = f.Write(&vfs.Bytes{B: []byte("x")}, 3*PageSize, false)
	want(t, "write beyond the limit", err, syscall.ENOSPC)
	want(t, "allocate beyond the limit", f.Allocate(0, 0, 4*PageSize), syscall.ENOSPC)
	s, _ := fs.StatFS()
	if s.Blocks != 3 || s.Bfree != 0 || s.Files != 3 || s.Ffree != 1 {
		t.Errorf("statfs %+v", s)
	}
	must(t, f.n.SetAttr(vfs.SetSize, vfs.Attr{}))
	if s, _ = fs.StatFS(); s.Bfree != 3 {
		t.Errorf("after truncation: %+v", s)
	}
	newFile(t, fs, "b")
	_, err = fs.Root().Make("c", vfs.NewNode{Type: vfs.TypeFile})
	want(t, "too many inodes", err, syscall.ENOSPC)
	must(t, fs.Root().Remove("a", false))
	must(t, f.Close())
	newFile(t, fs, "c")

	frames.max = 1
	g := newFile(t, New(Options{Frames: frames}), "x")
	_, _, err = g.Write(&vfs.Bytes{B: make([]byte, PageSize)}, 0, false)
	must(t, err)
	_, err = g.PageAt(0, true)
	must(t, err)
	_, _, err = g.Write(&vfs.Bytes{B: make([]byte, PageSize)}, PageSize, false)
	want(t, "no frames", err, syscall.ENOMEM)
	if a, _ := g.n.Attr(); a.Size != PageSize {
		t.Errorf("a failed write changed the size to %d", a.Size)
	}
}

// mapping notes what it is told.
type mapping struct {
	mu   sync.Mutex
	told []string
}

func (m *mapping) Invalidate(off, end int64, truncated bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if end == math.MaxInt64 {
		end = -1
	}
	m.told = append(m.told, fmt.Sprint(off, end, truncated))
}
func (m *mapping) Harvest(off, end int64) {}

func TestMapping(t *testing.T) {
	frames := &counted{}
	fs := New(Options{Frames: frames})
	f := newFile(t, fs, "f")
	_, err := f.PageAt(0, false)
	want(t, "page of an empty file", err, syscall.EFBIG)
	must(t, f.n.SetAttr(vfs.SetSize, vfs.Attr{Size: 2*PageSize + 100}))
	m := &mapping{}
	f.Attach(m)
	if _, ok := f.CachedPage(0); ok {
		t.Error("a hole is cached")
	}
	p, err := f.PageAt(0, true)
	must(t, err)
	copy(p.Bytes(), "mapped")
	p.Dirty()
	var b [6]byte
	if n, err := f.Read(&vfs.Bytes{B: b[:]}, 0); n != 6 || err != nil || string(b[:]) != "mapped" {
		t.Errorf("read %q %d %v", b, n, err)
	}
	if q, ok := f.CachedPage(0); !ok || q.Frame() != p.Frame() {
		t.Error("the page is not cached")
	} else {
		q.Release()
	}
	last, err := f.PageAt(2*PageSize, true)
	must(t, err)
	_, err = f.PageAt(3*PageSize, false)
	want(t, "page behind the end", err, syscall.EFBIG)
	must(t, f.n.SetAttr(vfs.SetSize, vfs.Attr{Size: 3}))
	must(t, f.Allocate(punchHole|keepSize, 0, PageSize))
	if !slices.Equal(m.told, []string{fmt.Sprint(PageSize, -1, true), fmt.Sprint(0, PageSize, false)}) {
		t.Errorf("mappings were told %q", m.told)
	}
	// Frames that are mapped stay until they are let go.
	if string(p.Bytes()[:3]) != "map" || p.Bytes()[3] != 0 || frames.n.Load() != 2 {
		t.Errorf("%q, %d frames", p.Bytes()[:6], frames.n.Load())
	}
	p.Release()
	last.Release()
	f.Detach(m)
	if frames.n.Load() != 0 {
		t.Errorf("%d frames are left", frames.n.Load())
	}
	want(t, "bad mode", f.Allocate(8, 0, 1), syscall.EOPNOTSUPP)
	want(t, "bad range", f.Allocate(0, 0, 0), syscall.EINVAL)
	want(t, "too far", f.Allocate(0, math.MaxInt64, 1), syscall.EFBIG)
	_, _, err = f.Write(&vfs.Bytes{B: []byte("xy")}, math.MaxInt64-1, false)
	must(t, err)
	_, _, err = f.Write(&vfs.Bytes{B: []byte("xy")}, math.MaxInt64, false)
	want(t, "write at the end of all files", err, syscall.EFBIG)
	_, _, err = f.Write(&vfs.Bytes{B: []byte("xy")}, -1, false)
	want(t, "write before the start", err, syscall.EINVAL)
	_, err = f.Read(&vfs.Bytes{B: b[:]}, -1)
	want(t, "read before the start", err, syscall.EINVAL)
}

// bad is memory that faults after a few bytes.
type bad struct{ ok int }

func (b *bad) Room() int { return 10000 }
func (b *bad) Left() int { return 10000 }
func (b *bad) Put(p []byte) (int, error) {
	n := min(b.ok, len(p))
	b.ok -= n
	if n < len(p) {
		return n, syscall.EFAULT
	}
	return n, nil
}
func (b *bad) Take(p []byte) (int, error) { return b.Put(p) }

func TestFaultingMemory(t *testing.T) {
	f := newFile(t, New(Options{}), "f")
	n, _, err := f.Write(&bad{5000}, 0, false)
	if n != 5000 || err != nil || f.n.size.Load() != 5000 {
		t.Errorf("write: %d %v, size %d", n, err, f.n.size.Load())
	}
	_, _, err = f.Write(&bad{0}, 0, false)
	want(t, "write from nowhere", err, syscall.EFAULT)
	if n, err := f.Read(&bad{4500}, 0); n != 4500 || err != nil {
		t.Errorf("read: %d %v", n, err)
	}
	_, err = f.Read(&bad{0}, 0)
	want(t, "read to nowhere", err, syscall.EFAULT)
	if _, at, err := f.Write(&vfs.Bytes{B: []byte("end")}, 0, true); at != 5000 || err != nil {
		t.Errorf("append at %d, %v", at, err)
	}
}

func TestNodes(t *testing.T) {
	fs := New(Options{Mode: 0o755, UID: 3, GID: 4})
	root := fs.root
	if a, _ := root.Attr(); a.Mode != 0o755 || a.UID != 3 || a.GID != 4 || a.Nlink != 2 {
		t.Errorf("root %+v", a)
	}
	d, err := root.Make("d", vfs.NewNode{Type: vfs.TypeDir, Mode: 0o700})
	must(t, err)
	e, err := d.Make("e", vfs.NewNode{Type: vfs.TypeDir})
	must(t, err)
	_, err = root.Make("d", vfs.NewNode{Type: vfs.TypeDir})
	want(t, "make again", err, syscall.EEXIST)
	want(t, "remove what is not empty", root.Remove("d", true), syscall.ENOTEMPTY)
	must(t, d.Rename("e", root, "e", 0))
	if a, _ := root.Attr(); a.Nlink != 4 {
		t.Errorf("root has %d links", a.Nlink)
	}
	must(t, root.Remove("e", true))
	_, err = e.Make("x", vfs.NewNode{Type: vfs.TypeFile})
	want(t, "make in a removed directory", err, syscall.ENOENT)
	want(t, "link of a directory", root.Link("l", d), syscall.EPERM)
	other := New(Options{})
	want(t, "link of another file system", root.Link("l", other.root), syscall.EXDEV)
	want(t, "rename to another file system", root.Rename("d", other.root, "d", 0), syscall.EXDEV)
	want(t, "rename with other flags", root.Rename("d", root, "d", 4), syscall.EINVAL)
	l, err := root.Make("l", vfs.NewNode{Type: vfs.TypeLink, Target: "d"})
	must(t, err)
	if s, err := l.ReadLink(); s != "d" || err != nil {
		t.Errorf("%q %v", s, err)
	}
	_, err = d.ReadLink()
	want(t, "readlink of a directory", err, syscall.EINVAL)
	_, err = l.Open(0)
	want(t, "open of a link", err, syscall.ENXIO)
	_, err = l.Lookup("x")
	want(t, "lookup in a link", err, syscall.ENOTDIR)
	want(t, "truncate of a link", l.SetAttr(vfs.SetSize, vfs.Attr{}), syscall.EINVAL)
	f := newFile(t, fs, "f")
	_, err = f.n.TmpFile(vfs.NewNode{})
	want(t, "nameless file in a file", err, syscall.ENOTDIR)
	want(t, "readdir of a file", f.n.ReadDir(0, nil), syscall.ENOTDIR)
	must(t, f.Sync(true))
	must(t, fs.Sync())
	x := f.n.XAttr()
	must(t, x.Set("user.a", []byte("v"), 0))
	if l, _ := x.List(); len(l) != 1 {
		t.Errorf("%q", l)
	}
	when := time.Unix(1, 2)
	must(t, f.n.SetAttr(vfs.SetAtime|vfs.SetMtime|vfs.SetUID|vfs.SetGID|vfs.SetMode, vfs.Attr{Atime: when, Mtime: when, UID: 1, GID: 2, Mode: 0o111}))
	if a, _ := f.n.Attr(); !a.Atime.Equal(when) || !a.Mtime.Equal(when) || a.UID != 1 || a.GID != 2 || a.Mode != 0o111 {
		t.Errorf("%+v", a)
	}
	_, _, err = f.Write(&vfs.Bytes{B: []byte("x")}, 0, false)
	must(t, err)
	must(t, fs.Unmount())
	if fs.Used() != 0 || fs.Type() != "tmpfs" {
		t.Error("pages are left after unmount")
	}
}

// Reads and writes of pages that are there allocate nothing.
func TestAllocations(t *testing.T) {
	f := newFile(t, New(Options{}), "f")
	p := make([]byte, 3*PageSize)
	b := &vfs.Bytes{}
	f.Write(&vfs.Bytes{B: p}, 0, false)
	if n := testing.AllocsPerRun(100, func() {
		*b = vfs.Bytes{B: p}
		f.Write(b, 10, false)
		*b = vfs.Bytes{B: p}
		f.Read(b, 5)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrentContents(t *testing.T) {
	frames := &counted{}
	f := newFile(t, New(Options{Frames: frames}), "f")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 300 {
				switch (i + g) % 4 {
				case 0:
					f.Write(&untouched{3 * PageSize}, int64(i%7)*1000, false)
				case 1:
					f.Read(&untouched{3 * PageSize}, int64(i%5)*3000)
				case 2:
					f.n.SetAttr(vfs.SetSize, vfs.Attr{Size: int64(i % 9 * 1000)})
				case 3:
					if q, err := f.PageAt(int64(i%4)*PageSize, true); err == nil {
						q.Release()
					}
				}
			}
		}()
	}
	wg.Wait()
	f.n.SetAttr(vfs.SetSize, vfs.Attr{})
	if n := frames.n.Load(); n != 0 {
		t.Errorf("%d frames are left", n)
	}
}

// untouched is memory that is not copied: what two programs do to the same bytes at
// the same time is theirs.
type untouched struct{ left int }

func (u *untouched) Room() int { return u.left }
func (u *untouched) Left() int { return u.left }
func (u *untouched) Put(p []byte) (int, error) {
	u.left -= len(p)
	return len(p), nil
}
func (u *untouched) Take(p []byte) (int, error) { return u.Put(p) }
