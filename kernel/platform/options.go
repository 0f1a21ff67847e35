package platform

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Options is the kernel's part of the command line. The names are those of OSv's
// loader (loader.cc), where an option of that name makes sense here.
type Options struct {
	IPs         []IPOption
	DefaultGW   netip.Addr
	Nameservers []netip.Addr
	Env         []string // NAME=value; the runtime has them already
	Cwd         string
	Console     string // "serial", "debug", "all", "none"; "" = as booted
	Verbose     bool
	Bootchart   bool
	Trace       []string // names or globs of tracepoints
	TraceList   bool
	MaxNIC      int           // -1 = all
	MTU         int           // of cards that leave it to the guest; 0 = 1500
	Delay       time.Duration // before the program starts
	NoPCI       bool
	NoLRO       bool // network cards merge no received TCP segments
	Help        bool

	PowerOffOnAbort bool

	// MMIO are the virtio-mmio slots that the hypervisor names on the command line
	// (virtio_mmio.device=SIZE@BASE:IRQ; QEMU microvm without ACPI, Firecracker).
	MMIO []MMIOSlot

	Args []string // the program's own
}

// IPOption is one --ip=NIC,ADDRESS,MASK.
type IPOption struct {
	NIC    string // "eth0"
	Prefix netip.Prefix
}

// MMIOSlot is where a virtio-mmio device is.
type MMIOSlot struct {
	Base uint64
	Size uint64
	GSI  uint32
}

// Usage is what --help prints.
const Usage = `usage: [OPTION]... [--] [PROGRAM ARGUMENT]...

Kernel options come first; the first word that does not start with two dashes,
or "--", begins the program's own arguments.

  --help                    print this and power off
  --ip=NIC,ADDRESS,MASK     static address, e.g. eth0,10.0.0.2,255.255.255.0 or
                            eth0,10.0.0.2,24; without any, DHCP; may repeat
  --defaultgw=ADDRESS       default gateway
  --nameserver=ADDRESS      DNS server; may repeat
  --env=NAME=VALUE          environment of the program; may repeat. GODEBUG, GOGC,
                            GOMAXPROCS and GOMEMLIMIT reach the Go runtime
  --cwd=DIRECTORY           working directory, as $PWD
  --console=WHERE           serial, debug (QEMU port 0xe9), all, or none
  --verbose                 say what is found at boot
  --bootchart               print the time that each stage of the boot took
  --trace=NAME[,NAME]...    switch tracepoints on (globs)
  --trace-list              print the tracepoints and power off
  --maxnic=N                use at most N network cards
  --mtu=BYTES               largest IP packet on cards that leave it to the guest
                            (e1000, vmxnet3), 68 to 9000; 1500 without
  --delay=SECONDS           wait before the program starts
  --nopci                   do not look for PCI devices
  --nolro                   let no network card merge received TCP segments
  --power-off-on-abort      accepted; a fault always powers off
`

// ParseOptions splits the words of the command line. An error names the option
// and the value that is wrong.
func ParseOptions(words []string) (Options, error) {
	o := Options{MaxNIC: -1}
	var rest []string
	for i, w := range words {
		if w == "--" {
			rest = words[i+1:]
			break
		}
		if slot, ok, err := parseMMIO(w); ok || err != nil {
			if err != nil {
				return o, err
			}
			o.MMIO = append(o.MMIO, slot)
			continue
		}
		if !strings.HasPrefix(w, "--") {
			rest = words[i:]
			break
		}
		if err := o.set(w); err != nil {
			return o, err
		}
	}
	for _, w := range rest {
		slot, ok, err := parseMMIO(w)
		if err != nil {
			return o, err
		}
		if ok {
			o.MMIO = append(o.MMIO, slot)
		} else {
			o.Args = append(o.Args, w)
		}
	}
	return o, nil
}

// Extension is a service of the guest that has options of its own. The package that
// joins it with the platform registers it, so that images without it do not have it.
type Extension struct {
	Usage string // lines for --help
	// Set takes an option; known is false where it is not one of the service's.
	Set func(word string) (known bool, err error)
}

var extensions []Extension

// Extend adds a service's options. Call it from init.
func Extend(e Extension) { extensions = append(extensions, e) }

// usage is the text of --help.
func usage() string {
	s := Usage
	for _, e := range extensions {
		s += "\n" + e.Usage
	}
	return s
}

