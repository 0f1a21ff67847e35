// Package options reads the command line of the iperf appliance: the options of
// iperf3 3.12 under their names, and some of our own.
//
// Spec: iperf3(1) of 3.12 and getopt_long(3): short options may be joined (-sV)
// and have their value behind them (-t10), long ones may be cut short where that
// is clear. What iperf3 has and we cannot offer is refused with its name, as a
// measurement that silently does something else is worse than none; what has no
// meaning here (-D, --forceflush, -Z) is accepted.
//
// Who may use it: main of this appliance. May not: open or start anything.
// Start reading at Options; table.go has the options one by one.
package options

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"osv/appliances/iperf/iperf3"
)

// Options are the settings, defaults filled in.
type Options struct {
	Server bool
	Client string // host to connect to; "": none

	Port     uint16 // 0: iperf3.DefaultPort
	Bind     netip.Addr
	Family   int // 4 or 6; 0: both
	Interval time.Duration
	Format   byte
	Idle     time.Duration // without a received octet
	JSON     bool
	Verbose  bool

	OneOff     bool
	Iperf2Port uint16 // of a server; 0: off
	IntervalOn bool   // -i was given: reports of iperf2 tests too

	Params         iperf3.Params
	ClientPort     uint16
	ConnectTimeout time.Duration

	Tap     string // name of a TAP device to run our own stack on
	TapAddr string // its address/length
	PIDFile string

	Help, Version bool

	rateSet, timeSet   bool
	ofClient, ofServer string // an option of that end that was given
}

// Defaults are iperf3's.
func Defaults() Options {
	return Options{
		Interval: time.Second, Format: 'a', Idle: 120 * time.Second, Iperf2Port: DefaultIperf2Port, TapAddr: "10.0.0.2/24",
		Params: iperf3.Params{Protocol: iperf3.TCP, Time: 10 * time.Second},
	}
}

// DefaultIperf2Port is where the server of iperf2's protocol listens.
const DefaultIperf2Port = 5001

// UsageError is a command line that cannot be followed.
type UsageError struct{ Msg string }

func (e UsageError) Error() string { return e.Msg }

// ExitUsage is the exit status for a UsageError (EX_USAGE of sysexits.h).
const ExitUsage = 64

func usagef(format string, a ...any) error { return UsageError{fmt.Sprintf(format, a...)} }

// Parse reads args, without the program's name. The error is a UsageError.
func Parse(args []string) (Options, error) {
	o := Defaults()
	for len(args) > 0 {
		rest, err := o.next(args)
		if err != nil {
			return o, err
		}
		args = rest
	}
	if o.Help || o.Version {
		return o, nil
	}
	return o, o.check()
}

// next takes the options of the first word, and its value where that is the
// second.
func (o *Options) next(args []string) ([]string, error) {
	w := args[0]
	args = args[1:]
	switch {
	case strings.HasPrefix(w, "--") && len(w) > 2:
		name, v, has := strings.Cut(w[2:], "=")
		t, err := find(name)
		if err != nil {
			return nil, err
		}
		switch {
		case t.arg == "" && has:
			return nil, usagef("iperf: option --%s takes no value, has %q", t.long, v)
		case t.arg != "" && !has && len(args) == 0:
			return nil, usagef("iperf: option --%s needs a value (%s)", t.long, t.arg)
		case t.arg != "" && !has:
			v, args = args[0], args[1:]
		}
		return args, o.apply(t, "--"+t.long, v)
	case len(w) > 1 && w[0] == '-' && w[1] != '-':
		for i := 1; i < len(w); i++ {
			t := short(w[i])
			if t == nil {
				return nil, usagef("iperf: unknown option -%c", w[i])
			}
			name := "-" + string(w[i])
			if t.arg == "" {
				if err := o.apply(t, name, ""); err != nil {
					return nil, err
				}
				continue
			}
			v := w[i+1:]
			if v == "" {
				if len(args) == 0 {
					return nil, usagef("iperf: option %s needs a value (%s)", name, t.arg)
				}
				v, args = args[0], args[1:]
			}
			return args, o.apply(t, name, v)
		}
		return args, nil
	}
	return nil, usagef("iperf: %q is not an option", w)
}

// apply sets one option and notes which end it is for.
func (o *Options) apply(t *option, name, v string) error {
	switch t.end {
	case clientEnd:
		o.ofClient = name
	case serverEnd:
		o.ofServer = name
	}
	if err := t.set(o, v); err != nil {
		if _, ok := err.(UsageError); ok {
			return err
		}
		return usagef("iperf: option %s: %v", name, err)
	}
	return nil
}

// short finds an option by its letter, nil where there is none.
func short(c byte) *option {
	for i := range table {
		if table[i].short == c {
			return &table[i]
		}
	}
	return nil
}

// find finds an option by its name or the beginning of it.
func find(name string) (*option, error) {
	for i := range table {
		if table[i].long == name {
			return &table[i], nil
		}
	}
	var got *option
	for i := range table {
		t := &table[i]
		if strings.HasPrefix(t.long, name) {
			if got != nil {
				return nil, usagef("iperf: option --%s may be --%s or --%s", name, got.long, t.long)
			}
			got = t
		}
	}
	if got == nil {
		return nil, usagef("iperf: unknown option --%s", name)
	}
	return got, nil
}

// check looks at the options together.
func (o *Options) check() error {
	p := &o.Params
	ends := 0
	for _, on := range []bool{o.timeSet, p.Bytes > 0, p.Blocks > 0} {
		if on {
			ends++
		}
	}
	switch {
	case o.Server && o.Client != "":
		return usagef("iperf: cannot be both server and client")
	case !o.Server && o.Client == "" && o.ofClient != "":
		return usagef("iperf: %s is an option of the client: needs -c HOST", o.ofClient)
	case o.Server && o.ofClient != "":
		return usagef("iperf: %s is an option of the client", o.ofClient)
	case o.Client != "" && o.ofServer != "":
		return usagef("iperf: %s is an option of the server", o.ofServer)
	case ends > 1:
		return usagef("iperf: only one of -t, -n and -k may be given")
	case p.Reverse && p.Bidir:
		return usagef("iperf: cannot be both reverse and bidirectional")
	}
	if o.Client == "" {
		o.Server = true // an appliance without options serves
	}
	if o.Port == 0 {
		o.Port = iperf3.DefaultPort
	}
	if p.Bytes > 0 || p.Blocks > 0 {
		p.Time = 0
	}
	if p.Protocol == iperf3.UDP && !o.rateSet {
		p.Bitrate = 1 << 20
	}
	return nil
}
