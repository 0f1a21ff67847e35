// Package linux runs unmodified Linux programs: it joins address spaces, processes,
// files, sockets and the table of system calls, and starts the first program.
//
// Spec: Linux 6.1 for x86-64; what of it, `make syscalls` prints. Who may use it:
// kernel/platform and appliances. It is a composition root: order, not logic; each
// topic has a package below it, and kernel/linux/sys the table. Start reading at Run.
package linux

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"syscall"

	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/sys/file"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/devfs"
	"osv/kernel/vfs/procfs"
	"osv/kernel/vfs/sysfs"
	"osv/kernel/vfs/tmpfs"
)

// Config is what a program runs on.
type Config struct {
	// Machine is the memory of programs, NewCPU makes the processor state of a thread:
	// Guest has those of a booted guest.
	Machine  mm.Machine
	NewCPU   func() (task.CPU, error)
	Features uint64 // XCR0
	// MapVDSO gives a new program the object that tells the time without system calls,
	// and returns where it is; nil for none.
	MapVDSO func(*mm.Space) (uint64, error)

	Root   vfs.FileSystem
	Source string // of the root, for /proc/mounts: "/dev/vda"
	Argv   []string
	Env    []string
	Cwd    string // "": "/"

	// Console is the program's descriptors 0, 1 and 2; ConsoleIn may be nil.
	Console   io.Writer
	ConsoleIn io.Reader
	// Log gets what the kernel says of programs.
	Log io.Writer
	// Strace gets every system call, where it is not nil.
	Strace io.Writer

	// Calls are further topics of system calls: sockets, which need a network.
	Calls [][]sys.Entry
	Net   procfs.Net // for /proc/net; may be nil

	CPUs     []CPU // one per processor; nil: as many as the Go runtime sees
	Memory   uint64
	Hostname string
	Cmdline  string
	PowerOff func(restart bool)
	// Reclaim is asked for memory that programs need and that is not free: whether it
	// is worth trying again. It may be nil.
	Reclaim func(bytes int) bool
}

// System is a running program with its kernel.
type System struct {
	Kernel *task.Kernel
	Tree   *vfs.Tree
	Table  *sys.Table
	First  *task.Process
	tty    *fd.TTY
	cfg    *Config
	refs   *mm.Refs
	bootID [16]byte
}

// Run starts the program, waits for its end, and returns its exit status as a shell
// would: 128 and the signal's number where one has ended it.
func Run(cfg Config) (int, error) {
	s, err := Start(cfg)
	if err != nil {
		return 127, err
	}
	return s.Wait(), nil
}

// Start starts it.
func Start(cfg Config) (*System, error) {
	if len(cfg.Argv) == 0 {
		return nil, errors.New("linux: no program: the command line has none")
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	if len(cfg.CPUs) == 0 {
		cfg.CPUs = make([]CPU, runtime.NumCPU())
	}
	if cfg.Memory == 0 {
		cfg.Memory = cfg.Machine.FreeBytes()
	}
	s := &System{cfg: &cfg, refs: new(mm.Refs)}
	if _, err := rand.Read(s.bootID[:]); err != nil {
		return nil, err
	}
	table, err := sys.NewTable(sys.Options{Log: cfg.Log, Trace: cfg.Strace, Who: who}, append(topics(), cfg.Calls...)...)
	if err != nil {
		return nil, err
	}
	s.Table = table
	s.Kernel, err = task.New(task.Config{
		Machine: cfg.Machine, NewCPU: cfg.NewCPU, Dispatch: table.Dispatch, Calls: table.Calls(), Console: cfg.Log, CPUs: len(cfg.CPUs),
		Memory:      mm.Options{Refs: s.refs, Total: cfg.Memory, Random: random, Reclaim: s.reclaim},
		TotalMemory: cfg.Memory, PowerOff: cfg.PowerOff, Hostname: cfg.Hostname, Features: cfg.Features, MapVDSO: cfg.MapVDSO,
	})
	if err != nil {
		return nil, err
	}
	s.Tree = vfs.NewTreeOptions(cfg.Root, vfs.Options{Source: cfg.Source})
	ctx := vfs.NewContext(s.Tree, vfs.RootCreds())
	if err := s.mount(ctx); err != nil {
		return nil, err
	}
	if cfg.Cwd != "" {
		p, err := vfs.Walk(ctx, vfs.Path{}, cfg.Cwd, vfs.Follow|vfs.Directory)
		if err != nil {
			return nil, fmt.Errorf("linux: working directory %s: %w", cfg.Cwd, err)
		}
		ctx.Dirs.SetCwd(p)
	}
	files, err := s.stdio(ctx)
	if err != nil {
		return nil, err
	}
	path, err := find(ctx, cfg.Argv[0], cfg.Env)
	if err == nil {
		s.First, err = s.Kernel.Start(task.Program{Path: path, Argv: cfg.Argv, Env: cfg.Env, FS: ctx, Files: files, Before: s.control})
	}
	if err != nil {
		return nil, fmt.Errorf("linux: %s: %w", cfg.Argv[0], err)
	}
	return s, nil
}

// control makes the console that of the first program's session, before the program
// can read from it: what is typed then may be ^C.
func (s *System) control(first *task.Process) {
	if ses := first.Session(); s.tty.Take(ses.ID, first.PGID()) {
		ses.SetTTY(s.tty)
	}
}

// Wait waits for the end of the program, writes out what files hold, and returns the
// exit status.
func (s *System) Wait() int {
	status := s.Kernel.Wait()
	if err := s.Tree.Sync(); err != nil {
		fmt.Fprintf(s.cfg.Log, "linux: sync: %v\n", err)
	}
	if sig := status & 0x7f; sig != 0 {
		return 128 + int(sig)
	}
	return int(status >> 8 & 0xff)
}

// random moves things in memory about.
func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails; without it nothing is moved
	return binary.LittleEndian.Uint64(b[:])
}

