package options

import (
	"fmt"
	"strconv"
	"strings"

	"osv/appliances/memcached/proto"
)

// option is one line of the table that parsing and help share.
type option struct {
	short byte
	long  string
	arg   string // what the value is called; "" = a flag
	help  string // "" = accepted, but without a meaning here
	own   bool   // ours, not upstream's
	set   func(o *Options, v string) error
}

func number(p *int, v string, lo, hi int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < lo || n > hi {
		return fmt.Errorf("need a number from %d to %d", lo, hi)
	}
	*p = n
	return nil
}

func flag(f func(o *Options)) func(*Options, string) error {
	return func(o *Options, _ string) error { f(o); return nil }
}

func integer(f func(o *Options) *int, lo, hi int) func(*Options, string) error {
	return func(o *Options, v string) error { return number(f(o), v, lo, hi) }
}

func ignored(*Options, string) error { return nil }

func refused(what string) func(*Options, string) error {
	return func(*Options, string) error { return usagef("memcached: %s is not supported by this appliance", what) }
}

const big = 1<<31 - 1

// table is filled by init, as help refers to it.
var table []option

func init() {
	table = []option{
		{'p', "port", "num", "TCP port to listen on (default: 11211); 0 is off", false, integer(func(o *Options) *int { return &o.Port }, 0, 65535)},
		{'U', "udp-port", "num", "UDP port to listen on (default: 0, off)", false, integer(func(o *Options) *int { return &o.UDPPort }, 0, 65535)},
		{'s', "unix-socket", "file", "UNIX socket to listen on (disables network support)", false, func(o *Options, v string) error { o.UnixSocket = v; return nil }},
		{'a', "unix-mask", "mask", "access mask for UNIX socket, in octal (default: 700)", false, func(o *Options, v string) error {
			m, err := strconv.ParseUint(v, 8, 12)
			if err != nil {
				return fmt.Errorf("need an octal number")
			}
			o.UnixMask = uint32(m)
			return nil
		}},
		{'A', "enable-shutdown", "", `enable ascii "shutdown" command`, false, flag(func(o *Options) { o.Shutdown = true })},
		{'l', "listen", "addr", "addresses to listen on, separated by commas, each with :port if\nit is not that of -p (default: all)", false, func(o *Options, v string) error {
			o.Listen = append(o.Listen, strings.Split(v, ",")...)
			return nil
		}},
		{'m', "memory-limit", "num", "memory in megabytes, index included (default: 64); \"all\" or 0 is\nnine tenths of what is free at the start; a guest gives back what\nits heap and drivers need", false, func(o *Options, v string) error {
			if v == "all" {
				v = "0"
			}
			return number(&o.MemoryMB, v, 0, big>>4)
		}},
		{'M', "disable-evictions", "", "return error on memory exhausted instead of evicting", false, flag(func(o *Options) { o.NoEvict = true })},
		{'c', "conn-limit", "num", "max simultaneous connections (default: 1024)", false, func(o *Options, v string) error {
			if number(&o.MaxConns, v, 1, big) != nil {
				return usagef("Maximum connections must be greater than 0")
			}
			return nil
		}},
		{'v', "verbose", "", "verbose (print errors and warnings); twice: connections too", false, flag(func(o *Options) { o.Verbose++ })},
		{'h', "help", "", "print this help and exit", false, flag(func(o *Options) { o.Help = true })},
		{'i', "license", "", "print license and exit", false, flag(func(o *Options) { o.License = true })},
		{'V', "version", "", "print version and exit", false, flag(func(o *Options) { o.Version = true })},
		{'P', "pidfile", "file", "save PID in <file> (not in a guest)", false, func(o *Options, v string) error { o.PIDFile = v; return nil }},
		{'f', "slab-growth-factor", "num", "chunk size growth factor (default: 1.25)", false, func(o *Options, v string) error {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil || f <= 1 || f > 1000 {
				return usagef("Factor must be greater than 1")
			}
			o.Factor = f
			return nil
		}},
		{'n', "slab-min-size", "bytes", "min space used for key+value+flags (default: 48)", false, func(o *Options, v string) error {
			if number(&o.MinChunk, v, 1, 512<<10) != nil {
				return usagef("Chunk size must be greater than 0")
			}
			return nil
		}},
		{'L', "enable-largepages", "", "try to use large memory pages (if available)", false, flag(func(o *Options) { o.LargePages = true })},
		{'D', "", "char", "use <char> as the delimiter between key prefixes and IDs, and\nswitch \"stats detail\" on", false, func(o *Options, v string) error {
			if len(v) != 1 {
				return fmt.Errorf("need one character")
			}
			o.Delimiter = v[0]
			return nil
		}},
		{'t', "threads", "num", "number of worker threads (default: one per CPU)", false, func(o *Options, v string) error {
			if number(&o.Threads, v, 1, 1024) != nil {
				return usagef("Number of threads must be greater than 0")
			}
			return nil
		}},
		{'R', "max-reqs-per-event", "num", "maximum number of requests per event; accepted, as goroutines\nare preempted anyway (default: 20)", false, integer(func(o *Options) *int { return &o.ReqsPerEvent }, 1, big)},
		{'C', "disable-cas", "", "disable use of CAS", false, flag(func(o *Options) { o.NoCAS = true })},
		{'b', "listen-backlog", "num", "set the backlog queue limit; accepted (default: 1024)", false, integer(func(o *Options) *int { return &o.Backlog }, 0, big)},
		{'B', "protocol", "name", "protocol - one of ascii, binary, or auto (default: auto)", false, func(o *Options, v string) error {
			switch v {
			case "auto":
				o.Protocol = proto.Auto
			case "ascii":
				o.Protocol = proto.ASCII
			case "binary":
				o.Protocol = proto.Binary
			default:
				return usagef("Invalid value for binding protocol: %s\n -- should be one of auto, binary, or ascii", v)
			}
			return nil
		}},
		{'I', "max-item-size", "num", "adjusts max item size (default: 1m, min: 1k, max: 1024m)", false, func(o *Options, v string) error { return size(&o.ItemMax, v) }},
		{'F', "disable-flush-all", "", "disable flush_all command", false, flag(func(o *Options) { o.NoFlush = true })},
		{'X', "disable-dumping", "", "disable stats cachedump and lru_crawler metadump", false, flag(func(o *Options) { o.NoDump = true })},
		{'o', "extended", "list", "comma separated list of extended options, see below", false, func(o *Options, v string) error { return o.extended(v) }},

		{0, "engine", "name", "how requests are served: socket, batch or channel (default:\nsocket hosted, channel in a guest)", true, func(o *Options, v string) error { o.Engine = Engine(v); return nil }},
		{0, "tap", "name", "hosted: run our own network stack on this TAP device", true, func(o *Options, v string) error { o.Tap = v; return nil }},
		{0, "tap-addr", "addr/len", "its address (default: 10.0.0.2/24)", true, func(o *Options, v string) error { o.TapAddr = v; return nil }},
		{0, "shards", "num", "parts of the key space, a power of two (default: one per CPU, as\nfar as each has 64 MB)", true, func(o *Options, v string) error {
			if number(&o.Shards, v, 1, 1<<14) != nil || o.Shards&(o.Shards-1) != 0 {
				return fmt.Errorf("need a power of two up to %d", 1<<14)
			}
			return nil
		}},

		{'W', "disable-watch", "", "", false, ignored},
		{'d', "daemon", "", "", false, ignored},
		{'r', "enable-coredumps", "", "", false, ignored},
		{'u', "user", "user", "", false, ignored},
		{'k', "lock-memory", "", "", false, ignored},
		{'N', "napi-ids", "num", "", false, ignored},
		{'S', "enable-sasl", "", "", false, refused("SASL (-S)")},
		{'Y', "auth-file", "file", "", false, refused("authentication (-Y)")},
		{'Z', "enable-ssl", "", "", false, refused("TLS (-Z)")},
		{'e', "memory-file", "file", "", false, refused("a restartable cache (-e)")},
	}
}

// size reads a number of bytes with an optional k or m.
func size(p *int, v string) error {
	u := 1
	switch {
	case strings.HasSuffix(strings.ToLower(v), "k"):
		u = 1 << 10
	case strings.HasSuffix(strings.ToLower(v), "m"):
		u = 1 << 20
	}
	if u > 1 {
		v = v[:len(v)-1]
	}
	if err := number(p, v, 0, 1<<40/u); err != nil {
		return err
	}
	*p *= u
	return nil
}
