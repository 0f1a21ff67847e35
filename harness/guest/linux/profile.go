package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"osv/harness/guest/xdpcache"
	"osv/harness/vm"
)

// bareInit is the one-line init of BareInitrd, the least a Linux guest can do in
// user space.
const bareInit = "#!/bin/sh\necho OSV-GUEST init\nwhile :; do sleep 3600; done\n"

// Fact is one line of a guest's side of the parity ledger: what was chosen, and
// why where it is not Debian's default.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Why   string `json:"why,omitempty"`
}

// Profile is a way to run Linux. Everything in it goes into the ledger.
type Profile struct {
	Name    string
	Cmdline []Fact // Name is the parameter, Value what is written
	Sysctl  []Fact
	Files   []Fact // written under /sys: Name is the path
	// Args are further arguments by service: Name is the flag, Value its own
	// argument, if any.
	Args map[string][]Fact
	// Threads gives the service's number of threads for a number of vCPUs.
	Threads    func(vcpus int) int
	ThreadsWhy string
	xdp        bool // with the cache of package xdpcache in the kernel
}

// Stock is Debian as it comes: its kernel defaults with all mitigations, its
// memcached's default of four threads.
var Stock = Profile{
	Name:       "stock",
	Threads:    func(int) int { return 4 },
	ThreadsWhy: "memcached's default",
}

// Tuned is what an operator who knows the machine does for throughput on a
// dedicated, trusted virtual machine. Against Stock a memcached UDP GET takes
// 16,700 instructions instead of 19,400 with 32 outstanding, and 22,900 instead of
// 33,700 alone (one vCPU under TCG, n=3, 1 % apart).
var Tuned = Profile{
	Name: "tuned",
	Cmdline: []Fact{
		{"mitigations", "off", "one trusted program; the unikernel has no boundary to protect either"},
		{"nowatchdog", "", "no lockup detector's timer"},
		{"audit", "0", "no audit hook in system calls"},
		{"lsm", "none", "no security-module hooks in socket calls (apparmor=0 would only hand over to SELinux)"},
		{"init_on_alloc", "0", "packet buffers are not cleared before they are filled"},
		{"skew_tick", "1", "vCPUs do not tick at the same instant"},
		{"tsc", "reliable", "no fall-back to the HPET, each reading of which leaves the guest"},
	},
	Sysctl: []Fact{
		{"net.core.somaxconn", "4096", "no refused connection in a burst"},
		{"net.core.netdev_max_backlog", "4096", "no drop between driver and stack"},
		{"net.core.rmem_default", "4194304", "no UDP drop while the service runs"},
		{"net.core.rmem_max", "4194304", "the same"},
		{"net.core.wmem_max", "4194304", "the same for replies"},
		{"net.ipv4.tcp_slow_start_after_idle", "0", "keep the window over pauses"},
		{"vm.stat_interval", "60", "fewer timer interrupts"},
	},
	Files: []Fact{
		// As a kernel parameter it is ignored below 512 MiB of memory.
		{"/sys/kernel/mm/transparent_hugepage/enabled", "always", "fewer TLB misses in the cache's memory"},
	},
	Args: map[string][]Fact{"memcached": {
		// UDP GET on one vCPU: 15 % fewer instructions alone, 4 % with 32 outstanding.
		{"-o", "no_lru_maintainer,no_lru_crawler", "no housekeeping threads that wake up beside the one that serves"},
	}},
	Threads:    func(vcpus int) int { return vcpus },
	ThreadsWhy: "one a vCPU: more only switch",
}

// BusyPoll is Tuned with the socket layer polling the card for up to 50 µs
// instead of waiting for its interrupt. Where vCPU and QEMU share a host core it
// costs more than it gains (a lone GET takes a third more instructions); apart,
// lone requests gain. So it is a profile of its own.
var BusyPoll = func() Profile {
	p := Tuned
	p.Name = "tuned-busypoll"
	p.Sysctl = append(append([]Fact(nil), p.Sysctl...),
		Fact{"net.core.busy_poll", "50", "poll and epoll spin on the card, 50 µs"},
		Fact{"net.core.busy_read", "50", "so do reads"})
	return p
}()

// Profiles are the profiles by name.
var Profiles = map[string]Profile{Stock.Name: Stock, Tuned.Name: Tuned, BusyPoll.Name: BusyPoll, XDP.Name: XDP}

// Service is what the guest runs.
type Service struct {
	Name  string
	Ports []string // "tcp:11211": open means ready
	// Argv builds the command line for a number of threads.
	Argv func(threads int) []string
}

