package ext4

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"osv/kernel/vfs"
)

// promise is contents that a power cut may not change: what was synced, and not
// touched by any write of the log from index from to index until.
type promise struct {
	path        string
	node        *model
	data        []byte
	from, until int
}

// whole is the same of the whole tree, after sync.
type whole struct {
	root        *model
	from, until int
}

func (d *model) clone() *model {
	c := *d
	c.data = bytes.Clone(d.data)
	c.xattr = map[string]string{}
	for k, v := range d.xattr {
		c.xattr[k] = v
	}
	if d.kids != nil {
		c.kids = map[string]*model{}
		for n, k := range d.kids {
			c.kids[n] = k.clone()
		}
	}
	return &c
}

// A power cut after any write leaves a file system that a mount, or e2fsck, makes
// whole, with all that was synced in it.
func TestPowerCuts(t *testing.T) {
	needTools(t)
	traces, steps, cuts := 4, 60, 12
	if testing.Short() {
		traces, cuts = 2, 6
	}
	if *long {
		traces, steps, cuts = 50, 90, 1<<30
	}
	sorts := []struct {
		name string
		args []string
		kib  int
	}{
		{"1k", []string{"-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256"}, 6 << 10},
		{"4k", []string{"-t", "ext4", "-b", "4096", "-N", "256", "-J", "size=4"}, 10 << 10},
		{"nocsum", []string{"-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256", "-O", "^metadata_csum,^64bit,^flex_bg"}, 6 << 10},
		{"inline", []string{"-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256", "-O", "inline_data", "-g", "2048"}, 6 << 10},
	}
	for n := range traces {
		s := sorts[n%len(sorts)]
		t.Run(fmt.Sprintf("%d-%s", n, s.name), func(t *testing.T) {
			base := image(t, s.kib, s.args...).b
			d := &disk{b: bytes.Clone(base), record: true}
			x := &tracer{t: t, r: rand.New(rand.NewPCG(uint64(n), 99)), m: mount(t, d, false), root: newDir(), most: 20000, full: true}
			promises, trees := x.record(d, steps)
			x.check(x.m, "", x.root)
			x.m.unmount()
			fsck(t, d.b)
			log := d.log
			r := rand.New(rand.NewPCG(uint64(n), 5))
			var at []int // boundaries of writes, and some places inside of one
			for k, a := range log {
				if a.first || r.IntN(10) == 0 {
					at = append(at, k)
				}
			}
			at = append(at, len(log))
			step := max(len(at)/cuts, 1)
			for k := r.IntN(step); k < len(at); k += step {
				cutAt(t, base, log, at[k], r, promises, trees)
			}
		})
	}
}

// record makes the steps and notes what must survive from when on.
func (x *tracer) record(d *disk, steps int) (promises []*promise, trees []*whole) {
	now := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.log)
	}
	end := func(p *int, at int) {
		if *p == 0 {
			*p = at
		}
	}
	for range steps {
		before, ops := now(), len(x.ops)
		x.step()
		if len(x.ops) == ops {
			continue // it only read
		}
		for _, w := range trees {
			end(&w.until, before)
		}
		op := x.ops[len(x.ops)-1]
		moves := op[:3] == "ren" || op[:3] == "rem"
		for _, p := range promises {
			if moves || !p.node.stable {
				end(&p.until, before)
			}
		}
		switch op[:4] {
		case "fsyn":
			path := op[len("fsync "):]
			p := &promise{path: path, node: x.find(path), from: now()}
			p.data = p.node.synced
			promises = append(promises, p)
		case "sync":
			trees = append(trees, &whole{root: x.root.clone(), from: now()})
		}
		if x.r.IntN(12) == 0 { // as the timer does
			x.m.journal.sync()
		}
	}
	last := now()
	for _, p := range promises {
		end(&p.until, last)
	}
	for _, w := range trees {
		end(&w.until, last)
	}
	return promises, trees
}

