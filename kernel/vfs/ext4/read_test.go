package ext4

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/vfs"
)

// tree makes a directory with files of all sorts.
func tree(t testing.TB) string {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	put := func(name string, size int) {
		p := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(p), 0o755)
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if err := os.WriteFile(p, b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{0, 1, 59, 60, 61, 150, 1023, 1024, 4095, 4096, 4097, 100000, 1 << 20} {
		put(fmt.Sprintf("size/%d", n), n)
	}
	for i := range 900 {
		put(fmt.Sprintf("many/file-with-a-longer-name-%d", i), i%50)
	}
	put("a/b/c/d/e", 77)
	os.Symlink("short", filepath.Join(dir, "a/short"))
	os.Symlink(strings.Repeat("long/", 50), filepath.Join(dir, "a/long"))
	os.Link(filepath.Join(dir, "size/4097"), filepath.Join(dir, "a/hard"))
	syscall.Mkfifo(filepath.Join(dir, "a/fifo"), 0o600)
	f, _ := os.Create(filepath.Join(dir, "sparse"))
	f.WriteAt([]byte("end"), 3<<20)
	f.WriteAt([]byte("middle"), 1<<20)
	f.Close()
	return dir
}

// What mke2fs puts into a file system is read back, byte for byte.
func TestReadsWhatMke2fsMade(t *testing.T) {
	needTools(t)
	dir := tree(t)
	for _, f := range features {
		t.Run(f.name, func(t *testing.T) {
			d := image(t, f.kib, append([]string{"-d", dir}, f.args...)...)
			d.readOnly = true
			m := mount(t, d, true)
			compare(t, m, dir)
			m.quiet()
			m.unmount()
		})
	}
}

func TestReadsIndirectBlocks(t *testing.T) {
	needTools(t)
	dir := t.TempDir()
	f, _ := os.Create(filepath.Join(dir, "big"))
	for _, off := range []int64{0, 5000, 11 << 10, 12 << 10, 267 << 10, 269 << 10, 3 << 20, 65 << 20, 66 << 20} {
		fmt.Fprintf(&at{f, off}, "data at %d", off)
	}
	f.Close()
	os.WriteFile(filepath.Join(dir, "full"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o644)
	d := image(t, 16<<10, "-t", "ext3", "-b", "1024", "-d", dir)
	m := mount(t, d, false)
	compare(t, m, dir)
	if st, _ := m.StatFS(); !st.ReadOnly || len(m.msgs) != 1 || !strings.Contains(m.msgs[0], "indirect") {
		t.Errorf("%+v, %q", st, m.msgs)
	}
	m.unmount()
}

type at struct {
	f   *os.File
	off int64
}

func (a *at) Write(p []byte) (int, error) { return a.f.WriteAt(p, a.off) }

// compare compares a mounted file system with a directory of the host.
func compare(t *testing.T, m *mounted, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if rel == "." {
			rel = ""
		}
		node, err := m.walk(rel)
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			return nil
		}
		n++
		var st syscall.Stat_t
		syscall.Lstat(p, &st)
		a, err := node.Attr()
		if err != nil || a.Mode != st.Mode&07777 || uint32(a.Type) != st.Mode&syscall.S_IFMT || a.UID != st.Uid || a.GID != st.Gid || rel != "" && a.Type != vfs.TypeDir && uint64(a.Nlink) != st.Nlink {
			t.Errorf("%s: %+v, %v", rel, a, err)
		}
		if a.Type != vfs.TypeDir && a.Mtime.Unix() != st.Mtim.Sec {
			t.Errorf("%s: mtime %v, wanted %d", rel, a.Mtime, st.Mtim.Sec)
		}
		switch a.Type {
		case vfs.TypeFile:
			want, _ := os.ReadFile(p)
			got, err := readAll(node)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, wanted %d, %v", rel, len(got), len(want), err)
			}
		case vfs.TypeLink:
			want, _ := os.Readlink(p)
			if got, err := node.ReadLink(); err != nil || got != want {
				t.Errorf("%s: %q, wanted %q, %v", rel, got, want, err)
			}
		case vfs.TypeDir:
			want, _ := os.ReadDir(p)
			got, err := names(node)
			delete(got, "lost+found")
			if err != nil || len(got) != len(want) {
				t.Errorf("%s: %d names, wanted %d, %v", rel, len(got), len(want), err)
			}
			if _, err := node.Lookup("no such name"); err != syscall.ENOENT {
				t.Errorf("%s: %v", rel, err)
			}
		}
		return nil
	})
	if err != nil || n < 2 {
		t.Errorf("%d files, %v", n, err)
	}
}
