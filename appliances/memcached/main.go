// Command memcached is a memcached written from scratch: an appliance that boots
// as a guest of its own, and an ordinary Linux program for trying and testing.
//
//	go run ./appliances/memcached -p 11211 -U 11211 -m 64
//	printf 'set a 0 0 1\r\nx\r\nget a\r\nquit\r\n' | nc localhost 11211
//
// Spec: memcached 1.6.18 (see proto, store and options, which say what of it).
// README.md has the options of our own and the differences. Start reading at
// server/doc.go.
package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"osv/appliances/memcached/options"
	"osv/appliances/memcached/server"
	"osv/kernel/net/taplink"
	"osv/kernel/platform"
)

// machine is the guest that this program is the kernel of; nil where it runs as a
// process.
var machine *platform.System

func main() {
	if platform.Booted() {
		machine = platform.Start() // leaves our own arguments in os.Args
		if err := managed(machine); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	args := os.Args[1:]
	if machine != nil { // the default there; a later -engine wins
		args = append([]string{"-engine=" + string(options.Channel)}, args...)
	}
	os.Exit(run(args))
}

// run is main with an exit status.
func run(args []string) int {
	o, err := options.Parse(args, os.Getenv)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return options.ExitUsage
	case o.Help:
		fmt.Print(options.HelpText())
		return 0
	case o.Version:
		fmt.Println(options.VersionText)
		return 0
	case o.License:
		fmt.Println(options.LicenseText)
		return 0
	}
	if err := serve(o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serve runs the server on the host that the options and the machine make, until
// it is told to stop.
func serve(o options.Options) (err error) {
	h, closeHost, err := newHost(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeHost()) }()
	s, err := server.New(o, h)
	if err != nil {
		return err
	}
	if machine != nil {
		machine.AddShrinker(s.Store())
		if got := s.Store().Limit() >> 20; got < o.MemoryMB {
			fmt.Fprintf(h.Console(), "memcached: -m %d: the guest has memory for %d\n", o.MemoryMB, got)
		}
	}
	if err := s.Start(); err != nil {
		return err
	}
	if o.PIDFile != "" {
		if err := os.WriteFile(o.PIDFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return err
		}
		defer os.Remove(o.PIDFile)
	}
	if o.Verbose > 0 {
		fmt.Fprintln(h.Console(), s.Banner())
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
	select {
	case <-stop:
	case <-h.Stopped():
	}
	return s.Close()
}

// stoppableHost is a server.Host that says when the shutdown command came.
type stoppableHost interface {
	server.Host
	Stopped() <-chan struct{}
}

// newHost chooses what to run on.
func newHost(o options.Options) (stoppableHost, func() error, error) {
	if machine != nil {
		b, err := newBooted(machine, runtime.NumCPU())
		return b, func() error { return nil }, err
	}
	ncpu := runtime.GOMAXPROCS(0)
	if o.Tap == "" {
		return server.NewHosted(o, ncpu), func() error { return nil }, nil
	}
	addr, err := netip.ParsePrefix(o.TapAddr)
	if err != nil {
		return nil, nil, fmt.Errorf("memcached: -tap-addr %s: %w", o.TapAddr, err)
	}
	link, err := taplink.Open(o.Tap, taplink.Options{Offload: true})
	if err != nil {
		return nil, nil, fmt.Errorf("memcached: -tap %s: %w", o.Tap, err)
	}
	h, err := server.NewOnStack(o, ncpu, link, addr)
	if err != nil {
		return nil, nil, fmt.Errorf("memcached: -tap %s: %w", o.Tap, err)
	}
	return h, h.Close, nil
}
