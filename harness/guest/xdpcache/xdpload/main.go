// Command xdpload puts package xdpcache's programs on a network interface of the
// Linux guest and ends; they stay. The guest's init starts it before memcached.
//
// It prints, for the parity ledger:
//
//	OSV-GUEST fact xdp native     or generic, and why
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"

	"osv/harness/guest/xdpcache"
)

func main() {
	settle := flag.Duration("settle", xdpcache.DefaultSettle, "how long after a write a reply may carry the value before it")
	port := flag.Uint("port", 11211, "memcached's port, UDP and TCP")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: xdpload [flags] INTERFACE\nAnswers memcached's UDP GETs of cached keys on the interface, by XDP.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || *port == 0 || *port > 0xffff {
		flag.Usage()
		os.Exit(2)
	}
	ip, err := xdpcache.Address(flag.Arg(0))
	if err != nil {
		fail(err)
	}
	c, err := xdpcache.Load(xdpcache.Config{IP: ip, Port: uint16(*port), Settle: *settle})
	if err != nil {
		fail(err)
	}
	mode, why, err := c.Attach(flag.Arg(0), runtime.NumCPU())
	if err != nil {
		fail(err)
	}
	fmt.Print("OSV-GUEST fact xdp ", mode)
	if why != nil {
		fmt.Printf(" (the driver: %v)", why)
	}
	fmt.Println()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "xdpload:", xdpcache.Explain(err))
	os.Exit(1)
}
