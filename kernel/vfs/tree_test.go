package vfs_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

// world is a tree of tmpfs with a context of user 0.
func world(t testing.TB, opt vfs.Options) (*vfs.Tree, *vfs.Context) {
	t.Helper()
	tree := vfs.NewTreeOptions(tmpfs.New(tmpfs.Options{Mode: 0o755}), opt)
	return tree, vfs.NewContext(tree, vfs.RootCreds())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err error, e syscall.Errno) {
	t.Helper()
	if e == 0 && err != nil || e != 0 && err != e {
		t.Errorf("%s: %v, want %v", what, err, e)
	}
}

func walk(t testing.TB, c *vfs.Context, path string) vfs.Path {
	t.Helper()
	p, err := vfs.Walk(c, vfs.Path{}, path, vfs.Follow)
	if err != nil {
		t.Fatalf("walk %s: %v", path, err)
	}
	return p
}

func mkdirs(t testing.TB, c *vfs.Context, paths ...string) {
	t.Helper()
	for _, p := range paths {
		must(t, vfs.MkdirAt(c, vfs.Path{}, p, 0o755))
	}
}

func put(t testing.TB, c *vfs.Context, path, text string) {
	t.Helper()
	must(t, vfs.WriteFile(c, path, []byte(text), 0o644))
}

func get(t testing.TB, c *vfs.Context, path string) string {
	t.Helper()
	b, err := vfs.ReadFile(c, path)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return string(b)
}

func TestMounts(t *testing.T) {
	tree, c := world(t, vfs.Options{Source: "/dev/vda"})
	mkdirs(t, c, "/mnt", "/bind", "/mnt/below")
	put(t, c, "/mnt/hidden", "h")
	fs := tmpfs.New(tmpfs.Options{})
	m, err := tree.Mount("tmpfs", fs, walk(t, c, "/mnt"), vfs.MountNoSuid|vfs.MountNoDev)
	must(t, err)
	if m.FS() != vfs.FileSystem(fs) || m.ID() == 0 {
		t.Error("the mount does not tell what it is")
	}
	_, err = vfs.ReadFile(c, "/mnt/hidden")
	want(t, "what the mount hides", err, syscall.ENOENT)
	put(t, c, "/mnt/x", "one")
	mkdirs(t, c, "/mnt/d", "/mnt/d/e")
	c.Dirs.SetCwd(walk(t, c, "/mnt/d/e"))
	if s, err := c.Getcwd(); s != "/mnt/d/e" || err != nil {
		t.Errorf("getcwd %q %v", s, err)
	}
	if p := walk(t, c, "../../.."); p != tree.Root() {
		t.Error("../../.. does not lead across the mount to the root")
	}
	want(t, "unmount with a working directory in it", tree.Unmount(walk(t, c, "/mnt"), false), syscall.EBUSY)
	c.Dirs.SetCwd(tree.Root())
	o, err := vfs.OpenAt(c, vfs.Path{}, "/mnt/x", syscall.O_RDONLY, 0, 0)
	must(t, err)
	want(t, "unmount with an open file", tree.Unmount(walk(t, c, "/mnt"), false), syscall.EBUSY)
	must(t, o.Close())
	want(t, "second close", o.Close(), syscall.EBADF)
	want(t, "unmount of no mount", tree.Unmount(walk(t, c, "/mnt/d"), false), syscall.EINVAL)
	want(t, "unmount of the root", tree.Unmount(tree.Root(), false), syscall.EBUSY)

	// Names of another file system, and of a mount point.
	want(t, "rename across", vfs.RenameAt(c, vfs.Path{}, "/mnt/x", vfs.Path{}, "/x", 0), syscall.EXDEV)
	want(t, "link across", vfs.LinkAt(c, vfs.Path{}, "/mnt/x", vfs.Path{}, "/x", 0), syscall.EXDEV)
	want(t, "rmdir of a mount point", vfs.UnlinkAt(c, vfs.Path{}, "/mnt", true), syscall.EBUSY)
	want(t, "rename of a mount point", vfs.RenameAt(c, vfs.Path{}, "/mnt", vfs.Path{}, "/m2", 0), syscall.EBUSY)
	_, err = vfs.Walk(c, vfs.Path{}, "/mnt/x", vfs.NoXDev)
	want(t, "NoXDev", err, syscall.EXDEV)

	// Binds.
	must(t, tree.Bind(walk(t, c, "/mnt/d"), walk(t, c, "/bind"), false))
	put(t, c, "/bind/e/f", "two")
	if s := get(t, c, "/mnt/d/e/f"); s != "two" {
		t.Errorf("through the bind: %q", s)
	}
	want(t, "unmount with the bind", tree.Unmount(walk(t, c, "/mnt"), false), 0)
	if s := get(t, c, "/bind/e/f"); s != "two" {
		t.Errorf("the bind after its mount went: %q", s)
	}
	if s := get(t, c, "/mnt/hidden"); s != "h" {
		t.Errorf("what the mount hid: %q", s)
	}
	var lines []string
	for _, m := range tree.Mounts(tree.Root()) {
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s", m.Source, m.Point, m.Root, m.Type, m.Flags.Options()))
	}
	if g := strings.Join(lines, "\n"); g != "/dev/vda / / tmpfs rw\ntmpfs /bind /d tmpfs rw,nosuid,nodev" {
		t.Errorf("mounts:\n%s", g)
	}
	// A file over a file, but not over a directory.
	put(t, c, "/a", "A")
	put(t, c, "/b", "B")
	must(t, tree.Bind(walk(t, c, "/a"), walk(t, c, "/b"), false))
	if s := get(t, c, "/b"); s != "A" {
		t.Errorf("a file bound over another: %q", s)
	}
	want(t, "file over directory", tree.Bind(walk(t, c, "/a"), walk(t, c, "/mnt"), false), syscall.ENOTDIR)
	must(t, tree.Unmount(walk(t, c, "/b"), false))
	must(t, tree.Sync())
	must(t, tree.Shutdown())
}

