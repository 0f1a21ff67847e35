// Package tcg counts the instructions that a guest executes under QEMU's TCG, by
// a small plugin of ours: a cost per request that does not depend on how fast the
// host happens to be, and a profile of the guest by symbol.
//
// It does depend on how many requests a guest finds at each wake-up: memcached on
// Linux takes 27,000 instructions for a GET that comes alone and 18,000 with 32
// outstanding. Compare at the same number outstanding and with the same generator.
//
// Beside them it counts the instructions in which a hypervisor on hardware would
// have to take part, and the interrupts: see Events.
//
// What it does not see: cache and TLB misses, and how long an
// instruction takes. A block that a fault leaves early counts whole. Counters are
// added to without a lock: use one vCPU. The CPU model must lack ERMS, else each
// iteration of a string instruction counts (vm's default lacks it).
//
// Spec: QEMU TCG plugins, API version 1 (QEMU 4.2 to 8.2) and 2 (from 9.0), see
// plugin/count.c. Who may use it: the bench and tests.
//
// Start reading at plugin/count.c, then tcg.go (build, counters), profile.go.
package tcg

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"osv/harness/vm"
)

//go:embed plugin/count.c
var source []byte

// Build compiles the plugin for the given QEMU binary ("" = the default one) into
// dir, once for each source and API version, and returns its path.
func Build(ctx context.Context, dir, qemu string) (string, error) {
	if qemu == "" {
		qemu = "qemu-system-x86_64"
	}
	out, err := exec.CommandContext(ctx, qemu, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("tcg plugin: %s --version: %w", qemu, err)
	}
	api, err := apiVersion(string(out))
	if err != nil {
		return "", err
	}
	return compile(ctx, dir, "-DAPI_VERSION="+strconv.Itoa(api))
}

func compile(ctx context.Context, dir string, flags ...string) (string, error) {
	sum := sha256.Sum256(append([]byte(strings.Join(flags, " ")), source...))
	so := filepath.Join(dir, "tcg-count-"+hex.EncodeToString(sum[:6])+".so")
	if _, err := os.Stat(so); err == nil {
		return so, nil
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", errors.New("tcg plugin: gcc is not installed; instructions are not counted (Debian: apt-get install gcc libc6-dev)")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("tcg plugin: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".tcg-*.so")
	if err != nil {
		return "", fmt.Errorf("tcg plugin: %w", err)
	}
	tmp.Close()
	defer os.Remove(tmp.Name())
	args := []string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"}
	args = append(append(args, flags...), "-x", "c", "-", "-o", tmp.Name())
	cmd := exec.CommandContext(ctx, gcc, args...)
	cmd.Stdin = bytes.NewReader(source)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("tcg plugin: gcc: %w: %s", err, firstLine(text))
	}
	if err := os.Rename(tmp.Name(), so); err != nil {
		return "", fmt.Errorf("tcg plugin: %w", err)
	}
	return so, nil
}

var versionLine = regexp.MustCompile(`version (\d+)\.(\d+)`)

// apiVersion is the plugin API version to declare to a QEMU: 1 until 8.2, 2 from
// 9.0, which accepts no older one.
func apiVersion(text string) (int, error) {
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("tcg plugin: no QEMU version in %q", firstLine([]byte(text)))
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, fmt.Errorf("tcg plugin: QEMU version %q: %w", m[0], err)
	}
	if major >= 9 {
		return 2, nil
	}
	return 1, nil
}

func firstLine(b []byte) string {
	l, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte{'\n'})
	return string(l)
}

// Counts are instructions executed so far, by the half of the address space they
// lie in.
type Counts struct {
	Low  uint64 // a Linux guest's programs
	High uint64 // kernels
}

// Total is both halves.
func (c Counts) Total() uint64 { return c.Low + c.High }

// Sub is c minus an earlier reading.
func (c Counts) Sub(e Counts) Counts { return Counts{c.Low - e.Low, c.High - e.High} }

// Events are instructions that matter for another reason than their number. All
// are 0 where QEMU's plugin API is 2 or newer.
type Events struct {
	Interrupts uint64 // returns from interrupts and exceptions
	Doorbells  uint64 // 16-bit stores to a device: virtio's queue notifications
	Halts      uint64 // the vCPU had nothing to do
	Sensitive  uint64 // port I/O and MSR writes
}

// Sub is e minus an earlier reading.
func (e Events) Sub(o Events) Events {
	return Events{e.Interrupts - o.Interrupts, e.Doorbells - o.Doorbells, e.Halts - o.Halts, e.Sensitive - o.Sensitive}
}

// eventNames are the names of the events in Probes, in the order of Events.
var eventNames = []string{"interrupts", "doorbells", "halts", "sensitive"}

// EventProbes names the event counters as load.ParseProbe reads them: interrupts,
// doorbells, halts, sensitive.
func (c *Counter) EventProbes() []string {
	var out []string
	for i, n := range eventNames {
		out = append(out, fmt.Sprintf("%s=u64:%s:%d", n, c.Path(), offEvents+8*i))
	}
	return out
}

// Counter is the memory that plugin and harness share. It has no name in the file
// system and goes with this process.
type Counter struct {
	file *os.File
	mem  []byte
	max  int
}

// MaxBlocks is room enough for the blocks of a Linux guest over minutes, 48 MB of
// memory of which only what is used is touched.
const MaxBlocks = 2 << 20

// New makes a counter with room for a table of blocks; 0 = no profile.
func New(blocks int) (*Counter, error) {
	if blocks < 0 || blocks > 64<<20 {
		return nil, fmt.Errorf("tcg: table of %d blocks", blocks)
	}
	fd, err := unix.MemfdCreate("osv-tcg", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tcg: counter memory: %w", err)
	}
	c := &Counter{file: os.NewFile(uintptr(fd), "osv-tcg"), max: blocks}
	if err := c.file.Truncate(int64(headerBytes + blocks*blockBytes)); err != nil {
		c.file.Close()
		return nil, fmt.Errorf("tcg: counter memory: %w", err)
	}
	c.mem, err = unix.Mmap(fd, 0, headerBytes+blocks*blockBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		c.file.Close()
		return nil, fmt.Errorf("tcg: counter memory: %w", err)
	}
	c.init()
	return c, nil
}

// Path is the counter's memory as a file, for this process's life.
func (c *Counter) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.file.Fd()) }

// Plugin is for vm.Spec.Plugins; so comes from Build. A counter serves one
// machine.
func (c *Counter) Plugin(so string) vm.Plugin {
	return vm.Plugin{Path: so, Args: []string{"out=" + c.Path()}}
}

// Probes names the two counters as load.ParseProbe reads them; equal names add
// up.
func (c *Counter) Probes(name string) []string {
	return []string{
		fmt.Sprintf("%s=u64:%s:%d", name, c.Path(), offHalf),
		fmt.Sprintf("%s=u64:%s:%d", name, c.Path(), offHalf+8),
	}
}

// Overflow reports how many translated blocks found no room in the table.
func (c *Counter) Overflow() int { return max(c.translated()-c.max, 0) }

// Close frees the memory; QEMU keeps its own view of it.
func (c *Counter) Close() error {
	if c.mem == nil {
		return nil
	}
	err := unix.Munmap(c.mem)
	c.mem = nil
	return errors.Join(err, c.file.Close())
}
