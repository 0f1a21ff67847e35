// Command osvrun boots a kernel ELF in QEMU. It prints the QEMU line first, so
// that one can leave it behind, then the serial console, and exits with the
// guest's own code: 124 after --timeout or an interrupt, 125 where QEMU failed,
// 126 after a reset or triple fault.
package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	flags "osv/harness/internal/cli"
	"osv/harness/vm"
	"osv/harness/wire"
)

type cli struct {
	Kernel string `arg:"" type:"existingfile" help:"Kernel ELF with a PVH note, a Linux bzImage, or the description of a Linux program (appliances/linux/NAME.yaml), whose disk and kernel are made first."`

	Machine string   `help:"Board: q35, pc or microvm." default:"q35" enum:"q35,pc,microvm" short:"M"`
	Accel   string   `help:"auto (KVM where a guest really boots, else TCG), kvm or tcg." default:"auto" enum:"auto,kvm,tcg"`
	CPU     string   `help:"CPU model (default: max,-erms under TCG, host under KVM)."`
	CPUs    int      `help:"Number of vCPUs." default:"1" name:"cpus" short:"c"`
	Mem     int      `help:"Guest memory in MiB." default:"256" short:"m"`
	Append  string   `help:"Kernel command line." short:"a"`
	Initrd  string   `help:"Initial RAM disk." type:"existingfile"`
	Net     []string `help:"Network card: wire (a TAP in a namespace of its own; the guest is 10.77.0.2/24, the host 10.77.0.1), user[,fwd=tcp:127.0.0.1:8080-:80], tap=IF[,vhost], dgram=LOCAL:REMOTE, vhost-user=SOCKET; then mac=, queues=, model=, pcap=, off, nomsix. May repeat." sep:"none" placeholder:"CARD"`
	Disk    []string `help:"Disk: PATH[,bus=virtio-blk|ahci|nvme|pvscsi][,format=qcow2][,ro][,snapshot][,eio=EVENT@SECTOR]. May repeat." sep:"none" placeholder:"DISK"`
	RNG     bool     `help:"Add a virtio-rng device." default:"true" negatable:""`
	Pin     string   `help:"Host cores VCPUS/REST, for example 0/1."`
	QEMU    string   `help:"QEMU binary." default:"qemu-system-x86_64" name:"qemu"`
	QEMUArg []string `help:"Further QEMU argument, as it is. May repeat." name:"qemu-arg" sep:"none" placeholder:"ARG"`

	GDB     bool          `help:"Stop before the first instruction and wait for a debugger; writes KERNEL.gdb." name:"gdb"`
	GDBPort int           `help:"Port of the debugger stub (default: one per user)." name:"gdb-port"`
	Log     string        `help:"Keep the serial console in this file." type:"path"`
	Timeout time.Duration `help:"Kill the guest after this time; 0 = never." default:"0s"`
	DryRun  bool          `help:"Print the QEMU line and stop."`
	Quiet   bool          `help:"Do not print the QEMU line." short:"q"`

	wire     *wire.Wire
	out, err io.Writer
}

func (c *cli) spec() (vm.Spec, error) {
	s := vm.Spec{
		QEMU: c.QEMU, Machine: vm.Machine(c.Machine), CPU: c.CPU, CPUs: c.CPUs, MemMiB: c.Mem,
		Kernel: c.Kernel, Append: c.Append, Initrd: c.Initrd, RNG: c.RNG, Extra: c.QEMUArg,
	}
	if c.Accel != "auto" {
		s.Accel = vm.Accel(c.Accel)
	}
	for _, n := range c.Net {
		nic, err := c.nic(n)
		if err != nil {
			return s, err
		}
		s.NICs = append(s.NICs, nic)
	}
	for _, d := range c.Disk {
		disk, err := vm.ParseDisk(d)
		if err != nil {
			return s, err
		}
		s.Disks = append(s.Disks, disk)
	}
	var err error
	if s.Pin, err = vm.ParsePin(c.Pin); err != nil {
		return s, err
	}
	if c.GDB {
		if s.GDBPort = c.GDBPort; s.GDBPort == 0 {
			s.GDBPort = vm.UserGDBPort()
		}
	}
	return s, nil
}