func TestRecursiveBindAndDetach(t *testing.T) {
	tree, c := world(t, vfs.Options{})
	mkdirs(t, c, "/a", "/b")
	_, err := tree.Mount("1", tmpfs.New(tmpfs.Options{}), walk(t, c, "/a"), 0)
	must(t, err)
	mkdirs(t, c, "/a/in")
	_, err = tree.Mount("2", tmpfs.New(tmpfs.Options{}), walk(t, c, "/a/in"), 0)
	must(t, err)
	put(t, c, "/a/in/f", "x")
	must(t, tree.Bind(walk(t, c, "/a"), walk(t, c, "/b"), true))
	if s := get(t, c, "/b/in/f"); s != "x" {
		t.Errorf("below a recursive bind: %q", s)
	}
	want(t, "unmount with a mount below", tree.Unmount(walk(t, c, "/b"), false), syscall.EBUSY)
	want(t, "detach", tree.Unmount(walk(t, c, "/b"), true), 0)
	_, err = vfs.ReadFile(c, "/b/in/f")
	want(t, "after detach", err, syscall.ENOENT)
	if s := get(t, c, "/a/in/f"); s != "x" {
		t.Errorf("the original: %q", s)
	}
}

func TestReadOnlyAndNoExec(t *testing.T) {
	tree, c := world(t, vfs.Options{})
	put(t, c, "/f", "x")
	must(t, vfs.Chmod(c, walk(t, c, "/f"), 0o755))
	mkdirs(t, c, "/d")
	must(t, tree.Remount(tree.Root(), vfs.MountReadOnly|vfs.MountNoExec))
	none := vfs.Path{}
	_, err := vfs.OpenAt(c, none, "/f", syscall.O_WRONLY, 0, 0)
	want(t, "open for writing", err, syscall.EROFS)
	_, err = vfs.OpenAt(c, none, "/new", syscall.O_WRONLY|syscall.O_CREAT, 0o644, 0)
	want(t, "create", err, syscall.EROFS)
	_, err = vfs.OpenAt(c, none, "/", vfs.OTmpfile|syscall.O_RDWR, 0o600, 0)
	want(t, "O_TMPFILE", err, syscall.EROFS)
	want(t, "mkdir", vfs.MkdirAt(c, none, "/e", 0o755), syscall.EROFS)
	want(t, "mkdir of what is there", vfs.MkdirAt(c, none, "/d", 0o755), syscall.EEXIST)
	want(t, "unlink", vfs.UnlinkAt(c, none, "/f", false), syscall.EROFS)
	want(t, "rename", vfs.RenameAt(c, none, "/f", none, "/g", 0), syscall.EROFS)
	want(t, "link", vfs.LinkAt(c, none, "/f", none, "/g", 0), syscall.EROFS)
	want(t, "symlink", vfs.SymlinkAt(c, "x", none, "/g"), syscall.EROFS)
	p := walk(t, c, "/f")
	want(t, "chmod", vfs.Chmod(c, p, 0), syscall.EROFS)
	want(t, "chown", vfs.Chown(c, p, 1, 1), syscall.EROFS)
	want(t, "truncate", vfs.Truncate(c, p, 0), syscall.EROFS)
	want(t, "utimes", vfs.Utimes(c, p, nil, nil, false), syscall.EROFS)
	want(t, "setxattr", vfs.SetXAttr(c, p, "user.x", nil, 0), syscall.EROFS)
	want(t, "access", vfs.AccessAt(c, none, "/f", vfs.MayWrite, vfs.Follow), syscall.EROFS)
	want(t, "access for execution", vfs.AccessAt(c, none, "/f", vfs.MayExec, vfs.Follow), syscall.EACCES)
	_, err = vfs.OpenExec(c, none, "/f", vfs.Follow)
	want(t, "exec", err, syscall.EACCES)
	if s, err := vfs.StatFSOf(p); err != nil || !s.ReadOnly || !s.NoExec || s.Magic != tmpfs.Magic {
		t.Errorf("statfs %+v %v", s, err)
	}
	want(t, "remount of another place", tree.Remount(p, 0), syscall.EINVAL)
	must(t, tree.Remount(tree.Root(), 0))
	o, err := vfs.OpenExec(c, none, "/f", vfs.Follow)
	must(t, err)
	must(t, o.Close())
	_, err = vfs.OpenExec(c, none, "/d", vfs.Follow)
	want(t, "exec of a directory", err, syscall.EACCES)
}

