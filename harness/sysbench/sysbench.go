// Package sysbench measures what system calls cost in three guests on one QEMU line:
// Debian's kernel as it comes, the same kernel tuned, and ours. The program is the
// same static binary (kernel/ktest/linux/sysbench) in all of them.
//
// Under TCG QEMU counts instructions (-icount shift=0, sleep=off): the guest's clock
// moves by 1 ns an executed instruction, so a busy host changes nothing and "ns" in
// the table are instructions. Under KVM they are real nanoseconds. Guests are
// interleaved, forward and backward in turn, so that drift hits all alike.
//
// Linux runs the program as the child of a shell script that is process 1 of an
// initramfs; ours from an ext4 disk. File operations are therefore on ramfs there and
// on ext4's page cache here.
//
// Who may use it: harness/cmd/sysbench. May not: import the kernel. Start reading at
// Bench.Run, then parse.go and table.go.
package sysbench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"osv/harness/guest/linux"
	"osv/harness/image"
	"osv/harness/rootfs"
	"osv/harness/vm"
)

// The guests, in the order of the table's columns.
const (
	Stock = "Linux stock"
	Tuned = "Linux tuned"
	OSv   = "OSv"
)

// Bench is one comparison. The zero value of a field is a default.
type Bench struct {
	Top      string        // the module's directory, "" = current
	Work     string        // images are made here; must exist
	CacheDir string        // of the Linux guest; "" = linux.DefaultCache
	QEMU     string        // binary
	Kernel   string        // an ELF of appliances/linux that is there already; "" = build it
	Accel    vm.Accel      // "" = KVM where it works, else TCG
	Runs     int           // boots of each guest; 0 = 3
	Rounds   int           // rounds of the program in each boot; 0 = 2
	Timeout  time.Duration // of one boot; 0 = 10 min
	Logs     string        // console logs are kept here, "" = nowhere
	Log      func(string)  // one line a step; nil = silent
}

// guest is one machine to boot.
type guest struct {
	name string
	spec vm.Spec
}

func (b Bench) withDefaults() (Bench, error) {
	if b.Runs == 0 {
		b.Runs = 3
	}
	if b.Rounds == 0 {
		b.Rounds = 2
	}
	if b.Timeout == 0 {
		b.Timeout = 10 * time.Minute
	}
	if b.Log == nil {
		b.Log = func(string) {}
	}
	if b.Runs < 1 {
		return b, fmt.Errorf("sysbench: %d runs: want 1 or more", b.Runs)
	}
	if b.Rounds < 1 || b.Rounds > 100 {
		return b, fmt.Errorf("sysbench: %d rounds: want 1 to 100", b.Rounds)
	}
	if st, err := os.Stat(b.Work); err != nil || !st.IsDir() {
		return b, fmt.Errorf("sysbench: folder %q for images: %w", b.Work, errors.Join(err, errors.New("want an existing directory")))
	}
	return b, nil
}

