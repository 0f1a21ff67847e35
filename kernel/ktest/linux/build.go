// Package linux is the conformance set of the Linux layer: programs that do what
// Linux defines and print what comes of it. The same binary runs on the host's Linux
// and in a guest, and the outputs are compared case by case.
//
//	conf      C, some 210 cases: files, memory, processes, signals, events, sockets, /proc
//	goconf    Go, cases that a language runtime brings along
//	stress    threads, futexes, mappings and signals in a storm, for a given time
//	syzz      a fuzzer over system call numbers and arguments
//	hostile   a program that does all that a program must not
//	sysbench  what system calls cost, in ns per operation
//
// go test builds the C programs and runs the set on the host, twice: a case that
// differs from run to run is a broken case. go test -tags boot runs it in a guest.
// Tests only. Start reading at conf/conf.h, then linux_test.go.
package linux

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// How a program is linked.
type linking bool

const (
	static  linking = true
	dynamic linking = false
)

// buildC builds the C program in the folder name.
func buildC(ctx context.Context, name, out string, l linking) error {
	src, err := filepath.Glob(filepath.Join(name, "*.c"))
	if err != nil || len(src) == 0 {
		return fmt.Errorf("ktest/linux: no C files in %s: %v", name, err)
	}
	// Warnings are off: the cases pass wrong sizes and bad pointers on purpose.
	args := []string{"-O1", "-g", "-w", "-pthread", "-fno-strict-aliasing", "-o", out}
	if l == static {
		args = append(args, "-static")
	}
	b, err := exec.CommandContext(ctx, "gcc", append(args, src...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ktest/linux: gcc %s: %w\n%s", name, err, b)
	}
	return nil
}

// buildGo builds the Go program in the folder name, without cgo.
func buildGo(ctx context.Context, name, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "./"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ktest/linux: go build %s: %w\n%s", name, err, b)
	}
	return nil
}

// outcome is what the cases of one run printed, by name, and in what order they ran.
type outcome struct {
	order []string
	lines map[string][]string
	ended string // the last line, "conf: 172 cases"
}

// parse reads the output of a run; what others print in between is left out.
func parse(b []byte) outcome {
	o := outcome{lines: map[string][]string{}}
	name := ""
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		l := strings.TrimRight(s.Text(), "\r")
		switch {
		case strings.HasPrefix(l, "== "):
			name = l[3:]
			o.order = append(o.order, name)
			o.lines[name] = nil
		case name != "" && (strings.HasPrefix(l, "| ") || strings.HasPrefix(l, "-- ")):
			o.lines[name] = append(o.lines[name], l)
		case strings.Contains(l, "conf: ") && strings.HasSuffix(l, " cases"):
			o.ended = l
		}
	}
	return o
}

// compare tells the cases of want that are not the same in got, each with its lines.
func compare(want, got outcome) map[string]string {
	diff := map[string]string{}
	for _, n := range want.order {
		a, ran := want.lines[n], got.lines[n]
		if _, ok := got.lines[n]; !ok {
			diff[n] = "did not run"
			continue
		}
		if strings.Join(a, "\n") == strings.Join(ran, "\n") {
			continue
		}
		var b strings.Builder
		for i := range max(len(a), len(ran)) {
			x, y := "(nothing)", "(nothing)"
			if i < len(a) {
				x = a[i]
			}
			if i < len(ran) {
				y = ran[i]
			}
			if x != y {
				fmt.Fprintf(&b, "\n\tLinux %s\n\tguest %s", x, y)
			}
		}
		diff[n] = b.String()
	}
	return diff
}
