package ext4

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

var long = flag.Bool("long", false, "run all traces and power cuts, not a part of them")

// disk is a Device in memory. It plays a disk with a volatile cache: written is every
// write and flush in order, if it records.
type disk struct {
	mu       sync.Mutex
	b        []byte
	readOnly bool
	record   bool
	log      []access
	fail     func(op string, off int64, n int) error
	noMem    bool
	reads    int
}

// access is one write, or a flush, which has no data.
type access struct {
	off   int64
	data  []byte
	first bool // it begins a write
}

func (d *disk) Size() int64    { return int64(len(d.b)) }
func (d *disk) BlockSize() int { return 512 }
func (d *disk) ReadOnly() bool { return d.readOnly }

// dma copies as a device does, unseen by the race detector: pages may be written to
// while they are on their way.
//
//go:norace
func dma(dst, src []byte) {
	for i := range src {
		dst[i] = src[i]
	}
}

func (d *disk) check(op string, off int64, n int) error {
	if d.fail != nil {
		if err := d.fail(op, off, n); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("read", off, len(p)); err != nil {
		return 0, err
	}
	d.reads++
	if off >= int64(len(d.b)) {
		return 0, io.EOF
	}
	n := min(len(p), len(d.b)-int(off))
	dma(p, d.b[off:int(off)+n])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("write", off, len(p)); err != nil {
		return 0, err
	}
	if d.readOnly || off%512 != 0 || len(p)%512 != 0 || off+int64(len(p)) > int64(len(d.b)) {
		return 0, errors.New("bad write")
	}
	dma(d.b[off:], p)
	if d.record {
		// Only small pieces are written or not written as a whole.
		for k := 0; k < len(p); k += 1024 {
			n := min(1024, len(p)-k)
			d.log = append(d.log, access{off + int64(k), bytes.Clone(p[k : k+n]), k == 0})
		}
	}
	return len(p), nil
}

func (d *disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("flush", 0, 0); err != nil {
		return err
	}
	if d.record {
		d.log = append(d.log, access{first: true})
	}
	return nil
}

// memDisk is a disk that takes pages without copies.
type memDisk struct{ *disk }

func (d memDisk) ReadMem(mem []Mem, off int64) error {
	for _, m := range mem {
		if _, err := d.ReadAt(m.Bytes, off); err != nil {
			return err
		}
		off += int64(len(m.Bytes))
	}
	return nil
}

func (d memDisk) WriteMem(mem []Mem, off int64) error {
	for _, m := range mem {
		if _, err := d.WriteAt(m.Bytes, off); err != nil {
			return err
		}
		off += int64(len(m.Bytes))
	}
	return nil
}

// image makes a file system with mke2fs, of size KiB.
func image(t testing.TB, size int, args ...string) *disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	tool(t, "mke2fs", append(append([]string{"-q", "-F", "-E", "no_copy_xattrs"}, args...), path, itoa(uint32(size)))...)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return &disk{b: b}
}

// tool runs a program of e2fsprogs and returns what it says.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := run1(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func run1(name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/sbin/" + name
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "E2FSPROGS_FAKE_TIME=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func needTools(t testing.TB) {
	t.Helper()
	for _, n := range []string{"mke2fs", "e2fsck", "debugfs"} {
		if _, err := exec.LookPath(n); err != nil {
			if _, err := os.Stat("/sbin/" + n); err != nil {
				t.Skipf("%s is missing: install e2fsprogs", n)
			}
		}
	}
}

