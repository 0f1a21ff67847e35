package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

var errDisk = errors.New("bad sector")

// user is memory that programs read and write, whatever the race detector thinks.
type user struct {
	b   []byte
	pos int
}

func (u *user) Room() int { return len(u.b) - u.pos }
func (u *user) Left() int { return len(u.b) - u.pos }
func (u *user) Put(p []byte) (int, error) {
	n := min(len(p), u.Room())
	dma(u.b[u.pos:], p[:n])
	u.pos += n
	return n, nil
}
func (u *user) Take(p []byte) (int, error) {
	n := min(len(p), u.Left())
	dma(p, u.b[u.pos:u.pos+n])
	u.pos += n
	return n, nil
}

// An error of the disk while data is written back is told once to each open file.
func TestDataErrorsAreToldOnce(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4")
	m := mount(t, d, false)
	n := mk(t, m.Root(), "file", vfs.TypeFile)
	f, _ := n.Open(2)
	g, _ := n.Open(2)
	f.Write(&vfs.Bytes{B: []byte("first")}, 0, false)
	if err := f.Sync(false); err != nil {
		t.Fatal(err)
	}
	r, _ := n.(*inode).find(0)
	var bad atomic.Bool
	d.fail = func(op string, off int64, n int) error {
		if bad.Load() && op == "write" && off == int64(r.start)<<m.sb.blockShift {
			return errDisk
		}
		return nil
	}
	bad.Store(true)
	f.Write(&vfs.Bytes{B: []byte("second")}, 0, false)
	if err := f.Sync(false); err != syscall.EIO {
		t.Errorf("fsync: %v", err)
	}
	bad.Store(false)
	if err := f.Sync(false); err != nil {
		t.Errorf("fsync again: %v", err)
	}
	if err := g.Sync(true); err != syscall.EIO {
		t.Errorf("fsync of another open file: %v", err)
	}
	if len(m.msgs) != 1 || !strings.Contains(m.msgs[0], fmt.Sprintf("block %d", r.start)) {
		t.Errorf("%q", m.msgs)
	}
	f.Close()
	g.Close()
	m.unmount()
	fsck(t, d.b)
}

// An error of the disk while metadata is written makes the file system read-only; what
// was committed before is there after the next mount.
func TestJournalErrorsEndWriting(t *testing.T) {
	needTools(t)
	for _, op := range []string{"write", "flush"} {
		d := image(t, 8<<10, "-t", "ext4")
		m := mount(t, d, false)
		n := mk(t, m.Root(), "kept", vfs.TypeFile)
		writeAt(n, []byte("contents"), 0)
		if err := m.Sync(); err != nil {
			t.Fatal(err)
		}
		mk(t, m.Root(), "lost", vfs.TypeFile)
		var once sync.Once
		d.fail = func(o string, off int64, n int) (err error) {
			if o == op {
				once.Do(func() { err = errDisk })
			}
			return err
		}
		if err := m.Sync(); err == nil {
			t.Error("sync saw no error")
		}
		if _, err := m.Root().Make("more", vfs.NewNode{Type: vfs.TypeFile}); err != syscall.EROFS {
			t.Errorf("make: %v", err)
		}
		if got, err := readAll(m.at("kept")); err != nil || string(got) != "contents" {
			t.Errorf("%q, %v", got, err)
		}
		f, _ := n.Open(0)
		if err := f.Sync(false); err != syscall.EIO {
			t.Errorf("fsync: %v", err)
		}
		f.Close()
		m.unmount()
		if len(m.msgs) != 2 || !strings.Contains(m.msgs[1], "read-only") {
			t.Errorf("%q", m.msgs)
		}
		path := save(t, d.b)
		if out, err := run1("e2fsck", "-p", "-f", path); err != nil && !strings.Contains(err.Error(), "status 1") {
			t.Errorf("e2fsck: %v\n%s", err, out)
		}
		m = mount(t, d, false)
		if got, err := readAll(m.at("kept")); err != nil || string(got) != "contents" {
			t.Errorf("%q, %v", got, err)
		}
		m.unmount()
	}
}