// nic reads one card; "wire" makes the namespace that it hangs in.
func (c *cli) nic(n string) (vm.NIC, error) {
	opts, own := strings.CutPrefix(n, "wire")
	if !own {
		return vm.ParseNIC(n)
	}
	nic, err := vm.ParseNIC("tap=own" + opts)
	if err != nil || c.wire != nil {
		return nic, errors.Join(err, errTwoWires(c.wire))
	}
	c.wire, err = wire.Open(wire.Options{Kind: wire.TAP, Queues: nic.Queues, Off: nic.Off, VHost: nic.VHost})
	if err != nil {
		return nic, err
	}
	made := c.wire.NIC(0)
	nic.IfName, nic.Kind = made.IfName, made.Kind
	if nic.MAC == "" {
		nic.MAC = made.MAC
	}
	fmt.Fprintf(c.err, "wire: host %s, guest %s; enter it by: nsenter --net=%s\n", wire.Host, wire.Guest, c.wire.Space.Path())
	return nic, nil
}

func errTwoWires(w *wire.Wire) error {
	if w == nil {
		return nil
	}
	return errors.New("one wire is all there is")
}

func (c *cli) run(ctx context.Context) (int, error) {
	if strings.HasSuffix(c.Kernel, ".yaml") {
		if err := c.program(ctx); err != nil {
			return 2, err
		}
	}
	s, err := c.spec()
	if c.wire != nil {
		defer c.wire.Close()
	}
	if err != nil {
		return 2, err
	}
	if c.DryRun {
		if s, err = s.Resolve(ctx); err != nil {
			return 2, err
		}
		fmt.Fprintln(c.out, s.Line())
		return 0, nil
	}
	if err := fits(c.Kernel, c.Mem); err != nil {
		return 2, err
	}
	o := vm.Options{Echo: c.out, Stdin: os.Stdin, LogPath: c.Log}
	if c.wire != nil {
		o.Enter = c.wire.Enter
	}
	if !c.Quiet {
		o.Print = c.err
	}
	if c.GDB {
		script := strings.TrimSuffix(c.Kernel, ".elf") + ".gdb"
		if err := os.WriteFile(script, []byte(vm.GDBScript(c.Kernel, s.GDBPort)), 0o644); err != nil {
			return 2, fmt.Errorf("gdb script: %w", err)
		}
		fmt.Fprintf(c.err, "held before the first instruction; in another terminal: gdb -x %s\n", script)
		o.Hold = true // the debugger's "continue" starts it
	}
	var late error
	if c.Timeout > 0 {
		late = fmt.Errorf("still running after %v", c.Timeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, late)
		defer cancel()
	}
	v, err := vm.Start(ctx, s, o)
	switch {
	case late != nil && errors.Is(err, late): // a busy host: QEMU itself was not up by then
		return 124, err
	case err != nil:
		return 125, err
	}
	e := v.Wait()
	if err := v.LogErr(); err != nil {
		fmt.Fprintln(c.err, "osvrun: serial log:", err)
	}
	if !e.OK() {
		return e.ProcessCode(), errors.New(e.String())
	}
	return e.ProcessCode(), nil
}

// fits refuses a guest whose memory ends inside the kernel: the firmware would
// overwrite it, and nothing would ever be printed.
func fits(kernel string, memMiB int) error {
	f, err := elf.Open(kernel)
	if err != nil {
		return nil // not an ELF: QEMU knows other formats
	}
	defer f.Close()
	end := uint64(0)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			end = max(end, p.Paddr+p.Memsz)
		}
	}
	if uint64(memMiB)<<20 < end {
		return fmt.Errorf("%s is loaded up to %.1f MiB; a guest with %d MiB cannot hold it", kernel, float64(end)/(1<<20), memMiB)
	}
	return nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := cli{out: stdout, err: stderr}
	if code, done := flags.Parse("osvrun", "Boot a kernel ELF in QEMU; exit with the guest's code.", &c, args, stdout, stderr); done {
		return code
	}
	code, err := c.run(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "osvrun:", err)
	}
	return code
}

func main() {
	for _, a := range os.Args[1:] {
		if strings.HasPrefix(strings.TrimPrefix(a, "--net="), "wire") {
			wire.Become()
		}
	}
	flags.Main(run)
}
