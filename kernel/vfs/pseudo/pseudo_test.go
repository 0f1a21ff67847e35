package pseudo

import (
	"syscall"
	"testing"

	"osv/kernel/vfs"
)

// A file's text is made at the start of a pass and stays for the rest of it.
func TestTextOfOnePass(t *testing.T) {
	fs := New("x", 1, 0)
	n := 0
	fs.Top().File("f", func() []byte { n++; return []byte{byte('0' + n), 'a', 'b'} })
	c := vfs.NewContext(vfs.NewTree(fs), vfs.RootCreds())
	o, err := vfs.OpenAt(c, vfs.Path{}, "/f", syscall.O_RDONLY, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	one := func(off int64) string {
		var b [1]byte
		k, err := o.File.Read(&vfs.Bytes{B: b[:]}, off)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:k])
	}
	if s := one(0) + one(1) + one(2) + one(3); s != "1ab" {
		t.Errorf("%q", s)
	}
	if s := one(0); s != "2" {
		t.Errorf("a second pass begins with %q", s)
	}
}

func TestWriteTakesOnePage(t *testing.T) {
	fs := New("x", 1, 0)
	var got int
	fs.Top().Add("w", fs.NewFile(0o200, nil, func(p []byte) error {
		got = len(p)
		if got == 1 {
			return syscall.ERANGE
		}
		return nil
	}))
	n, _ := fs.Top().Lookup("w")
	f, _ := n.Open(syscall.O_WRONLY)
	if k, _, err := f.Write(&vfs.Bytes{B: make([]byte, 9000)}, 0, false); k != 4095 || got != 4095 || err != nil {
		t.Errorf("%d %d %v", k, got, err)
	}
	if _, _, err := f.Write(&vfs.Bytes{B: make([]byte, 1)}, 0, false); err != syscall.ERANGE {
		t.Error(err)
	}
	if _, err := f.Read(&vfs.Bytes{B: make([]byte, 1)}, 0); err != syscall.EINVAL {
		t.Error(err)
	}
	if err := n.SetAttr(vfs.SetSize, vfs.Attr{}); err != nil {
		t.Error("O_TRUNC is refused")
	}
}

func TestTree(t *testing.T) {
	fs := New("x", 7, 0)
	top := fs.Top()
	top.Dir("a").Dir("b").Text("t", "text")
	top.Symlink("l", "a/b/t")
	if top.Dir("a") != top.Dir("a") {
		t.Error("two directories of one name")
	}
	if m := top.Renumber(100); m != 104 {
		t.Errorf("next number is %d", m)
	}
	c := vfs.NewContext(vfs.NewTree(fs), vfs.RootCreds())
	if b, err := vfs.ReadFile(c, "/l"); string(b) != "text" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if a, p, err := vfs.StatAt(c, vfs.Path{}, "/l", 0); err != nil || a.Size != 5 || a.Type != vfs.TypeLink || p.MountRoot() {
		t.Errorf("%+v %v", a, err)
	}
	l, _ := top.Lookup("l")
	if _, err := l.Open(0); err != syscall.ELOOP {
		t.Error(err)
	}
	if _, err := top.Lookup("none"); err != syscall.ENOENT {
		t.Error(err)
	}
	if s, _ := fs.StatFS(); s.Magic != 7 || fs.Type() != "x" || fs.Sync() != nil || fs.Unmount() != nil || fs.Dev() == 0 {
		t.Errorf("%+v", s)
	}
}
