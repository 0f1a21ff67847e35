package media

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// disk is the beginning of an image; the rest of size reads as zeros.
type disk struct {
	b    []byte
	size int64
}

func (d disk) ReadAt(p []byte, off int64) (int, error) {
	if off >= d.size {
		return 0, io.EOF
	}
	clear(p)
	if off < int64(len(d.b)) {
		copy(p, d.b[off:])
	}
	if off+int64(len(p)) > d.size {
		return int(d.size - off), io.EOF
	}
	return len(p), nil
}

// image reads testdata: images made by genisoimage 1.1.11, xorriso 1.5.4 and
// mkfs.vfat 4.2, those of FAT without the zeros at their end.
func image(t testing.TB, name string) disk {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	d := disk{b, int64(len(b))}
	switch name {
	case "f16.img":
		d.size = 20000 << 10
	case "f32.img":
		d.size = 70000 << 10
	}
	return d
}

var images = map[string]string{ // to the kind
	"j.iso": "iso9660", "joliet.iso": "iso9660", "x.iso": "iso9660", "f12.img": "fat12", "f16.img": "fat16", "f32.img": "fat32",
}

func TestImages(t *testing.T) {
	for name, kind := range images {
		t.Run(name, func(t *testing.T) {
			d := image(t, name)
			m, err := Open(d, d.size)
			if err != nil {
				t.Fatal(err)
			}
			if m.Kind != kind || !strings.EqualFold(m.Label, "cidata") {
				t.Errorf("kind %q, label %q", m.Kind, m.Label)
			}
			meta, err := m.ReadFile("meta-data", 1<<16)
			if err != nil || !bytes.HasPrefix(meta, []byte("instance-id: iid-nocloud-1\n")) || !bytes.HasSuffix(meta, []byte("one@example\n")) {
				t.Errorf("meta-data %q, %v; names %q", meta, err, m.Names())
			}
			user, err := m.ReadFile("USER-DATA", 1<<16)
			if err != nil || !bytes.HasPrefix(user, []byte("#cloud-config\n")) || !bytes.HasSuffix(user, []byte("content: hello\n")) {
				t.Errorf("user-data %q, %v", user, err)
			}
			if _, err := m.ReadFile("network-config", 100); !errors.Is(err, ErrNotExist) {
				t.Errorf("a file that is not there: %v", err)
			}
			if _, err := m.ReadFile("user-data", 10); err == nil || !strings.Contains(err.Error(), "more than 10") {
				t.Errorf("a file over the limit: %v", err)
			}
		})
	}
}

// What is neither kind is told apart from what is broken.
func TestUnknown(t *testing.T) {
	for name, b := range map[string][]byte{"empty": nil, "short": make([]byte, 100), "zeros": make([]byte, 1<<20),
		"MBR": append(append(make([]byte, 510), 0x55, 0xaa), make([]byte, 1<<16)...)} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Folders are no files, volume labels neither.
func TestOnlyFiles(t *testing.T) {
	for name, want := range map[string]string{"j.iso": "file meta-data user-data", "x.iso": "meta-data user-data", "f12.img": "user-data meta-data"} {
		d := image(t, name)
		m, err := Open(d, d.size)
		if err != nil || strings.Join(m.Names(), " ") != want {
			t.Errorf("%s: %q (%v)", name, m.Names(), err)
		}
	}
}

// Every cut of an image ends in an error or in a medium that reads what is there.
func TestCutImages(t *testing.T) {
	for name := range images {
		d := image(t, name)
		for cut := int64(0); cut < int64(len(d.b)); cut += 1499 {
			short := disk{d.b[:cut], cut}
			if m, err := Open(short, cut); err == nil {
				m.ReadFile("user-data", 1<<16)
				m.ReadFile("meta-data", 1<<16)
			}
		}
	}
}

func TestLies(t *testing.T) {
	change := func(name string, f func(b []byte)) error {
		d := image(t, name)
		f(d.b)
		m, err := Open(d, d.size)
		if err != nil {
			return err
		}
		_, err = m.ReadFile("user-data", 1<<20)
		return err
	}
	for _, c := range []struct {
		name, image string
		f           func(b []byte)
		want        string
	}{
		{"block size", "j.iso", func(b []byte) { b[16*2048+128] = 0; b[16*2048+129] = 2 }, "blocks of 512"},
		{"root beyond the end", "j.iso", func(b []byte) { b[16*2048+156+3] = 0xff }, "root folder of"},
		{"root too large", "j.iso", func(b []byte) { b[16*2048+156+13] = 0x10 }, "root folder of"},
		{"no end", "j.iso", func(b []byte) {
			for i := 17; i < 16+isoMaxVolumes; i++ {
				copy(b[i*2048:], b[16*2048:16*2048+7])
				b[i*2048] = 3
			}
		}, "no end"},
		{"no primary", "j.iso", func(b []byte) { b[16*2048] = 3 }, "no primary"},
		{"lost descriptor", "j.iso", func(b []byte) { b[17*2048+1] = 'X' }, "no CD001"},
		{"clusters and layout", "f32.img", func(b []byte) { b[32], b[33], b[34], b[35] = 0, 0x10, 0, 0 }, "do not go with"},
		{"larger than the disk", "f16.img", func(b []byte) { b[19], b[20] = 0xff, 0xff }, "on a disk of"},
		{"root cluster", "f32.img", func(b []byte) { b[44] = 1 }, "cluster 1 of"},
	} {
		if err := change(c.image, c.f); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	// A chain that runs in a circle ends.
	err := change("f12.img", func(b []byte) {
		table := int(b[14]) * 512
		for i := table + 3; i < table+60; i += 3 { // entries 2, 3, …: each followed by 2
			b[i], b[i+1], b[i+2] = 2, 0x20, 0
		}
		root := table + 2*int(b[22])*512
		for at := root; at < root+32*16; at += 32 {
			if string(b[at:at+4]) == "USER" {
				b[at+28], b[at+29], b[at+30] = 0, 0, 8 // a size of 512 KiB
			}
		}
	})
	if err != nil && !strings.Contains(err.Error(), "fat:") {
		t.Errorf("a circle: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	for name := range images {
		d := image(f, name)
		f.Add(d.b[:min(len(d.b), 64<<10)], int64(d.size))
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 {
			return
		}
		m, err := Open(disk{b, size}, size)
		if err != nil {
			return
		}
		for _, n := range m.Names() {
			if p, err := m.ReadFile(n, 1<<16); err == nil && len(p) > 1<<16 {
				t.Fatalf("%d bytes", len(p))
			}
		}
	})
}