func (o *Options) set(word string) error {
	for _, e := range extensions {
		if known, err := e.Set(word); known {
			return err
		}
	}
	name, value, hasValue := strings.Cut(word, "=")
	bad := func(why string) error { return fmt.Errorf("option %s: %q: %s", name, value, why) }
	if flag := o.flag(name); flag != nil {
		if hasValue {
			return fmt.Errorf("option %s takes no value, has %q", name, value)
		}
		*flag = true
		return nil
	}
	known := true
	switch name {
	case "--ip", "--defaultgw", "--nameserver", "--env", "--cwd", "--console", "--trace", "--maxnic", "--mtu", "--delay":
	default:
		known = false
	}
	switch {
	case !known:
		return fmt.Errorf("unknown option %s", name)
	case !hasValue || value == "":
		return fmt.Errorf("option %s needs a value (%s=…)", name, name)
	}
	var err error
	switch name {
	case "--ip":
		ip, err := parseIP(value)
		if err != nil {
			return bad(err.Error())
		}
		o.IPs = append(o.IPs, ip)
	case "--defaultgw":
		if o.DefaultGW, err = netip.ParseAddr(value); err != nil {
			return bad("not an IP address")
		}
	case "--nameserver":
		a, err := netip.ParseAddr(value)
		if err != nil {
			return bad("not an IP address")
		}
		o.Nameservers = append(o.Nameservers, a)
	case "--env":
		if k, _, ok := strings.Cut(value, "="); !ok || k == "" {
			return bad("want NAME=VALUE")
		}
		o.Env = append(o.Env, value)
	case "--cwd":
		o.Cwd = value
	case "--console":
		switch value {
		case "serial", "debug", "all", "none":
			o.Console = value
		default:
			return bad("want serial, debug, all or none")
		}
	case "--trace":
		o.Trace = append(o.Trace, strings.Split(value, ",")...)
	case "--maxnic":
		if o.MaxNIC, err = strconv.Atoi(value); err != nil || o.MaxNIC < 0 {
			return bad("want a number of network cards")
		}
	case "--mtu":
		if o.MTU, err = strconv.Atoi(value); err != nil || o.MTU < 68 || o.MTU > 9000 {
			return bad("want 68 to 9000 bytes")
		}
	case "--delay":
		s, err := strconv.ParseFloat(value, 64)
		if err != nil || !(s >= 0 && s <= 86400) {
			return bad("want seconds, 0 to 86400")
		}
		o.Delay = time.Duration(s * float64(time.Second))
	}
	return nil
}

// flag returns the field behind an option without value.
func (o *Options) flag(name string) *bool {
	switch name {
	case "--help":
		return &o.Help
	case "--verbose":
		return &o.Verbose
	case "--bootchart":
		return &o.Bootchart
	case "--trace-list":
		return &o.TraceList
	case "--nopci":
		return &o.NoPCI
	case "--nolro":
		return &o.NoLRO
	case "--power-off-on-abort":
		return &o.PowerOffOnAbort
	}
	return nil
}

// parseIP reads NIC,ADDRESS,MASK; the mask is dotted or a number of bits.
func parseIP(s string) (IPOption, error) {
	f := strings.Split(s, ",")
	if len(f) != 3 || f[0] == "" {
		return IPOption{}, errors.New("want NIC,ADDRESS,MASK")
	}
	a, err := netip.ParseAddr(f[1])
	if err != nil {
		return IPOption{}, fmt.Errorf("%q is not an IP address", f[1])
	}
	bits, err := strconv.Atoi(f[2])
	if err != nil {
		m, err := netip.ParseAddr(f[2])
		if err != nil || !m.Is4() || !a.Is4() {
			return IPOption{}, fmt.Errorf("%q is not a network mask", f[2])
		}
		b := m.As4()
		v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		bits = 0
		for v&(1<<31) != 0 {
			bits++
			v <<= 1
		}
		if v != 0 {
			return IPOption{}, fmt.Errorf("%q is not a network mask: its ones are not in a row", f[2])
		}
	}
	if bits < 0 || bits > a.BitLen() {
		return IPOption{}, fmt.Errorf("a mask of %d bits does not fit %v", bits, a)
	}
	return IPOption{f[0], netip.PrefixFrom(a, bits)}, nil
}

const mmioPrefix = "virtio_mmio.device="

// parseMMIO reads virtio_mmio.device=SIZE[KMG]@BASE:IRQ[:ID] (Linux, Documentation/
// admin-guide/kernel-parameters.txt).
func parseMMIO(w string) (MMIOSlot, bool, error) {
	v, ok := strings.CutPrefix(w, mmioPrefix)
	if !ok {
		return MMIOSlot{}, false, nil
	}
	bad := fmt.Errorf("option %s%s: want SIZE@BASE:IRQ", mmioPrefix, v)
	size, at, ok := strings.Cut(v, "@")
	if !ok {
		return MMIOSlot{}, false, bad
	}
	shift := 0
	switch {
	case strings.HasSuffix(size, "K"):
		shift = 10
	case strings.HasSuffix(size, "M"):
		shift = 20
	}
	if shift != 0 {
		size = size[:len(size)-1]
	}
	n, err1 := strconv.ParseUint(size, 0, 32)
	base, irq, ok := strings.Cut(at, ":")
	irq, _, _ = strings.Cut(irq, ":")
	b, err2 := strconv.ParseUint(base, 0, 64)
	g, err3 := strconv.ParseUint(irq, 0, 32)
	if !ok || errors.Join(err1, err2, err3) != nil || n == 0 || n<<shift > 1<<30 || b == 0 {
		return MMIOSlot{}, false, bad
	}
	return MMIOSlot{Base: b, Size: n << shift, GSI: uint32(g)}, true, nil
}
