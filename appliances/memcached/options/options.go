// Package options reads the command line of the memcached appliance: the options
// of memcached 1.6.18 under their names, some of our own, and the environment.
//
// Spec: `memcached --help` of 1.6.18 and memcached(1). What upstream has and we
// cannot offer (TLS, SASL, external storage, restartable memory) is refused with
// its name, as a cache that silently does less is worse than one that does not
// start; what has no meaning here (-d, -u, -r, -k, -P, -N) is accepted.
//
// Who may use it: main and server of this appliance. May not: open or start
// anything.
package options

import (
	"fmt"
	"net"
	"strings"

	"osv/appliances/memcached/proto"
)

// Engine is how requests are served (-engine).
type Engine string

// The engines.
const (
	Socket  Engine = "socket"  // goroutines that read and write connections
	Batch   Engine = "batch"   // reads of many datagrams at once
	Channel Engine = "channel" // in the receive loop of our own stack
)

// Options are the settings, defaults filled in.
type Options struct {
	Port, UDPPort int
	UnixSocket    string
	UnixMask      uint32
	Listen        []string // addresses, maybe with a port; empty = all
	MemoryMB      int      // 0 = all that there is
	MaxConns      int
	Threads       int // 0 = one per CPU
	Verbose       int
	ItemMax       int // bytes
	Factor        float64
	MinChunk      int
	ChunkMax      int // bytes
	ReqsPerEvent  int
	Backlog       int
	Protocol      proto.Protocol
	NoEvict       bool
	NoCAS         bool
	NoFlush       bool
	NoDump        bool
	Shutdown      bool
	LargePages    bool
	Delimiter     byte // 0 = none given
	PIDFile       string

	MaxConnsFast          bool
	IdleTimeout           int // seconds
	HotPct, WarmPct       int
	HotFactor, WarmFactor float64
	TempTTL               int64 // -1 = no TEMP list
	FlatLRU               bool
	NoCrawler             bool
	CrawlerSleep          int // microseconds
	Tocrawl               int
	Automove              int
	TrackSizes            bool
	HashPower             int

	Engine    Engine
	Tap       string // name of a TAP device to run our own stack on
	TapAddr   string // its address/length
	UDPFactor int    // replies are at most that many times the request; 0 = no cap
	Shards    int    // 0 = from CPUs and memory

	Help, Version, License bool
}

// Defaults are upstream's, except that threads follow the CPUs.
func Defaults() Options {
	return Options{
		Port: 11211, MemoryMB: 64, MaxConns: 1024,
		ItemMax: 1 << 20, Factor: 1.25, MinChunk: 48, ChunkMax: 512 << 10,
		ReqsPerEvent: 20, Backlog: 1024, UnixMask: 0o700,
		MaxConnsFast: true, HotPct: 20, WarmPct: 40, HotFactor: 0.2, WarmFactor: 2,
		TempTTL: -1, CrawlerSleep: 100, Automove: 1,
		Engine: Socket, TapAddr: "10.0.0.2/24",
	}
}

// UsageError is a command line that cannot be followed.
type UsageError struct{ Msg string }

func (e UsageError) Error() string { return e.Msg }

// ExitUsage is the exit status for a UsageError (EX_USAGE of sysexits.h).
const ExitUsage = 64

func usagef(format string, a ...any) error { return UsageError{fmt.Sprintf(format, a...)} }

// Parse reads args, without the program's name, over the environment, over the
// defaults. The error is a UsageError.
func Parse(args []string, getenv func(string) string) (Options, error) {
	o := Defaults()
	if err := o.environment(getenv); err != nil {
		return o, err
	}
	for i := 0; i < len(args); {
		n, err := o.one(args[i:])
		if err != nil {
			return o, err
		}
		i += n
	}
	if o.Help || o.Version || o.License {
		return o, nil
	}
	return o, o.check()
}

// environment takes MEMCACHED_<LONG NAME>, upper case, '-' as '_': for images
// whose command line is fixed. A flag is set by any value but "", "0" and "no".
func (o *Options) environment(getenv func(string) string) error {
	for i := range table {
		t := &table[i]
		if t.long == "" {
			continue
		}
		name := "MEMCACHED_" + strings.ToUpper(strings.ReplaceAll(t.long, "-", "_"))
		v := getenv(name)
		if v == "" || t.arg == "" && (v == "0" || v == "no") {
			continue
		}
		if err := t.set(o, v); err != nil {
			return usagef("%s: %v", name, err)
		}
	}
	return nil
}

