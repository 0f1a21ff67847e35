// Package procfs is /proc: processes and the machine as files.
//
// Spec: proc(5) of man-pages 6.03 and Documentation/filesystems/proc.rst of Linux 6.1;
// fields that have no meaning here are 0, as they are there on machines without the
// thing. Not covered: cgroups (absent: the JVM then stops looking), namespaces, mem,
// pagemap, kcore, sysrq. Who may use it: kernel/linux, which provides what it shows
// through the interfaces of source.go; it knows no task itself.
//
// Start reading at New, then task.go (a process's directory), global.go, sysctl.go.
package procfs

import (
	"strconv"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/pseudo"
)

// Magic is PROC_SUPER_MAGIC.
const Magic = 0x9fa0

// Config is what a /proc shows.
type Config struct {
	Tasks  Tasks
	System System
	Net    Net          // nil: /proc/net has no protocols
	Tree   *vfs.Tree    // for mounts and paths
	Limits SystemLimits // zero fields have Linux's defaults
	Sysctl []Sysctl     // further files of /proc/sys, in place of those of the same path
	// Filesystems are the types that can be mounted; a name with nodev in front has no
	// device.
	Filesystems []string
}

// FS is /proc.
type FS struct {
	*pseudo.FS
	cfg Config
	net *pseudo.Dir
}

// New makes one.
func New(cfg Config) *FS {
	f := &FS{FS: pseudo.New("proc", Magic, 0), cfg: cfg}
	f.cfg.Limits.defaults()
	top := f.Top()
	top.Add("self", f.newSelf(false))
	top.Add("thread-self", f.newSelf(true))
	f.globals(top)
	f.net = f.newNet()
	top.Symlink("net", "self/net")
	f.sysctls(top.Dir("sys"))
	top.More = pids{f}
	return f
}

// self is /proc/self or /proc/thread-self: the caller's own directory.
type self struct {
	pseudo.Node
	thread bool
}

func (f *FS) newSelf(thread bool) *self {
	return &self{pseudo.Node{Fs: f.FS, Ino: f.NewIno(), Kind: vfs.TypeLink, Mode: 0o777}, thread}
}

// Open is refused: links are followed.
func (s *self) Open(int) (vfs.File, error) { return nil, syscall.ELOOP }

// ReadLink is Text's, which knows the caller.
func (s *self) ReadLink() (string, error) { return "", syscall.ENOENT }

// Text is the caller's number; ENOENT for the kernel itself.
func (s *self) Text(c *vfs.Context) (string, error) {
	if c.PID == 0 {
		return "", syscall.ENOENT
	}
	t := strconv.Itoa(c.PID)
	if s.thread {
		t += "/task/" + strconv.Itoa(c.TID)
	}
	return t, nil
}

// Follow walks the text.
func (s *self) Follow(c *vfs.Context) (vfs.Path, string, error) {
	t, err := s.Text(c)
	return vfs.Path{}, t, err
}

// pids are the directories of processes in /proc.
type pids struct{ f *FS }

// number parses the name of a process or thread.
func number(s string) (int, bool) {
	if s == "" || s[0] == '0' || len(s) > 9 {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

// Find is the directory of a process, or of a thread, which is not listed.
func (p pids) Find(name string) (vfs.Node, error) {
	n, ok := number(name)
	if !ok {
		return nil, syscall.ENOENT
	}
	t, ok := p.f.cfg.Tasks.Process(n)
	if !ok {
		return nil, syscall.ENOENT
	}
	return p.f.newTask(t, n, n, true), nil
}

// Each tells the processes by number, which is also the position.
func (p pids) Each(off int64, f func(e vfs.DirEntry, next int64) bool) {
	for _, n := range p.f.cfg.Tasks.PIDs() {
		if int64(n) <= off {
			continue
		}
		if !f(vfs.DirEntry{Name: strconv.Itoa(n), Ino: ino(n, n, inoDir, 0), Type: vfs.TypeDir}, int64(n)) {
			return
		}
	}
}