// A walk over names that the cache has, and readlink of what is no link, allocate
// nothing: a Java program does tens of thousands.
func TestWalkAllocatesNothing(t *testing.T) {
	_, c := world(t, vfs.Options{})
	mkdirs(t, c, "/usr", "/usr/lib", "/usr/lib/jvm")
	put(t, c, "/usr/lib/jvm/modules", "x")
	must(t, vfs.SymlinkAt(c, "usr/lib", vfs.Path{}, "/lib"))
	var a vfs.Attr
	for _, test := range []struct {
		what string
		f    func() error
		err  error
	}{
		{"walk", func() error {
			_, err := vfs.Walk(c, vfs.Path{}, "/usr/lib/../lib/./jvm/modules", vfs.Follow)
			return err
		}, nil},
		{"walk by a link", func() error { _, err := vfs.Walk(c, vfs.Path{}, "/lib/jvm/modules", vfs.Follow); return err }, nil},
		{"walk to nothing", func() error { _, err := vfs.Walk(c, vfs.Path{}, "/usr/lib/nothing", vfs.Follow); return err }, syscall.ENOENT},
		{"readlink", func() error { _, err := vfs.ReadlinkAt(c, vfs.Path{}, "/usr/lib/jvm"); return err }, syscall.EINVAL},
		{"readlink of a link", func() error { _, err := vfs.ReadlinkAt(c, vfs.Path{}, "/lib"); return err }, nil},
		{"stat", func() (err error) { a, _, err = vfs.StatAt(c, vfs.Path{}, "/usr/lib/jvm/modules", 0); return }, nil},
		{"access", func() error { return vfs.AccessAt(c, vfs.Path{}, "/lib/jvm/modules", vfs.MayRead, vfs.Follow) }, nil},
	} {
		test.f()
		if n := testing.AllocsPerRun(100, func() {
			if err := test.f(); err != test.err {
				t.Errorf("%s: %v, want %v", test.what, err, test.err)
			}
		}); n != 0 {
			t.Errorf("%s allocates %v times", test.what, n)
		}
	}
	u := vfs.UserCreds(7, 7)
	c.Creds = u
	if n := testing.AllocsPerRun(100, func() { vfs.Walk(c, vfs.Path{}, "/lib/jvm/modules", vfs.Follow) }); n != 0 {
		t.Errorf("walk of another user allocates %v times", n)
	}
	_ = a
}