// Errors at any moment: no panic, and what e2fsck makes of it is sound.
func TestErrorsAnywhere(t *testing.T) {
	needTools(t)
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	base := image(t, 8<<10, "-t", "ext4", "-b", "1024", "-J", "size=1").b
	for k := range rounds {
		d := &disk{b: bytes.Clone(base)}
		m := mount(t, d, false)
		r := rand.New(rand.NewPCG(uint64(k), 1))
		var n atomic.Int64
		n.Store(int64(r.IntN(150)))
		d.fail = func(op string, off int64, _ int) error {
			if left := n.Add(-1); left < 0 && left > -3 {
				return errDisk
			}
			return nil
		}
		for i := range 60 {
			dir := m.Root()
			name := fmt.Sprint("n", i%20)
			dir.Make(name, vfs.NewNode{Type: vfs.TypeFile, Mode: 0o600})
			if f, err := dir.Lookup(name); err == nil {
				writeAt(f, make([]byte, r.IntN(30000)), int64(r.IntN(90000)))
				if i%5 == 0 {
					h, err := f.Open(0)
					if err == nil {
						h.Sync(false)
						h.Close()
					}
				}
			}
			if i%7 == 0 {
				dir.Remove(name, false)
			}
		}
		m.Sync()
		m.Unmount()
		path := save(t, d.b)
		if out, err := run1("e2fsck", "-p", "-f", path); err != nil && !strings.Contains(err.Error(), "status 1") {
			t.Fatalf("round %d: e2fsck: %v\n%s\n%q", k, err, out, m.msgs)
		}
	}
}

func TestReadErrors(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4")
	m := mount(t, d, false)
	n := mk(t, m.Root(), "file", vfs.TypeFile)
	writeAt(n, bytes.Repeat([]byte("data"), 20000), 0)
	m.unmount()
	m = mount(t, d, false)
	n = m.at("file")
	r, _ := n.(*inode).find(0)
	lo, bad := int64(r.start)<<m.sb.blockShift+40960, true
	d.fail = func(op string, off int64, n int) error {
		if bad && op == "read" && off <= lo && off+int64(n) > lo {
			return errDisk
		}
		return nil
	}
	b := vfs.Bytes{B: make([]byte, 80000)}
	f, _ := n.Open(0)
	k, err := f.Read(&b, 0)
	if k < 4096 || k > 40960 || err != nil {
		t.Errorf("%d, %v", k, err)
	}
	if _, err := f.Read(&vfs.Bytes{B: make([]byte, 10)}, 40970); err != syscall.EIO {
		t.Errorf("%v", err)
	}
	if k, err := f.Read(&vfs.Bytes{B: make([]byte, 10)}, 45056); k != 10 || err != nil {
		t.Errorf("behind the bad sector: %d, %v", k, err)
	}
	bad = false
	if got, err := readAll(n); err != nil || len(got) != 80000 {
		t.Errorf("later: %d, %v", len(got), err)
	}
	f.Close()
	m.unmount()
}

