// Package doctor looks at the host of a benchmark: what is there, what will make
// figures noisy, what is missing. Its facts go into meta.json, its warnings into
// the report.
//
// Spec: sysfs and procfs as of Linux 6.x (Documentation/admin-guide/pm/cpufreq.rst,
// Documentation/ABI/testing/sysfs-devices-system-cpu, proc(5)).
//
// Everything is read through Root, so tests bring a host of their own. It changes
// nothing. Who may use it: the command line. Start reading at Examine.
package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Level is how bad a finding is.
type Level string

// The levels. Fail means that guests cannot be run at all.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Check is one thing looked at.
type Check struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Level  Level  `json:"level"`
	Advice string `json:"advice,omitempty"` // what it means, what to do
}

// Host is how the doctor reaches the host; the zero value is this one.
type Host struct {
	Root string // prefix of /proc, /sys, /dev; "" = this host
	// Output runs a command; nil = os/exec.
	Output func(ctx context.Context, name string, args ...string) (string, error)
	// Accel says which accelerator boots a guest; nil = not asked.
	Accel func(ctx context.Context) string
	// Netns reports whether a network namespace can be made; nil = not asked.
	Netns func() bool
	CPUs  int // that this process may use; 0 = runtime.NumCPU
}

func (h Host) read(path string) string {
	b, err := os.ReadFile(filepath.Join(h.Root+"/", path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (h Host) run(ctx context.Context, name string, args ...string) (string, error) {
	if h.Output != nil {
		return h.Output(ctx, name, args...)
	}
	out, err := exec.CommandContext(ctx, name, args...).Output()
	return string(out), err
}

// Examine looks at everything, in the order in which it is printed.
func Examine(ctx context.Context, h Host) []Check {
	var out []Check
	add := func(name, value string, level Level, advice string) {
		if level == OK {
			advice = ""
		}
		out = append(out, Check{name, value, level, advice})
	}
	n := h.CPUs
	if n == 0 {
		n = runtime.NumCPU()
	}
	cpu := h.field("/proc/cpuinfo", "model name")
	level := OK
	if n < 2 {
		level = Warn
	}
	add("cpu", fmt.Sprintf("%s, %d cores", orUnknown(cpu), n), level, "the placements need two host cores: one for the vCPU, one for the generator")
	add("kernel", orUnknown(h.read("/proc/sys/kernel/osrelease")), OK, "")
	h.virtual(add)
	h.frequency(add)
	h.memory(add)
	h.load(add, n)
	h.steal(add)
	if c := h.read("/sys/devices/system/clocksource/clocksource0/current_clocksource"); c != "" {
		level := OK
		if c == "hpet" || c == "acpi_pm" {
			level = Warn
		}
		add("clocksource", c, level, "reading this clock costs microseconds: the generator will lag")
	}
	if h.Accel != nil {
		a := h.Accel(ctx)
		level := OK
		if a != "kvm" {
			level = Warn
		}
		add("accelerator", a, level, "no guest boots under KVM here: figures are of an emulator and are marked so")
	}
	h.tools(ctx, add)
	if h.Netns != nil {
		value, level := "yes", OK
		if !h.Netns() {
			value, level = "no", Warn
		}
		add("network namespace", value, level, "no TAP can be made: QEMU's user-mode network is used, and is slow; run as root for a TAP")
	}
	return out
}

func (h Host) field(path, name string) string {
	for _, l := range strings.Split(h.read(path), "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

type adder func(name, value string, level Level, advice string)

// virtual tells a host that is itself a guest.
func (h Host) virtual(add adder) {
	if strings.Contains(" "+h.field("/proc/cpuinfo", "flags")+" ", " hypervisor ") {
		add("host", "a virtual machine", Warn, "other machines share its cores: expect noise and steal time")
		return
	}
	add("host", "bare metal", OK, "")
}

// frequency covers governor, boost and SMT.
func (h Host) frequency(add adder) {
	switch g := h.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"); g {
	case "":
		add("governor", "not known", OK, "")
	case "performance":
		add("governor", g, OK, "")
	default:
		add("governor", g, Warn, "the clock changes with load: set the governor to performance")
	}
	switch h.read("/sys/devices/system/cpu/cpufreq/boost") + h.read("/sys/devices/system/cpu/intel_pstate/no_turbo") {
	case "":
	case "1":
		add("boost", "on, or turbo off", OK, "")
	default:
		add("boost", h.read("/sys/devices/system/cpu/cpufreq/boost"), OK, "")
	}
	switch s := h.read("/sys/devices/system/cpu/smt/active"); s {
	case "":
	case "0":
		add("SMT", "off", OK, "")
	default:
		add("SMT", "on", Warn, "two of the cores used may be one: pin to cores that are not siblings, or switch SMT off")
	}
}

// memory covers free memory and huge pages.
func (h Host) memory(add adder) {
	free := h.field("/proc/meminfo", "MemAvailable")
	kb, _ := strconv.ParseFloat(strings.TrimSuffix(free, " kB"), 64)
	if free == "" {
		add("free memory", "unknown", OK, "")
	} else {
		level := OK
		if kb < 1<<20 {
			level = Warn
		}
		add("free memory", fmt.Sprintf("%.1f GiB", kb/(1<<20)), level, "under 1 GiB: guests may be swapped out")
	}
	if t := h.read("/sys/kernel/mm/transparent_hugepage/enabled"); t != "" {
		if _, rest, ok := strings.Cut(t, "["); ok {
			t, _, _ = strings.Cut(rest, "]")
		}
		add("THP", t, OK, "")
	}
}

func (h Host) load(add adder, n int) {
	one, _, _ := strings.Cut(h.read("/proc/loadavg"), " ")
	v, err := strconv.ParseFloat(one, 64)
	if err != nil {
		return
	}
	level := OK
	if v > 0.3*float64(n) {
		level = Warn
	}
	add("load", one, level, "something else is running: wait, or stop it")
}

// steal is the time that the hypervisor under this host kept its cores, since
// boot.
func (h Host) steal(add adder) {
	line, _, _ := strings.Cut(h.read("/proc/stat"), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return
	}
	var total, steal float64
	for i, x := range f[1:9] {
		v, err := strconv.ParseFloat(x, 64)
		if err != nil {
			return
		}
		total += v
		if i == 7 {
			steal = v
		}
	}
	if total == 0 {
		return
	}
	p := 100 * steal / total
	level := OK
	if p > 1 {
		level = Warn
	}
	add("steal", fmt.Sprintf("%.2f %%", p), level, "other guests take this machine's cores: expect noise")
}

// tools are the programs that a run starts.
func (h Host) tools(ctx context.Context, add adder) {
	for _, t := range []struct {
		name, cmd string
		args      []string
		level     Level
		advice    string
	}{
		{"qemu", "qemu-system-x86_64", []string{"--version"}, Fail, "no guest can be booted; Debian: apt-get install qemu-system-x86"},
		{"gcc", "gcc", []string{"-dumpfullversion"}, Warn, "instructions are not counted; Debian: apt-get install gcc libc6-dev"},
		{"iperf3", "iperf3", []string{"--version"}, Warn, "no iperf workloads; Debian: apt-get install iperf3"},
		{"memcached", "memcached", []string{"-V"}, OK, ""},
	} {
		out, err := h.run(ctx, t.cmd, t.args...)
		if err != nil {
			add(t.name, "missing", t.level, t.advice)
			continue
		}
		v, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
		if t.name == "qemu" {
			v = "QEMU " + strings.TrimPrefix(strings.Split(v+" (", " (")[0], "QEMU emulator version ")
		}
		add(t.name, v, OK, "")
	}
}

// Facts are the checks by name, for meta.json.
func Facts(checks []Check) map[string]string {
	m := map[string]string{}
	for _, c := range checks {
		m[c.Name] = c.Value
	}
	return m
}

// Warnings are what a report must repeat.
func Warnings(checks []Check) []string {
	var out []string
	for _, c := range checks {
		if c.Level != OK && c.Name != "accelerator" && c.Name != "gcc" && c.Name != "iperf3" {
			out = append(out, c.Name+": "+c.Value+": "+c.Advice)
		}
	}
	return out
}

// Worst is the worst level among checks.
func Worst(checks []Check) Level {
	order := []Level{OK, Warn, Fail}
	w := 0
	for _, c := range checks {
		w = max(w, slices.Index(order, c.Level))
	}
	return order[w]
}
