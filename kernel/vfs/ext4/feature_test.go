package ext4

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/vfs"
)

func mk(t testing.TB, dir vfs.Node, name string, typ vfs.Type) vfs.Node {
	t.Helper()
	n, err := dir.Make(name, vfs.NewNode{Type: typ, Mode: 0o755})
	if err != nil {
		t.Fatalf("make %s: %v", name, err)
	}
	return n
}

func TestHashesAreThoseOfDebugfs(t *testing.T) {
	needTools(t)
	names := []string{"a", "abc", "sixteen-bytes-ok", "seventeen-bytes-ok", strings.Repeat("x", 32), strings.Repeat("y", 33), strings.Repeat("long-name-", 20)}
	seed := [4]uint32{0x04030201, 0x08070605, 0x0c0b0a09, 0x100f0e0d}
	out := regexp.MustCompile(`is (0x[0-9a-f]+) \(minor (0x[0-9a-f]+)\)`)
	debugfs := func(alg, name string) string {
		said := tool(t, "debugfs", "-R", fmt.Sprintf("dx_hash -h %s -s 01020304-0506-0708-090a-0b0c0d0e0f10 %s", alg, name))
		m := out.FindStringSubmatch(said)
		if m == nil {
			t.Fatalf("debugfs says %q", said)
		}
		return m[1] + " " + m[2]
	}
	ours := func(version int, name string) string {
		h, ok := hashName(uint8(version), &seed, []byte(name))
		if !ok {
			t.Errorf("version %d is not known", version)
		}
		return fmt.Sprintf("%#x %#x", h.major, h.minor)
	}
	for v, alg := range []string{"legacy", "half_md4", "tea"} {
		for _, n := range names {
			want := debugfs(alg, n)
			for _, version := range []int{v, v + hashUnsigned} {
				if got := ours(version, n); got != want {
					t.Errorf("%s of %q: %s, wanted %s", alg, n, got, want)
				}
			}
		}
		// With other characters the two sorts differ, and debugfs knows one of them.
		const n = "h\xc3\xa9llo"
		signed, unsigned, want := ours(v, n), ours(v+hashUnsigned, n), debugfs(alg, n)
		if signed == unsigned || want != signed && want != unsigned {
			t.Errorf("%s of %q: %s and %s, wanted %s", alg, n, signed, unsigned, want)
		}
	}
	if _, ok := hashName(6, &seed, nil); ok {
		t.Error("version 6 is not known")
	}
}

