package bench

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/vm"
	"osv/harness/wire"
)

// osvKind makes the kind osv of this module, or skips where it cannot be run.
func osvKind(t *testing.T) *OSv {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a guest")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("QEMU is not installed")
	}
	q := &QEMU{Cache: t.TempDir(), Base: vm.Spec{Accel: vm.TCG}}
	if err := q.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &OSv{QEMU: q, Module: "../.."}
}

func osvSystem() design.System {
	return design.System{Name: "osv", Title: "OSv", Guest: "osv", Role: design.Subject, Profile: "memcached"}
}

func bootConfig(ports ...string) Config {
	return Config{System: osvSystem(), Service: "memcached", CPUs: 1, MemMiB: 128, Ports: ports, Instructions: true}
}

// An appliance boots, is loaded over UDP and TCP, placed, killed and booted
// again, over every wire that this user may have; nothing is left behind.
func TestOSvGuest(t *testing.T) {
	k := osvKind(t)
	serial := filepath.Join(t.TempDir(), "serial.log")
	cfg := bootConfig("udp:11211", "tcp:11211")
	cfg.Serial = serial
	g, err := k.Boot(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	f := g.Facts()
	if f.FirstReply <= 0 || f.FirstReply > 60 || f.Accel != "tcg" || f.Kernel != "OSv" || f.ImageBytes < 1<<20 || !strings.HasPrefix(f.Image, "sha256:") ||
		f.Parity["memory"] != "128 MiB" || !strings.Contains(f.Line, "--ip=eth0,10.77.0.2,24") {
		t.Errorf("%+v", f)
	}
	if _, err := os.Stat(serial); err != nil {
		t.Error(err)
	}
	r := &Runner{Plan: testPlan(), LoadCommand: loadCommand}
	for port, kind := range map[string]load.Kind{"udp:11211": load.MemcachedUDP, "tcp:11211": load.MemcachedTCP} {
		w := design.Workload{Name: "x", Port: port, Spec: testSpec(kind)}
		w.Spec.Duration = load.Duration(300 * time.Millisecond)
		res, err := r.measure(t.Context(), g, w, nil, "", "test")
		if err != nil {
			t.Fatalf("%s: %v", port, err)
		}
		m := Metrics(res, design.Free)
		if res.Completed < 2 || res.Wrong+res.Errors > 0 || m["vcpu_ns"] <= 0 {
			t.Errorf("%s: %+v", port, res)
		}
		// Each request costs less than one of each where several are outstanding.
		if on := g.Facts().Parity["instruction counting"] == "on"; on && (res.Probes["doorbells"] == 0 || res.Probes["interrupts"] == 0 || m["doorbells"] > 5 || m["interrupts"] > 20) {
			t.Errorf("%s: %v interrupts and %v doorbells per request", port, m["interrupts"], m["doorbells"])
		}
		if len(g.Facts().Parity["instruction counting"]) > 0 && g.Facts().Parity["instruction counting"] == "on" && (m["instructions"] < 300 || m["instructions"] > 1e6) {
			t.Errorf("%s: %v instructions per request", port, m["instructions"])
		}
	}
	if _, err := g.Place(design.Free); err != nil {
		t.Error(err)
	}
	if vm.AllowedCPUs() >= 2 {
		for _, p := range []design.Placement{design.OneCore, design.Split} {
			if client, err := g.Place(p); err != nil || len(client) == 0 {
				t.Errorf("%s: %v %v", p, client, err)
			}
		}
	}
	// QEMU is killed under our hands: the guest says so, and Stop still cleans up.
	if err := unix.Kill(g.(*qemuGuest).v.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-g.(*qemuGuest).v.Done()
	if err := g.Alive(); err == nil || !strings.Contains(err.Error(), "the guest ended") {
		t.Errorf("alive: %v", err)
	}
	if err := g.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := g.Stop(); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

func TestOSvOnVhostUser(t *testing.T) {
	k := osvKind(t)
	k.VHost = true
	if _, err := k.Boot(t.Context(), bootConfig("tcp:11211")); err == nil || !strings.Contains(err.Error(), "cannot be reached on vhost-user") {
		t.Error(err)
	}
	g, err := k.Boot(t.Context(), bootConfig("udp:11211"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	r := &Runner{Plan: testPlan(), LoadCommand: []string{"false"}}
	w := design.Workload{Name: "x", Port: "udp:11211", Spec: testSpec(load.MemcachedUDP)}
	w.Spec.Duration = load.Duration(300 * time.Millisecond)
	for range 2 { // the port stays open from one load to the next
		res, err := r.measure(t.Context(), g, w, nil, "", "test")
		if err != nil || res.Completed < 10 || res.Wrong > 0 {
			t.Fatalf("%+v %v", res, err)
		}
	}
	if err := g.Run(t.Context(), exec.Command("true")); err == nil {
		t.Error("a process is run where there is no wire for it")
	}
	if _, err := g.(FrameGuest).Frames("tcp:11211"); err == nil {
		t.Error("frames for TCP")
	}
	if g.Facts().Wire != "vhost-user" || g.Facts().FirstReply != 0 {
		t.Errorf("%+v", g.Facts())
	}
}

// A guest that does not come up leaves nothing, and says what was on its
// console.
func TestOSvThatDoesNotAnswer(t *testing.T) {
	k := osvKind(t)
	cfg := bootConfig("udp:11211")
	cfg.System.Options = map[string]string{"args": "-no-such-option"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if g, err := k.Boot(ctx, cfg); err == nil {
		g.Stop()
		t.Fatal("it boots")
	} else if !strings.Contains(err.Error(), "console") {
		t.Error(err)
	}
}

func TestCan(t *testing.T) {
	k := &OSv{QEMU: &QEMU{}, Module: t.TempDir()}
	if err := k.Can(osvSystem(), "memcached"); err == nil || !strings.Contains(err.Error(), "holds no program") {
		t.Error(err)
	}
	if err := k.Can(osvSystem(), "gopher"); err == nil {
		t.Error("an appliance for gopher")
	}
	if _, err := k.Boot(t.Context(), bootConfig()); err == nil {
		t.Error("booted without a program")
	}
	l := &Linux{QEMU: &QEMU{}}
	stock := design.System{Guest: "linux", Profile: "stock"}
	if err := l.Can(stock, "memcached"); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ profile, service string }{{"stock", "gopher"}, {"stock", "init-only"}, {"odd", "memcached"}} {
		if err := l.Can(design.System{Profile: c.profile}, c.service); err == nil {
			t.Errorf("%+v can be run", c)
		}
	}
	if _, err := l.Boot(t.Context(), Config{System: stock, Service: "gopher"}); err == nil {
		t.Error("booted a service that is not there")
	}
	if err := (Local{}).Can(stock, "iperf3"); err == nil {
		t.Error("a local iperf3")
	}
	if err := (Local{Binary: "/nonexistent"}).Can(stock, "memcached"); err == nil {
		t.Error("a binary that is not there")
	}
}

func TestPins(t *testing.T) {
	if vm.AllowedCPUs() < 2 {
		t.Skip("one core")
	}
	one, client, err := pins(design.OneCore)
	if err != nil || len(one.VCPU) != 1 || one.VCPU[0] != one.Rest[0] || len(one.Rest) != 1 || client[0] == one.VCPU[0] {
		t.Errorf("%+v %v %v", one, client, err)
	}
	split, client2, err := pins(design.Split)
	if err != nil || split.VCPU[0] != one.VCPU[0] || split.Rest[0] == split.VCPU[0] || client2[0] != split.Rest[0] {
		t.Errorf("%+v %v %v", split, client2, err)
	}
	if free, client, err := pins(design.Free); err != nil || len(free.VCPU) < 2 || client != nil {
		t.Errorf("%+v %v", free, err)
	}
}

func TestUnbootableQEMU(t *testing.T) {
	q := &QEMU{Base: vm.Spec{QEMU: "/nonexistent/qemu", Accel: vm.TCG}}
	said := []string{}
	q.Log = func(s string) { said = append(said, s) }
	q.log("once %d", 1)
	q.log("once %d", 1)
	if len(said) != 1 {
		t.Errorf("%q", said)
	}
	if c := q.plug(t.Context(), &vm.Spec{Accel: vm.TCG, CPUs: 1, QEMU: "/nonexistent/qemu"}, 0); c != nil || len(said) != 2 {
		t.Errorf("a counter without QEMU; %q", said)
	}
	if c := q.plug(t.Context(), &vm.Spec{Accel: vm.KVM, CPUs: 1}, 0); c != nil {
		t.Error("a counter under KVM")
	}
	_, err := q.start(t.Context(), Config{CPUs: 1, MemMiB: 64, Ports: []string{"tcp:11211"}}, func(s vm.Spec) (vm.Spec, error) { return s, nil })
	if err == nil || errors.Is(err, wire.ErrPrivilege) {
		t.Error(err)
	}
	_, err = q.start(t.Context(), Config{CPUs: 1, MemMiB: 64, Ports: []string{"tcp:11211"}}, func(s vm.Spec) (vm.Spec, error) { return s, errors.New("no spec") })
	if err == nil || !strings.Contains(err.Error(), "no spec") {
		t.Error(err)
	}
	if _, err := fileDigest("/nonexistent"); err == nil || fileBytes("/nonexistent") != 0 {
		t.Error("a file that is not there")
	}
}

// KVM's counter of exits is a probe where it can be read.
func TestKVMExits(t *testing.T) {
	root := t.TempDir()
	if got := kvmExits(root, 77); got != nil {
		t.Errorf("%v of a machine without KVM", got)
	}
	dir := filepath.Join(root, "77-12")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "exits")
	if err := os.WriteFile(file, []byte("1000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ps, err := load.ParseProbes(kvmExits(root, 77))
	if err != nil || len(ps) != 1 {
		t.Fatalf("%v %v", ps, err)
	}
	defer ps.Close()
	if err := ps.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("1450\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err := ps.Stop(); err != nil || m["exits"] != 450 {
		t.Errorf("%v %v", m, err)
	}
}