// Many goroutines at once, each in a part of its own and all in one directory, with
// commits and write-back going on.
func TestConcurrentUse(t *testing.T) {
	needTools(t)
	d := image(t, 32<<10, "-t", "ext4", "-b", "1024", "-J", "size=1")
	frames := &cache.Heap{}
	c := cache.New(cache.Config{Frames: frames, Limit: 2 << 20, Interval: 1e6, MaxAge: 2e6})
	c.Start()
	var msgs atomic.Int32
	fs, err := Mount(memDisk{d}, Options{Cache: c, CommitEvery: 2e6, Buffers: 64 << 10, Warn: func(m string) { msgs.Add(1); t.Error(m) }, Note: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	rounds := 120
	if testing.Short() {
		rounds = 40
	}
	shared := mk(t, fs.Root(), "shared", vfs.TypeDir)
	common := mk(t, fs.Root(), "common", vfs.TypeFile)
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(g), 4))
			dir, err := fs.Root().Make(fmt.Sprint("dir", g), vfs.NewNode{Type: vfs.TypeDir, Mode: 0o700})
			if err != nil {
				t.Error(err)
				return
			}
			whole, _ := common.Open(2)
			defer whole.Close()
			for k := range rounds {
				name := fmt.Sprintf("%d-%d", g, k)
				n, err := shared.Make(name, vfs.NewNode{Type: vfs.TypeFile, Mode: 0o600})
				if err != nil {
					t.Errorf("make: %v", err)
					return
				}
				f, _ := n.Open(2)
				p := bytes.Repeat([]byte{byte(g), byte(k), 1}, 1+r.IntN(9000))
				if w, _, err := f.Write(&user{b: p}, 0, false); w != len(p) || err != nil {
					t.Errorf("write: %d, %v", w, err)
				}
				if k%4 == 0 {
					if err := f.Sync(k%8 == 0); err != nil {
						t.Errorf("fsync: %v", err)
					}
				}
				whole.Write(&user{b: p[:min(100, len(p))]}, int64(r.IntN(100000)), k%3 == 0)
				whole.Read(&user{b: make([]byte, 5000)}, int64(r.IntN(100000)))
				got := user{b: make([]byte, len(p))}
				if w, err := f.Read(&got, 0); w != len(p) || err != nil || !bytes.Equal(got.b, p) {
					t.Errorf("read: %d of %d, %v", w, len(p), err)
				}
				f.Close()
				if err := shared.Rename(name, dir, name, 0); err != nil {
					t.Errorf("rename: %v", err)
				}
				if k%2 == 0 {
					if err := dir.Remove(name, false); err != nil {
						t.Errorf("remove: %v", err)
					}
				}
				if k%10 == 0 {
					shared.ReadDir(0, func(e vfs.DirEntry, _ int64) bool { shared.Lookup(e.Name); return true })
					if err := fs.Sync(); err != nil {
						t.Errorf("sync: %v", err)
					}
				}
				if k%16 == 0 {
					common.SetAttr(vfs.SetSize, vfs.Attr{Size: int64(r.IntN(50000))})
				}
			}
		}()
	}
	wg.Wait()
	if n, _ := names(shared); len(n) != 0 {
		t.Errorf("%d names are left", len(n))
	}
	c.Stop()
	if err := fs.Unmount(); err != nil {
		t.Error(err)
	}
	if frames.Used() != 0 {
		t.Errorf("%d frames are in use", frames.Used())
	}
	fsck(t, d.b)
}

// space is an address space that has a page of a file.
type space struct {
	page  vfs.Page
	gone  [][2]int64
	dirty bool
}

func (s *space) Invalidate(off, end int64, _ bool) {
	s.gone = append(s.gone, [2]int64{off, end})
	if s.page != nil && off <= 4096 && end > 4096 {
		s.page.Release()
		s.page = nil
	}
}

func (s *space) Harvest(off, end int64) {
	if s.dirty && s.page != nil {
		s.page.Dirty()
	}
	s.dirty = false
}

// What is written through a mapping is the file's; a truncation takes pages away.
func TestMappings(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4", "-b", "1024")
	m := mount(t, d, false)
	n := mk(t, m.Root(), "file", vfs.TypeFile)
	n.SetAttr(vfs.SetSize, vfs.Attr{Size: 20000}) // a hole
	f, _ := n.Open(2)
	s := &space{}
	f.(vfs.Mapped).Attach(s)
	if _, ok := f.(vfs.CachedMapper).CachedPage(4096); ok {
		t.Error("a page is there that nobody asked for")
	}
	p, err := f.(vfs.Mapper).PageAt(4096, true)
	if err != nil {
		t.Fatal(err)
	}
	s.page = p
	if a, _ := n.Attr(); a.Blocks != 8 {
		t.Errorf("%d sectors are promised", a.Blocks)
	}
	copy(p.Bytes(), "through the mapping")
	s.dirty = true
	q, ok := f.(vfs.CachedMapper).CachedPage(4096)
	if !ok || q.Frame() != p.Frame() {
		t.Error("another page")
	}
	q.Release()
	if err := f.Sync(false); err != nil {
		t.Fatal(err)
	}
	crash := mount(t, &disk{b: bytes.Clone(d.b)}, false)
	if got, err := readAll(crash.at("file")); err != nil || len(got) != 20000 || !bytes.HasPrefix(got[4096:], []byte("through the mapping")) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	crash.unmount()
	if err := n.SetAttr(vfs.SetSize, vfs.Attr{Size: 4100}); err != nil {
		t.Fatal(err)
	}
	if len(s.gone) == 0 || s.page == nil {
		t.Errorf("%v: the page that the end is in stays", s.gone)
	}
	if string(p.Bytes()[:6]) != "thro\x00\x00" {
		t.Errorf("%q behind the new end", p.Bytes()[:6])
	}
	n.SetAttr(vfs.SetSize, vfs.Attr{Size: 100})
	if s.page != nil {
		t.Errorf("%v: the page is still mapped", s.gone)
	}
	if _, err := f.(vfs.Mapper).PageAt(4096, false); err != syscall.EFBIG {
		t.Errorf("%v", err)
	}
	f.(vfs.Mapped).Detach(s)
	f.Close()
	m.quiet()
	m.unmount()
	fsck(t, d.b)
}

