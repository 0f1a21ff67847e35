// Command osv is the base image: a guest that boots, answers the management API and
// waits. Whatever else an image does, it does on top of this. It is an ordinary Linux
// program too:
//
//	go run ./appliances/osv             # http://localhost:8000
//	go run ./appliances/osv --help
//
// README.md says what is served. Start reading at main, then kernel/rest.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"osv/kernel/platform"
	"osv/kernel/platform/cloud"
	"osv/kernel/platform/manage"
	"osv/kernel/platform/volumes"
	"osv/kernel/rest"
	"osv/kernel/rest/apps"
	"osv/kernel/rest/hosted"
	"osv/kernel/rest/machine"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

// Exit statuses.
const (
	exitOK    = 0
	exitFail  = 1
	exitUsage = 64
)

func main() {
	if platform.Booted() {
		os.Exit(guest(platform.Start()))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(process(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// addressWait is how long the line that tells the address waits for one.
const addressWait = 30 * time.Second

// guest serves until the machine is asked to end, or the server is.
func guest(sys *platform.System) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 {
		fmt.Fprintf(os.Stderr, "osv: %q: this image runs no program (--help prints the options)\n", os.Args[1:])
		return exitUsage
	}
	files := tree(sys)
	disks := volumes.Start(sys, files)
	defer func() {
		if err := disks.Close(); err != nil {
			fmt.Fprintf(os.Stderr, "osv: %v\n", err)
		}
	}()
	m, err := manage.Start(sys, manage.Config{
		Addr:    ":" + rest.DefaultPort,
		Apps:    &apps.Runner{Commands: commands, Out: os.Stdout},
		Tree:    files,
		Volumes: disks,
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "osv: %v\n", err)
		return exitFail
	}
	owner, err := cloud.Start(sys, m)
	if err != nil {
		fmt.Fprintf(os.Stderr, "osv: %v\n", err)
		return exitUsage
	}
	defer owner.Close()
	if m.REST != nil {
		go announce(sys, m.Options)
	}
	select {
	case <-ctx.Done():
		m.Close()
	case err := <-m.Served:
		if err != nil {
			fmt.Fprintf(os.Stderr, "osv: %v\n", err)
			return exitFail
		}
	}
	return exitOK
}

// tree is the guest's files outside of disks: in memory, an eighth of it at most.
func tree(sys *platform.System) *vfs.Tree {
	return vfs.NewTree(tmpfs.New(tmpfs.Options{Size: int64(sys.RAM() / 8), Inodes: 65536, Mode: 0o755}))
}

// announce prints where the server is, once there is an address.
func announce(sys *platform.System, o rest.Options) {
	if err := sys.WaitAddress(addressWait); err != nil {
		fmt.Printf("osv: the server waits at %s: %v\n", o.Addr, err)
		return
	}
	n, err := sys.Net()
	if err != nil {
		return
	}
	_, port, _ := net.SplitHostPort(o.Addr)
	for _, i := range n.Stack().Interfaces() {
		for _, a := range i.Addrs() {
			if !i.IsLoopback() && a.Addr().Is4() {
				fmt.Printf("osv: %s\n", address(o, net.JoinHostPort(a.Addr().String(), port)))
			}
		}
	}
}

// address is where a server with these options is, if it listens at addr.
func address(o rest.Options, addr string) string {
	if o.TLS.Self || o.TLS.Cert != "" {
		return "https://" + addr + "/"
	}
	return "http://" + addr + "/"
}

const usage = `usage: osv [OPTION]...

Serves the API of this process, on the loopback interface unless --rest says more.

` + rest.Usage + `  --help                    print this
  --version                 print the version
`

// process is the program hosted: it serves until ctx ends or the server does.
func process(ctx context.Context, args []string, out, errs io.Writer) int {
	o := rest.Defaults()
	o.Addr = "127.0.0.1:" + rest.DefaultPort
	for _, a := range args {
		switch a {
		case "--help", "-h":
			io.WriteString(out, usage)
			return exitOK
		case "--version":
			fmt.Fprintln(out, "OSv "+machine.Version)
			return exitOK
		}
		known, err := o.Set(a)
		if err == nil && !known {
			err = fmt.Errorf("unknown option %s (--help prints them)", a)
		}
		if err != nil {
			fmt.Fprintf(errs, "osv: %v\n", err)
			return exitUsage
		}
	}
	if err := serve(ctx, o, out); err != nil {
		fmt.Fprintf(errs, "osv: %v\n", err)
		return exitFail
	}
	return exitOK
}

func serve(ctx context.Context, o rest.Options, out io.Writer) error {
	if o.Addr == "" {
		<-ctx.Done()
		return nil
	}
	m, err := hosted.New(o.Root)
	if err != nil {
		return fmt.Errorf("option --rest-root: %w", err)
	}
	programs := &apps.Runner{Commands: commands, Out: out}
	m.Apps = programs
	s, err := rest.New(rest.Config{Options: o, Machine: m, ReadFile: os.ReadFile, ProfileTimer: true})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return fmt.Errorf("option --rest: %w", err)
	}
	fmt.Fprintf(out, "osv: %s\n", address(o, l.Addr().String()))
	go func() {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		s.Shutdown(end)
	}()
	return s.Serve(l)
}