// The services. Their UDP has to be switched on by hand where it exists:
// memcached listens on UDP only when told to.
var (
	None      = Service{Name: "init-only"}
	Memcached = Service{
		Name: "memcached", Ports: []string{"tcp:11211", "udp:11211"},
		Argv: func(threads int) []string {
			return []string{"memcached", "-u", "root", "-l", "0.0.0.0", "-p", "11211", "-U", "11211", "-m", "64", "-c", "4096", "-t", fmt.Sprint(threads)}
		},
	}
	IPerf3 = Service{
		Name: "iperf3", Ports: []string{"tcp:5201"},
		Argv: func(int) []string { return []string{"iperf3", "-s"} },
	}
)

// Services are the services by name.
var Services = map[string]Service{None.Name: None, Memcached.Name: Memcached, IPerf3.Name: IPerf3}

// Guest is a Linux guest to boot.
type Guest struct {
	Image    Image
	Profile  Profile
	Service  Service
	IP       netip.Prefix // of eth0; zero = no network
	Gateway  netip.Addr   // zero = none
	Extra    []string     // further kernel command line words
	Args     []string     // further arguments of the service
	PowerOff bool         // power off once ready
	Symbols  bool         // list the kernel's code symbols with the facts (KernelSymbols)
	Verbose  bool         // kernel messages on the console; they cost boot time
}

// The lines of the guest's console.
var (
	InitLine  = regexp.MustCompile(`^OSV-GUEST init$`)
	ReadyLine = regexp.MustCompile(`^OSV-GUEST ready (\S+)$`)
	factsEnd  = regexp.MustCompile(`^OSV-GUEST fact end of facts$`)
	factLine  = regexp.MustCompile(`^OSV-GUEST fact (\S+) (.*)$`)
	endLine   = regexp.MustCompile(`^OSV-GUEST (ready \S+|fail .*|exit .*)$`)
)

// baseWords begin every command line. Under KVM Linux skips the test of its timer
// interrupt by itself; under TCG on a busy host the test fails now and then
// ("IO-APIC + timer doesn't work") and the guest panics.
var baseWords = []string{"console=ttyS0", "panic=-1", "no_timer_check"}

// Append is the kernel command line on a machine with vcpus vCPUs.
func (g Guest) Append(vcpus int) (string, error) {
	words := append([]string(nil), baseWords...)
	if !g.Verbose {
		words = append(words, "quiet")
	}
	for _, f := range g.Profile.Cmdline {
		if f.Value == "" {
			words = append(words, f.Name)
		} else {
			words = append(words, f.Name+"="+f.Value)
		}
	}
	words = append(words, g.Extra...)
	if g.IP.IsValid() {
		words = append(words, "osv_ip="+g.IP.String())
	}
	if g.Gateway.IsValid() {
		words = append(words, "osv_gw="+g.Gateway.String())
	}
	list := func(key string, fs []Fact) {
		if len(fs) == 0 {
			return
		}
		kv := make([]string, len(fs))
		for i, f := range fs {
			kv[i] = f.Name + "=" + f.Value
		}
		words = append(words, key+"="+strings.Join(kv, ","))
	}
	list("osv_sysctl", g.Profile.Sysctl)
	list("osv_files", g.Profile.Files)
	if g.Service.Argv != nil {
		words = append(words, "osv_ports="+strings.Join(g.Service.Ports, ","),
			`osv_svc="`+strings.Join(g.argv(vcpus), " ")+`"`)
	}
	if g.Profile.xdp {
		words = append(words, "osv_xdp=eth0")
	}
	if g.Symbols {
		words = append(words, "osv_syms=1")
	}
	if g.PowerOff {
		words = append(words, "osv_end=poweroff")
	}
	line := strings.Join(words, " ")
	if len(line) > 2047 {
		return "", fmt.Errorf("linux guest: kernel command line of %d bytes, x86 takes 2047", len(line))
	}
	for _, a := range g.argv(vcpus) {
		if strings.ContainsAny(a, "\"\n ") {
			return "", fmt.Errorf("linux guest: service argument %q: no space or quote can pass the kernel command line", a)
		}
	}
	return line, nil
}

func (g Guest) argv(vcpus int) []string {
	if g.Service.Argv == nil {
		return nil
	}
	threads := vcpus
	if g.Profile.Threads != nil {
		threads = g.Profile.Threads(vcpus)
	}
	argv := g.Service.Argv(threads)
	for _, f := range g.Profile.Args[g.Service.Name] {
		argv = append(argv, f.Name)
		if f.Value != "" {
			argv = append(argv, f.Value)
		}
	}
	return append(argv, g.Args...)
}

