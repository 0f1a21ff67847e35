package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/vfs"
)

// model is what a file system should hold: a tree of nodes.
type model struct {
	typ    vfs.Type
	data   []byte
	target string
	kids   map[string]*model
	links  int
	xattr  map[string]string
	synced []byte // contents at the last fsync, until the file changes
	stable bool
}

func newDir() *model { return &model{typ: vfs.TypeDir, kids: map[string]*model{}} }

// tracer makes random operations on a file system and on the model.
type tracer struct {
	t    testing.TB
	r    *rand.Rand
	m    *mounted
	root *model
	ops  []string
	most int // bytes of a file
	full bool
}

func (x *tracer) dirs() (paths []string, list []*model) {
	var walk func(path string, d *model)
	walk = func(path string, d *model) {
		paths, list = append(paths, path), append(list, d)
		for _, n := range sortedNames(d) {
			if k := d.kids[n]; k.typ == vfs.TypeDir {
				walk(path+"/"+n, k)
			}
		}
	}
	walk("", x.root)
	return
}

func sortedNames(d *model) []string {
	var all []string
	for n := range d.kids {
		all = append(all, n)
	}
	sort.Strings(all)
	return all
}

func (x *tracer) name() string {
	n := fmt.Sprintf("n%d", x.r.IntN(40))
	if x.r.IntN(3) == 0 {
		n += strings.Repeat("x", x.r.IntN(200))
	}
	return n
}

// pick returns some directory, and a name in it, mostly one that is there.
func (x *tracer) pick() (path string, d *model, name string) {
	paths, list := x.dirs()
	k := x.r.IntN(len(list))
	path, d = paths[k], list[k]
	if all := sortedNames(d); len(all) > 0 && x.r.IntN(4) > 0 {
		return path, d, all[x.r.IntN(len(all))]
	}
	return path, d, x.name()
}

func (x *tracer) bytes(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := x.r.Uint64() | 0x0101010101010101
		for k := 0; k < 8 && i+k < n; k++ {
			b[i+k] = byte(v >> (8 * k))
		}
	}
	return b
}

func (x *tracer) expect(what string, got, want error) bool {
	if got == syscall.ENOSPC && x.full {
		return false
	}
	if !errors.Is(got, want) {
		x.t.Fatalf("%s: %v, wanted %v\nlast operations:\n%s\n%q", what, got, want, strings.Join(x.ops[max(0, len(x.ops)-30):], "\n"), x.m.msgs)
	}
	return got == nil
}

func (x *tracer) note(format string, a ...any) { x.ops = append(x.ops, fmt.Sprintf(format, a...)) }

