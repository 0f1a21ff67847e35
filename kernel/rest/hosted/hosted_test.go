package hosted

import (
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/rest/machine"
)

func newMachine(t *testing.T) machine.Machine {
	t.Helper()
	m, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSystem(t *testing.T) {
	s := newMachine(t).System
	if m := s.Memory(); m.Total < 64<<20 || m.Free == 0 || m.Free > m.Total {
		t.Errorf("memory %+v", m)
	}
	if s.Uptime() <= 0 || s.CommandLine() == "" || s.Hostname() == "" {
		t.Errorf("uptime %v, command line %q, host %q", s.Uptime(), s.CommandLine(), s.Hostname())
	}
	if err := s.SetHostname("renamed"); err != nil || s.Hostname() != "renamed" {
		t.Errorf("%q, %v", s.Hostname(), err)
	}
	if h, _ := os.Hostname(); h == "renamed" {
		t.Error("the host has been renamed")
	}
	if err := s.SetCommandLine("x"); !errors.Is(err, machine.ErrUnavailable) {
		t.Errorf("command line: %v", err)
	}
	if _, err := s.End(machine.Reboot); !errors.Is(err, machine.ErrUnavailable) {
		t.Errorf("reboot: %v", err)
	}
	if err := s.Log(io.Discard); err != nil {
		t.Error(err)
	}
	signals := Terminated()
	end, err := s.End(machine.Shutdown)
	if err != nil {
		t.Fatal(err)
	}
	end()
	if got := <-signals; got != syscall.SIGTERM {
		t.Errorf("signal %v", got)
	}
}

func TestThreads(t *testing.T) {
	l := newMachine(t).System.Threads()
	if len(l) < 2 {
		t.Fatalf("%d threads", len(l))
	}
	switches := uint64(0)
	for _, x := range l {
		if x.Name == "" || x.Status == "" || x.CPU == nil || x.CPUms == nil || x.Switches == nil || x.Preemptions == nil || *x.Switches < *x.Preemptions {
			t.Errorf("%+v", x)
			continue
		}
		switches += *x.Switches
	}
	if switches == 0 || l[0].ID != int64(os.Getpid()) {
		t.Errorf("%d switches, first thread %d", switches, l[0].ID)
	}
	if _, ok := thread("/proc/self/task/0"); ok {
		t.Error("a thread that is not there")
	}
}

func TestHardware(t *testing.T) {
	h := newMachine(t).Hardware
	if h.CPUs() != runtime.NumCPU() || len(h.Flags()) < 5 || h.Hypervisor() == "" {
		t.Errorf("%d processors, flags %v, hypervisor %q", h.CPUs(), h.Flags(), h.Hypervisor())
	}
	p := h.Processors()
	if len(p) == 0 || p[0].BusyMS+p[0].IdleMS == 0 {
		t.Errorf("%+v", p)
	}
	if v, err := h.Firmware(); v == "" && !errors.Is(err, machine.ErrUnavailable) {
		t.Errorf("firmware %q, %v", v, err)
	}
	if d, err := h.Disks(); err != nil {
		t.Error(err)
	} else {
		for _, x := range d {
			if x.Size <= 0 || x.BlockSize < 512 {
				t.Errorf("%+v", x)
			}
		}
	}
	f, err := newMachine(t).Mounts.FileSystems()
	if err != nil || len(f) == 0 {
		t.Fatalf("%v, %v", f, err)
	}
	for _, x := range f {
		if x.Mount == "" || x.BTotal == 0 || x.BFree > x.BTotal || x.BlockSize <= 0 {
			t.Errorf("%+v", x)
		}
	}
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("unescape: %q", got)
	}
}

func TestNetwork(t *testing.T) {
	n := newMachine(t).Network
	l, err := n.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range l {
		if i.Config.Name == "lo" {
			if !strings.Contains(i.Config.Flags, "LOOPBACK") || i.Data.MTU < 1500 {
				t.Errorf("%+v", i)
			}
		}
	}
	if len(l) == 0 {
		t.Error("no interfaces")
	}
	r, err := n.Routes()
	if err != nil && !errors.Is(err, machine.ErrUnavailable) {
		t.Error(err)
	}
	for _, x := range r {
		if x.Destination == "" || x.Netif == "" || !strings.HasPrefix(x.Flags, "U") {
			t.Errorf("%+v", x)
		}
	}
	if a := hexAddr4("0100007F"); a != netip.MustParseAddr("127.0.0.1") && a != netip.MustParseAddr("1.0.0.127") {
		t.Errorf("%v", a)
	}
	if hexAddr4("x").IsValid() {
		t.Error("x is an address")
	}
}