// Spec is base with this guest in it.
func (g Guest) Spec(base vm.Spec) (vm.Spec, error) {
	if err := g.checkXDP(max(base.CPUs, 1)); err != nil {
		return base, err
	}
	var err error
	base.Kernel, base.Initrd, base.RNG = g.Image.Kernel, g.Image.Initrd, true
	base.Append, err = g.Append(max(base.CPUs, 1))
	return base, err
}

// BareSpec is base with the kernel and the one-line init: the quickest and
// smallest Linux. extra is added to the command line.
func BareSpec(img Image, base vm.Spec, extra ...string) vm.Spec {
	base.Kernel, base.Initrd = img.Kernel, img.BareInitrd
	words := append(append([]string(nil), baseWords...), "quiet")
	base.Append = strings.Join(append(words, extra...), " ")
	return base
}

// WaitReady waits for the guest's service. The error says what init said.
func WaitReady(v *vm.VM, timeout time.Duration) (vm.Line, error) {
	l, err := v.WaitLine(endLine, timeout)
	if err != nil {
		return l, err
	}
	if !ReadyLine.MatchString(l.Text) {
		return l, errors.New("linux guest: " + strings.TrimPrefix(l.Text, "OSV-GUEST ") + v.Tail(8))
	}
	return l, nil
}

// Measured waits for and reads the facts that the guest prints about itself after
// it is ready.
func Measured(v *vm.VM, timeout time.Duration) ([]Fact, error) {
	if _, err := v.WaitLine(factsEnd, timeout); err != nil {
		return nil, err
	}
	return ParseFacts(v.Lines()), nil
}

// ParseFacts picks the facts out of console lines.
func ParseFacts(lines []vm.Line) []Fact {
	var out []Fact
	for _, l := range lines {
		if factsEnd.MatchString(l.Text) {
			break
		}
		if m := factLine.FindStringSubmatch(l.Text); m != nil {
			out = append(out, Fact{Name: m[1], Value: m[2]})
		}
	}
	return out
}

// symbolPrefix begins a line of the symbol list; "address type name" follows.
const symbolPrefix = "OSV-GUEST sym "

// KernelSymbols picks the symbol list of a Guest with Symbols out of console lines,
// in the form of /proc/kallsyms.
func KernelSymbols(lines []vm.Line) string {
	var b strings.Builder
	for _, l := range lines {
		if s, ok := strings.CutPrefix(l.Text, symbolPrefix); ok {
			b.WriteString(s)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// WithoutSymbols is a console log without the symbol list: of no use to a reader,
// and larger than the rest of a run.
func WithoutSymbols(log string) string {
	var b strings.Builder
	for l := range strings.Lines(log) {
		if !strings.Contains(l, symbolPrefix) {
			b.WriteString(l)
		}
	}
	return b.String()
}

// Ledger is what was chosen for this guest, with reasons; Measured is what came
// of it.
func (g Guest) Ledger(vcpus int) []Fact {
	out := []Fact{
		{Name: "guest", Value: "Linux " + g.Image.KernelVersion},
		{Name: "profile", Value: g.Profile.Name},
		{Name: "kernel parameter no_timer_check", Why: "what Linux does by itself under KVM; without it a boot under TCG on a busy host fails now and then"},
	}
	for _, p := range g.Image.Packages {
		out = append(out, Fact{Name: "package " + p.Name, Value: p.Version})
	}
	if g.Service.Argv != nil {
		why := ""
		if g.Service.Name == Memcached.Name {
			why = "threads: " + g.Profile.ThreadsWhy
		}
		out = append(out, Fact{Name: "service", Value: strings.Join(g.argv(vcpus), " "), Why: why})
		for _, f := range g.Profile.Args[g.Service.Name] {
			out = append(out, Fact{"service argument " + f.Name, f.Value, f.Why})
		}
	}
	if g.Profile.xdp {
		out = append(out, Fact{"XDP cache", fmt.Sprintf("%d keys of at most %d bytes, replies of at most %d bytes", xdpcache.MaxEntries, xdpcache.MaxKey, xdpcache.MaxReply),
			"UDP GETs of cached keys are answered before the network stack, in the manner of BMC (NSDI 2021)"})
	}
	mitigations := Fact{Name: "mitigations", Value: "on (the kernel's default)"}
	for _, f := range g.Profile.Cmdline {
		if f.Name == "mitigations" {
			mitigations = f
			continue
		}
		out = append(out, Fact{"kernel parameter " + f.Name, f.Value, f.Why})
	}
	out = append(out, mitigations)
	for _, f := range g.Profile.Sysctl {
		out = append(out, Fact{"sysctl " + f.Name, f.Value, f.Why})
	}
	for _, f := range g.Profile.Files {
		out = append(out, Fact{"file " + f.Name, f.Value, f.Why})
	}
	return out
}
