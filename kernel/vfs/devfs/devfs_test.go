package devfs

import (
	"bytes"
	"io"
	"syscall"
	"testing"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
	"osv/kernel/vfs/tmpfs"
)

func TestDevices(t *testing.T) {
	tree := vfs.NewTree(tmpfs.New(tmpfs.Options{}))
	c := vfs.NewContext(tree, vfs.RootCreds())
	var said []byte
	fs, err := New(tree, Options{
		KMsg:    func(p []byte) { said = append(said, p...) },
		Console: func(p vfs.Path, _ int) (vfs.File, error) { return null{base{n: p.Node()}}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.MkdirAt(c, vfs.Path{}, "/dev", 0o755); err != nil {
		t.Fatal(err)
	}
	dev, _ := vfs.Walk(c, vfs.Path{}, "/dev", vfs.Follow)
	if _, err := tree.Mount("devtmpfs", fs, dev, 0); err != nil {
		t.Fatal(err)
	}
	open := func(name string) *vfs.Opened {
		t.Helper()
		o, err := vfs.OpenAt(c, vfs.Path{}, "/dev/"+name, syscall.O_RDWR, 0, 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { o.Close() })
		return o
	}
	buf := func() []byte { return bytes.Repeat([]byte{7}, 5000) }
	for _, d := range []struct {
		name        string
		read, write int
		werr        error
		check       func(p []byte) bool
	}{
		{"null", 0, 5000, nil, func(p []byte) bool { return p[0] == 7 }},
		{"zero", 5000, 5000, nil, func(p []byte) bool { return bytes.Equal(p, make([]byte, 5000)) }},
		{"full", 5000, 0, syscall.ENOSPC, func(p []byte) bool { return bytes.Equal(p, make([]byte, 5000)) }},
		{"random", 5000, 5000, nil, func(p []byte) bool { return !bytes.Contains(p, make([]byte, 16)) && !bytes.Contains(p, buf()[:16]) }},
		{"urandom", 5000, 5000, nil, func(p []byte) bool { return !bytes.Contains(p, make([]byte, 16)) }},
	} {
		o := open(d.name)
		p := buf()
		if n, err := o.File.Read(&vfs.Bytes{B: p}, 99); n != d.read || err != nil || !d.check(p) {
			t.Errorf("%s: read %d, %v", d.name, n, err)
		}
		if n, _, err := o.File.Write(&vfs.Bytes{B: p}, 99, false); n != d.write || err != d.werr {
			t.Errorf("%s: wrote %d, %v", d.name, n, err)
		}
		if !o.File.Seekable() || o.File.Ready() != poll.In|poll.Out || o.File.Sync(false) != syscall.EINVAL || o.File.Node() != o.Path.Node() {
			t.Errorf("%s is no character device", d.name)
		}
		if _, ok := o.File.(vfs.Unmoving); !ok {
			t.Errorf("%s: the position moves", d.name)
		}
		a, _ := o.Path.Node().Attr()
		if a.Type != vfs.TypeChar || vfs.Major(a.Rdev) != 1 {
			t.Errorf("%s: %+v", d.name, a)
		}
	}
	k := open("kmsg")
	if n, _, err := k.File.Write(&vfs.Bytes{B: []byte("hello\n")}, 0, false); n != 6 || err != nil || string(said) != "hello\n" {
		t.Errorf("kmsg: %d %v %q", n, err, said)
	}
	if _, err := k.File.Read(&vfs.Bytes{B: make([]byte, 1)}, 0); err != syscall.EAGAIN || k.File.Ready() != poll.Out {
		t.Errorf("kmsg: read %v", err)
	}
	open("console")
	if _, err := vfs.OpenAt(c, vfs.Path{}, "/dev/tty", 0, 0, 0); err != syscall.ENXIO {
		t.Errorf("tty of nobody: %v", err)
	}
	if _, err := vfs.OpenAt(c, vfs.Path{}, "/dev/ptmx", 0, 0, 0); err != syscall.ENOENT {
		t.Errorf("ptmx: %v", err)
	}
	if s, err := vfs.ReadlinkAt(c, vfs.Path{}, "/dev/stdin"); s != "/proc/self/fd/0" || err != nil {
		t.Errorf("stdin: %q %v", s, err)
	}
	m := open("zero").File.(vfs.Mapper)
	if p, err := m.PageAt(0, false); err != nil || !bytes.Equal(p.Bytes(), make([]byte, 4096)) {
		t.Errorf("mapped zero: %v", err)
	} else {
		p.Dirty()
		p.Release()
		p.Frame()
	}
	if _, err := m.PageAt(0, true); err != syscall.ENODEV {
		t.Errorf("shared mapping of zero: %v", err)
	}
	if _, err := fill(&broken{}, func([]byte) {}); err != io.ErrShortBuffer {
		t.Errorf("a fault: %v", err)
	}
	if _, _, err := swallow(&broken{}, 0, nil); err != io.ErrShortBuffer {
		t.Errorf("a fault: %v", err)
	}
}

// A device file of the same number in another file system is the same device, unless
// the mount forbids it.
func TestDevicesElsewhere(t *testing.T) {
	tree := vfs.NewTree(tmpfs.New(tmpfs.Options{}))
	c := vfs.NewContext(tree, vfs.RootCreds())
	Register(tree, Options{})
	if _, err := vfs.MknodAt(c, vfs.Path{}, "/n", vfs.TypeChar, 0o666, Null); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(c, "/n", []byte("x"), 0); err != nil {
		t.Error(err)
	}
	tree.Remount(tree.Root(), vfs.MountNoDev)
	if _, err := vfs.OpenAt(c, vfs.Path{}, "/n", 0, 0, 0); err != syscall.EACCES {
		t.Errorf("nodev: %v", err)
	}
}

type broken struct{}

func (broken) Room() int                { return 1 }
func (broken) Left() int                { return 1 }
func (broken) Put([]byte) (int, error)  { return 0, io.ErrShortBuffer }
func (broken) Take([]byte) (int, error) { return 0, io.ErrShortBuffer }
