package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/vfs"
)

func TestNoSpace(t *testing.T) {
	needTools(t)
	d := image(t, 4<<10, "-t", "ext4", "-b", "1024", "-N", "64", "-J", "size=1")
	m := mount(t, d, false)
	f := mk(t, m.Root(), "fill", vfs.TypeFile)
	h, _ := f.Open(2)
	big := make([]byte, 4<<20)
	n, _, err := h.Write(&vfs.Bytes{B: big}, 0, false)
	if n == 0 || n == len(big) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if _, _, err := h.Write(&vfs.Bytes{B: big}, int64(n), false); err != syscall.ENOSPC {
		t.Errorf("%v", err)
	}
	if err := h.Sync(false); err != nil {
		t.Errorf("what was taken must have room: %v", err)
	}
	if err := h.(vfs.Allocator).Allocate(0, 8<<20, 1<<20); err != syscall.ENOSPC {
		t.Errorf("fallocate: %v", err)
	}
	var e error
	for k := 0; e == nil; k++ {
		_, e = m.Root().Make(fmt.Sprint("inode", k), vfs.NewNode{Type: vfs.TypeFile})
	}
	if e != syscall.ENOSPC {
		t.Error(e)
	}
	// What is freed can be had again at once.
	if err := f.SetAttr(vfs.SetSize, vfs.Attr{}); err != nil {
		t.Fatal(err)
	}
	if n2, _, err := h.Write(&vfs.Bytes{B: big}, 0, false); n2 < n-(64<<10) || err != nil {
		t.Errorf("%d, then %d, %v", n, n2, err)
	}
	h.Close()
	m.quiet()
	m.unmount()
	fsck(t, d.b)
}

func TestLinkLimits(t *testing.T) {
	needTools(t)
	for _, nlink := range []string{"dir_nlink", "^dir_nlink"} {
		d := image(t, 8<<10, "-t", "ext4", "-O", nlink)
		m := mount(t, d, false)
		dir := mk(t, m.Root(), "dir", vfs.TypeDir)
		file := mk(t, dir, "file", vfs.TypeFile)
		dir.(*inode).links = linkMax - 1
		file.(*inode).links = linkMax - 1
		if err := dir.Link("second", file); err != nil {
			t.Error(err)
		}
		if err := dir.Link("third", file); err != syscall.EMLINK {
			t.Error(err)
		}
		mk(t, dir, "sub1", vfs.TypeDir)
		_, err := dir.Make("sub2", vfs.NewNode{Type: vfs.TypeDir})
		a, _ := dir.Attr()
		if nlink[0] == '^' {
			if err != syscall.EMLINK || a.Nlink != linkMax {
				t.Errorf("%v, %d", err, a.Nlink)
			}
		} else if err != nil || a.Nlink != 1 {
			t.Errorf("%v, %d", err, a.Nlink)
		}
		file.(*inode).links, dir.(*inode).links = 2, 3
		if nlink[0] != '^' {
			dir.(*inode).links++
		}
		m.unmount()
		fsck(t, d.b)
	}
}

