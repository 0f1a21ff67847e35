package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/bench"
)

// A blow is what happens to a run at a random point.
type blow string

const (
	interrupt blow = "Ctrl-C"
	terminate blow = "SIGTERM"
	kill      blow = "SIGKILL of the run"
	killGuest blow = "SIGKILL of a guest"
	fullDisk  blow = "full disk"
)

// chaos runs plans as processes, deals them blows at random points of their
// progress, and resumes them until they are done. After each blow nothing may be
// left: no process, no file in the folder of temporary files, no network
// interface, no mounted namespace.
type chaos struct {
	t      *testing.T
	rng    *rand.Rand
	plan   string   // YAML file
	args   []string // further arguments of a new run
	guest  string   // name of a guest's process, as /proc has it
	mark   string   // in the environment of every process of a run
	tmp    string   // TMPDIR of the runs
	disk   string   // where results go; a small file system of its own where possible
	quick  int      // most progress lines before a blow
	linger time.Duration
}

func (c *chaos) run(blows []blow) {
	c.mark = fmt.Sprintf("OSV_TEST_MARK=%d-%d", os.Getpid(), c.rng.Uint64())
	c.tmp, c.disk = c.t.TempDir(), c.t.TempDir()
	small := unix.Mount("tmpfs", c.disk, "tmpfs", 0, "size=16m") == nil
	if small {
		c.t.Cleanup(func() { _ = unix.Unmount(c.disk, unix.MNT_DETACH) })
	}
	before := surroundings(c.t)
	dir, runs := "", 0
	for i, b := range blows {
		if b == fullDisk && !small {
			c.t.Logf("blow %d: no small file system without root: %s instead", i, interrupt)
			b = interrupt
		}
		if dir == "" {
			runs++
			dir = filepath.Join(c.disk, fmt.Sprint("run", runs))
		}
		lines := 1 + c.rng.IntN(c.quick)
		code, text := c.strike(dir, b, lines)
		c.t.Logf("blow %d: %s after %d lines: exit %d", i, b, lines, code)
		c.nothingLeft(before)
		switch {
		case code == exitOK:
			c.verify(dir)
			dir = ""
		case b == kill && code == -1:
			if _, err := os.Stat(filepath.Join(dir, bench.JournalFile)); err != nil {
				dir = "" // killed before it began
			}
		case b == fullDisk && code == exitFailed, b != kill && code == exitInterrupted:
			if !strings.Contains(text, "go on with: bench run --resume "+dir) {
				c.t.Errorf("%s does not say how to go on:\n%s", b, text)
			}
		default:
			c.t.Errorf("%s: exit %d\n%s", b, code, text)
		}
	}
	if dir != "" { // whatever happened, it comes to its end
		if code, text := c.strike(dir, "", 0); code != exitOK {
			c.t.Fatalf("the last resume: exit %d\n%s", code, text)
		}
		c.nothingLeft(before)
		c.verify(dir)
	}
}

func (c *chaos) verify(dir string) {
	c.t.Helper()
	if code, out, errOut := call(context.Background(), "verify", dir); code != exitOK {
		c.t.Errorf("a run that was interrupted does not verify: %s %s", out, errOut)
	}
}

// strike starts or resumes a run, deals it a blow after so many lines of progress,
// and waits for its end.
func (c *chaos) strike(dir string, b blow, lines int) (code int, text string) {
	c.t.Helper()
	args := append([]string{"run", "--config", c.plan, "--out", dir}, c.args...)
	if _, err := os.Stat(filepath.Join(dir, bench.JournalFile)); err == nil {
		args = append([]string{"run", "--resume", dir}, c.args...)
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "OSV_TEST_BENCH=1", "TMPDIR="+c.tmp, c.mark)
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	w.Close()
	defer r.Close()
	var out bytes.Buffer
	in := bufio.NewScanner(io.TeeReader(r, &out))
	for n := 0; in.Scan(); {
		if n++; n != lines || b == "" {
			continue
		}
		time.Sleep(time.Duration(c.rng.Int64N(int64(c.linger)))) // the point is random, not the outcome
		switch b {
		case interrupt:
			_ = cmd.Process.Signal(os.Interrupt)
		case terminate:
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case kill:
			_ = cmd.Process.Kill()
		case killGuest:
			if !c.killOne() { // none is up: wait for the next line
				lines++
			}
		case fullDisk:
			c.fill()
		}
	}
	err = cmd.Wait()
	if b == fullDisk {
		_ = os.Remove(c.filler())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out.String()
	}
	return 0, out.String()
}

