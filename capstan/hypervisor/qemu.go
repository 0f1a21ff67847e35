package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// QEMU runs machines in qemu-system-x86_64.
type QEMU struct{}

const (
	qemuTool    = "qemu-system-x86_64"
	qemuHint    = "Debian and Ubuntu: apt-get install qemu-system-x86; macOS: brew install qemu; Windows: https://qemu.org/download"
	qemuErrors  = "qemu.err"
	startWait   = 20 * time.Second
	pressedWait = 10 * time.Second
)

// Name is "qemu".
func (QEMU) Name() string { return "qemu" }

// Installed looks for the tool.
func (QEMU) Installed(h *Host) error { _, err := h.tool("qemu", qemuTool, qemuHint); return err }

// Format is "qcow2"; a machine with a Kernel needs no disk.
func (QEMU) Format() string { return "qcow2" }

// Check accepts all networks.
func (QEMU) Check(m Machine) error {
	if (m.Net == TAP || m.Net == VHost) && m.Link == "" {
		return fmt.Errorf("qemu: network %q: name the TAP interface by -b", m.Net)
	}
	if m.Net != NAT && len(m.Forwards) > 0 {
		return fmt.Errorf("qemu: -f %d:%d: ports are forwarded by -n nat only", m.Forwards[0].From, m.Forwards[0].To)
	}
	return checkPorts(m)
}

// Argv is QEMU's command line; paths in the machine's folder are relative to it.
func (QEMU) Argv(qemu string, m Machine, kvm, foreground bool) []string {
	a := []string{qemu, "-name", m.Name, "-nodefaults", "-no-user-config", "-no-reboot", "-M", "q35"}
	add := func(args ...string) { a = append(a, args...) }
	if kvm {
		add("-accel", "kvm", "-cpu", "host,+x2apic")
	} else {
		add("-accel", "tcg,thread=multi", "-cpu", "max,-erms")
	}
	add("-smp", strconv.Itoa(m.CPUs), "-m", strconv.Itoa(m.MemMiB), "-display", "none", "-monitor", "none")
	console := "file,id=console,path=" + ConsoleLog
	if foreground {
		console = "stdio,id=console,signal=on,logfile=" + ConsoleLog
	}
	add("-chardev", console, "-serial", "chardev:console")
	if path, ok := strings.CutPrefix(m.Control, "unix:"); ok {
		add("-chardev", "socket,id=qmp,server=on,wait=off,path="+comma(path))
	} else {
		host, port, _ := net.SplitHostPort(strings.TrimPrefix(m.Control, "tcp:"))
		add("-chardev", "socket,id=qmp,server=on,wait=off,host="+host+",port="+port)
	}
	add("-mon", "chardev=qmp,mode=control", "-device", "virtio-rng-pci")
	add("-device", "isa-debug-exit,iobase=0xf4,iosize=0x4") // the guest's exit status
	if m.Kernel != "" {
		add("-kernel", m.Kernel, "-append", m.CommandLine)
	} else {
		add("-blockdev", node(m.Disk, "qcow2", "disk0", "", ""), "-device", "virtio-blk-pci,drive=disk0,bootindex=0")
	}
	for i, v := range m.Volumes {
		id := "volume" + strconv.Itoa(i)
		add("-blockdev", node(v.Path, v.Format, id, v.AIO, v.Cache), "-device", "virtio-blk-pci,drive="+id)
	}
	netdev := "user,id=net0"
	switch m.Net {
	case Bridge:
		link := m.Link
		if link == "" {
			link = "virbr0"
		}
		netdev = "bridge,id=net0,br=" + comma(link)
	case TAP, VHost:
		netdev = "tap,id=net0,script=no,downscript=no,ifname=" + comma(m.Link)
		if m.Net == VHost {
			netdev += ",vhost=on"
		}
	default:
		for _, f := range m.Forwards {
			netdev += fmt.Sprintf(",hostfwd=%s:%s:%d-:%d", f.Proto, f.Host, f.From, f.To)
		}
	}
	card := "virtio-net-pci,netdev=net0,romfile="
	if m.MAC != "" {
		card += ",mac=" + m.MAC
	}
	add("-netdev", netdev, "-device", card)
	return a
}

// comma doubles commas, as QEMU's options want.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// node is a block device as JSON, which spares quoting.
func node(path, format, id, aio, cache string) string {
	file := map[string]any{"driver": "file", "filename": path}
	n := map[string]any{"driver": format, "node-name": id, "file": file, "discard": "unmap"}
	if aio != "" {
		file["aio"] = aio
	}
	if cache != "" {
		c := map[string]bool{"direct": cache == "none" || cache == "directsync", "no-flush": cache == "unsafe"}
		n["cache"], file["cache"] = c, c
	}
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // strings and bools always marshal
	}
	return string(b)
}