func TestSeekData(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4")
	m := mount(t, d, false)
	n := mk(t, m.Root(), "file", vfs.TypeFile)
	writeAt(n, []byte("data"), 40960)
	n.SetAttr(vfs.SetSize, vfs.Attr{Size: 100000})
	f, _ := n.Open(2)
	f.(vfs.Allocator).Allocate(0, 81920, 4096)
	for range 2 { // in the cache, and on the medium
		for _, c := range []struct {
			off  int64
			hole bool
			want int64
		}{{0, false, 40960}, {0, true, 0}, {40970, false, 40970}, {40970, true, 45056}, {50000, true, 50000}, {99999, true, 99999}} {
			if got, err := f.(vfs.Seeker).SeekData(c.off, c.hole); err != nil || got != c.want {
				t.Errorf("from %d, hole %v: %d, wanted %d, %v", c.off, c.hole, got, c.want, err)
			}
		}
		if _, err := f.(vfs.Seeker).SeekData(50000, false); err != syscall.ENXIO {
			t.Error(err)
		}
		f.Sync(false)
	}
	f.Close()
	m.unmount()
}

func TestTimesAndModes(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4")
	m := mount(t, d, false)
	n := mk(t, m.Root(), "file", vfs.TypeFile)
	a, _ := n.Attr()
	want := a
	for _, year := range []int{1905, 1970, 2026, 2040, 2200} {
		when := a.Btime.AddDate(year-a.Btime.Year(), 0, 0)
		want.Mtime, want.Atime, want.Mode, want.UID, want.GID = when, when, 0o4711, 70000, 80000
		if err := n.SetAttr(vfs.SetMode|vfs.SetUID|vfs.SetGID|vfs.SetAtime|vfs.SetMtime, want); err != nil {
			t.Fatal(err)
		}
		m.unmount()
		fsck(t, d.b)
		m = mount(t, d, false)
		n = m.at("file")
		got, _ := n.Attr()
		if !got.Mtime.Equal(when) || !got.Atime.Equal(when) || got.Mode != 0o4711 || got.UID != 70000 || got.GID != 80000 || !got.Btime.Equal(a.Btime) {
			t.Errorf("%d: %+v, wanted %+v", year, got, want)
		}
	}
	if mode, uid, gid := n.(*inode).Perm(); mode != 0o4711 || uid != 70000 || gid != 80000 {
		t.Error(mode, uid, gid)
	}
	old := a
	old.Atime = a.Btime.AddDate(-3, 0, 0)
	n.SetAttr(vfs.SetAtime, old)
	writeAt(n, []byte("new"), 0)
	if got, _ := n.Attr(); got.Mtime.Year() != a.Mtime.Year() {
		t.Errorf("%v after a write", got.Mtime)
	}
	readAll(n)
	if got, _ := n.Attr(); got.Atime.Year() != a.Mtime.Year() {
		t.Errorf("atime %v after a read", got.Atime)
	}
	m.unmount()
}