// step makes one operation.
func (x *tracer) step() {
	path, d, name := x.pick()
	dir := x.m.at(path)
	kid := d.kids[name]
	switch op := x.r.IntN(100); {
	case op < 18: // make
		n := vfs.NewNode{Type: vfs.TypeFile, Mode: 0o644}
		mk := &model{typ: vfs.TypeFile, links: 1}
		switch x.r.IntN(6) {
		case 0:
			n.Type, n.Mode = vfs.TypeDir, 0o755
			mk = newDir()
		case 1:
			n.Type, n.Mode = vfs.TypeLink, 0o777
			n.Target = string(bytes.Repeat([]byte("t"), 1+x.r.IntN(200)))
			mk.typ, mk.target = n.Type, n.Target
		}
		want := error(nil)
		if kid != nil {
			want = syscall.EEXIST
		}
		if n.Type == vfs.TypeFile && x.r.IntN(4) == 0 {
			x.makeNameless(dir, path, name, d, want)
			return
		}
		x.note("make %s/%s %#o", path, name, n.Type)
		_, err := dir.Make(name, n)
		if x.expect("make", err, want) {
			d.kids[name] = mk
		}
	case op < 45: // write
		if kid == nil || kid.typ != vfs.TypeFile {
			return
		}
		off := x.r.IntN(x.most)
		switch x.r.IntN(4) {
		case 0:
			off = len(kid.data)
		case 1:
			off = off &^ 4095
		}
		p := x.bytes(1 + x.r.IntN(x.most/4))
		x.note("write %s/%s %d at %d", path, name, len(p), off)
		err := writeAt(x.m.at(path+"/"+name), p, int64(off))
		if x.expect("write", err, nil) {
			kid.stable = false
			if n := off + len(p); n > len(kid.data) {
				kid.data = append(kid.data, make([]byte, n-len(kid.data))...)
			}
			copy(kid.data[off:], p)
		} else {
			kid.data, _ = readAll(x.m.at(path + "/" + name)) // a part, where there was no room
		}
	case op < 52: // truncate
		if kid == nil || kid.typ != vfs.TypeFile {
			return
		}
		n := x.r.IntN(x.most)
		if x.r.IntN(4) == 0 {
			n = 0
		}
		x.note("truncate %s/%s %d", path, name, n)
		kid.stable = false
		if x.expect("truncate", x.m.at(path+"/"+name).SetAttr(vfs.SetSize, vfs.Attr{Size: int64(n)}), nil) {
			if n <= len(kid.data) {
				kid.data = kid.data[:n:n]
			} else {
				kid.data = append(kid.data, make([]byte, n-len(kid.data))...)
			}
		}
	case op < 60: // fallocate
		if kid == nil || kid.typ != vfs.TypeFile {
			return
		}
		off, n := x.r.IntN(x.most), 1+x.r.IntN(x.most/2)
		mode := []uint32{0, fallocKeepSize, fallocKeepSize | fallocPunchHole, fallocZeroRange, fallocZeroRange | fallocKeepSize}[x.r.IntN(5)]
		x.note("fallocate %s/%s %#x %d at %d", path, name, mode, n, off)
		f, err := x.m.at(path + "/" + name).Open(2)
		x.expect("open", err, nil)
		err = f.(vfs.Allocator).Allocate(mode, int64(off), int64(n))
		f.Close()
		kid.stable = false
		if x.expect("fallocate", err, nil) {
			if mode&(fallocPunchHole|fallocZeroRange) != 0 && off < len(kid.data) {
				clear(kid.data[off:min(off+n, len(kid.data))])
			}
			if mode&fallocKeepSize == 0 && off+n > len(kid.data) {
				kid.data = append(kid.data, make([]byte, off+n-len(kid.data))...)
			}
		} else {
			kid.data, _ = readAll(x.m.at(path + "/" + name))
		}
	case op < 70: // remove
		asDir := x.r.IntN(2) == 0
		if kid != nil && x.r.IntN(8) > 0 {
			asDir = kid.typ == vfs.TypeDir
		}
		want := error(nil)
		switch {
		case kid == nil:
			want = syscall.ENOENT
		case asDir && kid.typ != vfs.TypeDir:
			want = syscall.ENOTDIR
		case !asDir && kid.typ == vfs.TypeDir:
			want = syscall.EISDIR
		case asDir && len(kid.kids) > 0:
			want = syscall.ENOTEMPTY
		}
		x.note("remove %s/%s", path, name)
		if x.expect("remove", dir.Remove(name, asDir), want) {
			delete(d.kids, name)
			kid.links--
		}
	case op < 82: // rename
		topath, to, toname := x.pick()
		if kid != nil && kid.typ == vfs.TypeDir && strings.HasPrefix(topath+"/", path+"/"+name+"/") {
			return // the caller sees to that
		}
		there := to.kids[toname]
		flags := uint32(0)
		if x.r.IntN(4) == 0 {
			flags = renameExchange
			if there != nil && there.typ == vfs.TypeDir && strings.HasPrefix(path+"/", topath+"/"+toname+"/") {
				return
			}
		}
		if there != nil && strings.HasPrefix(path+"/", topath+"/"+toname+"/") {
			return
		}
		want := error(nil)
		switch {
		case kid == nil || flags == renameExchange && there == nil:
			want = syscall.ENOENT
		case kid == there || flags == renameExchange || there == nil:
		case there.typ == vfs.TypeDir && kid.typ != vfs.TypeDir:
			want = syscall.EISDIR
		case there.typ != vfs.TypeDir && kid.typ == vfs.TypeDir:
			want = syscall.ENOTDIR
		case len(there.kids) > 0:
			want = syscall.ENOTEMPTY
		}
		x.note("rename %s/%s to %s/%s %d", path, name, topath, toname, flags)
		if x.expect("rename", dir.Rename(name, x.m.at(topath), toname, flags), want) && kid != there {
			if flags == renameExchange {
				d.kids[name], to.kids[toname] = there, kid
			} else {
				delete(d.kids, name)
				to.kids[toname] = kid
				if there != nil {
					there.links--
				}
			}
		}
	case op < 86: // link
		topath, to, toname := x.pick()
		if kid == nil || kid.typ == vfs.TypeDir {
			return
		}
		want := error(nil)
		if to.kids[toname] != nil {
			want = syscall.EEXIST
		}
		x.note("link %s/%s as %s/%s", path, name, topath, toname)
		if x.expect("link", x.m.at(topath).Link(toname, x.m.at(path+"/"+name)), want) {
			to.kids[toname] = kid
			kid.links++
		}
	case op < 92: // attributes
		if kid == nil || kid.typ == vfs.TypeLink {
			return
		}
		key := fmt.Sprintf("user.k%d", x.r.IntN(6))
		a := x.m.at(path + "/" + name).XAttr()
		_, had := kid.xattr[key]
		if x.r.IntN(3) == 0 {
			want := error(nil)
			if !had {
				want = syscall.ENODATA
			}
			x.note("remove attribute %s of %s/%s", key, path, name)
			if x.expect("removexattr", a.Remove(key), want) {
				delete(kid.xattr, key)
			}
			return
		}
		v := string(bytes.Repeat([]byte{byte('a' + x.r.IntN(26))}, x.r.IntN(120)))
		x.note("attribute %s of %s/%s, %d bytes", key, path, name, len(v))
		if x.expect("setxattr", a.Set(key, []byte(v), 0), nil) {
			if kid.xattr == nil {
				kid.xattr = map[string]string{}
			}
			kid.xattr[key] = v
		}
	case op < 96: // fsync
		if kid == nil || kid.typ != vfs.TypeFile {
			return
		}
		x.note("fsync %s/%s", path, name)
		f, err := x.m.at(path + "/" + name).Open(0)
		x.expect("open", err, nil)
		if x.expect("fsync", f.Sync(x.r.IntN(2) == 0), nil) {
			kid.synced, kid.stable = bytes.Clone(kid.data), true
		}
		f.Close()
	case op < 97:
		x.note("sync")
		x.expect("sync", x.m.Sync(), nil)
	default: // read
		if kid == nil || kid.typ != vfs.TypeFile {
			return
		}
		got, err := readAll(x.m.at(path + "/" + name))
		if x.expect("read", err, nil) && !bytes.Equal(got, kid.data) {
			x.fail(path+"/"+name, got, kid.data)
		}
	}
}

