// Package boottest boots small programs as guests and judges how they end: each
// program under kernel/ktest/progs, on each board, with each number of vCPUs.
//
// What a program must do is written in its own source as //boot: directives, so
// that program and expectation cannot drift apart. Without any, a program must
// exit with code 0 on q35, pc and microvm with 1, 2 and 4 vCPUs.
//
// Who may use it: harness/cmd/boottest, and go test -tags boot in this folder.
// May not: build kernels (it is given a Builder), know what a program tests.
//
// Start reading at Case, then run.go.
package boottest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"osv/harness/vm"
)

// Case is one expectation of one program. It is run once on each of Machines
// with each of CPUs.
type Case struct {
	Prog string // folder name
	Name string // "" for a program's only case
	Dir  string // folder of the program

	Exit     vm.ExitKind // wanted end
	Code     int         // wanted code where Exit is vm.ExitGuest
	Want     []*regexp.Regexp
	Reject   []*regexp.Regexp
	Append   string
	MemMiB   int
	CPUs     []int
	Machines []vm.Machine
	Timeout  time.Duration
	NoRNG    bool
	NICs     []string // short form of vm.ParseNIC
	Disks    []string // SIZE[,options of vm.ParseDisk]: a new file of zeroes
	QEMU     []string // further arguments; $PROG and $TMP are expanded
	Skip     string   // why it is not run
}

// Title is the program's name, with the case where there are several.
func (c Case) Title() string {
	if c.Name == "" {
		return c.Prog
	}
	return c.Prog + "." + c.Name
}

func defaultCase(prog, dir string) Case {
	return Case{
		Prog: prog, Dir: dir, MemMiB: 256, CPUs: []int{1, 2, 4},
		Machines: []vm.Machine{vm.Q35, vm.PC, vm.MicroVM}, Timeout: 60 * time.Second,
	}
}

// Discover reads the cases of every program under root, in order of name. A
// program is a folder with a Go file of package main.
func Discover(root string) ([]Case, error) {
	ents, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("boottest: %w", err)
	}
	var out []Case
	for _, e := range ents {
		if !e.IsDir() || strings.HasPrefix(e.Name(), "_") || e.Name() == "testdata" {
			continue
		}
		cs, err := readProg(filepath.Join(root, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, cs...)
	}
	return out, nil
}

var packageMain = regexp.MustCompile(`(?m)^package main\b`)

func readProg(dir string) ([]Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	var src strings.Builder
	isMain := false
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue // an editor's file that came and went
		}
		if err != nil {
			return nil, fmt.Errorf("boottest: %w", err)
		}
		isMain = isMain || packageMain.Match(b)
		src.Write(b)
		src.WriteByte('\n')
	}
	if !isMain {
		return nil, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	cs, err := parseCases(strings.NewReader(src.String()), defaultCase(filepath.Base(dir), abs))
	if err != nil {
		return nil, fmt.Errorf("boottest: %s: %w", dir, err)
	}
	return cs, nil
}

