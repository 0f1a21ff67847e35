// Command xdpload puts package xdpcache's programs on a network interface of the
// Linux guest and ends; they stay. The guest's init starts it before memcached.
//
// It prints, for the parity ledger:
//
//	OSV-GUEST fact xdp native     or generic, and why
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"osv/harness/guest/xdpcache"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit status: 0, 1 where the kernel refuses, 2 for wrong usage.
func run(args []string, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("xdpload", flag.ContinueOnError)
	fs.SetOutput(errOut)
	settle := fs.Duration("settle", xdpcache.DefaultSettle, "how long after a write a reply may carry the value before it")
	port := fs.Uint("port", 11211, "memcached's port, UDP and TCP")
	fs.Usage = func() {
		fmt.Fprintln(errOut, "usage: xdpload [flags] INTERFACE\nAnswers memcached's UDP GETs of cached keys on the interface, by XDP.")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if fs.NArg() != 1 || *port == 0 || *port > 0xffff {
		fs.Usage()
		return 2
	}
	mode, why, err := load(fs.Arg(0), uint16(*port), *settle)
	if err != nil {
		fmt.Fprintln(errOut, "xdpload:", xdpcache.Explain(err))
		return 1
	}
	fmt.Fprint(out, "OSV-GUEST fact xdp ", mode)
	if why != nil {
		fmt.Fprintf(out, " (the driver: %v)", why)
	}
	fmt.Fprintln(out)
	return 0
}

// load attaches the programs; why is the driver's reason where mode is generic.
func load(name string, port uint16, settle time.Duration) (mode xdpcache.Mode, why, err error) {
	ip, err := xdpcache.Address(name)
	if err != nil {
		return "", nil, err
	}
	c, err := xdpcache.Load(xdpcache.Config{IP: ip, Port: port, Settle: settle})
	if err != nil {
		return "", nil, err
	}
	defer c.Close()
	return c.Attach(name, runtime.NumCPU())
}