// makeNameless makes a file without a name, writes to it, gives it one, or not, and
// closes it.
func (x *tracer) makeNameless(dir vfs.Node, path, name string, d *model, want error) {
	p := x.bytes(1 + x.r.IntN(x.most/4))
	linked := x.r.IntN(3) > 0
	x.note("make without a name in %s, %d bytes, then %s %v", path, len(p), name, linked)
	n, err := dir.(vfs.TmpFiler).TmpFile(vfs.NewNode{Type: vfs.TypeFile, Mode: 0o600})
	if !x.expect("tmpfile", err, nil) {
		return
	}
	f, err := n.Open(syscall.O_RDWR)
	if !x.expect("open", err, nil) {
		return
	}
	defer f.Close()
	wrote := x.expect("write", writeAt(n, p, 0), nil)
	if a, err := n.Attr(); err != nil || a.Nlink != 0 {
		x.t.Fatalf("%d links, %v", a.Nlink, err)
	}
	if !linked || !x.expect("link", dir.Link(name, n), want) {
		return
	}
	if !wrote {
		p, _ = readAll(n)
	}
	d.kids[name] = &model{typ: vfs.TypeFile, links: 1, data: p}
}

func (x *tracer) fail(path string, got, want []byte) {
	x.t.Helper()
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	x.t.Fatalf("%s: %d bytes, wanted %d, differ at %d\nlast operations:\n%s", path, len(got), len(want), at, strings.Join(x.ops[max(0, len(x.ops)-40):], "\n"))
}