// Start runs QEMU. It is up when its control socket answers.
func (q QEMU) Start(ctx context.Context, h *Host, m Machine, fg *IO) (func() error, error) {
	tool, err := h.tool("qemu", qemuTool, qemuHint)
	if err != nil {
		return nil, err
	}
	kvm := !m.NoKVM && h.KVM(ctx, tool)
	argv := q.Argv(tool, m, kvm, fg != nil)
	errPath := filepath.Join(m.Dir, qemuErrors)
	errFile, err := os.Create(errPath)
	if err != nil {
		return nil, err
	}
	defer errFile.Close()
	if p, ok := strings.CutPrefix(m.Control, "unix:"); ok {
		os.Remove(p) // of a QEMU that was killed
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stderr = m.Dir, errFile
	if fg != nil {
		cmd.Stdin, cmd.Stdout = fg.In, fg.Out
		cmd.WaitDelay = time.Second // a reader of standard input that never ends
	}
	if err := h.Spawn(cmd, fg == nil); err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	c, err := q.connect(ctx, m, ended, startWait)
	if errors.As(err, new(*exec.ExitError)) {
		var guest *GuestStatus
		if end := guestEnd(err, errPath); end == nil || errors.As(end, &guest) { // it ended before it was asked anything
			if fg == nil {
				return nil, end
			}
			return func() error { return end }, nil
		}
	}
	if err != nil {
		cmd.Process.Kill()                 //nolint:errcheck // gone already is fine
		if ctx.Err() != nil && fg != nil { // interrupted, as one ends a machine in the foreground
			<-ended
			return func() error { return nil }, nil
		}
		return nil, fmt.Errorf("qemu: %w: %s", err, stderrTail(errPath))
	}
	if c != nil {
		c.Close()
	}
	if fg == nil {
		return nil, nil
	}
	return func() error {
		select {
		case err = <-ended:
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), pressedWait)
			defer cancel()
			if err := q.Stop(stop, h, m, true); err != nil {
				cmd.Process.Kill() //nolint:errcheck // gone already is fine
			}
			err = <-ended
		}
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil
		}
		return guestEnd(err, errPath)
	}, nil
}

// GuestStatus is the error for a guest that ended with a status other than 0.
type GuestStatus struct{ Status int }

func (e *GuestStatus) Error() string {
	return fmt.Sprintf("the guest ended with status %d", e.Status)
}

// guestEnd tells how the guest ended from how QEMU did: its debug-exit device makes
// twice the guest's status and one of it. One alone is also what QEMU's own errors
// give, of which it says something.
func guestEnd(err error, errPath string) error {
	var e *exec.ExitError
	if errors.As(err, &e) && e.ExitCode()&1 == 1 && e.ExitCode() > 0 {
		if n := e.ExitCode() >> 1; n > 0 {
			return &GuestStatus{n}
		}
		if stderrTail(errPath) == "" {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("qemu: %w: %s", err, stderrTail(errPath))
	}
	return nil
}

// connect waits for the control socket. A machine that has ended meanwhile, and well,
// is no error: c is nil.
func (QEMU) connect(ctx context.Context, m Machine, ended chan error, wait time.Duration) (*QMP, error) {
	deadline := time.Now().Add(wait)
	for {
		c, err := Dial(ctx, m.Control)
		if err == nil {
			return c, nil
		}
		select {
		case err := <-ended:
			ended <- err
			if err == nil {
				return nil, nil
			}
			return nil, fmt.Errorf("did not start: %w", err)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no answer on its control socket within %v: %w", wait, err)
		}
	}
}

// Stop presses the power button, and pulls the plug where that has no effect within
// ten seconds. Disk caches are written either way.
func (q QEMU) Stop(ctx context.Context, h *Host, m Machine, force bool) error {
	c, err := Dial(ctx, m.Control)
	if err != nil {
		return nil //nolint:nilerr // it does not run
	}
	defer c.Close()
	if !force {
		if err := c.Do("system_powerdown", nil); err != nil && !errors.Is(err, errClosed) {
			return err
		}
		if c.WaitClosed(pressedWait) {
			return nil
		}
	}
	if err := c.Do("quit", nil); err != nil && !errors.Is(err, errClosed) {
		return err
	}
	if !c.WaitClosed(pressedWait) {
		return fmt.Errorf("qemu: %s: still there %v after \"quit\"", m.Name, pressedWait)
	}
	return nil
}

// State asks the control socket.
func (QEMU) State(ctx context.Context, h *Host, m Machine) State {
	c, err := Dial(ctx, m.Control)
	if err != nil {
		return Stopped
	}
	defer c.Close()
	var st struct{ Status string }
	if err := c.Do("query-status", &st); err != nil {
		return Unknown
	}
	if st.Status == "shutdown" {
		return Stopped
	}
	return Running
}

// Delete removes the control socket.
func (QEMU) Delete(ctx context.Context, h *Host, m Machine) error {
	if p, ok := strings.CutPrefix(m.Control, "unix:"); ok && filepath.Dir(p) != m.Dir {
		os.Remove(p)
	}
	return nil
}
