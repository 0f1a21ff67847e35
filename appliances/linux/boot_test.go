//go:build boot

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"osv/harness/image"
	"osv/harness/rootfs"
	"osv/harness/vm"
	"osv/harness/wire"
)

// The tests of the boot files make the disk of each description, boot Debian's
// programs from it, on a TAP device in a network namespace of its own, and judge them by
// their own clients from there:
//
//	go test -tags boot -timeout 60m ./appliances/linux
//	go test -tags boot -timeout 60m -run TestBootMemcached -linux.load 10m ./appliances/linux

var (
	loadTime = flag.Duration("linux.load", 10*time.Second, "how long servers are loaded (the bar is 10m)")
	keepLogs = flag.String("linux.logs", "", "folder that keeps the consoles")
)

// patience is the longest wait for anything: hosts that run many guests are slow.
const patience = 5 * time.Minute

var kernel = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "osv-linux-")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "linux.elf")
	return out, image.Build(".", out)
})

// describe loads a description by its name, "linux-redis".
func describe(t *testing.T, name string) rootfs.Spec {
	t.Helper()
	s, err := rootfs.Load(name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// makeDisk makes the disk of s.
func makeDisk(t *testing.T, s rootfs.Spec) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), s.Name+".img")
	if _, err := rootfs.Build(t.Context(), s, out, rootfs.Config{}); err != nil {
		if strings.Contains(err.Error(), "debian archive") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	return out
}

// guest is a booted program.
type guest struct {
	*vm.VM
	wire *wire.Wire
	t    *testing.T
	addr string // of the guest, IPv4
}

// The addresses of IPv6 on the wire.
const hostIP6, guestIP6 = "fd00:77::1", "fd00:77::2"

// boot boots the program of s from its disk. What it writes stays on the disk.
func boot(t *testing.T, s rootfs.Spec, disk string) *guest {
	t.Helper()
	elf, err := kernel()
	if err != nil {
		t.Fatal(err)
	}
	w, err := wire.Open(wire.Options{Kind: wire.TAP})
	if errors.Is(err, wire.ErrPrivilege) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ip := wire.GuestIP(0)
	g := &guest{wire: w, t: t, addr: ip.Addr().String()}
	memory, err := rootfs.ParseSize(s.Memory)
	if err != nil {
		t.Fatal(err)
	}
	spec := vm.Spec{
		CPUs: s.CPUs, MemMiB: int(memory >> 20), Kernel: elf, RNG: true, NICs: []vm.NIC{w.NIC(0)}, Disks: []vm.Disk{{Path: disk}},
		Append: s.CommandLine(fmt.Sprintf("--ip=eth0,%v,%d --ip=eth0,%s,64", ip.Addr(), ip.Bits(), guestIP6)),
	}
	o := vm.Options{Enter: w.Enter}
	if *keepLogs != "" {
		o.LogPath = filepath.Join(*keepLogs, strings.ReplaceAll(t.Name(), "/", "-")+".log")
	}
	if g.VM, err = vm.Start(t.Context(), spec, o); err != nil {
		w.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Kill()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s\n%s", spec.Line(), g.Tail(60))
		}
	})
	return g
}

// run runs a command in the guest's network; the error has its last words.
func (g *guest) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), patience+*loadTime)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := g.wire.Space.Run(ctx, cmd); err != nil {
		b := out.Bytes()
		return out.String(), fmt.Errorf("%s: %w: …%s", strings.Join(args, " "), err, b[max(0, len(b)-1000):])
	}
	return out.String(), nil
}

func (g *guest) must(args ...string) string {
	g.t.Helper()
	out, err := g.run(args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// joinIPv6 gives this side of the wire its address: wires have IPv6 switched off.
func (g *guest) joinIPv6() {
	g.t.Helper()
	dev := g.wire.NIC(0).IfName
	g.must("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/"+dev+"/disable_ipv6")
	g.must("ip", "-6", "addr", "add", hostIP6+"/64", "dev", dev, "nodad")
}

// waitLine waits for a line of the console.
func (g *guest) waitLine(re string) {
	g.t.Helper()
	if _, err := g.WaitLine(regexp.MustCompile(re), patience); err != nil {
		g.t.Fatal(err)
	}
}

// waitPort waits until the guest takes TCP connections.
func (g *guest) waitPort(port string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	for {
		c, err := g.wire.DialContext(ctx, "tcp4", g.addr+":"+port)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-ctx.Done():
			g.t.Fatalf("port %s: %v", port, err)
		case <-g.Done():
			g.t.Fatalf("port %s: the guest has ended", port)
		case <-time.After(100 * time.Millisecond): // not up yet: no event says so
		}
	}
}

// ends waits for the program's end and its exit status.
func (g *guest) ends(status int) {
	g.t.Helper()
	e, late := g.WaitTimeout(patience)
	if late {
		g.t.Fatalf("no end within %v", patience)
	}
	if e.Kind != vm.ExitGuest || e.Code != status {
		g.t.Errorf("%v, want exit status %d", e, status)
	}
}

var trouble = regexp.MustCompile(`^panic|fatal error|^goroutine |page fault|killed by signal|out of memory`)

// healthy looks for what a guest says when something is wrong.
func (g *guest) healthy() {
	g.t.Helper()
	select {
	case <-g.Done():
		g.t.Errorf("the guest has ended: %v", g.Wait())
	default:
	}
	for _, l := range g.Lines() {
		if trouble.MatchString(l.Text) {
			g.t.Errorf("console line %d: %s", l.N+1, l.Text)
			return
		}
	}
}

// output is what the console said, from the line after from up to the line until.
func (g *guest) output(from, until string) string {
	var b strings.Builder
	on := from == ""
	for _, l := range g.Lines() {
		if on && strings.HasPrefix(l.Text, until) {
			break
		}
		if on && !strings.HasPrefix(l.Text, "linux: ") {
			b.WriteString(l.Text + "\n")
		}
		on = on || l.Text == from
	}
	return b.String()
}

// clean checks the disk of a guest that has ended.
func clean(t *testing.T, disk string) {
	t.Helper()
	if out, err := exec.Command("e2fsck", "-f", "-n", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// fromDisk unpacks /usr of a disk, and returns how a program of it is run on this host,
// with its own libraries.
func fromDisk(t *testing.T, disk string) func(prog string, args ...string) []string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("debugfs", "-R", "rdump /usr "+dir, disk).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
	lib := filepath.Join(dir, "usr/lib/x86_64-linux-gnu")
	return func(prog string, args ...string) []string {
		return append([]string{filepath.Join(lib, "ld-linux-x86-64.so.2"), "--library-path", lib, filepath.Join(dir, "usr/bin", prog)}, args...)
	}
}

// needTool ends the test where a client is not installed.
func needTool(t *testing.T, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed (Debian: apt-get install %s)", name, pkg)
	}
}
