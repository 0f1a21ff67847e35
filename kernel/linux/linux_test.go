package linux_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

const (
	data = ring3.Data
	buf  = data + 0x200
)

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// guest is a machine with a program that is a Go function.
type guest struct {
	*ring3.World
	cfg      linux.Config
	out, log output
	ctx      *vfs.Context
}

func newGuest(t testing.TB, f ring3.Func) *guest {
	t.Helper()
	g := &guest{World: ring3.New(8192)}
	root := tmpfs.New(tmpfs.Options{Frames: linux.Frames(g.Machine), Mode: 0o755})
	g.ctx = vfs.NewContext(vfs.NewTree(root), vfs.RootCreds())
	if err := vfs.MkdirAt(g.ctx, vfs.Path{}, "/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(g.ctx, "/bin/prog", g.ELF(f), 0o755); err != nil {
		t.Fatal(err)
	}
	g.cfg = linux.Config{
		Machine: g.Machine, NewCPU: g.NewCPU, Features: ring3.Features, Root: root, Argv: []string{"prog", "x"},
		Env: []string{"PATH=/none:/bin"}, Console: &g.out, Log: &g.log, CPUs: make([]linux.CPU, 2), Cmdline: "prog x",
	}
	return g
}

// slurp reads a file as a program does.
func slurp(p *ring3.Prog, path string) (string, error) {
	fd, err := p.Call(syscall.SYS_OPEN, p.String(buf, path), syscall.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer p.Sys(syscall.SYS_CLOSE, fd)
	var out strings.Builder
	for {
		n, err := p.Call(syscall.SYS_READ, fd, buf+0x200, 1024)
		if err != nil || n == 0 {
			return out.String(), err
		}
		out.Write(p.Read(buf+0x200, int(n)))
	}
}

func TestRun(t *testing.T) {
	var g *guest
	g = newGuest(t, func(p *ring3.Prog) {
		p.Call(syscall.SYS_WRITE, 1, p.String(buf, "hello\n"), 6)
		p.Exit(3)
	})
	g.cfg.Strace = &g.log
	status, err := linux.Run(g.cfg)
	if status != 3 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	if s := g.out.String(); s != "hello\r\n" {
		t.Errorf("output %q", s)
	}
	if !strings.Contains(g.log.String(), `write(1, "hello\n", 6) = 6`) {
		t.Errorf("strace: %s", g.log.String())
	}
}

func TestKilled(t *testing.T) {
	g := newGuest(t, func(p *ring3.Prog) { p.Sys(syscall.SYS_KILL, 2, uint64(syscall.SIGTERM)) })
	if status, err := linux.Run(g.cfg); status != 128+15 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestProc(t *testing.T) {
	g := newGuest(t, func(p *ring3.Prog) {
		for path, want := range map[string]string{
			"/proc/self/comm":                        "prog\n",
			"/proc/self/cmdline":                     "prog\x00x\x00",
			"/proc/self/environ":                     "PATH=/none:/bin\x00",
			"/proc/self/status":                      "\nPPid:\t1\n",
			"/proc/self/stat":                        "2 (prog) R 1 2 2 ",
			"/proc/self/maps":                        "/bin/prog\n",
			"/proc/self/smaps":                       "Rss:",
			"/proc/self/statm":                       " ",
			"/proc/self/limits":                      "Max open files            1048576              1048576              files",
			"/proc/self/task/2/comm":                 "prog\n",
			"/proc/self/io":                          "rchar: ",
			"/proc/self/oom_score_adj":               "0\n",
			"/proc/1/comm":                           "init\n",
			"/proc/1/status":                         "PPid:\t0\n",
			"/proc/mounts":                           "proc /proc proc ",
			"/proc/meminfo":                          "MemTotal:",
			"/proc/cpuinfo":                          "processor\t: 1\n",
			"/proc/stat":                             "cpu1 ",
			"/proc/loadavg":                          "0.00 0.00 0.00 ",
			"/proc/uptime":                           ".",
			"/proc/version":                          "Linux version 6.1.0-osv",
			"/proc/cmdline":                          "prog x",
			"/proc/filesystems":                      "ext4",
			"/proc/sys/kernel/hostname":              "osv\n",
			"/proc/sys/kernel/random/boot_id":        "-",
			"/sys/devices/system/cpu/possible":       "0-1\n",
			"/sys/devices/system/node/node0/meminfo": "MemTotal",
		} {
			got, err := slurp(p, path)
			if err != nil || !strings.Contains(got, want) {
				t.Errorf("%s: %q, %v, want %q", path, got, err, want)
			}
		}
		link := func(path, want string) {
			n, err := p.Call(syscall.SYS_READLINK, p.String(buf, path), buf+0x200, 100)
			if got := string(p.Read(buf+0x200, int(n))); err != nil || !strings.HasPrefix(got, want) {
				t.Errorf("%s: %q, %v, want %q", path, got, err, want)
			}
		}
		link("/proc/self/exe", "/bin/prog")
		link("/proc/self/cwd", "/")
		link("/proc/self/root", "/")
		link("/proc/self/fd/0", "/dev/console")
		p.Call(syscall.SYS_PIPE2, data+0x100, 0)
		link("/proc/self/fd/3", "pipe:[")
		if n, err := p.Call(syscall.SYS_EPOLL_CREATE1, 0); err != nil {
			t.Error(n, err)
		}
		link("/proc/self/fd/5", "anon_inode:")
		write := func(path, s string, want error) {
			fd, err := p.Call(syscall.SYS_OPEN, p.String(buf, path), syscall.O_WRONLY, 0)
			if err == nil {
				_, err = p.Call(syscall.SYS_WRITE, fd, p.String(buf, s), uint64(len(s)))
				p.Sys(syscall.SYS_CLOSE, fd)
			}
			if err != want {
				t.Errorf("%s: %v, want %v", path, err, want)
			}
		}
		write("/proc/self/comm", "renamed", nil)
		write("/proc/self/oom_score_adj", "100", nil)
		write("/proc/self/oom_score_adj", "2000", syscall.EINVAL)
		write("/proc/sys/kernel/hostname", "other", nil)
		if got, err := slurp(p, "/proc/self/comm"); got != "renamed\n" {
			t.Errorf("name %q, %v", got, err)
		}
		write("/dev/kmsg", "a message", nil)
		for _, dir := range []string{"/tmp", "/run", "/dev/shm"} {
			if _, err := p.Call(syscall.SYS_MKDIR, p.String(buf, dir+"/x"), 0o700); err != nil {
				t.Errorf("%s: %v", dir, err)
			}
		}
		p.Exit(0)
	})
	if status, err := linux.Run(g.cfg); status != 0 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	if !strings.Contains(g.log.String(), "a message") {
		t.Errorf("log: %s", g.log.String())
	}
}

// What is typed reaches the program; ^C ends it.
func TestConsole(t *testing.T) {
	in, typed := io.Pipe()
	g := newGuest(t, func(p *ring3.Prog) {
		n, err := p.Call(syscall.SYS_READ, 0, buf, 100)
		if got := string(p.Read(buf, int(n))); got != "a line\n" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		go typed.Write([]byte{3})
		for {
			p.Sys(syscall.SYS_PAUSE)
		}
	})
	g.cfg.ConsoleIn = in
	go typed.Write([]byte("a line\n"))
	if status, err := linux.Run(g.cfg); status != 128+int(syscall.SIGINT) || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	typed.Close()
}

func TestErrors(t *testing.T) {
	exit := func(p *ring3.Prog) { p.Exit(0) }
	for name, c := range map[string]struct {
		change func(g *guest)
		want   string
	}{
		"no program":   {func(g *guest) { g.cfg.Argv = nil }, "no program"},
		"empty":        {func(g *guest) { g.cfg.Argv = []string{""} }, "no such file"},
		"not in PATH":  {func(g *guest) { g.cfg.Argv = []string{"other"} }, "other: no such file"},
		"not there":    {func(g *guest) { g.cfg.Argv = []string{"/other"} }, "/other: no such file"},
		"no directory": {func(g *guest) { g.cfg.Cwd = "/none" }, "/none"},
		"twice":        {func(g *guest) { g.cfg.Calls = linux.Topics() }, "served twice"},
		"not executable": {func(g *guest) {
			if err := vfs.WriteFile(g.ctx, "/bin/text", []byte("x"), 0o644); err != nil {
				t.Error(err)
			}
			g.cfg.Argv = []string{"text"}
		}, "permission denied"},
	} {
		g := newGuest(t, exit)
		c.change(g)
		if status, err := linux.Run(g.cfg); status != 127 || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d, %v, want %q", name, status, err, c.want)
		}
	}
}

func TestCwdAndPath(t *testing.T) {
	g := newGuest(t, func(p *ring3.Prog) {
		n, err := p.Call(syscall.SYS_GETCWD, buf, 100)
		if got := string(p.Read(buf, int(n))); got != "/bin\x00" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		p.Exit(0)
	})
	g.cfg.Cwd, g.cfg.Env, g.cfg.Argv = "/bin", []string{"PATH=:/none"}, []string{"prog"} // an empty part is the working directory
	g.cfg.CPUs, g.cfg.Memory, g.cfg.Hostname = nil, 1<<30, "h"
	if status, err := linux.Run(g.cfg); status != 0 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

// A program that asks for more memory than there is dies, and the kernel asks others
// for theirs first.
func TestOutOfMemory(t *testing.T) {
	asked := 0
	g := newGuest(t, func(p *ring3.Prog) {
		a, err := p.Call(syscall.SYS_MMAP, 0, 1<<30, 3, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE, ^uint64(0), 0)
		if err != nil {
			t.Error(err)
			p.Exit(1)
		}
		for n := uint64(0); n < 1<<30; n += 4096 {
			p.Put64(a+n, n)
		}
		t.Error("it lives on")
	})
	g.cfg.Reclaim = func(int) bool { asked++; return false }
	if status, err := linux.Run(g.cfg); status != 128+int(syscall.SIGKILL) || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	if asked == 0 || !strings.Contains(g.log.String(), "out of memory") {
		t.Errorf("asked %d times; log: %s", asked, g.log.String())
	}
}