// Directories whose index has two levels, with each hash.
func TestBigDirectories(t *testing.T) {
	needTools(t)
	count := 6000
	if testing.Short() {
		count = 2500
	}
	for k, alg := range []string{"half_md4", "tea", "legacy"} {
		d := image(t, 40<<10, "-t", "ext4", "-b", "1024", "-O", []string{"", "", "^metadata_csum"}[k], "-N", "20000")
		path := save(t, d.b)
		tool(t, "tune2fs", "-E", "hash_alg="+alg, path)
		d.b, _ = os.ReadFile(path)
		m := mount(t, d, false)
		dir := mk(t, m.Root(), "dir", vfs.TypeDir)
		target := mk(t, m.Root(), "file", vfs.TypeFile)
		name := func(k int) string { return fmt.Sprintf("entry-%d-%s", k, strings.Repeat("n", 60+k%90)) }
		for k := range count {
			var err error
			if k%50 == 0 {
				_, err = dir.Make(name(k), vfs.NewNode{Type: vfs.TypeDir, Mode: 0o700})
			} else {
				err = dir.Link(name(k), target)
			}
			if err != nil {
				t.Fatalf("%s: %v", name(k), err)
			}
		}
		if b, err := dir.(*inode).dirBlock(0); err != nil || b.data[dxInfo+6] != 1 || dir.(*inode).flags&flIndex == 0 {
			t.Errorf("%s: the index has not got two levels: %v", alg, err)
		}
		// Read it a few at a time, while names come and go.
		seen := map[string]int{}
		off, round := int64(0), 0
		for more := true; more; round++ {
			more = false
			n := 0
			err := dir.ReadDir(off, func(e vfs.DirEntry, next int64) bool {
				if n == 37 {
					more = true
					return false
				}
				n++
				off = next
				seen[e.Name]++
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := dir.Make(fmt.Sprintf("new-%d-%s", round, strings.Repeat("w", 200)), vfs.NewNode{Type: vfs.TypeFile}); err != nil {
				t.Fatal(err)
			}
		}
		for k := range count {
			if seen[name(k)] != 1 {
				t.Fatalf("%s: %s was told %d times", alg, name(k), seen[name(k)])
			}
			if _, err := dir.Lookup(name(k)); err != nil {
				t.Fatalf("%s: %v", name(k), err)
			}
		}
		m.quiet()
		m.unmount()
		fsck(t, d.b)
		m = mount(t, d, false)
		dir = m.at("dir")
		if err := m.Root().Remove("dir", true); err != syscall.ENOTEMPTY {
			t.Errorf("%v", err)
		}
		for k := range count {
			if err := dir.Remove(name(k), k%50 == 0); err != nil {
				t.Fatalf("remove %s: %v", name(k), err)
			}
		}
		for k := range round {
			dir.Remove(fmt.Sprintf("new-%d-%s", k, strings.Repeat("w", 200)), false)
		}
		if err := m.Root().Remove("dir", true); err != nil {
			t.Error(err)
		}
		m.quiet()
		m.unmount()
		fsck(t, d.b)
	}
}

// A file of so many pieces that its tree has several levels.
func TestDeepExtentTrees(t *testing.T) {
	needTools(t)
	d := image(t, 40<<10, "-t", "ext4", "-b", "1024")
	m := mount(t, d, false)
	n := mk(t, m.Root(), "file", vfs.TypeFile)
	f, _ := n.Open(2)
	pieces := 9000
	if testing.Short() {
		pieces = 3000
	}
	want := make([]byte, pieces*2048)
	for k := range pieces {
		at := (k * 7919 % pieces) * 2048
		// One block of two: fallocate gives each an extent.
		if err := f.(vfs.Allocator).Allocate(0, int64(at), 1024); err != nil {
			t.Fatal(err)
		}
		if k%3 == 0 {
			p := []byte(fmt.Sprintf("piece %d", k))
			copy(want[at:], p)
			if _, _, err := f.Write(&vfs.Bytes{B: p}, int64(at), false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if depth := n.(*inode).root().depth(); depth < 2 {
		t.Errorf("tree of depth %d", depth)
	}
	a, _ := n.Attr()
	want = want[:a.Size]
	check := func() {
		t.Helper()
		got, err := readAll(m.at("file"))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if err := f.Sync(false); err != nil {
		t.Fatal(err)
	}
	check()
	f.Close()
	m.unmount()
	fsck(t, d.b)
	m = mount(t, d, false)
	check()
	f, _ = m.at("file").Open(2)
	for k := 0; k < pieces; k += 5 {
		if err := f.(vfs.Allocator).Allocate(fallocKeepSize|fallocPunchHole, int64(k*2048), 8192); err != nil {
			t.Fatal(err)
		}
		clear(want[min(k*2048, len(want)):min(k*2048+8192, len(want))])
	}
	check()
	f.Close()
	for _, size := range []int{len(want) / 2, 5000, 0} {
		if err := m.at("file").SetAttr(vfs.SetSize, vfs.Attr{Size: int64(size)}); err != nil {
			t.Fatal(err)
		}
		want = want[:size]
		check()
		m.unmount()
		fsck(t, d.b)
		m = mount(t, d, false)
	}
	if a, _ := m.at("file").Attr(); a.Blocks != 0 {
		t.Errorf("%d sectors are left", a.Blocks)
	}
	m.quiet()
	m.unmount()
}

// A file that is deleted while it is open lives on; after a crash it is gone.
func TestOrphans(t *testing.T) {
	needTools(t)
	for _, f := range features[:4] {
		if strings.Contains(f.name, "nojournal") {
			continue
		}
		d := image(t, f.kib, f.args...)
		m := mount(t, d, false)
		var open []vfs.File
		for k := range 5 {
			name := fmt.Sprint("file", k)
			n := mk(t, m.Root(), name, vfs.TypeFile)
			writeAt(n, bytes.Repeat([]byte(name), 3000), 0)
			n.XAttr().Set("user.big", make([]byte, 800), 0)
			h, err := n.Open(2)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, h)
			if err := m.Root().Remove(name, false); err != nil {
				t.Fatal(err)
			}
			got, err := readAll(n)
			if err != nil || len(got) != 3000*len(name) {
				t.Errorf("a deleted file: %d bytes, %v", len(got), err)
			}
		}
		open[2].Close() // from the middle of the list
		if err := m.Sync(); err != nil {
			t.Fatal(err)
		}
		st, _ := m.StatFS()
		crash := &disk{b: bytes.Clone(d.b)}
		m2 := mount(t, crash, false)
		if st2, _ := m2.StatFS(); st2.Ffree != st.Ffree+4 || st2.Bfree <= st.Bfree {
			t.Errorf("%s: free %d blocks and %d inodes, before the crash %d and %d", f.name, st2.Bfree, st2.Ffree, st.Bfree, st.Ffree)
		}
		m2.quiet()
		m2.unmount()
		fsck(t, crash.b)
		for k, h := range open {
			if k != 2 {
				h.Close()
			}
		}
		m.quiet()
		m.unmount()
		fsck(t, d.b)
	}
}

// A file without a name is an orphan until it has one: a crash takes it away, a link
// keeps it, and the end of the last open file ends it.
func TestNamelessFiles(t *testing.T) {
	needTools(t)
	for _, f := range features[:4] {
		if strings.Contains(f.name, "nojournal") {
			continue
		}
		d := image(t, f.kib, f.args...)
		m := mount(t, d, false)
		root := m.Root()
		if _, err := mk(t, root, "plain", vfs.TypeFile).(vfs.TmpFiler).TmpFile(vfs.NewNode{Type: vfs.TypeFile}); err != syscall.ENOTDIR {
			t.Errorf("in a file: %v", err)
		}
		var nodes []vfs.Node
		var open []vfs.File
		for k := range 3 {
			n, err := root.(vfs.TmpFiler).TmpFile(vfs.NewNode{Type: vfs.TypeFile, Mode: 0o640, UID: 7, GID: 8})
			if err != nil {
				t.Fatal(err)
			}
			h, err := n.Open(2)
			if err != nil {
				t.Fatal(err)
			}
			if err := writeAt(n, bytes.Repeat([]byte{byte('a' + k)}, 5000), 0); err != nil {
				t.Fatal(err)
			}
			if a, err := n.Attr(); err != nil || a.Nlink != 0 || a.Mode != 0o640 || a.UID != 7 || a.GID != 8 || a.Size != 5000 {
				t.Fatalf("%+v, %v", a, err)
			}
			nodes, open = append(nodes, n), append(open, h)
		}
		if err := root.Link("kept", nodes[1]); err != nil {
			t.Fatal(err)
		}
		if err := nodes[1].SetAttr(vfs.SetSize, vfs.Attr{Size: 4000}); err != nil {
			t.Fatal(err)
		}
		if err := m.Sync(); err != nil {
			t.Fatal(err)
		}
		st, _ := m.StatFS()
		crash := &disk{b: bytes.Clone(d.b)}
		m2 := mount(t, crash, false)
		if st2, _ := m2.StatFS(); st2.Ffree != st.Ffree+2 {
			t.Errorf("%s: %d inodes are free, %d before the crash", f.name, st2.Ffree, st.Ffree)
		}
		if p, err := readAll(m2.at("/kept")); err != nil || !bytes.Equal(p, bytes.Repeat([]byte("b"), 4000)) {
			t.Errorf("%s: %d bytes are kept, %v", f.name, len(p), err)
		}
		m2.quiet()
		m2.unmount()
		fsck(t, crash.b)
		for _, h := range open {
			h.Close()
		}
		if err := root.Link("late", nodes[0]); err != syscall.ENOENT {
			t.Errorf("link of a closed file: %v", err)
		}
		if st2, _ := m.StatFS(); st2.Ffree != st.Ffree+2 {
			t.Errorf("%s: %d inodes are free, %d while they were open", f.name, st2.Ffree, st.Ffree)
		}
		m.quiet()
		m.unmount()
		fsck(t, d.b)
	}
}

// Journals that debugfs wrote, with each sort of checksum.
func TestReplaysJournalsOfDebugfs(t *testing.T) {
	needTools(t)
	for _, v := range []struct{ name, features, opt string }{
		{"none", "^metadata_csum,^64bit", ""},
		{"v1", "^metadata_csum,64bit", ""},
		{"v2", "metadata_csum,64bit", "-c -v 2"},
		{"v3", "metadata_csum,64bit", "-c -v 3"},
		{"v3-32bit", "metadata_csum,^64bit", "-c -v 3"},
	} {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "victim"), bytes.Repeat([]byte("old "), 2048), 0o644)
		d := image(t, 8<<10, "-t", "ext4", "-b", "4096", "-O", v.features, "-d", dir)
		path := save(t, d.b)
		var first, second int
		said := tool(t, "debugfs", "-R", "blocks /victim", path)
		lines := strings.Fields(said)
		fmt.Sscan(lines[len(lines)-2]+" "+lines[len(lines)-1], &first, &second)
		if second != first+1 {
			t.Fatalf("debugfs says %q", said)
		}
		block := func(text string) string {
			p := filepath.Join(t.TempDir(), "block")
			os.WriteFile(p, bytes.Repeat([]byte(text), 4096/len(text)), 0o644)
			return p
		}
		magic := block("\xc0\x3b\x39\x98")
		cmds := filepath.Join(t.TempDir(), "cmds")
		// The second block's new contents are revoked by a later transaction.
		os.WriteFile(cmds, []byte(strings.Join([]string{
			"jo " + v.opt,
			fmt.Sprintf("jw -b %d %s", first, block("one ")),
			fmt.Sprintf("jw -b %d %s", first, magic),
			fmt.Sprintf("jw -b %d %s", second, block("bad ")),
			fmt.Sprintf("jw -r %d", second),
			"jc",
		}, "\n")+"\n"), 0o644)
		if said := tool(t, "debugfs", "-w", "-f", cmds, path); strings.Contains(said, "rror") {
			t.Fatalf("debugfs: %s", said)
		}
		b, _ := os.ReadFile(path)
		want := append(bytes.Repeat([]byte("\xc0\x3b\x39\x98"), 1024), bytes.Repeat([]byte("old "), 1024)...)
		for _, ro := range []bool{true, false} {
			d := &disk{b: bytes.Clone(b), readOnly: ro}
			m := mount(t, d, ro)
			if got, err := readAll(m.at("victim")); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %.20q … %.20q, %v", v.name, len(got), got, got[4096:], err)
			}
			m.quiet()
			m.unmount()
			if !ro {
				fsck(t, d.b)
			}
		}
	}
}

// What was written is read back by debugfs.
func TestDebugfsReadsIt(t *testing.T) {
	needTools(t)
	for _, f := range features {
		d := image(t, f.kib, f.args...)
		m := mount(t, d, false)
		a := mk(t, m.Root(), "a", vfs.TypeDir)
		want := bytes.Repeat([]byte("0123456789"), 12345)
		writeAt(mk(t, a, "data", vfs.TypeFile), want, 70000)
		a.Make("slow", vfs.NewNode{Type: vfs.TypeLink, Target: strings.Repeat("t", 300)})
		mk(t, a, "pipe", vfs.TypePipe)
		a.Make("dev", vfs.NewNode{Type: vfs.TypeChar, Mode: 0o600, Rdev: makedev(1, 3)})
		a.Make("bigdev", vfs.NewNode{Type: vfs.TypeBlock, Mode: 0o600, Rdev: makedev(300, 70000)})
		a.XAttr().Set("user.name", []byte("value"), 0)
		if at, _ := m.at("a/bigdev").Attr(); at.Rdev != makedev(300, 70000) {
			t.Errorf("rdev %#x", at.Rdev)
		}
		m.unmount()
		path := save(t, d.b)
		out := filepath.Join(t.TempDir(), "out")
		tool(t, "debugfs", "-R", "dump /a/data "+out, path)
		got, _ := os.ReadFile(out)
		if !bytes.Equal(got, append(make([]byte, 70000), want...)) {
			t.Errorf("%s: debugfs reads %d bytes", f.name, len(got))
		}
		for cmd, want := range map[string]string{
			"stat /a/slow":         "Type: symlink",
			"stat /a/dev":          "01:03",
			"stat /a/bigdev":       "300:70000",
			"ea_get /a user.name":  "value",
			"stat /a/data":         "Size: 193450",
			"htree_dump /a":        "",
			"ls /a":                "pipe",
			"testi <12>":           "",
			"show_super_stats -h":  "clean",
			"icheck 1000":          "",
			"stat <2>":             "Type: directory",
			"ncheck 12":            "",
			"dirsearch /a data":    "",
			"logdump -a":           "",
			"ex /a/data":           "",
			"bmap /a/data 0":       "0",
			"lsdel":                "0 deleted inodes found",
			"imap /a":              "Inode",
			"dump_unused":          "",
			"inode_dump <2>":       "",
			"block_dump 1":         "",
			"get_quota user 0":     "",
			"list_quota user":      "",
			"supported_features x": "",
		} {
			if said, _ := run1("debugfs", "-R", cmd, path); !strings.Contains(said, want) {
				t.Errorf("%s: debugfs %s says %q, wanted %q", f.name, cmd, said, want)
			}
		}
		fsck(t, d.b)
	}
}

func TestInlineData(t *testing.T) {
	needTools(t)
	dir := t.TempDir()
	for _, n := range []int{0, 10, 60, 61, 120, 150} {
		os.WriteFile(filepath.Join(dir, fmt.Sprint("f", n)), bytes.Repeat([]byte("i"), n), 0o644)
	}
	os.Mkdir(filepath.Join(dir, "sub"), 0o755)
	for k := range 5 {
		os.WriteFile(filepath.Join(dir, "sub", fmt.Sprint("entry", k)), nil, 0o644)
	}
	d := image(t, 8<<10, "-t", "ext4", "-b", "4096", "-I", "256", "-O", "inline_data", "-d", dir)
	m := mount(t, d, false)
	if m.at("f120").(*inode).flags&flInline == 0 || m.at("sub").(*inode).flags&flInline == 0 {
		t.Skip("this mke2fs makes no inline data")
	}
	compare(t, m, dir)
	for _, n := range []int{0, 10, 60, 61, 120, 150} {
		p := filepath.Join(dir, fmt.Sprint("f", n))
		if n%20 == 0 {
			os.Truncate(p, int64(n/2))
			if err := m.at(filepath.Base(p)).SetAttr(vfs.SetSize, vfs.Attr{Size: int64(n / 2)}); err != nil {
				t.Error(err)
			}
		} else {
			f, _ := os.OpenFile(p, os.O_WRONLY, 0)
			f.WriteAt([]byte("written"), int64(n)+5)
			f.Close()
			if err := writeAt(m.at(filepath.Base(p)), []byte("written"), int64(n)+5); err != nil {
				t.Error(err)
			}
		}
	}
	sub := m.at("sub")
	if err := sub.Remove("entry1", false); err != nil {
		t.Error(err)
	}
	os.Remove(filepath.Join(dir, "sub/entry1"))
	mk(t, sub, "fresh", vfs.TypeFile)
	os.WriteFile(filepath.Join(dir, "sub/fresh"), nil, 0o755)
	for n, node := range map[string]vfs.Node{"f10": m.at("f10"), "f61": m.at("f61")} {
		if node.(*inode).flags&flInline != 0 {
			t.Errorf("%s is still inline", n)
		}
	}
	m.quiet()
	m.unmount()
	fsck(t, d.b)
	m = mount(t, d, true)
	for _, n := range []string{"f0", "f10", "f60", "f61", "f120", "f150"} {
		want, _ := os.ReadFile(filepath.Join(dir, n))
		if got, err := readAll(m.at(n)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, wanted %q, %v", n, got, want, err)
		}
	}
	if got, err := names(m.at("sub")); err != nil || len(got) != 5 {
		t.Errorf("%v, %v", got, err)
	}
	m.unmount()
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }
