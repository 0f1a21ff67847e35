package options

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"osv/appliances/iperf/iperf3"
	"osv/appliances/iperf/units"
)

// end is whose option one is.
type end byte

const (
	bothEnds end = iota
	serverEnd
	clientEnd
)

// option is one line of the table that parsing and help share.
type option struct {
	short byte
	long  string
	arg   string // what the value is called; "": none
	end   end
	help  string // "": accepted, or refused, without being advertised
	set   func(o *Options, v string) error
}

func flag(f func(*Options)) func(*Options, string) error {
	return func(o *Options, _ string) error { f(o); return nil }
}

func text(f func(*Options) *string) func(*Options, string) error {
	return func(o *Options, v string) error { *f(o) = v; return nil }
}

func integer(f func(*Options, int), lo, hi int) func(*Options, string) error {
	return func(o *Options, v string) error {
		n, err := strconv.ParseInt(v, 0, 64)
		if err != nil || n < int64(lo) || n > int64(hi) {
			return fmt.Errorf("%q: want a number from %d to %d", v, lo, hi)
		}
		f(o, int(n))
		return nil
	}
}

// span reads seconds.
func span(f func(*Options, time.Duration), lo, hi float64) func(*Options, string) error {
	return func(o *Options, v string) error {
		x, err := strconv.ParseFloat(v, 64)
		if err != nil || !(x >= lo && x <= hi) {
			return fmt.Errorf("%q: want seconds from %g to %g", v, lo, hi)
		}
		f(o, time.Duration(x*float64(time.Second)))
		return nil
	}
}

func size(f func(*Options, uint64), hi uint64) func(*Options, string) error {
	return func(o *Options, v string) error {
		n, err := units.ParseSize(v)
		if err != nil {
			return err
		}
		if n == 0 || n > hi {
			return fmt.Errorf("%q: want 1 to %d", v, hi)
		}
		f(o, n)
		return nil
	}
}

func ignored(*Options, string) error { return nil }

func refused(what string) func(*Options, string) error {
	return func(*Options, string) error { return usagef("iperf: %s is not supported by this appliance", what) }
}

// table is filled by init, as help refers to it.
var table []option

func init() {
	table = []option{
		{'p', "port", "#", bothEnds, "port to listen on or connect to (default 5201)", integer(func(o *Options, n int) { o.Port = uint16(n) }, 1, 65535)},
		{'f', "format", "[kmgtKMGT]", bothEnds, "rates in Kbits, Mbits, …; capitals: KBytes, …", func(o *Options, v string) error {
			if len(v) != 1 || !strings.Contains("kmgtKMGTa", v) {
				return fmt.Errorf("%q: want one of kmgtKMGT", v)
			}
			o.Format = v[0]
			return nil
		}},
		{'i', "interval", "#", bothEnds, "seconds between reports (default 1); 0: none", span(func(o *Options, d time.Duration) { o.Interval, o.IntervalOn = d, d > 0 }, 0, 86400)},
		{'B', "bind", "addr", bothEnds, "local address", func(o *Options, v string) error {
			a, err := netip.ParseAddr(v)
			o.Bind = a
			if err != nil {
				return fmt.Errorf("%q is not an address", v)
			}
			return nil
		}},
		{'V', "verbose", "", bothEnds, "more detail; with each report the kernel's counters per second", flag(func(o *Options) { o.Verbose = true })},
		{'J', "json", "", bothEnds, "output in JSON", flag(func(o *Options) { o.JSON = true })},
		{'4', "version4", "", bothEnds, "IPv4 only", flag(func(o *Options) { o.Family = 4 })},
		{'6', "version6", "", bothEnds, "IPv6 only", flag(func(o *Options) { o.Family = 6 })},
		{0, "rcv-timeout", "#", bothEnds, "milliseconds without received data that end a test (default 120000)", integer(func(o *Options, n int) { o.Idle = time.Duration(n) * time.Millisecond }, 100, 86400000)},
		{'I', "pidfile", "file", bothEnds, "save PID in <file> (not in a guest)", text(func(o *Options) *string { return &o.PIDFile })},
		{'T', "title", "str", bothEnds, "put this in front of each line", text(func(o *Options) *string { return &o.Params.Title })},
		{'v', "version", "", bothEnds, "print version and exit", flag(func(o *Options) { o.Version = true })},
		{'h', "help", "", bothEnds, "print this help and exit", flag(func(o *Options) { o.Help = true })},

		{'s', "server", "", serverEnd, "serve (the default without -c)", flag(func(o *Options) { o.Server = true })},
		{'1', "one-off", "", serverEnd, "serve one iperf3 test, then exit", flag(func(o *Options) { o.OneOff = true })},
		{0, "iperf2-port", "#", serverEnd, "port of the server for iperf 2 (default 5001); 0: off", integer(func(o *Options, n int) { o.Iperf2Port = uint16(n) }, 0, 65535)},

		{'c', "client", "host", clientEnd, "test against an iperf3 server on <host>", text(func(o *Options) *string { return &o.Client })},
		{'u', "udp", "", clientEnd, "UDP rather than TCP", flag(func(o *Options) { o.Params.Protocol = iperf3.UDP })},
		{'b', "bitrate", "#[KMG][/#]", clientEnd, "bit/s of each stream, 0: no limit (default: 1 Mbit/s for UDP, no\nlimit for TCP); behind a slash: blocks sent at once", bitrate},
		{0, "bandwidth", "#[KMG][/#]", clientEnd, "", bitrate},
		{0, "pacing-timer", "#", clientEnd, "shortest wait of a paced stream, microseconds (default 1000)", integer(func(o *Options, n int) { o.Params.PacingTimer = time.Duration(n) * time.Microsecond }, 1, 10_000_000)},
		{0, "connect-timeout", "#", clientEnd, "milliseconds for the control connection", integer(func(o *Options, n int) { o.ConnectTimeout = time.Duration(n) * time.Millisecond }, 1, 86400000)},
		{'t', "time", "#", clientEnd, "seconds to send for (default 10)", span(func(o *Options, d time.Duration) { o.Params.Time, o.timeSet = d, true }, 0.001, 86400)},
		{'n', "bytes", "#[KMG]", clientEnd, "bytes to send, instead of -t", size(func(o *Options, n uint64) { o.Params.Bytes = n }, 1<<62-1)},
		{'k', "blockcount", "#[KMG]", clientEnd, "blocks to send, instead of -t or -n", size(func(o *Options, n uint64) { o.Params.Blocks = n }, 1<<62-1)},
		{'l', "length", "#[KM]", clientEnd, "bytes of a block (default 128 K; UDP: what fits a packet)", size(func(o *Options, n uint64) { o.Params.Block = int(n) }, 1<<20)},
		{0, "cport", "port", clientEnd, "port of the first stream", integer(func(o *Options, n int) { o.ClientPort = uint16(n) }, 1, 65535)},
		{'P', "parallel", "#", clientEnd, "number of streams (up to 128)", integer(func(o *Options, n int) { o.Params.Parallel = n }, 1, 128)},
		{'R', "reverse", "", clientEnd, "the server sends", flag(func(o *Options) { o.Params.Reverse = true })},
		{0, "bidir", "", clientEnd, "both send", flag(func(o *Options) { o.Params.Bidir = true })},
		{'w', "window", "#[KM]", clientEnd, "size of socket buffers", size(func(o *Options, n uint64) { o.Params.Window = int(n) }, 512<<20)},
		{'C', "congestion", "algo", clientEnd, "TCP congestion control (where the host has several)", text(func(o *Options) *string { return &o.Params.Congestion })},
		{'M', "set-mss", "#", clientEnd, "TCP maximum segment size", integer(func(o *Options, n int) { o.Params.MSS = n }, 64, 9216)},
		{'N', "no-delay", "", clientEnd, "TCP without Nagle's algorithm", flag(func(o *Options) { o.Params.NoDelay = true })},
		{'S', "tos", "#", clientEnd, "IP type of service, 0-255 (0x…: hexadecimal)", integer(func(o *Options, n int) { o.Params.TOS = uint8(n) }, 0, 255)},
		{'O', "omit", "#", clientEnd, "seconds at the beginning that do not count", span(func(o *Options, d time.Duration) { o.Params.Omit = d }, 0, 600)},
		{0, "extra-data", "str", clientEnd, "put this into the JSON output of both ends", text(func(o *Options) *string { return &o.Params.ExtraData })},
		{0, "get-server-output", "", clientEnd, "show what the server printed", flag(func(o *Options) { o.Params.ServerOutput = true })},
		{0, "udp-counters-64bit", "", clientEnd, "64-bit counters in datagrams", flag(func(o *Options) { o.Params.UDP64 = true })},

		{0, "tap", "name", bothEnds, "hosted: run our own network stack on this TAP device", text(func(o *Options) *string { return &o.Tap })},
		{0, "tap-addr", "addr/len", bothEnds, "its address (default 10.0.0.2/24)", text(func(o *Options) *string { return &o.TapAddr })},

		{'D', "daemon", "", serverEnd, "", ignored},
		{'d', "debug", "", bothEnds, "", ignored},
		{'Z', "zerocopy", "", clientEnd, "", ignored},
		{0, "repeating-payload", "", clientEnd, "", ignored},
		{0, "forceflush", "", bothEnds, "", ignored},
		{0, "snd-timeout", "#", bothEnds, "", ignored},
		{0, "sctp", "", clientEnd, "", refused("SCTP (--sctp)")},
		{'X', "xbind", "name", clientEnd, "", refused("SCTP (-X)")},
		{0, "nstreams", "#", clientEnd, "", refused("SCTP (--nstreams)")},
		{'F', "file", "name", bothEnds, "", refused("sending a file (-F)")},
		{'A', "affinity", "n", bothEnds, "", refused("CPU affinity (-A)")},
		{'L', "flowlabel", "#", clientEnd, "", refused("setting the flow label (-L)")},
		{0, "fq-rate", "#", clientEnd, "", refused("pacing by the socket (--fq-rate)")},
		{0, "dont-fragment", "", clientEnd, "", refused("--dont-fragment")},
		{0, "bind-dev", "dev", bothEnds, "", refused("binding to a device (--bind-dev)")},
		{0, "server-bitrate-limit", "#", serverEnd, "", refused("--server-bitrate-limit")},
		{0, "idle-timeout", "#", serverEnd, "", refused("--idle-timeout")},
		{0, "logfile", "f", bothEnds, "", refused("--logfile")},
		{0, "timestamps", "", bothEnds, "", refused("--timestamps")},
		{0, "username", "str", clientEnd, "", refused("authentication (--username)")},
		{0, "rsa-public-key-path", "file", clientEnd, "", refused("authentication (--rsa-public-key-path)")},
		{0, "rsa-private-key-path", "file", serverEnd, "", refused("authentication (--rsa-private-key-path)")},
		{0, "authorized-users-path", "file", serverEnd, "", refused("authentication (--authorized-users-path)")},
	}
}

// bitrate reads RATE[/BURST].
func bitrate(o *Options, v string) error {
	r, burst, has := strings.Cut(v, "/")
	n, err := units.ParseRate(r)
	if err != nil {
		return err
	}
	o.Params.Bitrate, o.rateSet = n, true
	if has {
		b, err := strconv.Atoi(burst)
		if err != nil || b < 1 || b > 1000 {
			return fmt.Errorf("%q: want 1 to 1000 blocks behind the slash", v)
		}
		o.Params.Burst = b
	}
	return nil
}

// HelpText is what --help prints.
func HelpText() string {
	var b strings.Builder
	b.WriteString("Usage: iperf [-s|-c host] [options]\n")
	for _, g := range []struct {
		end  end
		name string
	}{{bothEnds, "Server or client"}, {serverEnd, "Server"}, {clientEnd, "Client"}} {
		fmt.Fprintf(&b, "\n%s:\n", g.name)
		for i := range table {
			t := &table[i]
			if t.end != g.end || t.help == "" {
				continue
			}
			name := "    "
			if t.short != 0 {
				name = fmt.Sprintf("-%c, ", t.short)
			}
			name += "--" + t.long
			if t.arg != "" {
				name += " " + t.arg
			}
			fmt.Fprintf(&b, "  %-28s %s\n", name, strings.ReplaceAll(t.help, "\n", "\n"+strings.Repeat(" ", 31)))
		}
	}
	b.WriteString("\nThe server serves iperf3, one test at a time, and iperf 2 on a port of its own.\nThe client speaks iperf3. [KMG] are powers of 1024, of 1000 for -b.\n")
	return b.String()
}