func TestErrnos(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4")
	m := mount(t, d, false)
	dir := mk(t, m.Root(), "dir", vfs.TypeDir)
	file := mk(t, m.Root(), "file", vfs.TypeFile)
	link, _ := m.Root().Make("link", vfs.NewNode{Type: vfs.TypeLink, Target: "x"})
	pipe := mk(t, m.Root(), "pipe", vfs.TypePipe)
	long := strings.Repeat("n", 256)
	open := func(n vfs.Node, flags int) error { _, err := n.Open(flags); return err }
	other := mount(t, image(t, 4<<10, "-t", "ext4"), false)
	h, _ := file.Open(2)
	for k, c := range []struct{ got, want error }{
		{file.Link("x", pipe), syscall.ENOTDIR},
		{dir.Link("x", m.Root()), syscall.EPERM},
		{dir.Link("x", other.Root()), syscall.EXDEV},
		{dir.Link(long, file), syscall.ENAMETOOLONG},
		{dir.Rename("x", other.Root(), "y", 0), syscall.EXDEV},
		{dir.Rename("x", file, "y", 0), syscall.ENOTDIR},
		{dir.Rename("x", dir, long, 0), syscall.ENAMETOOLONG},
		{m.Root().Rename("file", dir, "y", 8), syscall.EINVAL},
		{m.Root().Rename("file", m.Root(), "dir", renameNoReplace), syscall.EEXIST},
		{m.Root().Rename("file", m.Root(), "nothing", renameExchange), syscall.ENOENT},
		{second(file.Lookup("x")), syscall.ENOTDIR},
		{second(dir.Lookup(long)), syscall.ENAMETOOLONG},
		{second(dir.Make(long, vfs.NewNode{Type: vfs.TypeFile})), syscall.ENAMETOOLONG},
		{second(dir.Make("l", vfs.NewNode{Type: vfs.TypeLink})), syscall.ENOENT},
		{second(dir.Make("l", vfs.NewNode{Type: vfs.TypeLink, Target: strings.Repeat("t", 4096)})), syscall.ENAMETOOLONG},
		{second(file.ReadLink()), syscall.EINVAL},
		{file.ReadDir(0, nil), syscall.ENOTDIR},
		{dir.ReadDir(-1, nil), syscall.EINVAL},
		{file.Remove("x", false), syscall.ENOTDIR},
		{open(dir, 2), syscall.EISDIR},
		{open(link, 0), syscall.ELOOP},
		{open(pipe, 0), syscall.ENXIO},
		{dir.SetAttr(vfs.SetSize, vfs.Attr{}), syscall.EISDIR},
		{file.SetAttr(vfs.SetSize, vfs.Attr{Size: -1}), syscall.EINVAL},
		{file.SetAttr(vfs.SetSize, vfs.Attr{Size: 1 << 62}), syscall.EFBIG},
		{second(file.XAttr().Get("user.none")), syscall.ENODATA},
		{second(file.XAttr().Get("strange.name")), syscall.EOPNOTSUPP},
		{file.XAttr().Set("user.x", nil, xattrReplace), syscall.ENODATA},
		{file.XAttr().Set("strange.x", nil, 0), syscall.EOPNOTSUPP},
		{file.XAttr().Set("user."+long, nil, 0), syscall.ERANGE},
		{file.XAttr().Set("user.x", make([]byte, 70000), 0), syscall.E2BIG},
		{file.XAttr().Set("user.x", make([]byte, 5000), 0), syscall.ENOSPC},
		{file.XAttr().Remove("user.x"), syscall.ENODATA},
		{file.XAttr().Set("system.posix_acl_access", []byte("junk"), 0), syscall.EINVAL},
		{h.(vfs.Allocator).Allocate(0, 0, 0), syscall.EINVAL},
		{h.(vfs.Allocator).Allocate(0, 1<<62, 5), syscall.EFBIG},
		{h.(vfs.Allocator).Allocate(fallocPunchHole, 0, 5), syscall.EINVAL},
		{h.(vfs.Allocator).Allocate(8, 0, 5), syscall.EOPNOTSUPP},
		{third(h.Write(&vfs.Bytes{B: []byte("x")}, -1, false)), syscall.EINVAL},
		{third(h.Write(&vfs.Bytes{B: []byte("x")}, 1<<62, false)), syscall.EFBIG},
		{second(h.(vfs.Mapper).PageAt(0, false)), syscall.EFBIG},
		{second(h.(vfs.Seeker).SeekData(0, false)), syscall.ENXIO},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("case %d: %v, wanted %v", k, c.got, c.want)
		}
	}
	// An access control list comes back as it was given.
	acl := le.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 7, 0xffffffff}, {2, 5, 1000}, {4, 5, 0xffffffff}, {16, 5, 0xffffffff}, {32, 0, 0xffffffff}} {
		acl = le.AppendUint16(le.AppendUint16(acl, uint16(e[0])), uint16(e[1]))
		acl = le.AppendUint32(acl, e[2])
	}
	if err := file.XAttr().Set("system.posix_acl_access", acl, xattrCreate); err != nil {
		t.Error(err)
	}
	if got, err := file.XAttr().Get("system.posix_acl_access"); err != nil || !bytes.Equal(got, acl) {
		t.Errorf("%x, wanted %x, %v", got, acl, err)
	}
	if err := file.XAttr().Set("system.posix_acl_access", acl, xattrCreate); err != syscall.EEXIST {
		t.Error(err)
	}
	h.Close()
	m.quiet()
	m.unmount()
	other.unmount()
	fsck(t, d.b)

	// Nothing changes in a file system that is read-only.
	m = mount(t, d, true)
	for k, c := range []struct{ got error }{
		{second(m.Root().Make("x", vfs.NewNode{Type: vfs.TypeFile}))},
		{m.Root().Remove("file", false)},
		{m.Root().Rename("file", m.Root(), "y", 0)},
		{m.at("file").SetAttr(vfs.SetMode, vfs.Attr{})},
		{m.at("file").XAttr().Set("user.x", nil, 0)},
		{open(m.at("file"), 1)},
	} {
		if c.got != syscall.EROFS {
			t.Errorf("case %d: %v", k, c.got)
		}
	}
	m.unmount()
}

