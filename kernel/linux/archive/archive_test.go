package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

// pack makes an archive.
func pack(t testing.TB, list ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		text := ""
		if h.Typeflag == tar.TypeReg {
			text = strings.Repeat(h.Name+"\n", 1000)
			h.Size = int64(len(text))
		}
		h.ModTime = time.Unix(1000, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tree() *vfs.Context {
	c := vfs.NewContext(vfs.NewTree(tmpfs.New(tmpfs.Options{Mode: 0o755})), vfs.RootCreds())
	c.Dirs.SetUmask(0)
	return c
}

func TestUnpack(t *testing.T) {
	b := pack(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o700, Uid: 3, Gid: 4},
		tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644, Uid: 5},
		tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/deep/prog", Mode: 0o4755},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/link", Linkname: "bin/deep"},
		tar.Header{Typeflag: tar.TypeReg, Name: "usr/link/through", Mode: 0o600},
		tar.Header{Typeflag: tar.TypeLink, Name: "hard", Linkname: "etc/passwd"},
		tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600},
		tar.Header{Typeflag: tar.TypeReg, Name: "../../outside", Mode: 0o644},
		// Again: the later one counts.
		tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/link2", Linkname: "a"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/link2", Linkname: "b"},
		tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755},
	)
	if !Is(b) || Is(b[:100]) || Is(make([]byte, 512)) {
		t.Error("Is is wrong")
	}
	c := tree()
	n, err := Unpack(c, bytes.NewReader(append(b, make([]byte, 10000)...)))
	if err != nil || n != 13 {
		t.Fatalf("%d entries, %v", n, err)
	}
	for path, want := range map[string]string{
		"/etc": "40000 755 0 0", "/etc/passwd": "100000 644 5 0", "/usr/bin/deep/prog": "100000 4755 0 0", "/usr": "40000 755 0 0",
		"/usr/bin/deep/through": "100000 600 0 0", "/dev/null": "20000 666 0 0", "/fifo": "10000 600 0 0", "/outside": "100000 644 0 0", "/hard": "100000 644 5 0",
	} {
		a, _, err := vfs.StatAt(c, vfs.Path{}, path, vfs.Follow)
		if got := fmt.Sprintf("%o %o %d %d", a.Type, a.Mode, a.UID, a.GID); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
		if a.Type == vfs.TypeFile && a.Mtime.Unix() != 1000 {
			t.Errorf("%s: time %v", path, a.Mtime)
		}
	}
	if got, err := vfs.ReadFile(c, "/usr/bin/deep/prog"); err != nil || string(got) != strings.Repeat("usr/bin/deep/prog\n", 1000) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := vfs.ReadlinkAt(c, vfs.Path{}, "/usr/link2"); got != "b" || err != nil {
		t.Errorf("link %q, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	for name, b := range map[string][]byte{
		"cut off":         pack(t, tar.Header{Typeflag: tar.TypeReg, Name: "f"})[:2000],
		"link to nothing": pack(t, tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "none"}),
		"file as directory": pack(t, tar.Header{Typeflag: tar.TypeReg, Name: "f"},
			tar.Header{Typeflag: tar.TypeReg, Name: "f/g"}),
		"directory in place": pack(t, tar.Header{Typeflag: tar.TypeDir, Name: "d/"},
			tar.Header{Typeflag: tar.TypeSymlink, Name: "d", Linkname: "x"}),
	} {
		if _, err := Unpack(tree(), bytes.NewReader(b)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	small := vfs.NewContext(vfs.NewTree(tmpfs.New(tmpfs.Options{Size: 4096})), vfs.RootCreds())
	_, err := Unpack(small, bytes.NewReader(pack(t, tar.Header{Typeflag: tar.TypeReg, Name: "larger"})))
	if err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("no room: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, tar.Header{Typeflag: tar.TypeReg, Name: "a/b"}, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/"})[:4096])
	f.Fuzz(func(t *testing.T, b []byte) {
		c := vfs.NewContext(vfs.NewTree(tmpfs.New(tmpfs.Options{Size: 1 << 20})), vfs.RootCreds())
		_, _ = Unpack(c, bytes.NewReader(b)) // any outcome but a panic
	})
}