// check compares a mounted file system with the model.
func (x *tracer) check(m *mounted, path string, d *model) {
	x.t.Helper()
	n := m.at(path)
	got, err := names(n)
	if err != nil {
		x.t.Fatalf("%s: %v", path, err)
	}
	delete(got, "lost+found")
	var have []string
	for n := range got {
		have = append(have, n)
	}
	sort.Strings(have)
	if want := sortedNames(d); !slices.Equal(have, want) {
		x.t.Fatalf("%s holds %q, wanted %q\n%s", path, have, want, strings.Join(x.ops, "\n"))
	}
	for name, k := range d.kids {
		p := path + "/" + name
		n := m.at(p)
		a, err := n.Attr()
		if err != nil || a.Type != k.typ || a.Ino != got[name].Ino || got[name].Type != k.typ {
			x.t.Fatalf("%s: %+v, %v", p, a, err)
		}
		for key, want := range k.xattr {
			if v, err := n.XAttr().Get(key); err != nil || string(v) != want {
				x.t.Fatalf("%s: %s: %q, wanted %q, %v", p, key, v, want, err)
			}
		}
		if list, err := n.XAttr().List(); err != nil || len(list) != len(k.xattr) {
			x.t.Fatalf("%s: attributes %q, wanted %d, %v", p, list, len(k.xattr), err)
		}
		switch k.typ {
		case vfs.TypeDir:
			sub := 2
			for _, c := range k.kids {
				if c.typ == vfs.TypeDir {
					sub++
				}
			}
			if int(a.Nlink) != sub {
				x.t.Fatalf("%s: %d links, wanted %d", p, a.Nlink, sub)
			}
			x.check(m, p, k)
		case vfs.TypeLink:
			if s, err := n.ReadLink(); err != nil || s != k.target || int(a.Nlink) != k.links {
				x.t.Fatalf("%s: %q, %v, %d links", p, s, err, a.Nlink)
			}
		case vfs.TypeFile:
			b, err := readAll(n)
			if err != nil {
				x.t.Fatalf("%s: %v", p, err)
			}
			if int(a.Nlink) != k.links {
				x.t.Fatalf("%s: %d links, wanted %d", p, a.Nlink, k.links)
			}
			if !bytes.Equal(b, k.data) {
				x.fail(p, b, k.data)
			}
		}
	}
}

// Random operations give what the model says, also after the file system was mounted
// anew, and e2fsck finds nothing to say.
func TestTraces(t *testing.T) {
	needTools(t)
	traces, steps := 9, 250
	if testing.Short() {
		traces = 3
	}
	if *long {
		traces, steps = 200, 400
	}
	blank := map[string][]byte{}
	for n := range traces {
		f := features[n%len(features)]
		t.Run(fmt.Sprintf("%d-%s", n, f.name), func(t *testing.T) {
			if blank[f.name] == nil {
				blank[f.name] = image(t, f.kib, f.args...).b
			}
			d := &disk{b: bytes.Clone(blank[f.name]), noMem: n%2 == 0}
			x := &tracer{t: t, r: rand.New(rand.NewPCG(uint64(n), 7)), m: mount(t, d, false), root: newDir(), most: 60000, full: true}
			if n%3 == 0 {
				x.most = 400000
			}
			for k := range steps {
				x.step()
				if k == steps/2 {
					x.m.quiet()
					x.m.unmount()
					x.m = mount(t, d, false)
				}
			}
			x.check(x.m, "", x.root)
			x.m.quiet()
			x.m.unmount()
			fsck(t, d.b)
			d.readOnly = true
			m := mount(t, d, true)
			x.check(m, "", x.root)
			m.quiet()
			m.unmount()
		})
	}
}