// A block that held metadata and then a file's data is not overwritten by what the
// journal has of it.
func TestRevokedBlocksAreNotReplayed(t *testing.T) {
	needTools(t)
	for _, args := range [][]string{
		{"-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256"},
		{"-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256", "-O", "^metadata_csum,^64bit"},
	} {
		base := image(t, 4<<10, args...).b
		d := &disk{b: bytes.Clone(base), record: true}
		m := mount(t, d, false)
		dir, err := m.Root().Make("dir", vfs.NewNode{Type: vfs.TypeDir, Mode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		name := func(k int) string { return fmt.Sprintf("%d-%s", k, strings.Repeat("n", 100)) }
		for k := range 100 {
			if _, err := dir.Make(name(k), vfs.NewNode{Type: vfs.TypeLink, Target: "to"}); err != nil {
				t.Fatal(err)
			}
		}
		m.Sync()
		for k := range 100 {
			if err := dir.Remove(name(k), false); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Root().Remove("dir", true); err != nil {
			t.Fatal(err)
		}
		m.Sync()
		if m.journal.tail == 0 {
			t.Fatal("the journal was emptied: the test shows nothing")
		}
		n, err := m.Root().Make("file", vfs.NewNode{Type: vfs.TypeFile, Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		f, _ := n.Open(2)
		want := bytes.Repeat([]byte("new data"), 512<<10)
		k, _, _ := f.Write(&vfs.Bytes{B: want}, 0, false)
		if k < 2<<20 || k == len(want) {
			t.Fatalf("%d bytes were written", k)
		}
		if err := f.Sync(false); err != nil {
			t.Fatal(err)
		}
		cut := bytes.Clone(d.b)
		check := func(b []byte) {
			t.Helper()
			m := mount(t, &disk{b: b}, false)
			if got, err := readAll(m.at("file")); err != nil || !bytes.Equal(got, want[:k]) {
				t.Errorf("%d bytes, wanted %d, %v", len(got), k, err)
			}
			m.unmount()
			fsck(t, b)
		}
		check(bytes.Clone(cut))
		path := save(t, cut)
		run1("e2fsck", "-p", path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		check(b)
		f.Close()
		m.unmount()
	}
}

func (x *tracer) find(path string) *model {
	d := x.root
	for _, part := range bytes.Split([]byte(path), []byte("/")) {
		if len(part) > 0 {
			d = d.kids[string(part)]
		}
	}
	return d
}

// cutAt is a power cut before write k: what was flushed before is there, of the rest
// all, nothing or some.
func cutAt(t *testing.T, base []byte, log []access, k int, r *rand.Rand, promises []*promise, trees []*whole) {
	flushed := 0
	for n := range k {
		if log[n].data == nil {
			flushed = n
		}
	}
	img := bytes.Clone(base)
	how := r.IntN(3)
	for n, a := range log[:k] {
		if n < flushed || how == 0 || how == 1 && r.IntN(2) == 0 {
			copy(img[a.off:], a.data)
		}
	}
	lose := func(b []byte, what string) {
		os.WriteFile("/tmp/ext4-cut.img", img, 0o644)
		t.Fatalf("power cut before write %d of %d (flushed up to %d, way %d): %s", k, len(log), flushed, how, what)
	}
	// Our own mount brings it in order.
	d := &disk{b: bytes.Clone(img)}
	m, err := tryMount(t, d, false)
	if err != nil {
		lose(img, err.Error())
	}
	x := &tracer{t: t, m: m}
	for _, p := range promises {
		if p.from <= k && k <= p.until && p.from <= flushed+1 {
			got, err := m.walk(p.path)
			var b []byte
			if err == nil {
				b, err = readAll(got)
			}
			if err != nil || !bytes.Equal(b, p.data) {
				lose(img, fmt.Sprintf("%s was synced: %d bytes, wanted %d, %v", p.path, len(b), len(p.data), err))
			}
		}
	}
	for _, w := range trees {
		if w.from <= k && k <= w.until && w.from <= flushed+1 {
			x.check(m, "", w.root)
		}
	}
	m.quiet()
	m.unmount()
	path := save(t, d.b)
	if out, err := run1("e2fsck", "-f", "-n", path); err != nil {
		lose(img, "after our mount: "+out)
	}
	os.Remove(path)
	// And so does e2fsck.
	path = save(t, img)
	defer os.Remove(path)
	if out, err := run1("e2fsck", "-p", path); err != nil && !bytes.Contains([]byte(err.Error()), []byte("status 1")) {
		lose(img, "e2fsck -p: "+out)
	}
	if out, err := run1("e2fsck", "-f", "-n", path); err != nil {
		lose(img, "after e2fsck -p: "+out)
	}
}
