package hypervisor

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"osv/capstan/internal/fixture"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain plays QEMU and Firecracker where FAKE says so.
func TestMain(m *testing.M) {
	switch os.Getenv("FAKE") {
	case "qemu":
		fixture.FakeQEMU()
	case "firecracker":
		fakeFirecracker()
	case "broken":
		fmt.Fprintln(os.Stderr, "qemu: could not set up host forwarding rule")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func fakeFirecracker() {
	sock := ""
	for i, a := range os.Args {
		if a == "--api-sock" {
			sock = os.Args[i+1]
		}
	}
	l, err := net.Listen("unix", sock)
	if err != nil {
		os.Exit(1)
	}
	fmt.Println("microvm console")
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusNoContent)
			go func() { l.Close(); os.Exit(0) }()
		}
	}))
}

// fakeHost runs this test as every tool, and notes what would have been run.
func fakeHost(t *testing.T) (*Host, *[]string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	return &Host{
		Look: func(string) (string, error) { return self, nil },
		Run: func(_ context.Context, _ string, argv ...string) ([]byte, error) {
			calls = append(calls, strings.Join(argv[1:], " "))
			return nil, nil
		},
		Spawn: spawn,
		KVM:   func(context.Context, string) bool { return false },
	}, &calls
}

func testMachine(t *testing.T) Machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "cap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Machine{Name: "m1", Dir: dir, CPUs: 2, MemMiB: 256, Disk: "disk.qcow2", Net: NAT, Control: "unix:" + filepath.Join(dir, "c.sock")}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

// The command lines and files of every hypervisor.
func TestCommandLines(t *testing.T) {
	m := Machine{Name: "m1", Dir: "/i/m1", CPUs: 2, MemMiB: 256, Disk: "disk.qcow2", Net: NAT, MAC: "52:54:00:00:00:01", Control: "unix:/i/m1/c.sock",
		Forwards: []Forward{{"tcp", "127.0.0.1", 8080, 80}, {"udp", "127.0.0.1", 53, 53}},
		Volumes:  []Volume{{"/v/a,b.raw", "raw", "native", "none"}, {"/v/b.qcow2", "qcow2", "", "unsafe"}}}
	var b strings.Builder
	show := func(title string, lines ...[]string) {
		fmt.Fprintf(&b, "# %s\n", title)
		for _, l := range lines {
			fmt.Fprintln(&b, strings.Join(l, " "))
		}
	}
	show("qemu nat", QEMU{}.Argv("qemu", m, false, true))
	k := m
	k.Kernel, k.CommandLine, k.Volumes, k.Forwards, k.Net, k.Control = "base.elf", "--verbose -- x", nil, nil, Bridge, "tcp:127.0.0.1:5555"
	show("qemu direct bridge kvm", QEMU{}.Argv("qemu", k, true, false))
	k.Net, k.Link = VHost, "tap0"
	show("qemu vhost", QEMU{}.Argv("qemu", k, false, false))
	v := m
	v.Disk, v.Volumes = "base.ova", nil
	show("vbox nat", VirtualBox{}.Commands(v)...)
	v.Net, v.Link, v.Forwards = Bridge, "eth0", nil
	show("vbox bridge", VirtualBox{}.Commands(v)...)
	v.Disk, v.UploadDir = "base.tar.gz", "gs://bucket/dir/"
	show("gce", GCE{}.Commands(v)...)
	f := k
	f.Net, f.Volumes = TAP, []Volume{{"/v/a.raw", "raw", "", ""}}
	show("firecracker", []string{string(Firecracker{}.Config(f))})
	show("vmx", []string{string(VMware{}.VMX([]byte("numvcpus = \"1\"\r\nscsi0.present = \"TRUE\"\n"), v))})
	golden(t, "commands.txt", b.String())
}

func TestQEMULife(t *testing.T) {
	t.Setenv("FAKE", "qemu")
	h, _ := fakeHost(t)
	m := testMachine(t)
	q := QEMU{}
	if s := q.State(t.Context(), h, m); s != Stopped {
		t.Errorf("before the start: %s", s)
	}
	wait, err := q.Start(t.Context(), h, m, nil)
	if err != nil || wait != nil {
		t.Fatal(err)
	}
	if s := q.State(t.Context(), h, m); s != Running {
		t.Errorf("started: %s", s)
	}
	if err := q.Stop(t.Context(), h, m, false); err != nil {
		t.Error(err)
	}
	if s := q.State(t.Context(), h, m); s != Stopped {
		t.Errorf("stopped: %s", s)
	}
	if err := errors.Join(q.Stop(t.Context(), h, m, false), q.Delete(t.Context(), h, m)); err != nil {
		t.Error("stopping what does not run:", err)
	}
}