// What the cache lets go of while somebody has it is found again: there is never a
// second dentry of one name. What nobody has is forgotten.
func TestCacheIsBounded(t *testing.T) {
	tree, c := world(t, vfs.Options{Dentries: 32})
	mkdirs(t, c, "/keep")
	put(t, c, "/keep/file", "x")
	dir, file := walk(t, c, "/keep"), walk(t, c, "/keep/file")
	for i := range 500 {
		put(t, c, fmt.Sprintf("/keep/n%d", i), "")
		vfs.Walk(c, vfs.Path{}, fmt.Sprintf("/missing%d", i), 0)
	}
	if s := tree.CacheStats(); s.Held > s.Limit || s.Limit != 32 {
		t.Errorf("the cache holds %d of %d", s.Held, s.Limit)
	}
	if walk(t, c, "/keep") != dir || walk(t, c, "/keep/file") != file {
		t.Error("a second dentry of a name that is in use")
	}
	must(t, vfs.RenameAt(c, vfs.Path{}, "/keep", vfs.Path{}, "/moved", 0))
	if s := tree.PathString(tree.Root(), file); s != "/moved/file" {
		t.Errorf("after a rename of its directory: %q", s)
	}
	runtime.KeepAlive(dir)
	runtime.GC()
	runtime.GC()
	for i := range 500 {
		walk(t, c, fmt.Sprintf("/moved/n%d", i))
	}
	if s := tree.CacheStats(); s.Held > s.Limit || s.Misses == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPathStrings(t *testing.T) {
	tree, c := world(t, vfs.Options{})
	mkdirs(t, c, "/jail", "/jail/in", "/out", "/gone")
	put(t, c, "/out/f", "x")
	f := walk(t, c, "/out/f")
	if s := tree.PathString(tree.Root(), f); s != "/out/f" {
		t.Errorf("%q", s)
	}
	must(t, vfs.UnlinkAt(c, vfs.Path{}, "/out/f", false))
	if s := tree.PathString(tree.Root(), f); s != "/out/f (deleted)" {
		t.Errorf("%q", s)
	}
	j := c.Fork(false)
	defer j.Close()
	j.Dirs.SetRoot(walk(t, c, "/jail"))
	j.Dirs.SetCwd(walk(t, c, "/jail/in"))
	if s, _ := j.Getcwd(); s != "/in" {
		t.Errorf("in a jail: %q", s)
	}
	if p := walk(t, j, "../../../.."); p != walk(t, c, "/jail") {
		t.Error("the way out of a jail is open")
	}
	if s := tree.PathString(j.Root(), f); s != "(unreachable)/out/f (deleted)" {
		t.Errorf("%q", s)
	}
	j.Dirs.SetCwd(walk(t, c, "/out"))
	if s, _ := j.Getcwd(); s != "(unreachable)/out" {
		t.Errorf("%q", s)
	}
	j.Dirs.SetCwd(walk(t, c, "/gone"))
	must(t, vfs.UnlinkAt(c, vfs.Path{}, "/gone", true))
	_, err := j.Getcwd()
	want(t, "getcwd in a removed directory", err, syscall.ENOENT)
	want(t, "mkdir in a removed directory", vfs.MkdirAt(j, vfs.Path{}, "x", 0o755), syscall.ENOENT)
	want(t, "readdir of a removed directory", vfs.ReadDir(j.Cwd(), 0, nil), syscall.ENOENT)
	if p, err := tree.Anon(f.Node(), "pipe:[3]"); err != nil || tree.PathString(tree.Root(), p) != "pipe:[3]" {
		t.Errorf("a path outside the tree: %v %v", p, err)
	}
}

func TestSharedDirs(t *testing.T) {
	_, c := world(t, vfs.Options{})
	mkdirs(t, c, "/a", "/b")
	s, f := c.Fork(true), c.Fork(false)
	c.Dirs.SetCwd(walk(t, c, "/a"))
	if s.Cwd() != c.Cwd() || f.Cwd() == c.Cwd() {
		t.Error("CLONE_FS shares the wrong way")
	}
	if old := s.Dirs.SetUmask(0o7077); old != 0o022 || c.Umask() != 0o077 || f.Umask() != 0o022 {
		t.Error("umask is shared the wrong way")
	}
	s.Unshare()
	s.Dirs.SetCwd(walk(t, c, "/b"))
	if s.Cwd() == c.Cwd() {
		t.Error("unshared, but the same")
	}
	for _, x := range []*vfs.Context{c, s, f} {
		x.Close()
	}
}

func TestReadDirPositions(t *testing.T) {
	tree, c := world(t, vfs.Options{})
	mkdirs(t, c, "/d", "/d/sub")
	for i := range 100 {
		put(t, c, fmt.Sprintf("/d/f%d", i), "")
	}
	p := walk(t, c, "/d")
	list := func(n int) (names []string) {
		for pos := int64(0); ; {
			k := 0
			must(t, vfs.ReadDir(p, pos, func(e vfs.DirEntry, next int64) bool {
				if k == n {
					return false
				}
				k++
				names, pos = append(names, e.Name), next
				return true
			}))
			if k == 0 {
				return names
			}
		}
	}
	all := list(1000)
	if len(all) != 103 || all[0] != "." || all[1] != ".." {
		t.Fatalf("%d names, %v first", len(all), all[:2])
	}
	for _, n := range []int{1, 2, 7} {
		if got := list(n); !slices.Equal(got, all) {
			t.Errorf("%d at a time: %v", n, got)
		}
	}
	var inos [2]uint64
	must(t, vfs.ReadDir(tree.Root(), 0, func(e vfs.DirEntry, next int64) bool {
		if next <= 2 {
			inos[next-1] = e.Ino
		}
		return true
	}))
	if inos[0] != inos[1] {
		t.Error(".. of the root is not the root")
	}
	want(t, "readdir of a file", vfs.ReadDir(walk(t, c, "/d/f1"), 0, nil), syscall.ENOTDIR)
	want(t, "negative position", vfs.ReadDir(p, -1, nil), syscall.EINVAL)
}

func TestHook(t *testing.T) {
	tree, c := world(t, vfs.Options{})
	names := map[vfs.Node]string{tree.Root().Node(): "/"}
	var got []string
	tree.SetHook(func(dir vfs.Node, name string, n vfs.Node, mask, cookie uint32) {
		where := "-"
		if dir != nil {
			where = names[dir] + ":" + name
		}
		got = append(got, fmt.Sprintf("%s %x %v", where, mask, cookie != 0))
	})
	expect := func(what string, lines ...string) {
		t.Helper()
		if !slices.Equal(got, lines) {
			t.Errorf("%s: %q, want %q", what, got, lines)
		}
		got = nil
	}
	none := vfs.Path{}
	must(t, vfs.MkdirAt(c, none, "/d", 0o755))
	expect("mkdir", "/:d 40000100 false")
	names[walk(t, c, "/d").Node()] = "d"
	o, err := vfs.OpenAt(c, none, "/d/f", syscall.O_CREAT|syscall.O_WRONLY, 0o644, 0)
	must(t, err)
	expect("create", "d:f 100 false", "d:f 20 false")
	must(t, o.Close())
	expect("close", "d:f 8 false")
	must(t, vfs.Chmod(c, walk(t, c, "/d/f"), 0o600))
	expect("chmod", "d:f 4 false")
	must(t, vfs.Truncate(c, walk(t, c, "/d/f"), 5))
	expect("truncate", "d:f 2 false")
	must(t, vfs.LinkAt(c, none, "/d/f", none, "/l", 0))
	expect("link", "d:f 4 false", "/:l 100 false")
	must(t, vfs.RenameAt(c, none, "/d/f", none, "/g", 0))
	expect("rename", "d:f 40 true", "/:g 80 true", "- 800 false")
	must(t, vfs.UnlinkAt(c, none, "/g", false))
	expect("unlink", "- 4 false", "/:g 200 false")
	must(t, vfs.UnlinkAt(c, none, "/l", false)) // the last name, and nobody has it open
	expect("last unlink", "- 4 false", "- 400 false", "/:l 200 false")
	o, err = vfs.OpenAt(c, none, "/d/x", syscall.O_CREAT|syscall.O_RDONLY, 0o644, 0)
	must(t, err)
	p, err := vfs.OpenAt(c, none, "/d/x", vfs.OPath, 0, 0)
	must(t, err)
	got = nil
	must(t, vfs.UnlinkAt(c, none, "/d/x", false))
	expect("unlink of an open file", "- 4 false", "d:x 200 false")
	must(t, o.Close())
	expect("first close", "- 10 false")
	must(t, p.Close())
	expect("last close", "- 400 false")
	put(t, c, "/d/a", "")
	put(t, c, "/d/b", "")
	got = nil
	must(t, vfs.RenameAt(c, none, "/d/a", none, "/d/b", 0))
	expect("rename over a file", "d:a 40 true", "d:b 80 true", "- 800 false", "- 4 false", "- 400 false")
	must(t, vfs.UnlinkAt(c, none, "/d/b", false))
	got = nil
	must(t, vfs.UnlinkAt(c, none, "/d", true))
	expect("rmdir", "- 400 false", "/:d 40000200 false")
	tree.SetHook(nil)
	mkdirs(t, c, "/e")
	expect("without a hook")
}

func TestTmpfile(t *testing.T) {
	_, c := world(t, vfs.Options{})
	mkdirs(t, c, "/d")
	none := vfs.Path{}
	o, err := vfs.OpenAt(c, none, "/d", vfs.OTmpfile|syscall.O_RDWR, 0o666, 0)
	must(t, err)
	_, _, err = o.File.Write(&vfs.Bytes{B: []byte("hello")}, 0, false)
	must(t, err)
	a, err := o.Path.Node().Attr()
	if err != nil || a.Nlink != 0 || a.Mode != 0o644 {
		t.Errorf("%+v %v", a, err)
	}
	must(t, vfs.LinkAt(c, o.Path, "", none, "/d/named", vfs.EmptyPath))
	must(t, vfs.LinkAt(c, o.Path, "", none, "/d/also", vfs.EmptyPath))
	must(t, vfs.UnlinkAt(c, none, "/d/also", false))
	must(t, vfs.RenameAt(c, none, "/d/named", none, "/d/moved", 0))
	must(t, vfs.UnlinkAt(c, none, "/d/moved", false))
	want(t, "link of one that has had a name", vfs.LinkAt(c, o.Path, "", none, "/d/late", vfs.EmptyPath), syscall.ENOENT)
	must(t, o.Close())
	o, err = vfs.OpenAt(c, none, "/d", vfs.OTmpfile|syscall.O_RDWR, 0o666, 0)
	must(t, err)
	_, _, err = o.File.Write(&vfs.Bytes{B: []byte("hello")}, 0, false)
	must(t, err)
	must(t, vfs.LinkAt(c, o.Path, "", none, "/d/named", vfs.EmptyPath))
	must(t, o.Close())
	if s := get(t, c, "/d/named"); s != "hello" {
		t.Errorf("linked afterwards: %q", s)
	}
	_, err = vfs.OpenAt(c, none, "/d", vfs.OTmpfile|syscall.O_RDONLY, 0o666, 0)
	want(t, "O_TMPFILE for reading", err, syscall.EINVAL)
	o, err = vfs.OpenAt(c, none, "/d", vfs.OTmpfile|syscall.O_RDWR|syscall.O_EXCL, 0o666, 0)
	must(t, err)
	want(t, "link of an O_EXCL one", vfs.LinkAt(c, o.Path, "", none, "/d/no", vfs.EmptyPath), syscall.ENOENT)
	must(t, o.Close())
}

func TestPathDescriptors(t *testing.T) {
	_, c := world(t, vfs.Options{})
	put(t, c, "/f", "x")
	must(t, vfs.SymlinkAt(c, "f", vfs.Path{}, "/l"))
	o, err := vfs.OpenAt(c, vfs.Path{}, "/l", vfs.OPath|syscall.O_NOFOLLOW, 0, 0)
	must(t, err)
	defer o.Close()
	if s, err := vfs.ReadlinkAt(c, o.Path, ""); s != "f" || err != nil {
		t.Errorf("readlink of the link itself: %q %v", s, err)
	}
	_, err = o.File.Read(&vfs.Bytes{B: make([]byte, 1)}, 0)
	want(t, "read", err, syscall.EBADF)
	_, _, err = o.File.Write(&vfs.Bytes{B: make([]byte, 1)}, 0, false)
	want(t, "write", err, syscall.EBADF)
	want(t, "fsync", o.File.Sync(false), syscall.EBADF)
	if o.File.Seekable() || o.File.Ready() != 0 || o.File.Node() != o.Path.Node() {
		t.Error("O_PATH can do too much")
	}
	o.File.Watch(nil)
	o.File.Unwatch(nil)
	p, err := vfs.OpenAt(c, vfs.Path{}, "/l", vfs.OPath, 0, 0)
	must(t, err)
	defer p.Close()
	q, err := vfs.Open(c, p.Path, syscall.O_RDWR)
	must(t, err)
	must(t, q.Close())
	_, err = vfs.Open(c, p.Path, syscall.O_DIRECTORY)
	want(t, "directory", err, syscall.ENOTDIR)
	if q, err = vfs.Open(c, p.Path, vfs.OPath); err != nil || q.Close() != nil {
		t.Errorf("O_PATH of a place: %v", err)
	}
	_, err = vfs.OpenAt(c, p.Path, "x", 0, 0, 0)
	want(t, "below a file", err, syscall.ENOTDIR)
	_, err = vfs.ReadlinkAt(c, p.Path, "")
	want(t, "readlink of no link", err, syscall.ENOENT)
	want(t, "open flags", func() error {
		_, err := vfs.OpenAt(c, vfs.Path{}, "/f", syscall.O_CREAT|syscall.O_DIRECTORY, 0, 0)
		return err
	}(), syscall.EINVAL)
}

func TestXAttr(t *testing.T) {
	_, c := world(t, vfs.Options{})
	put(t, c, "/f", "x")
	p := walk(t, c, "/f")
	must(t, vfs.SetXAttr(c, p, "user.a", []byte("1"), 0))
	must(t, vfs.SetXAttr(c, p, "trusted.b", []byte("2"), 1))
	want(t, "create again", vfs.SetXAttr(c, p, "user.a", nil, 1), syscall.EEXIST)
	want(t, "replace nothing", vfs.SetXAttr(c, p, "user.c", nil, 2), syscall.ENODATA)
	want(t, "flags", vfs.SetXAttr(c, p, "user.c", nil, 4), syscall.EINVAL)
	want(t, "too large", vfs.SetXAttr(c, p, "user.c", make([]byte, vfs.XAttrSizeMax+1), 0), syscall.E2BIG)
	want(t, "no prefix", vfs.SetXAttr(c, p, "c", nil, 0), syscall.EOPNOTSUPP)
	want(t, "no name", vfs.SetXAttr(c, p, "", nil, 0), syscall.ERANGE)
	if v, err := vfs.GetXAttr(c, p, "user.a"); string(v) != "1" || err != nil {
		t.Errorf("%q %v", v, err)
	}
	if l, err := vfs.ListXAttr(c, p); !slices.Equal(l, []string{"trusted.b", "user.a"}) || err != nil {
		t.Errorf("%q %v", l, err)
	}
	c.Creds = vfs.UserCreds(1, 1)
	if l, err := vfs.ListXAttr(c, p); !slices.Equal(l, []string{"user.a"}) || err != nil {
		t.Errorf("%q %v", l, err)
	}
	_, err := vfs.GetXAttr(c, p, "trusted.b")
	want(t, "trusted of another", err, syscall.ENODATA)
	want(t, "write without the right", vfs.SetXAttr(c, p, "user.a", nil, 0), syscall.EACCES)
	want(t, "security", vfs.SetXAttr(c, p, "security.a", nil, 0), syscall.EPERM)
	c.Creds = vfs.RootCreds()
	must(t, vfs.RemoveXAttr(c, p, "user.a"))
	want(t, "remove again", vfs.RemoveXAttr(c, p, "user.a"), syscall.ENODATA)
	must(t, vfs.SymlinkAt(c, "f", vfs.Path{}, "/l"))
	l, _ := vfs.Walk(c, vfs.Path{}, "/l", 0)
	want(t, "user attribute of a link", vfs.SetXAttr(c, l, "user.a", nil, 0), syscall.EPERM)
}

// Many at once on few names: whatever order they come in, what is left fits
// together, and nothing deadlocks.
func TestConcurrentRenames(t *testing.T) {
	tree, c := world(t, vfs.Options{Dentries: 24})
	mkdirs(t, c, "/a", "/b", "/a/x", "/b/y")
	paths := []string{"/a", "/b", "/a/x", "/b/y", "/a/x/z", "/b/y/z", "/c", "/a/b"}
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := vfs.NewContext(tree, vfs.RootCreds())
			defer c.Close()
			for i := range 1500 {
				k := i*7 + g*13
				p, q := paths[k%8], paths[k/8%8]
				switch k % 5 {
				case 0:
					vfs.MkdirAt(c, vfs.Path{}, p, 0o755)
				case 1:
					vfs.RenameAt(c, vfs.Path{}, p, vfs.Path{}, q, uint32(k%3))
				case 2:
					vfs.UnlinkAt(c, vfs.Path{}, p, k%2 == 0)
				case 3:
					vfs.WriteFile(c, p, []byte("x"), 0o644)
				case 4:
					vfs.StatAt(c, vfs.Path{}, q, vfs.Follow)
				}
			}
		}()
	}
	wg.Wait()
	// What the cache says is what the file system says.
	var check func(p vfs.Path)
	check = func(p vfs.Path) {
		must(t, vfs.ReadDir(p, 2, func(e vfs.DirEntry, _ int64) bool {
			q, err := vfs.Walk(c, p, e.Name, 0)
			if err != nil {
				t.Errorf("%s: %v", e.Name, err)
				return true
			}
			n, err := p.Node().Lookup(e.Name)
			if err != nil || n != q.Node() {
				t.Errorf("%s: the cache has another inode", tree.PathString(tree.Root(), q))
			}
			if s := tree.PathString(tree.Root(), q); walk(t, c, s) != q {
				t.Errorf("%s does not lead back", s)
			}
			if q.Type() == vfs.TypeDir {
				check(q)
			}
			return true
		}))
	}
	check(tree.Root())
}

func FuzzWalk(f *testing.F) {
	for _, s := range []string{"/", "a/b/../c", "/l/l/l", "//a//", "loop/x", "./.", "", strings.Repeat("../", 40)} {
		f.Add(s, uint32(1))
	}
	_, c := world(f, vfs.Options{Dentries: 64})
	mkdirs(f, c, "/a", "/a/b", "/c")
	put(f, c, "/a/f", "x")
	for _, l := range [][2]string{{"a", "/l"}, {"loop", "/loop"}, {"/a/../c/./../l/b", "/m"}, {"../..", "/a/up"}} {
		must(f, vfs.SymlinkAt(c, l[0], vfs.Path{}, l[1]))
	}
	f.Fuzz(func(t *testing.T, path string, flags uint32) {
		p, err := vfs.Walk(c, vfs.Path{}, path, vfs.Flags(flags)&0x1ff)
		if err == nil && p.IsZero() || err != nil && !p.IsZero() {
			t.Errorf("%q: %v with %v", path, p, err)
		}
	})
}
