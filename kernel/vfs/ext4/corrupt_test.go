package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"osv/kernel/vfs"
)

// smallImage is a file system with some of everything, small enough to be broken many
// times.
func smallImage(t testing.TB, args ...string) []byte {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "d/e"), 0o755)
	for i := range 60 {
		os.WriteFile(filepath.Join(dir, "d", fmt.Sprintf("name-%d-%s", i, strings.Repeat("y", i))), bytes.Repeat([]byte("x"), i*40), 0o644)
	}
	os.Symlink(strings.Repeat("s", 100), filepath.Join(dir, "slow"))
	os.Symlink("fast", filepath.Join(dir, "fast"))
	f, _ := os.Create(filepath.Join(dir, "holes"))
	for i := range 40 {
		f.WriteAt([]byte("piece"), int64(i)*9000)
	}
	f.Close()
	d := image(t, 1024, append([]string{"-d", dir, "-N", "128"}, args...)...)
	// The entries get an index by our own hands, a file attributes, another a list of
	// orphans.
	m := mount(t, d, false)
	big, err := m.Root().Make("big", vfs.NewNode{Type: vfs.TypeDir, Mode: 0o755})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, err := big.Make(fmt.Sprintf("%d%s", i, strings.Repeat("z", 60)), vfs.NewNode{Type: vfs.TypeFile}); err != nil {
			t.Fatal(err)
		}
	}
	n := m.at("holes")
	n.XAttr().Set("user.small", []byte("value"), 0)
	n.XAttr().Set("user.big", bytes.Repeat([]byte("v"), 500), 0)
	m.unmount()
	return d.b
}

// exercise mounts what there is and does a bit of everything. Only clear errors may
// come of it.
func exercise(t testing.TB, d *disk, ro bool) {
	m, err := tryMount(t, d, ro)
	if err != nil {
		var e syscall.Errno
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), "ext4") && len(err.Error()) < 8 {
			t.Errorf("mount: %v", err)
		}
		return
	}
	seen := map[uint64]bool{}
	var walk func(n vfs.Node, depth int)
	walk = func(n vfs.Node, depth int) {
		a, err := n.Attr()
		if err != nil || seen[a.Ino] || len(seen) > 400 {
			return
		}
		seen[a.Ino] = true
		if list, err := n.XAttr().List(); err == nil {
			for _, k := range list {
				n.XAttr().Get(k)
			}
		}
		switch a.Type {
		case vfs.TypeLink:
			n.ReadLink()
		case vfs.TypeFile:
			f, err := n.Open(0)
			if err != nil {
				return
			}
			buf := vfs.Bytes{B: make([]byte, min(max(a.Size, 0), 1<<20))}
			f.Read(&buf, 0)
			f.Read(&vfs.Bytes{B: make([]byte, 4096)}, max(a.Size-4096, 0))
			f.(vfs.Seeker).SeekData(0, true)
			f.Close()
			if !ro {
				writeAt(n, []byte("some new contents"), a.Size/2)
				n.SetAttr(vfs.SetSize, vfs.Attr{Size: a.Size / 3})
			}
		case vfs.TypeDir:
			var kids []string
			n.ReadDir(0, func(e vfs.DirEntry, _ int64) bool {
				kids = append(kids, e.Name)
				return len(kids) < 300
			})
			for _, k := range kids {
				if kid, err := n.Lookup(k); err == nil && depth < 6 {
					walk(kid, depth+1)
				}
			}
			if !ro && depth < 3 {
				n.Make("made", vfs.NewNode{Type: vfs.TypeFile, Mode: 0o600})
				n.Make("made-dir", vfs.NewNode{Type: vfs.TypeDir, Mode: 0o700})
				if len(kids) > 2 {
					n.Rename(kids[0], n, "renamed", 0)
					n.Remove(kids[1], false)
				}
			}
		}
	}
	walk(m.Root(), 0)
	m.Sync()
	m.Unmount()
}

// Broken file systems give errors: no panic, no endless loop.
func TestCorruption(t *testing.T) {
	needTools(t)
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	if *long {
		rounds = 20000
	}
	sorts := [][]string{
		{"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit,^has_journal"},
		{"-t", "ext4", "-b", "1024", "-O", "metadata_csum,inline_data,^has_journal", "-I", "256"},
	}
	for k, args := range sorts {
		base := smallImage(t, args...)
		used := usedBlocks(base)
		r := rand.New(rand.NewPCG(uint64(k), 3))
		for n := range rounds {
			b := bytes.Clone(base)
			for range 1 + r.IntN(4) {
				at := used[r.IntN(len(used))]<<10 + r.IntN(1024)
				if r.IntN(4) == 0 {
					at = 1024 + r.IntN(300) // the superblock
				}
				switch r.IntN(4) {
				case 0:
					b[at] ^= 1 << r.IntN(8)
				case 1:
					b[at] = byte(r.Uint32())
				case 2:
					binary.LittleEndian.PutUint32(b[at&^3:], []uint32{0, 1, 0xffffffff, 0x7fffffff, r.Uint32N(1100)}[r.IntN(5)])
				case 3:
					src := used[r.IntN(len(used))] << 10
					n := 1 << r.IntN(10)
					copy(b[at&^1023:][:n], b[src:src+n])
				}
			}
			if k == 1 {
				resum(b)
			}
			watched(t, fmt.Sprintf("%d/%d", k, n), b, n%2 == 0)
		}
	}
}