// Run builds everything, boots all guests Runs times and returns what they said.
func (b Bench) Run(ctx context.Context) (*Report, error) {
	b, err := b.withDefaults()
	if err != nil {
		return nil, err
	}
	qemu := b.QEMU
	if qemu == "" {
		qemu = "qemu-system-x86_64"
	}
	if _, err := exec.LookPath(qemu); err != nil {
		return nil, fmt.Errorf("sysbench: QEMU: %w", err)
	}
	base, err := vm.Spec{QEMU: b.QEMU, Accel: b.Accel, CPUs: 1, MemMiB: 512, OneThread: true}.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	if base.Accel == vm.TCG {
		base.Extra = append(base.Extra, "-icount", "shift=0,sleep=off")
	}
	r := &Report{Counted: base.Accel == vm.TCG, Runs: b.Runs, Rounds: b.Rounds, Guests: []string{Stock, Tuned, OSv}}
	guests, err := b.build(ctx, base, r)
	if err != nil {
		return nil, err
	}
	for i := range b.Runs {
		for _, g := range order(guests, i) {
			b.Log(fmt.Sprintf("run %d of %d: %s", i+1, b.Runs, g.name))
			v, err := b.boot(ctx, g, i)
			if err != nil {
				return nil, fmt.Errorf("sysbench: %s, run %d: %w", g.name, i+1, err)
			}
			if err := r.add(g.name, v); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// order is forward in even rounds, backward in odd ones.
func order(g []guest, round int) []guest {
	out := slices.Clone(g)
	if round%2 == 1 {
		slices.Reverse(out)
	}
	return out
}

func (b Bench) build(ctx context.Context, base vm.Spec, r *Report) ([]guest, error) {
	prog := filepath.Join(b.Work, "sysbench")
	b.Log("building the program")
	src := filepath.Join(b.Top, "kernel/ktest/linux/sysbench/main.c")
	if out, err := exec.CommandContext(ctx, "gcc", "-O1", "-w", "-static", "-pthread", "-o", prog, src).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("sysbench: gcc -static %s: %w\n%s", src, err, out)
	}
	bin, err := os.ReadFile(prog)
	if err != nil {
		return nil, err
	}
	b.Log("making the Linux guest")
	img, err := linux.Ensure(ctx, linux.Config{CacheDir: b.CacheDir, Log: b.Log})
	if err != nil {
		return nil, err
	}
	r.Kernel = img.KernelVersion
	initrd := filepath.Join(b.Work, "sysbench.cpio")
	if err := writeInitrd(initrd, img.BareInitrd, bin, b.Rounds); err != nil {
		return nil, err
	}
	var guests []guest
	for _, p := range []struct {
		name    string
		profile linux.Profile
	}{{Stock, linux.Stock}, {Tuned, linux.Tuned}} {
		g := linux.Guest{Image: img, Profile: p.profile, Service: linux.None, Extra: []string{"rdinit=" + initPath}}
		s, err := g.Spec(base)
		if err != nil {
			return nil, err
		}
		s.Initrd = initrd
		guests = append(guests, guest{p.name, s})
	}

	kernel, disk := b.Kernel, filepath.Join(b.Work, "sysbench.img")
	if kernel == "" {
		b.Log("building our guest")
		kernel = filepath.Join(b.Work, "linux.elf")
		if err := image.BuildWith("./appliances/linux", kernel, image.Options{Dir: b.Top}); err != nil {
			return nil, err
		}
	}
	spec := rootfs.Spec{Name: "sysbench", Free: "16M", Files: []rootfs.File{
		{Src: prog, Dst: "/sysbench", Mode: "755"}, {Dst: "/tmp", Dir: true, Mode: "1777"}, {Dst: "/usr", Dir: true}, {Dst: "/var/tmp", Dir: true, Mode: "1777"}}}
	if _, err := rootfs.Build(ctx, spec, disk, rootfs.Config{}); err != nil {
		return nil, err
	}
	s := base
	s.Kernel, s.RNG = kernel, true
	s.Disks = []vm.Disk{{Path: disk, Snapshot: true}}
	s.Append = "-- /sysbench " + strconv.Itoa(b.Rounds)
	return append(guests, guest{OSv, s}), nil
}

// boot runs a guest to its end.
func (b Bench) boot(ctx context.Context, g guest, run int) (map[string]float64, error) {
	var o vm.Options
	if b.Logs != "" {
		o.LogPath = filepath.Join(b.Logs, fmt.Sprintf("%s-%d.log", strings.ReplaceAll(strings.ToLower(g.name), " ", "-"), run+1))
	}
	v, err := vm.Start(ctx, g.spec, o)
	if err != nil {
		return nil, err
	}
	exit, late := v.WaitTimeout(b.Timeout)
	if late {
		return nil, fmt.Errorf("not done after %s; the end of its console:\n%s", b.Timeout, v.Tail(20))
	}
	if !exit.OK() {
		return nil, fmt.Errorf("%s; the end of its console:\n%s", exit, v.Tail(20))
	}
	var text bytes.Buffer
	for _, l := range v.Lines() {
		fmt.Fprintln(&text, l.Text)
	}
	res, err := Parse(&text)
	if err != nil {
		return nil, fmt.Errorf("%w; the end of its console:\n%s", err, v.Tail(20))
	}
	return res, nil
}