// parseCases reads //boot: directives, one a line:
//
//	//boot:test NAME           begins a further case; lines before the first hold for all
//	//boot:exit CODE|poweroff|reset
//	//boot:want REGEXP         some console line matches; may repeat
//	//boot:reject REGEXP       no console line matches; may repeat
//	//boot:append TEXT         kernel command line; may repeat (joined by a space)
//	//boot:mem MIB
//	//boot:cpus 1,2,4
//	//boot:machine q35,pc,microvm
//	//boot:timeout 60s
//	//boot:norng               without a virtio-rng device
//	//boot:net CARD            as osvrun --net; may repeat
//	//boot:disk SIZE[,OPTION]  as osvrun --disk, a new file of zeroes (64M); may repeat
//	//boot:qemu ARG...         further QEMU arguments; $PROG is the program's folder, $TMP a scratch folder
//	//boot:skip REASON
func parseCases(r io.Reader, base Case) ([]Case, error) {
	var out []Case
	cur := &base
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		text, ok := strings.CutPrefix(strings.TrimSpace(sc.Text()), "//boot:")
		if !ok {
			continue
		}
		verb, arg, _ := strings.Cut(text, " ")
		arg = strings.TrimSpace(arg)
		if verb == "test" {
			if arg == "" || strings.ContainsAny(arg, " ./") {
				return nil, fmt.Errorf("//boot:test %q: want one word without dot or slash", arg)
			}
			for _, c := range out {
				if c.Name == arg {
					return nil, fmt.Errorf("//boot:test %s: named twice", arg)
				}
			}
			c := base.clone()
			c.Name = arg
			out = append(out, c)
			cur = &out[len(out)-1]
			continue
		}
		if err := cur.apply(verb, arg); err != nil {
			return nil, fmt.Errorf("//boot:%s: %w", text, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		out = []Case{base}
	}
	return out, nil
}

// clone keeps the slices of cases apart.
func (c Case) clone() Case {
	c.Want = append([]*regexp.Regexp(nil), c.Want...)
	c.Reject = append([]*regexp.Regexp(nil), c.Reject...)
	c.NICs = append([]string(nil), c.NICs...)
	c.Disks = append([]string(nil), c.Disks...)
	c.QEMU = append([]string(nil), c.QEMU...)
	return c
}

func (c *Case) apply(verb, arg string) error {
	var err error
	switch verb {
	case "exit":
		switch arg {
		case "poweroff":
			c.Exit = vm.ExitShutdown
		case "reset":
			c.Exit = vm.ExitReset
		default:
			c.Exit = vm.ExitGuest
			c.Code, err = number(arg, 0, 127)
		}
	case "want", "reject":
		var re *regexp.Regexp
		if re, err = regexp.Compile(arg); err == nil {
			if verb == "want" {
				c.Want = append(c.Want, re)
			} else {
				c.Reject = append(c.Reject, re)
			}
		}
	case "append":
		c.Append = strings.TrimSpace(c.Append + " " + arg)
	case "mem":
		c.MemMiB, err = number(arg, 1, 1<<20)
	case "cpus":
		c.CPUs = nil
		for _, w := range strings.Split(arg, ",") {
			n, e := number(w, 1, 255)
			err = errors.Join(err, e)
			c.CPUs = append(c.CPUs, n)
		}
	case "machine":
		c.Machines = nil
		for _, w := range strings.Split(arg, ",") {
			m := vm.Machine(w)
			err = errors.Join(err, vm.Spec{Machine: m}.Validate())
			c.Machines = append(c.Machines, m)
		}
	case "timeout":
		if c.Timeout, err = time.ParseDuration(arg); err == nil && c.Timeout <= 0 {
			err = fmt.Errorf("%v is no time", c.Timeout)
		}
	case "norng":
		c.NoRNG = true
	case "net":
		_, err = vm.ParseNIC(arg)
		c.NICs = append(c.NICs, arg)
	case "disk":
		_, _, err = diskSize(arg)
		c.Disks = append(c.Disks, arg)
	case "qemu":
		c.QEMU = append(c.QEMU, strings.Fields(arg)...)
	case "skip":
		if c.Skip = arg; arg == "" {
			err = errors.New("want a reason")
		}
	default:
		err = errors.New("not a directive")
	}
	return err
}

func number(s string, lo, hi int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		return 0, fmt.Errorf("%q: want a number from %d to %d", s, lo, hi)
	}
	return n, nil
}

// diskSize splits SIZE[,options] and checks the options.
func diskSize(s string) (bytes int64, options string, err error) {
	size, options, _ := strings.Cut(s, ",")
	shift := 0
	digits := size
	if n := len(size); n > 0 {
		switch size[n-1] {
		case 'K':
			shift = 10
		case 'M':
			shift = 20
		case 'G':
			shift = 30
		}
		if shift > 0 {
			digits = size[:n-1]
		}
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 1 {
		return 0, "", fmt.Errorf("disk size %q: want a number with K, M or G", size)
	}
	if _, err := vm.ParseDisk(diskArg("x", options)); err != nil {
		return 0, "", err
	}
	return n << shift, options, nil
}

func diskArg(path, options string) string {
	if options == "" {
		return path
	}
	return path + "," + options
}
