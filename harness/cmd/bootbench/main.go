// Command bootbench compares guests that have nothing to do: time to the first
// line of the program, least memory, size, idle cost, and the prices our kernel
// measures of itself; beside a Debian cloud kernel whose init is one line, under
// the same QEMU. Exit status: 0 measured, 1 failed, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"osv/harness/bootbench"
	"osv/harness/guest/linux"
	"osv/harness/image"
	flags "osv/harness/internal/cli"
	"osv/harness/vm"
)

type cli struct {
	N        int    `help:"Boots of each guest; 6 or more give intervals." default:"10" short:"n"`
	Quick    bool   `help:"Three boots, short looks: no intervals."`
	Machine  string `help:"Board of the comparison." default:"q35" enum:"q35,pc"`
	CPUs     int    `help:"vCPUs." default:"1" name:"cpus"`
	Mem      int    `help:"Guest memory in MiB, floors aside." default:"256"`
	Accel    string `help:"auto, kvm or tcg." default:"auto" enum:"auto,kvm,tcg"`
	Pin      string `help:"Host cores VCPUS/REST, for example 0/1."`
	Progs    string `help:"Folder of the programs hello, http, idle and bench." default:"kernel/ktest/progs"`
	Build    string `help:"Build the programs here." default:"build/progs"`
	NoFloor  bool   `help:"Leave out the memory floors, the longest part."`
	NoLinux  bool   `help:"Only our guest, without ratios."`
	JSON     string `help:"Write the report to this file; - for standard output." name:"json"`
	Verbose  bool   `help:"One line for each boot." short:"v"`
	CacheDir string `help:"Cache of the Linux guest (default: osv in the user's cache folder)."`

	out, err io.Writer
}

func (c *cli) suite(ctx context.Context, log func(string)) (bootbench.Suite, error) {
	s := bootbench.Suite{Left: "OSv", Right: "Linux", N: c.N, FloorTop: 512, Settle: 3 * time.Second, Look: 10 * time.Second, PricesN: 5}
	if c.Quick {
		s.N, s.Settle, s.Look, s.PricesN = 3, time.Second, 3*time.Second, 1
	}
	pin, err := vm.ParsePin(c.Pin)
	if err != nil {
		return s, err
	}
	base := vm.Spec{Machine: vm.Machine(c.Machine), CPUs: c.CPUs, MemMiB: c.Mem, Pin: pin}
	if c.Accel != "auto" {
		base.Accel = vm.Accel(c.Accel)
	}
	if base, err = base.Resolve(ctx); err != nil {
		return s, err
	}

	build := func(prog, suffix string, o image.Options) (string, error) {
		out := filepath.Join(c.Build, prog+suffix+".elf")
		log("building " + prog + suffix)
		dir, err := filepath.Abs(filepath.Join(c.Progs, prog))
		if err != nil {
			return "", err
		}
		if err := image.BuildWith(dir, out, o); err != nil {
			return "", fmt.Errorf("%s: %w", prog, err)
		}
		return out, nil
	}
	elf := map[string]string{}
	for _, p := range []string{"hello", "http", "idle", "bench"} {
		if elf[p], err = build(p, "", image.Options{}); err != nil {
			return s, err
		}
	}
	stripped, err := build("hello", "-stripped", image.Options{Strip: true})
	if err != nil {
		return s, err
	}
	osv := func(prog, first string, ends bool) bootbench.Subject {
		sub := bootbench.Subject{Name: "OSv " + prog, Spec: base, First: regexp.MustCompile(first), Ends: ends, Timeout: 20 * time.Second}
		sub.Spec.Kernel = elf[prog]
		return sub
	}
	hello, http := osv("hello", "^hello$", true), osv("http", "^http: ok", true)
	idle := osv("idle", "^idle ", false)
	idle.Spec.Append = "3600"

	s.Boots[0], s.Idle[0] = &hello, &idle
	micro := hello
	micro.Name, micro.Spec.Machine = "OSv hello on microvm", vm.MicroVM
	s.Also = []bootbench.Case{{Title: "  on microvm", Subjects: [2]*bootbench.Subject{&micro}}}
	s.Sizes = []bootbench.Size{
		{Title: "size: ELF; kernel and root", Files: [2][]string{{elf["hello"]}}},
		{Title: "  without symbols", Files: [2][]string{{stripped}}},
		{Title: "  with net/http", Files: [2][]string{{elf["http"]}}},
	}
	s.Prices = map[string]bootbench.Subject{}
	for _, n := range []int{1, 2} {
		p := osv("bench", "", true)
		p.Name, p.Spec.CPUs, p.Timeout = fmt.Sprintf("OSv bench, %d vCPU", n), n, 60*time.Second
		s.Prices[fmt.Sprintf(" (%d vCPU)", n)] = p
	}
	floor := bootbench.Case{Title: "memory floor: hello; one-line init", Subjects: [2]*bootbench.Subject{&hello}}
	if !c.NoLinux {
		img, err := linux.Ensure(ctx, linux.Config{CacheDir: c.CacheDir, Log: log})
		if err != nil {
			return s, err
		}
		bare := bootbench.Subject{Name: "Linux one-line init", Spec: linux.BareSpec(img, base), First: linux.InitLine, Timeout: 30 * time.Second}
		s.Boots[1], s.Idle[1] = &bare, &bare
		if img.Unpacked != "" {
			// Linux's own quickest way: no unpacking in the guest.
			direct := bare
			direct.Name, direct.Spec.Kernel = "Linux one-line init, kernel unpacked beforehand", img.Unpacked
			s.Also = append(s.Also, bootbench.Case{Title: "  Linux unpacked beforehand", Subjects: [2]*bootbench.Subject{nil, &direct}})
		}
		floor.Subjects[1] = &bare
		s.Sizes[0].Files[1] = []string{img.Kernel, img.BareInitrd}
	}
	if !c.NoFloor {
		s.Floors = []bootbench.Case{floor, {Title: "memory floor: net/http", Subjects: [2]*bootbench.Subject{&http}}}
	}
	return s, nil
}

func (c *cli) run(ctx context.Context) error {
	tty := flags.IsTerminal(c.err)
	log := func(text string) {
		if tty && !c.Verbose {
			fmt.Fprintf(c.err, "\r\x1b[K%s", text)
		} else {
			fmt.Fprintln(c.err, text)
		}
	}
	s, err := c.suite(ctx, log)
	if err != nil {
		return err
	}
	b := bootbench.Bench{}
	if tty || c.Verbose {
		b.Log = func(f string, a ...any) { log(fmt.Sprintf(f, a...)) }
	}
	r, err := s.Run(ctx, b)
	if tty && !c.Verbose {
		fmt.Fprint(c.err, "\r\x1b[K")
	}
	table := c.out
	if c.JSON == "-" {
		table = c.err
	}
	if len(r.Rows) > 0 {
		r.Table(table)
	}
	switch {
	case err != nil || c.JSON == "":
		return err
	case c.JSON == "-":
		return r.WriteJSON(c.out)
	}
	f, err := os.Create(c.JSON)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteJSON(f), f.Close())
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := cli{out: stdout, err: stderr}
	if code, done := flags.Parse("bootbench", "Boot time, memory floor, size and idle cost beside Linux.", &c, args, stdout, stderr); done {
		return code
	}
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(stderr, "bootbench:", err)
		if ctx.Err() != nil {
			return 130
		}
		return 1
	}
	return 0
}

func main() { flags.Main(run) }