// reclaim asks those who hold memory that they can do without.
func (s *System) reclaim(bytes uint64) bool {
	return s.cfg.Reclaim != nil && s.cfg.Reclaim(int(min(bytes, 1<<30)))
}

// who is what the trace of system calls calls a thread.
func who(t *task.Task) (tid int, name string, mem vfs.Memory) { return t.TID(), t.Comm(), t.Mem() }

// find looks a program up as a shell does: in $PATH where the name has no slash.
func find(ctx *vfs.Context, name string, env []string) (string, error) {
	if name == "" {
		return "", syscall.ENOENT
	}
	for i := range len(name) {
		if name[i] == '/' {
			return name, nil
		}
	}
	first := error(syscall.ENOENT)
	for _, dir := range searchPath(env) {
		p := dir + "/" + name
		err := vfs.AccessAt(ctx, vfs.Path{}, p, vfs.MayExec, vfs.Follow)
		if err == nil {
			return p, nil
		}
		if err != syscall.ENOENT && err != syscall.ENOTDIR {
			first = err
		}
	}
	return "", first
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func searchPath(env []string) (dirs []string) {
	path := defaultPath
	for _, e := range env {
		if len(e) > 5 && e[:5] == "PATH=" {
			path = e[5:]
		}
	}
	for len(path) > 0 {
		n := 0
		for n < len(path) && path[n] != ':' {
			n++
		}
		if d := path[:n]; d != "" {
			dirs = append(dirs, d)
		} else {
			dirs = append(dirs, ".")
		}
		path = path[min(n+1, len(path)):]
	}
	return dirs
}

// mount mounts what is not on a disk. Directories that are missing are made where the
// root can be written to.
func (s *System) mount(ctx *vfs.Context) error {
	frames := Frames(s.cfg.Machine)
	s.tty = s.newTTY()
	s.Tree.SetOpener(vfs.TypePipe, 0, fd.OpenFIFO)
	file.SetMemfdFS(tmpfs.New(tmpfs.Options{Frames: frames, Size: int64(s.cfg.Memory)}))
	dev, err := devfs.New(s.Tree, devfs.Options{
		Frames: frames, Console: s.tty.Opener(), TTY: s.tty.Opener(),
		KMsg: func(line []byte) { fmt.Fprintf(s.cfg.Log, "kmsg: %s\n", line) },
	})
	if err != nil {
		return err
	}
	proc := procfs.New(procfs.Config{
		Tasks: tasks{s}, System: machine{s}, Net: s.cfg.Net, Tree: s.Tree,
		Filesystems: []string{"nodev\tproc", "nodev\tsysfs", "nodev\ttmpfs", "nodev\tdevtmpfs", "\text4"},
	})
	for name, fs := range map[string]vfs.FileSystem{"proc": proc, "devtmpfs": dev} {
		file.RegisterFileSystem(name, func(*task.Task, string, string) (vfs.FileSystem, error) { return fs, nil })
	}
	for _, m := range []struct {
		at, source string
		fs         vfs.FileSystem
		mode       uint32
		flags      vfs.MountFlags
	}{
		{"/proc", "proc", proc, 0o555, vfs.MountNoSuid | vfs.MountNoDev | vfs.MountNoExec},
		{"/sys", "sysfs", sysfs.New(s.sysfs()), 0o555, vfs.MountNoSuid | vfs.MountNoDev | vfs.MountNoExec},
		{"/dev", "devtmpfs", dev, 0o755, vfs.MountNoSuid},
		{"/dev/shm", "tmpfs", tmpfs.New(tmpfs.Options{Frames: frames, Size: int64(s.cfg.Memory / 2)}), 0o1777, vfs.MountNoSuid | vfs.MountNoDev},
		{"/tmp", "tmpfs", tmpfs.New(tmpfs.Options{Frames: frames, Size: int64(s.cfg.Memory / 2)}), 0o1777, vfs.MountNoSuid | vfs.MountNoDev},
		{"/run", "tmpfs", tmpfs.New(tmpfs.Options{Frames: frames, Size: int64(s.cfg.Memory / 5), Mode: 0o755}), 0o755, vfs.MountNoSuid | vfs.MountNoDev},
	} {
		if err := vfs.MkdirAt(ctx, vfs.Path{}, m.at, m.mode); err != nil && err != syscall.EEXIST {
			fmt.Fprintf(s.cfg.Log, "linux: no %s: %v\n", m.at, err)
			continue
		}
		p, err := vfs.Walk(ctx, vfs.Path{}, m.at, vfs.Directory)
		if err == nil {
			_, err = s.Tree.Mount(m.source, m.fs, p, m.flags)
		}
		if err != nil {
			return fmt.Errorf("linux: mount %s: %w", m.at, err)
		}
	}
	return nil
}

// stdio is a descriptor table with the console as 0, 1 and 2.
func (s *System) stdio(ctx *vfs.Context) (*fd.Table, error) {
	files := fd.NewTable(1 << 20)
	for range 3 {
		o, err := vfs.OpenAt(ctx, vfs.Path{}, "/dev/console", syscall.O_RDWR, 0, vfs.Follow)
		if err != nil {
			return nil, fmt.Errorf("linux: console: %w", err)
		}
		if _, err := files.Install(fd.NewOpenAt(o), 0, false); err != nil {
			return nil, err
		}
	}
	return files, nil
}