// one takes the first option off args and returns how many of them it took.
func (o *Options) one(args []string) (int, error) {
	a := args[0]
	switch {
	case a == "--":
		return len(args), nil
	case strings.HasPrefix(a, "--"):
		return o.long(a[2:], args[1:])
	case len(a) > 1 && a[0] == '-':
		// Our own options have long names with one dash too, as Go's have.
		name, _, _ := strings.Cut(a[1:], "=")
		if t := findLong(name); t != nil && t.own {
			return o.long(a[1:], args[1:])
		}
		return o.short(a[1:], args[1:])
	}
	return 0, usagef("memcached: unexpected argument %q", a)
}

func (o *Options) long(a string, rest []string) (int, error) {
	name, value, has := strings.Cut(a, "=")
	t := findLong(name)
	if t == nil {
		return 0, usagef("memcached: unrecognized option '--%s'\nTry `memcached --help'", name)
	}
	if t.arg == "" {
		if has {
			return 0, usagef("memcached: option '--%s' doesn't allow an argument", name)
		}
		return 1, t.apply(o, "", "--"+name)
	}
	if has {
		return 1, t.apply(o, value, "--"+name)
	}
	if len(rest) == 0 {
		return 0, usagef("memcached: option '--%s' requires an argument", name)
	}
	return 2, t.apply(o, rest[0], "--"+name)
}

// short takes a cluster of short options, of which the last may have a value.
func (o *Options) short(a string, rest []string) (int, error) {
	for i := 0; i < len(a); i++ {
		t := findShort(a[i])
		name := "-" + a[i:i+1]
		if t == nil {
			return 0, usagef("memcached: invalid option -- '%c'\nTry `memcached --help'", a[i])
		}
		if t.arg == "" {
			if err := t.apply(o, "", name); err != nil {
				return 0, err
			}
			continue
		}
		if i+1 < len(a) {
			return 1, t.apply(o, a[i+1:], name)
		}
		if len(rest) == 0 {
			return 0, usagef("memcached: option requires an argument -- '%c'", a[i])
		}
		return 2, t.apply(o, rest[0], name)
	}
	return 1, nil
}

func (t *option) apply(o *Options, v, as string) error {
	if err := t.set(o, v); err != nil {
		if _, ok := err.(UsageError); ok {
			return err
		}
		return usagef("%s %s: %v", as, v, err)
	}
	return nil
}

func findLong(name string) *option {
	for i := range table {
		if table[i].long == name && name != "" {
			return &table[i]
		}
	}
	return nil
}

func findShort(c byte) *option {
	for i := range table {
		if c != 0 && table[i].short == c {
			return &table[i]
		}
	}
	return nil
}

// check looks at what only makes sense together.
func (o *Options) check() error {
	if o.ItemMax < 1024 {
		return usagef("Item max size cannot be less than 1024 bytes.")
	}
	if o.ItemMax > 1<<30 {
		return usagef("Cannot set item size limit higher than a gigabyte.")
	}
	if o.MemoryMB > 0 && o.ItemMax > o.MemoryMB<<20/2 {
		return usagef("Cannot set item size limit higher than 1/2 of memory max.")
	}
	if o.ChunkMax > 1<<20 {
		return usagef("slab_chunk_max (bytes: %d) cannot be larger than a page of 1 MB", o.ChunkMax)
	}
	if o.HotPct+o.WarmPct > 80 {
		return usagef("hot_lru_pct + warm_lru_pct cannot be more than 80%% combined")
	}
	if o.UnixSocket != "" && o.Engine != Socket {
		return usagef("-s %s: a UNIX socket needs -engine=socket", o.UnixSocket)
	}
	if o.Engine != Socket && o.Engine != Batch && o.Engine != Channel {
		return usagef("-engine %s: should be one of socket, batch, or channel", o.Engine)
	}
	for _, l := range o.Listen {
		if _, _, err := SplitListen(l, 1); err != nil {
			return usagef("-l %s: %v", l, err)
		}
	}
	return nil
}

// SplitListen splits an address of -l into host and port; port is used where it
// names none.
func SplitListen(l string, port int) (host string, p int, err error) {
	l = strings.TrimPrefix(l, "notls:")
	h, ps, e := net.SplitHostPort(l)
	if e != nil {
		// No port: a bare address, maybe IPv6 with or without brackets.
		return strings.Trim(l, "[]"), port, nil
	}
	if _, err := fmt.Sscanf(ps, "%d", &p); err != nil || p < 0 || p > 65535 {
		return "", 0, fmt.Errorf("port %q is not a number up to 65535", ps)
	}
	return h, p, nil
}