func TestQEMUForeground(t *testing.T) {
	t.Setenv("FAKE", "qemu")
	h, _ := fakeHost(t)
	m := testMachine(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	wait, err := QEMU{}.Start(ctx, h, m, &IO{Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	cancel() // Ctrl-C
	if err := wait(); err != nil {
		t.Error(err)
	}
	if out.String() != "hello from the guest\n" {
		t.Errorf("console %q", out.String())
	}
	if s := (QEMU{}).State(t.Context(), h, m); s != Stopped {
		t.Error("it runs on")
	}
}

func TestQEMUThatDoesNotStart(t *testing.T) {
	t.Setenv("FAKE", "broken")
	h, _ := fakeHost(t)
	_, err := QEMU{}.Start(t.Context(), h, testMachine(t), nil)
	if err == nil || err.Error() != "qemu: did not start: exit status 1: qemu: could not set up host forwarding rule" {
		t.Error(err)
	}
}

func TestMissing(t *testing.T) {
	h := Local()
	h.Look = func(string) (string, error) { return "", exec.ErrNotFound }
	for _, v := range All {
		m := testMachine(t)
		_, err := v.Start(t.Context(), h, m, nil)
		var e *Missing
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), v.Name()+": ") || !strings.Contains(err.Error(), " is not installed (not in PATH): ") || !strings.HasSuffix(err.Error(), ", or choose another hypervisor by -p") {
			t.Errorf("%s: %v", v.Name(), err)
		}
	}
	if _, err := Find("xen"); err == nil || err.Error() != `hypervisor "xen": want qemu, vbox, vmw, gce, firecracker` {
		t.Error(err)
	}
}

func TestChecks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	taken := Forward{"tcp", "127.0.0.1", port, 80}
	with := func(change func(m *Machine)) Machine {
		m := Machine{Name: "m", Net: NAT}
		change(&m)
		return m
	}
	vol := []Volume{{Path: "/v", Format: "qcow2"}}
	for _, c := range []struct {
		h    Hypervisor
		m    Machine
		want string // "" = fine
	}{
		{QEMU{}, with(func(m *Machine) { m.Volumes = vol }), ""},
		{QEMU{}, with(func(m *Machine) { m.Net = TAP }), `qemu: network "tap": name the TAP interface by -b`},
		{QEMU{}, with(func(m *Machine) { m.Net, m.Forwards = Bridge, []Forward{taken} }), fmt.Sprintf("qemu: -f %d:80: ports are forwarded by -n nat only", port)},
		{QEMU{}, with(func(m *Machine) { m.Forwards = []Forward{taken} }), fmt.Sprintf("port 127.0.0.1:%d/tcp is taken: stop what uses it, or choose another: -f %d:80 (", port, freeAbove(port))},
		{VirtualBox{}, with(func(m *Machine) { m.Forwards = []Forward{taken} }), fmt.Sprintf("port 127.0.0.1:%d/tcp is taken", port)},
		{VirtualBox{}, with(func(m *Machine) { m.Net = Bridge }), `vbox: network "bridge": name the host's interface by -b`},
		{VirtualBox{}, with(func(m *Machine) { m.Net = TAP }), `vbox: network "tap": only nat here`},
		{VirtualBox{}, with(func(m *Machine) { m.Volumes = vol }), "vbox: volume /v: only qemu and firecracker take volumes"},
		{VMware{}, with(func(m *Machine) { m.Forwards = []Forward{taken} }), fmt.Sprintf("vmw: -f %d:80: vmrun forwards no ports", port)},
		{VMware{}, with(func(m *Machine) { m.Net = Bridge }), ""},
		{VMware{}, with(func(m *Machine) { m.Net = VHost }), `vmw: network "vhost": only nat here`},
		{VMware{}, with(func(m *Machine) { m.MAC = "52:54:00:00:00:01" }), "vmw: --mac=52:54:00:00:00:01: VMware takes 00:50:56:00:00:00 to 00:50:56:3f:ff:ff only"},
		{GCE{}, with(func(m *Machine) { m.UploadDir, m.MAC = "gs://b", "52:54:00:00:00:01" }), "gce: --mac=52:54:00:00:00:01: the cloud chooses the address"},
		{GCE{}, with(func(m *Machine) {}), `gce: --gce-upload-dir="": want gs://BUCKET[/FOLDER]`},
		{GCE{}, with(func(m *Machine) { m.UploadDir, m.Forwards = "gs://b", []Forward{taken} }), fmt.Sprintf("gce: -f %d:80: the instance has an address", port)},
		{GCE{}, with(func(m *Machine) { m.UploadDir = "gs://b" }), ""},
		{Firecracker{}, with(func(m *Machine) {}), `firecracker: network "nat": only tap, with the interface by -b`},
		{Firecracker{}, with(func(m *Machine) { m.Net, m.Link, m.Volumes = TAP, "t0", vol }), "firecracker: volume /v: format qcow2: only raw"},
		{Firecracker{}, with(func(m *Machine) { m.Net, m.Link, m.Forwards = TAP, "t0", []Forward{taken} }), fmt.Sprintf("firecracker: -f %d:80: the guest", port)},
	} {
		err := c.h.Check(c.m)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s %+v: %v, want %s", c.h.Name(), c.m, err, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"8080:80": "tcp 127.0.0.1:8080 -> guest 80", "udp:53:53": "udp 127.0.0.1:53 -> guest 53",
		"0.0.0.0:1:2": "tcp 0.0.0.0:1 -> guest 2", "tcp:[::1]:1:2": "tcp [::1]:1 -> guest 2",
		"80": "", "a:b": "", "0:80": "", "80:70000": "", "x.y:1:2": "", "": "",
	} {
		f, err := ParseForward(in)
		if want == "" && (err == nil || err.Error() != fmt.Sprintf("port forward %q: want [tcp:|udp:][ADDRESS:]HOST:GUEST, as 8080:80", in)) || want != "" && (err != nil || f.String() != want) {
			t.Errorf("%q: %v, %v", in, f, err)
		}
	}
	for in, want := range map[string]Volume{
		"/a": {"/a", "raw", "", ""}, "/a:format=qcow2:aio=native:cache=none": {"/a", "qcow2", "native", "none"}, `C:\x:format=raw`: {`C:\x`, "raw", "", ""},
		"/a:format=vdi": {}, "/a:frob": {}, "": {},
	} {
		v, err := ParseVolume(in)
		if (want == Volume{}) != (err != nil) || err == nil && v != want {
			t.Errorf("%q: %+v, %v", in, v, err)
		}
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := (Forward{"udp", "127.0.0.1", u.LocalAddr().(*net.UDPAddr).Port, 1}).Free(); err == nil {
		t.Error("a port that is taken is free")
	}
	if freeAbove(60000) != 50000 {
		t.Error("beyond the last port")
	}
}

// VirtualBox, VMware and the cloud, by a tool that answers as they would.
func TestOthersLife(t *testing.T) {
	for _, c := range []struct {
		v                Hypervisor
		running, stopped string // answers to the question for the state
	}{
		{VirtualBox{}, "VMState=\"running\"\n", "VMState=\"poweroff\"\n"},
		{VMware{}, "Total running VMs: 1\nVMX\n", "Total running VMs: 0\n"},
		{GCE{}, "RUNNING\n", "TERMINATED\n"},
	} {
		t.Run(c.v.Name(), func(t *testing.T) {
			h, _ := fakeHost(t)
			m := testMachine(t)
			m.Disk, m.UploadDir = "base.zip", "gs://b"
			var z bytes.Buffer
			w := zip.NewWriter(&z)
			f, _ := w.Create("m1/m1.vmx")
			io.WriteString(f, "memsize = \"1\"\n")
			w.Create("m1/")
			w.Close()
			if err := os.WriteFile(filepath.Join(m.Dir, m.Disk), z.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			state, exists := c.stopped, false
			var calls []string
			h.Run = func(_ context.Context, _ string, argv ...string) ([]byte, error) {
				line := strings.Join(argv[1:], " ")
				switch {
				case strings.Contains(line, "showvminfo"), strings.Contains(line, "describe"), line == "list":
					if !exists && line != "list" {
						return nil, errors.New("unknown machine")
					}
					return []byte(strings.ReplaceAll(state, "VMX", filepath.Join(m.Dir, "m1.vmx"))), nil
				case strings.Contains(line, "start"), strings.HasPrefix(line, "compute instances create"):
					state, exists = c.running, true
				case strings.Contains(line, "poweroff"), strings.Contains(line, "acpipowerbutton"), strings.Contains(line, "stop"):
					state = c.stopped
				}
				calls = append(calls, line)
				return nil, nil
			}
			var out bytes.Buffer
			wait, err := c.v.Start(t.Context(), h, m, &IO{Out: &out})
			if err != nil {
				t.Fatal(err)
			}
			if s := c.v.State(t.Context(), h, m); s != Running {
				t.Errorf("started: %s", s)
			}
			if wait != nil {
				if err := os.WriteFile(filepath.Join(m.Dir, ConsoleLog), []byte("console\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				state = c.stopped
				if err := wait(); err != nil || out.String() != "console\n" {
					t.Errorf("%v, console %q", err, out.String())
				}
				state = c.running
			}
			for _, force := range []bool{false, true} {
				state = c.running
				if err := c.v.Stop(t.Context(), h, m, force); err != nil {
					t.Error(err)
				}
				if s := c.v.State(t.Context(), h, m); s != Stopped {
					t.Errorf("stopped: %s", s)
				}
			}
			if _, err := c.v.Start(t.Context(), h, m, nil); err != nil {
				t.Error("again:", err)
			}
			if err := c.v.Delete(t.Context(), h, m); err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(filepath.Join(m.Dir, "m1.vmx")); c.v.Name() == "vmw" && (err != nil || !strings.Contains(string(b), `memsize = "256"`)) {
				t.Errorf("%s, %v", b, err)
			}
			if len(calls) < 4 {
				t.Errorf("calls: %v", calls)
			}
			// The tool fails.
			h.Run = func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("no licence") }
			if _, err := c.v.Start(t.Context(), h, m, nil); err == nil || !strings.HasPrefix(err.Error(), c.v.Name()+": ") {
				t.Error(err)
			}
			if err := c.v.Stop(t.Context(), h, m, true); err == nil {
				t.Error("stopped by a tool that fails")
			}
		})
	}
}

func TestFirecrackerLife(t *testing.T) {
	t.Setenv("FAKE", "firecracker")
	h, _ := fakeHost(t)
	m := testMachine(t)
	m.Kernel, m.Net, m.Link = "base.elf", TAP, "tap0"
	f := Firecracker{}
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := f.Start(ctx, h, m, &IO{Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	if s := f.State(t.Context(), h, m); s != Running {
		t.Errorf("started: %s", s)
	}
	cancel()
	if err := wait(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Stop(t.Context(), h, m, false), f.Delete(t.Context(), h, m)); err != nil {
		t.Error(err)
	}
	t.Setenv("FAKE", "broken")
	if _, err := f.Start(t.Context(), h, m, nil); err == nil || !strings.HasPrefix(err.Error(), "firecracker: did not start: exit status 1") {
		t.Error(err)
	}
}

func TestRun(t *testing.T) {
	if out, err := run(t.Context(), "", "go", "env", "GOOS"); err != nil || len(out) == 0 {
		t.Error(err)
	}
	if _, err := run(t.Context(), "", "go", "frob"); err == nil || !strings.Contains(err.Error(), "go frob: exit status 2: ") {
		t.Error(err)
	}
}

func TestQMPRefuses(t *testing.T) {
	dir, err := os.MkdirTemp("", "cap")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for _, say := range []string{"", "{}\n", `{"QMP":{}}` + "\n" + `{"error":{"class":"X","desc":"busy"}}` + "\n"} {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, say)
			if say != "" {
				json.NewDecoder(c).Decode(new(any))
			}
			c.Close()
		}
	}()
	for _, want := range []string{"qmp: no greeting", "qmp: no greeting", "qmp: qmp_capabilities: busy (X)"} {
		if _, err := Dial(t.Context(), "unix:"+path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := Dial(t.Context(), "x"); err == nil {
		t.Error("no address")
	}
}