func TestMountRefusals(t *testing.T) {
	needTools(t)
	for _, c := range []struct{ feature, want string }{
		{"bigalloc", ""}, {"quota", ""}, {"project,quota", ""}, {"encrypt", "encrypt"}, {"large_dir", "large_dir"}, {"casefold", "casefold"}, {"mmp", ""}, {"ea_inode", ""}, {"verity", ""},
	} {
		d := image(t, 16<<10, "-t", "ext4", "-I", "256", "-O", c.feature)
		m, err := tryMount(t, d, false)
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.feature, err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.feature, err)
		default:
			if st, _ := m.StatFS(); !st.ReadOnly || len(m.msgs) != 1 {
				t.Errorf("%s: %+v, %q", c.feature, st, m.msgs)
			}
			if _, err := names(m.Root()); err != nil {
				t.Error(err)
			}
			m.unmount()
		}
	}
	if _, err := tryMount(t, &disk{b: make([]byte, 1<<20)}, false); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if _, err := tryMount(t, &disk{b: make([]byte, 100)}, false); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
}

// A file of more than 2 GiB in a file system that has had none, sparse, and its
// directory of more than one block without an index.
func TestLargeFiles(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4", "-b", "4096", "-O", "^large_file,^dir_index")
	path := save(t, d.b)
	tool(t, "debugfs", "-w", "-R", "feature -large_file", path)
	d.b, _ = os.ReadFile(path)
	m := mount(t, d, false)
	for k := range 60 {
		mk(t, m.Root(), fmt.Sprintf("%d%s", k, strings.Repeat("d", 200)), vfs.TypeFile)
	}
	f := mk(t, m.Root(), "large", vfs.TypeFile)
	if err := writeAt(f, []byte("far out"), 5<<30); err != nil {
		t.Fatal(err)
	}
	if err := writeAt(f, []byte("farther"), 16<<40-4096-7); err != nil {
		t.Fatal(err)
	}
	if err := writeAt(f, []byte("x"), 16<<40); err != syscall.EFBIG {
		t.Error(err)
	}
	m.unmount()
	fsck(t, d.b)
	m = mount(t, d, false)
	h, _ := m.at("large").Open(0)
	b := vfs.Bytes{B: make([]byte, 7)}
	if n, err := h.Read(&b, 5<<30); n != 7 || err != nil || string(b.B) != "far out" {
		t.Error(n, err, b.B)
	}
	if at, err := h.(vfs.Seeker).SeekData(6<<30, false); err != nil || at != 16<<40-8192 {
		t.Error(at, err)
	}
	h.Close()
	n := 0
	m.Root().ReadDir(0, func(e vfs.DirEntry, next int64) bool { n++; return true })
	if n != 62 {
		t.Errorf("%d names", n)
	}
	m.unmount()
}