func (c *chaos) filler() string { return filepath.Join(c.disk, "filler") }

func (c *chaos) fill() {
	f, err := os.Create(c.filler())
	if err != nil {
		return // full already
	}
	defer f.Close()
	b := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(b)
	}
	if !errors.Is(err, unix.ENOSPC) {
		c.t.Errorf("filling the disk: %v", err)
	}
}

// ours are the processes with the mark in their environment.
func (c *chaos) ours() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err != nil || !bytes.Contains(b, []byte(c.mark)) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(p, "/")[2]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (c *chaos) killOne() bool {
	for _, pid := range c.ours() {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if strings.TrimSpace(string(name)) == c.guest {
			return unix.Kill(pid, unix.SIGKILL) == nil
		}
	}
	return false
}

// surroundings are what a run makes and has to take away again, outside its own
// folder.
func surroundings(t *testing.T) []string {
	t.Helper()
	var out []string
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		out = append(out, "interface "+i.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(mounts), "\n") {
		if strings.HasPrefix(l, "nsfs ") {
			out = append(out, "mount "+l)
		}
	}
	return out
}

func (c *chaos) nothingLeft(before []string) {
	c.t.Helper()
	for end := time.Now().Add(5 * time.Second); len(c.ours()) > 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond) // a killed process is gone soon, not at once
	}
	for _, pid := range c.ours() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		c.t.Errorf("process %d is left: %s", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	left, err := os.ReadDir(c.tmp)
	if err != nil || len(left) > 0 {
		c.t.Errorf("temporary files are left: %v %v", left, err)
	}
	for _, s := range surroundings(c.t) {
		if !slices.Contains(before, s) && (strings.Contains(s, "tap") || strings.Contains(s, "osv") || strings.HasPrefix(s, "mount")) {
			c.t.Errorf("left: %s", s)
		}
	}
}

// A run on processes of this machine is interrupted at ten random points in every
// way that the issue names.
func TestInterruptedAtTenRandomPoints(t *testing.T) {
	if _, err := exec.LookPath("memcached"); err != nil {
		t.Skip("memcached is not installed")
	}
	plan := filepath.Join(t.TempDir(), "plan.yaml")
	y := `name: chaos
systems:
  - {name: a, title: A, guest: local, role: baseline}
  - {name: b, title: B, guest: local, role: subject}
workloads:
  - {name: get, title: GET, port: "udp:11211", windows: 2, spec: {kind: memcached-udp, mode: closed, outstanding: 4, keys: 50, warmup: 10ms, duration: 40ms}}
  - {name: tcp, title: TCP, port: "tcp:11211", windows: 2, spec: {kind: memcached-tcp, mode: closed, conns: 2, keys: 50, warmup: 10ms, duration: 40ms}}
placements: [free]
boots: 3
together: true
cpus: 1
mem_mib: 64
seed: 1
`
	if err := os.WriteFile(plan, []byte(y), 0o644); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &chaos{t: t, rng: rand.New(rand.NewPCG(seed, 1)), plan: plan, guest: "memcached", quick: 12, linger: 60 * time.Millisecond}
	c.run([]blow{interrupt, kill, killGuest, fullDisk, terminate, kill, interrupt, fullDisk, killGuest, kill})
}
