package procfs

import (
	"strconv"
	"strings"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/pseudo"
)

// Inode numbers of a process's files: thread, file and descriptor make one, so that a
// file has the same each time.
const (
	inoDir = iota + 1
	inoTask
	inoFD
	inoFDInfo
	inoFile0 // and on, by place in the table
)

// ino mixes the numbers into 47 bits, with a bit above them that keeps off those of
// pseudo. Two files having the same is as unlikely as 2^-47 per pair.
func ino(pid, tid, file, fd int) uint64 {
	h := uint64(pid)
	for _, n := range [...]int{tid, file, fd} {
		h = (h ^ h>>29) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>32) * 0x94d049bb133111eb
		h += uint64(n)
	}
	h = (h ^ h>>29) * 0xbf58476d1ce4e5b9
	return (h^h>>32)&(1<<47-1) | 1<<47
}

// taskDir is /proc/PID or /proc/PID/task/TID.
type taskDir struct {
	pseudo.Node
	f        *FS
	t        Task
	pid, tid int
	group    bool // /proc/PID
}

func (f *FS) newTask(t Task, pid, tid int, group bool) *taskDir {
	if group {
		tid = pid
	}
	return &taskDir{f.owned(t, ino(pid, tid, inoDir, b2i(!group)), vfs.TypeDir, 0o555), f, t, pid, tid, group}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// owned is a node that belongs to the task's user.
func (f *FS) owned(t Task, ino uint64, k vfs.Type, mode uint32) pseudo.Node {
	s := t.Stat()
	n := pseudo.Node{Fs: f.FS, Ino: ino, Kind: k, Mode: mode, UID: s.UID[1], GID: s.GID[1]}
	if f.cfg.System != nil {
		n.At = f.cfg.System.Boot().Add(s.Start)
	}
	if k == vfs.TypeDir {
		n.Nlink = 2
	}
	return n
}

// entry is one file of a process's directory.
type entry struct {
	name  string
	mode  uint32
	group bool // only in /proc/PID
	read  func(f *FS, t Task) ([]byte, error)
	write func(f *FS, t Task, p []byte) error
	link  func(f *FS, t Task) (vfs.Path, string, error)
	dir   func(d *taskDir) vfs.Node
}

// entries are all of them. It is filled by init: some need it themselves.
var entries []entry

func init() {
	entries = []entry{
		{name: "task", mode: 0o555, group: true, dir: func(d *taskDir) vfs.Node { return d.newThreads() }},
		{name: "fd", mode: 0o500, dir: func(d *taskDir) vfs.Node { return d.newFDs(false) }},
		{name: "fdinfo", mode: 0o500, dir: func(d *taskDir) vfs.Node { return d.newFDs(true) }},
		{name: "net", mode: 0o555, dir: func(d *taskDir) vfs.Node { return d.f.net }},
		{name: "exe", link: func(f *FS, t Task) (vfs.Path, string, error) { return place(t.Exe()) }},
		{name: "cwd", link: func(f *FS, t Task) (vfs.Path, string, error) { return place(t.Cwd()) }},
		{name: "root", link: func(f *FS, t Task) (vfs.Path, string, error) { return place(t.Root()) }},
		{name: "stat", mode: 0o444, read: (*FS).stat},
		{name: "status", mode: 0o444, read: (*FS).status},
		{name: "statm", mode: 0o444, read: (*FS).statm},
		{name: "maps", mode: 0o444, read: (*FS).maps},
		{name: "smaps", mode: 0o444, read: (*FS).smaps},
		{name: "smaps_rollup", mode: 0o444, group: true, read: (*FS).smapsRollup},
		{name: "limits", mode: 0o444, read: (*FS).limits},
		{name: "cmdline", mode: 0o444, read: func(_ *FS, t Task) ([]byte, error) { return t.Cmdline(), nil }},
		{name: "environ", mode: 0o400, read: func(_ *FS, t Task) ([]byte, error) { return t.Environ(), nil }},
		{name: "auxv", mode: 0o400, read: func(_ *FS, t Task) ([]byte, error) { return t.Auxv(), nil }},
		{name: "comm", mode: 0o644, read: func(_ *FS, t Task) ([]byte, error) {
			return []byte(t.Stat().Comm + "\n"), nil
		}, write: func(_ *FS, t Task, p []byte) error {
			return t.SetComm(strings.TrimSuffix(string(p), "\n"))
		}},
		{name: "io", mode: 0o400, read: (*FS).io},
		{name: "oom_score", mode: 0o444, read: func(_ *FS, t Task) ([]byte, error) { return []byte("0\n"), nil }},
		{name: "oom_score_adj", mode: 0o644, read: func(_ *FS, t Task) ([]byte, error) {
			return []byte(strconv.Itoa(t.OOMScoreAdj()) + "\n"), nil
		}, write: func(_ *FS, t Task, p []byte) error {
			n, err := strconv.Atoi(strings.TrimSpace(string(p)))
			if err != nil || n < -1000 || n > 1000 {
				return syscall.EINVAL
			}
			return t.SetOOMScoreAdj(n)
		}},
		{name: "coredump_filter", mode: 0o644, group: true, read: func(*FS, Task) ([]byte, error) { return []byte("00000033\n"), nil },
			write: func(*FS, Task, []byte) error { return nil }},
		{name: "personality", mode: 0o400, read: func(*FS, Task) ([]byte, error) { return []byte("00000000\n"), nil }},
		{name: "wchan", mode: 0o444, read: func(*FS, Task) ([]byte, error) { return []byte("0"), nil }},
		{name: "schedstat", mode: 0o444, read: (*FS).schedstat},
		{name: "mounts", mode: 0o444, read: (*FS).mountsOf},
		{name: "mountinfo", mode: 0o444, read: (*FS).mountinfo},
		{name: "loginuid", mode: 0o644, read: func(*FS, Task) ([]byte, error) { return []byte("4294967295"), nil }},
		{name: "sessionid", mode: 0o444, read: func(*FS, Task) ([]byte, error) { return []byte("4294967295"), nil }},
	}
}

func place(p vfs.Path, ok bool) (vfs.Path, string, error) {
	if !ok {
		return vfs.Path{}, "", syscall.ENOENT
	}
	return p, "", nil
}

// Volatile: a task's files go with it.
func (d *taskDir) Volatile() bool { return true }

// Open opens it.
func (d *taskDir) Open(int) (vfs.File, error) { return &vfs.DirFile{N: d}, nil }

// Make, Remove and Rename are refused.
func (d *taskDir) Make(string, vfs.NewNode) (vfs.Node, error)    { return nil, syscall.EPERM }
func (d *taskDir) Remove(string, bool) error                     { return syscall.EPERM }
func (d *taskDir) Rename(string, vfs.Node, string, uint32) error { return syscall.EPERM }

// Lookup makes the node of a file.
func (d *taskDir) Lookup(name string) (vfs.Node, error) {
	for i := range entries {
		if e := &entries[i]; e.name == name && (d.group || !e.group) {
			return d.node(i), nil
		}
	}
	return nil, syscall.ENOENT
}

func (d *taskDir) node(i int) vfs.Node {
	e := &entries[i]
	n := ino(d.pid, d.tid, inoFile0+i, b2i(!d.group))
	switch {
	case e.dir != nil:
		return e.dir(d)
	case e.link != nil:
		return &magic{d.f.owned(d.t, n, vfs.TypeLink, 0o777), d.f,
			func() (vfs.Path, string, error) { return e.link(d.f, d.t) }}
	}
	var write func(p []byte) error
	if e.write != nil {
		write = func(p []byte) error { return e.write(d.f, d.t, p) }
	}
	return pseudo.MakeFile(d.f.owned(d.t, n, vfs.TypeFile, e.mode), func() ([]byte, error) { return e.read(d.f, d.t) }, write)
}

// ReadDir tells the files.
func (d *taskDir) ReadDir(off int64, f func(e vfs.DirEntry, next int64) bool) error {
	for i := max(off, 0); i < int64(len(entries)); i++ {
		e := &entries[i]
		if e.group && !d.group {
			continue
		}
		typ := vfs.TypeFile
		switch {
		case e.dir != nil:
			typ = vfs.TypeDir
		case e.link != nil:
			typ = vfs.TypeLink
		}
		id := ino(d.pid, d.tid, inoFile0+int(i), b2i(!d.group))
		switch e.name {
		case "task":
			id = ino(d.pid, d.tid, inoTask, 0)
		case "fd", "fdinfo":
			id = ino(d.pid, d.tid, inoFD+b2i(e.name == "fdinfo"), b2i(!d.group))
		case "net":
			id = d.f.net.Ino
		}
		if !f(vfs.DirEntry{Name: e.name, Ino: id, Type: typ}, i+1) {
			return nil
		}
	}
	return nil
}

// magic is a link to a place: exe, cwd, root and what is in fd.
type magic struct {
	pseudo.Node
	f  *FS
	to func() (p vfs.Path, name string, err error)
}

// Open is refused: links are followed.
func (m *magic) Open(int) (vfs.File, error) { return nil, syscall.ELOOP }

// ReadLink is Text's.
func (m *magic) ReadLink() (string, error) { return "", syscall.ENOENT }

// Follow goes to the place itself, whatever its name is now.
func (m *magic) Follow(c *vfs.Context) (vfs.Path, string, error) {
	p, name, err := m.to()
	if err == nil && p.IsZero() {
		p, err = c.Tree.Anon(&closedNode{pseudo.Node{Fs: m.f.FS, Ino: m.Ino, Kind: vfs.TypeFile, Mode: 0o600, UID: m.UID, GID: m.GID}}, name)
	}
	return p, "", err
}

// Text is its name.
func (m *magic) Text(c *vfs.Context) (string, error) {
	p, name, err := m.to()
	if err != nil {
		return "", err
	}
	if p.IsZero() {
		return name, nil
	}
	return c.Tree.PathString(c.Root(), p), nil
}

// closedNode is an open file that cannot be opened once more.
type closedNode struct{ pseudo.Node }

// Open is ENXIO.
func (*closedNode) Open(int) (vfs.File, error) { return nil, syscall.ENXIO }

// threads is /proc/PID/task.
type threads struct{ d *taskDir }

func (d *taskDir) newThreads() vfs.Node {
	return &varDir{d.f.owned(d.t, ino(d.pid, d.tid, inoTask, 0), vfs.TypeDir, 0o555), threads{d}}
}

func (t threads) Find(name string) (vfs.Node, error) {
	if n, ok := number(name); ok {
		if x, ok := t.d.f.cfg.Tasks.Thread(t.d.pid, n); ok {
			return t.d.f.newTask(x, t.d.pid, n, false), nil
		}
	}
	return nil, syscall.ENOENT
}

func (t threads) Each(off int64, f func(e vfs.DirEntry, next int64) bool) {
	for _, n := range t.d.f.cfg.Tasks.TIDs(t.d.pid) {
		if int64(n) <= off {
			continue
		}
		if !f(vfs.DirEntry{Name: strconv.Itoa(n), Ino: ino(t.d.pid, n, inoDir, 1), Type: vfs.TypeDir}, int64(n)) {
			return
		}
	}
}

// fds is /proc/PID/fd or fdinfo.
type fds struct {
	d    *taskDir
	info bool
}

func (d *taskDir) newFDs(info bool) vfs.Node {
	return &varDir{d.f.owned(d.t, ino(d.pid, d.tid, inoFD+b2i(info), b2i(!d.group)), vfs.TypeDir, 0o500), fds{d, info}}
}

func (x fds) Find(name string) (vfs.Node, error) {
	n, ok := number(name)
	if name == "0" {
		n, ok = 0, true
	}
	if !ok {
		return nil, syscall.ENOENT
	}
	fd, ok := x.d.t.FD(n)
	if !ok {
		return nil, syscall.ENOENT
	}
	d := x.d
	id := ino(d.pid, d.tid, inoFD+b2i(x.info), n+2)
	if x.info {
		return pseudo.MakeFile(d.f.owned(d.t, id, vfs.TypeFile, 0o400), func() ([]byte, error) {
			fd, ok := d.t.FD(n)
			if !ok {
				return nil, syscall.ENOENT
			}
			return fdinfo(fd), nil
		}, nil), nil
	}
	mode := uint32(0)
	if fd.Read {
		mode |= 0o500
	}
	if fd.Write {
		mode |= 0o300
	}
	m := &magic{d.f.owned(d.t, id, vfs.TypeLink, mode), d.f, func() (vfs.Path, string, error) {
		fd, ok := d.t.FD(n)
		if !ok {
			return vfs.Path{}, "", syscall.ENOENT
		}
		return fd.Path, fd.Name, nil
	}}
	m.Size = 64
	return m, nil
}

func (x fds) Each(off int64, f func(e vfs.DirEntry, next int64) bool) {
	typ := vfs.TypeLink
	if x.info {
		typ = vfs.TypeFile
	}
	for _, n := range x.d.t.FDs() {
		if int64(n) < off {
			continue
		}
		id := ino(x.d.pid, x.d.tid, inoFD+b2i(x.info), n+2)
		if !f(vfs.DirEntry{Name: strconv.Itoa(n), Ino: id, Type: typ}, int64(n)+1) {
			return
		}
	}
}

// varDir is a directory all of whose names come and go.
type varDir struct {
	pseudo.Node
	names pseudo.Names
}

// Volatile is true.
func (v *varDir) Volatile() bool { return true }

// Lookup finds a name.
func (v *varDir) Lookup(name string) (vfs.Node, error) { return v.names.Find(name) }

// ReadDir tells them.
func (v *varDir) ReadDir(off int64, f func(e vfs.DirEntry, next int64) bool) error {
	v.names.Each(off, f)
	return nil
}

// Open opens it.
func (v *varDir) Open(int) (vfs.File, error) { return &vfs.DirFile{N: v}, nil }

// Make, Remove and Rename are refused.
func (v *varDir) Make(string, vfs.NewNode) (vfs.Node, error)    { return nil, syscall.EPERM }
func (v *varDir) Remove(string, bool) error                     { return syscall.EPERM }
func (v *varDir) Rename(string, vfs.Node, string, uint32) error { return syscall.EPERM }
