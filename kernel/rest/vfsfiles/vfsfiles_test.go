package vfsfiles

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/rest/machine"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

func newTree(t *testing.T) (*Tree, *vfs.Tree) {
	t.Helper()
	v := vfs.NewTree(tmpfs.New(tmpfs.Options{Size: 1 << 20, Inodes: 100, Mode: 0o755}))
	return New(v), v
}

func write(t *testing.T, f machine.Files, name, text string, appending bool) {
	t.Helper()
	w, err := f.Create(name, 0o640, appending)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, f machine.Files, name string) string {
	t.Helper()
	h, err := f.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	b, err := io.ReadAll(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFiles(t *testing.T) {
	f, v := newTree(t)
	if err := f.Mkdir("d", 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, f, "d/a", "one", false)
	write(t, f, "d/a", "two", true)
	if s := read(t, f, "d/a"); s != "onetwo" {
		t.Errorf("%q", s)
	}
	write(t, f, "d/a", "x", false)
	if s := read(t, f, "d/a"); s != "x" {
		t.Errorf("written anew: %q", s)
	}
	if err := f.Chmod("d/a", 0o604); err != nil {
		t.Error(err)
	}
	i, err := f.Stat("d/a")
	if err != nil || i.Name != "a" || i.Size != 1 || i.Mode != 0o604 || i.Links != 1 || i.Owner != "root" || i.Modified.IsZero() {
		t.Errorf("%+v, %v", i, err)
	}
	c := vfs.NewContext(v, vfs.RootCreds())
	for text, at := range map[string]string{"a": "/d/l", "/../../etc": "/out", "loop": "/loop"} {
		if err := vfs.SymlinkAt(c, text, vfs.Path{}, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Mkdir("etc", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, f, "out/passwd", "mine", false) // a link that climbs stops at the root
	if s := read(t, f, "etc/passwd"); s != "mine" {
		t.Errorf("through a link: %q", s)
	}
	l, err := f.List("d")
	if err != nil || len(l) != 2 || l[0].Name != "a" || l[1].Name != "l" || l[1].Target != "a" || l[1].Mode&fs.ModeSymlink == 0 {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := f.List("."); err != nil || len(l) != 4 || !l[0].Mode.IsDir() {
		t.Errorf("the root: %+v, %v", l, err)
	}
	if err := f.Rename("d/a", "b"); err != nil || read(t, f, "b") != "x" {
		t.Errorf("renamed: %v", err)
	}
	if b, err := f.ReadFile("b"); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := vfs.MknodAt(c, vfs.Path{}, "/pipe", vfs.TypePipe, 0o644, 0); err != nil {
		t.Fatal(err)
	}
	open := func(name string) error { _, err := f.Open(name); return err }
	create := func(name string) error { _, err := f.Create(name, 0o644, false); return err }
	list := func(name string) error { _, err := f.List(name); return err }
	for name, test := range map[string]struct{ err, want error }{
		"open nothing":     {open("none"), fs.ErrNotExist},
		"open a directory": {open("d"), syscall.EISDIR},
		"open a pipe":      {open("pipe"), syscall.EINVAL},
		"open a loop":      {open("loop"), syscall.ELOOP},
		"list a file":      {list("b"), syscall.ENOTDIR},
		"create on a dir":  {create("d"), syscall.EISDIR},
		"create a pipe":    {create("pipe"), syscall.EINVAL},
		"make twice":       {f.Mkdir("d", 0o755), fs.ErrExist},
		"remove a full":    {f.Remove("d"), syscall.ENOTEMPTY},
		"remove nothing":   {f.Remove("none"), fs.ErrNotExist},
		"rename nothing":   {f.Rename("none", "x"), fs.ErrNotExist},
		"mode of nothing":  {f.Chmod("none", 0), fs.ErrNotExist},
		"read nothing":     {func() error { _, err := f.ReadFile("none"); return err }(), fs.ErrNotExist},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v, want %v", name, test.err, test.want)
		}
	}
	if err := errors.Join(f.Remove("d/l"), f.Remove("d"), f.Remove("b")); err != nil {
		t.Error(err)
	}
}

func TestFull(t *testing.T) {
	f, _ := newTree(t)
	w, err := f.Create("big", 0o644, false)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.WriteString(w, strings.Repeat("x", 2<<20))
	if !errors.Is(err, syscall.ENOSPC) || n == 0 || n > 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	w.Close()
	l, err := f.FileSystems()
	if err != nil || len(l) != 1 || l[0].Mount != "/" || l[0].BTotal != 256 || l[0].BFree != 0 || l[0].Filesystem != "tmpfs" {
		t.Errorf("%+v, %v", l, err)
	}
	if err := f.Remove("big"); err != nil {
		t.Error(err)
	}
	if l, _ := f.FileSystems(); l[0].BFree == 0 {
		t.Error("nothing is free again")
	}
}

func TestSeek(t *testing.T) {
	f, _ := newTree(t)
	write(t, f, "a", "0123456789", false)
	h, err := f.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	b := make([]byte, 2)
	for _, test := range []struct {
		off    int64
		whence int
		at     int64
		want   string
	}{{3, io.SeekStart, 3, "34"}, {1, io.SeekCurrent, 6, "67"}, {-2, io.SeekEnd, 8, "89"}} {
		at, err := h.Seek(test.off, test.whence)
		io.ReadFull(h, b)
		if err != nil || at != test.at || string(b) != test.want {
			t.Errorf("%+v: at %d, %q, %v", test, at, b, err)
		}
	}
	if _, err := h.Seek(-1, io.SeekStart); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("before the start: %v", err)
	}
	if n, err := h.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
	if i, err := h.Stat(); err != nil || i.Size != 10 || i.Name != "a" {
		t.Errorf("%+v, %v", i, err)
	}
}