// save writes a disk into a file.
func save(t testing.TB, b []byte) string {
	t.Helper()
	dir := "/dev/shm"
	if _, err := os.Stat(dir); err != nil {
		dir = ""
	}
	f, err := os.CreateTemp(dir, "ext4-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(f.Name()) })
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// fsck has e2fsck judge an image, which must be clean.
func fsck(t testing.TB, b []byte) {
	t.Helper()
	path := save(t, b)
	defer os.Remove(path)
	if out, err := run1("e2fsck", "-f", "-n", path); err != nil {
		os.WriteFile("/tmp/ext4-bad.img", b, 0o644)
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}

type mounted struct {
	*fileSystem
	t      testing.TB
	cache  *cache.Cache
	frames *cache.Heap
	msgs   []string
	mu     sync.Mutex
}

func mount(t testing.TB, d *disk, ro bool) *mounted {
	t.Helper()
	m, err := tryMount(t, d, ro)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tryMount(t testing.TB, d *disk, ro bool) (*mounted, error) {
	m := &mounted{t: t, frames: &cache.Heap{}}
	m.cache = cache.New(cache.Config{Frames: m.frames, Limit: 16 << 20})
	say := func(msg string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.msgs = append(m.msgs, msg)
	}
	var dev Device = memDisk{d}
	if d.noMem {
		dev = d
	}
	fs, err := Mount(dev, Options{Cache: m.cache, Name: "test", Dev: 8<<8 | 1, ReadOnly: ro, Warn: say, Note: func(string) {}})
	if err != nil {
		return nil, err
	}
	m.fileSystem = fs.(*fileSystem)
	return m, nil
}

// quiet fails the test where there were messages.
func (m *mounted) quiet() {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.msgs) > 0 {
		m.t.Errorf("messages: %q", m.msgs)
	}
}

func (m *mounted) unmount() {
	m.t.Helper()
	if err := m.Unmount(); err != nil {
		m.t.Fatalf("unmount: %v", err)
	}
	if n := m.frames.Used(); n != 0 {
		m.t.Errorf("%d frames are still in use", n)
	}
}

// walk finds a path.
func (m *mounted) walk(path string) (vfs.Node, error) {
	n := m.Root()
	for _, part := range strings.Split(path, "/") {
		if part == "" {
			continue
		}
		var err error
		if n, err = n.Lookup(part); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (m *mounted) at(path string) vfs.Node {
	m.t.Helper()
	n, err := m.walk(path)
	if err != nil {
		m.t.Fatalf("%s: %v", path, err)
	}
	return n
}

func readAll(n vfs.Node) ([]byte, error) {
	f, err := n.Open(0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, _ := n.Attr()
	b := vfs.Bytes{B: make([]byte, a.Size)}
	k, err := f.Read(&b, 0)
	return b.B[:k], err
}

func writeAt(n vfs.Node, p []byte, off int64) error {
	f, err := n.Open(2)
	if err != nil {
		return err
	}
	defer f.Close()
	k, _, err := f.Write(&vfs.Bytes{B: p}, off, false)
	if err == nil && k != len(p) {
		err = errors.New("short write")
	}
	return err
}

func names(n vfs.Node) (map[string]vfs.DirEntry, error) {
	all := map[string]vfs.DirEntry{}
	var twice error
	err := n.ReadDir(0, func(e vfs.DirEntry, _ int64) bool {
		if _, ok := all[e.Name]; ok {
			twice = errors.New("told twice: " + e.Name)
		}
		all[e.Name] = e
		return true
	})
	return all, errors.Join(err, twice)
}

// features are the sorts of file systems that tests go through.
var features = []struct {
	name string
	args []string
	kib  int
}{
	{"4k", []string{"-t", "ext4", "-b", "4096"}, 16 << 10},
	{"1k", []string{"-t", "ext4", "-b", "1024"}, 12 << 10},
	{"2k-nojournal", []string{"-t", "ext4", "-b", "2048", "-O", "^has_journal"}, 12 << 10},
	{"nocsum", []string{"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit"}, 12 << 10},
	{"gdtcsum", []string{"-t", "ext4", "-b", "4096", "-O", "^metadata_csum,uninit_bg", "-g", "1024"}, 16 << 10},
	{"inline", []string{"-t", "ext4", "-b", "4096", "-O", "inline_data", "-I", "256"}, 16 << 10},
	{"groups", []string{"-t", "ext4", "-b", "1024", "-g", "1024", "-G", "4", "-O", "metadata_csum_seed", "-J", "size=2"}, 24 << 10},
	{"small-inodes", []string{"-t", "ext4", "-b", "1024", "-I", "128", "-O", "^dir_nlink,^huge_file,^flex_bg,^dir_index"}, 12 << 10},
	{"meta_bg", []string{"-t", "ext4", "-b", "1024", "-g", "512", "-O", "meta_bg,^resize_inode,sparse_super2,orphan_file"}, 24 << 10},
}