// Linux keeps orphans in a file, with the feature for that; they are dealt with, and
// the file is emptied.
func TestOrphanFile(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4", "-b", "1024", "-O", "orphan_file")
	m := mount(t, d, false)
	if m.sb.compat&compatOrphanFile == 0 {
		t.Skip("this mke2fs makes no orphan file")
	}
	free, _ := m.StatFS()
	gone, cut := mk(t, m.Root(), "gone", vfs.TypeFile).(*inode), mk(t, m.Root(), "cut", vfs.TypeFile).(*inode)
	writeAt(gone, make([]byte, 50000), 0)
	writeAt(cut, make([]byte, 50000), 0)
	m.Sync()
	// What Linux leaves behind when the power goes: no name, or a smaller size, and the
	// numbers in the file.
	h, err := m.begin(50)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := m.root.lookup("gone")
	m.root.leave(h, p, "gone")
	gone.links, cut.size = 0, 5000
	h.inode(gone, true)
	h.inode(cut, true)
	k := 0
	file, _ := m.anyInode(m.sb.u32(sbOrphanFileIno), 0)
	err = m.eachOrphanBlock(func(b *buf) error {
		h.change(b)
		if k++; k == 2 {
			le.PutUint32(b.data[40:], gone.ino)
			le.PutUint32(b.data[80:], cut.ino)
		}
		n := len(b.data)
		le.PutUint32(b.data[n-4:], crc32c(crc32c64(file.seed, b.no), b.data[:n-8]))
		return nil
	})
	if err != nil || k < 2 {
		t.Fatal(k, err)
	}
	m.sb.roCompat |= roOrphans
	le.PutUint32(m.sb.raw[sbROCompat:], m.sb.roCompat)
	h.superChanged()
	h.end()
	m.journal.sync()
	crash := &disk{b: bytes.Clone(d.b)}
	m = mount(t, crash, false)
	if st, _ := m.StatFS(); st.Ffree != free.Ffree-1 {
		t.Errorf("%d free inodes, before %d", st.Ffree, free.Ffree)
	}
	if a, _ := m.at("cut").Attr(); a.Size != 5000 || a.Blocks != 10 {
		t.Errorf("%+v", a)
	}
	if m.sb.roCompat&roOrphans != 0 {
		t.Error("the feature is still there")
	}
	m.quiet()
	m.unmount()
	fsck(t, crash.b)
}

// A list of orphans that is broken is left to e2fsck, and nothing is written.
func TestBrokenOrphanList(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4", "-b", "1024", "-O", "^metadata_csum")
	le.PutUint32(d.b[1024+sbLastOrphan:], 5000)
	m := mount(t, d, false)
	if st, _ := m.StatFS(); !st.ReadOnly || len(m.msgs) != 1 || !strings.Contains(m.msgs[0], "5000") {
		t.Errorf("%+v, %q", st, m.msgs)
	}
	m.unmount()
}

// Files that are immutable, or only to be appended to, stay.
func TestImmutableAndAppendOnly(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4")
	m := mount(t, d, false)
	for _, flag := range []uint32{flImmutable, flAppend} {
		n := mk(t, m.Root(), fmt.Sprint("file", flag), vfs.TypeFile)
		dir := mk(t, m.Root(), fmt.Sprint("dir", flag), vfs.TypeDir)
		mk(t, dir, "kid", vfs.TypeFile)
		n.(*inode).flags |= flag
		dir.(*inode).flags |= flag
		name := fmt.Sprint("file", flag)
		_, err := n.Open(2)
		_, err2 := n.Open(2 | syscall.O_APPEND)
		if flag == flAppend {
			if err2 != nil {
				t.Error(err2)
			}
			err2 = syscall.EPERM
		}
		for k, got := range []error{
			err, err2, m.Root().Remove(name, false), m.Root().Rename(name, m.Root(), "other", 0), m.Root().Link("other", n),
			n.SetAttr(vfs.SetMode, vfs.Attr{}), n.SetAttr(vfs.SetSize, vfs.Attr{}), dir.Rename("kid", m.Root(), "kid", 0),
		} {
			if got != syscall.EPERM {
				t.Errorf("flag %#x, case %d: %v", flag, k, got)
			}
		}
	}
	m.unmount()
}