func TestEnv(t *testing.T) {
	e := newMachine(t).Env
	t.Setenv("HOSTED_TEST", "a")
	if err := e.Set("HOSTED_TEST", "b"); err != nil {
		t.Fatal(err)
	}
	if v, ok := e.Lookup("HOSTED_TEST"); v != "b" || !ok {
		t.Errorf("%q, %v", v, ok)
	}
	if !strings.Contains(strings.Join(e.List(), "\n"), "HOSTED_TEST=b") {
		t.Error("not in the list")
	}
	if err := e.Unset("HOSTED_TEST"); err != nil {
		t.Fatal(err)
	}
	if _, ok := e.Lookup("HOSTED_TEST"); ok {
		t.Error("still set")
	}
	if err := e.Set("", "x"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("no name: %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(name, text string, appending bool) {
		t.Helper()
		w, err := f.Create(name, 0o640, appending)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	write("d/a", "one", false)
	write("d/a", "two", true)
	h, err := f.Open("d/a")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(h)
	i, err := h.Stat()
	h.Close()
	if string(b) != "onetwo" || err != nil || i.Size != 6 || i.Name != "a" || i.Links != 1 || i.Owner == "" || i.Mode.Perm() != 0o640 {
		t.Errorf("%q, %+v, %v", b, i, err)
	}
	if err := f.Chmod("d/a", 0o600); err != nil {
		t.Error(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "d/l")); err != nil {
		t.Fatal(err)
	}
	l, err := f.List("d")
	if err != nil || len(l) != 2 || l[0].Name != "a" || l[1].Target != "a" || l[1].Mode&fs.ModeSymlink == 0 {
		t.Errorf("%+v, %v", l, err)
	}
	if err := f.Rename("d/a", "b"); err != nil {
		t.Error(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Symlink("/etc/passwd", filepath.Join(dir, "out"))
	for name, test := range map[string]struct {
		err  error
		want error
	}{
		"open nothing":         {open(f, "none"), fs.ErrNotExist},
		"open a directory":     {open(f, "d"), syscall.EISDIR},
		"open a pipe":          {open(f, "pipe"), syscall.EINVAL},
		"open outside":         {open(f, "out"), fs.ErrPermission},
		"stat nothing":         {stat(f, "none"), fs.ErrNotExist},
		"list a file":          {list(f, "b"), syscall.ENOTDIR},
		"list nothing":         {list(f, "none"), fs.ErrNotExist},
		"make what is there":   {f.Mkdir("d", 0o755), fs.ErrExist},
		"create a directory":   {create(f, "d"), syscall.EISDIR},
		"create outside":       {create(f, "out"), fs.ErrPermission},
		"remove a full folder": {f.Remove("d"), syscall.ENOTEMPTY},
		"rename nothing":       {f.Rename("none", "x"), fs.ErrNotExist},
		"rename outside":       {f.Rename("b", "../x"), fs.ErrPermission},
		"mode of nothing":      {f.Chmod("none", 0o600), fs.ErrNotExist},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v, want %v", name, test.err, test.want)
		}
	}
	if err := f.Remove("b"); err != nil {
		t.Error(err)
	}
	if _, err := OpenFiles(filepath.Join(dir, "none")); err == nil {
		t.Error("files of no folder")
	}
	if _, err := New(filepath.Join(dir, "none")); err == nil {
		t.Error("a machine of no folder")
	}
}

func open(f *Files, name string) error { _, err := f.Open(name); return err }
func stat(f *Files, name string) error { _, err := f.Stat(name); return err }
func list(f *Files, name string) error { _, err := f.List(name); return err }
func create(f *Files, name string) error {
	_, err := f.Create(name, 0o644, false)
	return err
}
