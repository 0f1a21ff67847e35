// Command iperf measures a network as iperf3 and the server of iperf 2 do: an
// appliance that boots as a guest of its own, and an ordinary Linux program for
// trying and testing.
//
//	go run ./appliances/iperf -s        # then: iperf3 -c HOST, iperf -c HOST
//	go run ./appliances/iperf -c HOST   # a client of iperf3's protocol
//
// Spec: iperf3 3.12 and iperf 2.0.5 to 2.1.8 (see the packages of those names,
// which say what of them). README.md has the differences. Without options it
// serves. Start reading here, then at iperf3/server.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"osv/appliances/iperf/host"
	"osv/appliances/iperf/iperf2"
	"osv/appliances/iperf/iperf3"
	"osv/appliances/iperf/options"
	"osv/kernel/platform"
)

// machine is the guest that this program is the kernel of; nil where it runs as a
// process.
var machine *platform.System

func main() {
	if platform.Booted() {
		machine = platform.Start() // leaves our own arguments in os.Args
	}
	os.Exit(run(os.Args[1:]))
}

// run is main with an exit status.
func run(args []string) int {
	o, err := options.Parse(args)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return options.ExitUsage
	case o.Help:
		fmt.Print(options.HelpText())
		return 0
	case o.Version:
		fmt.Println(iperf3.Version)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	h, closeHost, err := newHost(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "iperf:", err)
		return 1
	}
	if o.Client != "" {
		err = client(ctx, h, o) // it reports its own failure
	} else if err = serve(ctx, h, o); err != nil {
		fmt.Fprintln(os.Stderr, "iperf:", err)
	}
	if cerr := closeHost(); cerr != nil {
		fmt.Fprintln(os.Stderr, "iperf:", cerr)
	}
	if err != nil {
		return 1
	}
	return 0
}

func client(ctx context.Context, h host.Host, o options.Options) error {
	c := iperf3.Client{
		Host: h, Target: o.Client, Port: o.Port, Family: o.Family, Bind: o.Bind, ClientPort: o.ClientPort,
		Params: o.Params, Interval: o.Interval, Idle: o.Idle, ConnectTimeout: o.ConnectTimeout,
		JSON: o.JSON, Verbose: o.Verbose, Format: o.Format, Out: h.Console(),
	}
	return c.Run(ctx)
}

// serve runs both servers until ctx ends or, with -1, one test of iperf3 is over.
func serve(ctx context.Context, h host.Host, o options.Options) error {
	if o.PIDFile != "" {
		if err := os.WriteFile(o.PIDFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return err
		}
		defer os.Remove(o.PIDFile)
	}
	local := o.Bind
	if !local.IsValid() && o.Family == 4 {
		local = netip.IPv4Unspecified()
	} else if !local.IsValid() && o.Family == 6 {
		local = netip.IPv6Unspecified()
	}
	out := &lineWriter{w: h.Console()}
	s3 := iperf3.Server{
		Host: h, Local: netip.AddrPortFrom(local, o.Port), Interval: o.Interval, Idle: o.Idle,
		JSON: o.JSON, Verbose: o.Verbose, OneOff: o.OneOff, Format: o.Format, Title: o.Params.Title, Out: out,
	}
	if err := s3.Listen(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var err2 error
	if o.Iperf2Port != 0 {
		s2 := iperf2.Server{Host: h, Local: netip.AddrPortFrom(local, o.Iperf2Port), Verbose: o.Verbose, Out: out}
		if o.IntervalOn {
			s2.Interval = o.Interval
		}
		if err := s2.Listen(); err != nil {
			fmt.Fprintf(h.Console(), "iperf: no server for iperf 2: %v\n", err)
		} else {
			wg.Go(func() { err2 = s2.Serve(ctx) })
		}
	}
	err := s3.Serve(ctx)
	stop()
	wg.Wait()
	return errors.Join(err, err2)
}