// watched is exercise with an eye on the time.
func watched(t testing.TB, name string, b []byte, ro bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if e := recover(); e != nil {
				buf := make([]byte, 8192)
				os.WriteFile("/tmp/ext4-panic.img", b, 0o644)
				t.Errorf("%s: panic: %v\n%s", name, e, buf[:runtime.Stack(buf, false)])
			}
		}()
		exercise(t, &disk{b: bytes.Clone(b)}, ro)
	}()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		os.WriteFile("/tmp/ext4-hang.img", b, 0o644)
		buf := make([]byte, 1<<16)
		t.Fatalf("%s: hangs\n%s", name, buf[:runtime.Stack(buf, true)])
	}
	if t.Failed() {
		t.FailNow()
	}
}

// usedBlocks are the blocks of 1 KiB that are not empty.
func usedBlocks(b []byte) []int {
	var used []int
	for n := 1; n < len(b)>>10; n++ {
		if !bytes.Equal(b[n<<10:(n+1)<<10], make([]byte, 1024)) {
			used = append(used, n)
		}
	}
	return used
}

// resum makes the superblock's checksum right again, so that more than that is looked
// at.
func resum(b []byte) {
	binary.LittleEndian.PutUint32(b[1024+sbChecksum:], crc32c(^uint32(0), b[1024:1024+sbChecksum]))
}

func FuzzMount(f *testing.F) {
	needTools(f)
	base := smallImage(f, "-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit,^has_journal")
	f.Add([]byte{0, 5, 1, 2, 3, 4})
	f.Add(bytes.Repeat([]byte{1, 8, 9, 255}, 6))
	used := usedBlocks(base)
	f.Fuzz(func(t *testing.T, edits []byte) {
		b := bytes.Clone(base)
		for ; len(edits) >= 4; edits = edits[4:] {
			n := int(edits[0])
			b[used[n%len(used)]<<10+int(edits[1])<<2+int(edits[2]&3)] = edits[3]
		}
		watched(t, "fuzz", b, true)
		watched(t, "fuzz", b, false)
	})
}

// The same with a journal that is to be replayed, and broken.
func TestCorruptJournal(t *testing.T) {
	needTools(t)
	rounds := 150
	if testing.Short() {
		rounds = 40
	}
	if *long {
		rounds = 5000
	}
	for k, features := range []string{"^metadata_csum,^64bit", "metadata_csum,64bit"} {
		d := image(t, 4<<10, "-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "128", "-O", features)
		m := mount(t, d, false)
		for n := range 40 {
			f := mk(t, m.Root(), fmt.Sprint("f", n), vfs.TypeFile)
			writeAt(f, []byte("contents"), 0)
			if n%3 == 0 {
				m.Root().Remove(fmt.Sprint("f", n), false)
			}
			if n%8 == 0 {
				m.Sync()
			}
		}
		m.Sync()
		base := bytes.Clone(d.b)
		if m.journal.tail == 0 {
			t.Fatal("nothing is in the log")
		}
		start, n := int(m.journal.log.at(0))<<10, int(m.journal.head)<<10
		m.unmount()
		r := rand.New(rand.NewPCG(uint64(k), 8))
		for round := range rounds {
			b := bytes.Clone(base)
			for range 1 + r.IntN(5) {
				at := start + r.IntN(n)
				switch r.IntN(4) {
				case 0:
					at = start + r.IntN(96) // the journal's superblock
					b[at] = byte(r.Uint32())
				case 1:
					b[at] ^= 1 << r.IntN(8)
				case 2:
					at &^= 1023
					binary.BigEndian.PutUint32(b[at+4*r.IntN(8):], r.Uint32N(1200))
				case 3:
					copy(b[at&^1023:][:1024], b[start+r.IntN(n)&^1023:])
				}
			}
			watched(t, fmt.Sprintf("%s/%d", features, round), b, round%2 == 0)
			d := &disk{b: b, readOnly: true}
			if m, err := tryMount(t, d, true); err == nil {
				names(m.Root())
				m.Unmount()
			}
		}
	}
}
