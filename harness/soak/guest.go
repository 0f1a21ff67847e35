package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"osv/harness/tcg"
	"osv/harness/vm"
	"osv/harness/wire"
)

// guest is a booted image on a wire.
type guest struct {
	vm      *vm.VM
	wire    *wire.Wire
	counter *tcg.Counter // nil unless asked for
	gone    bool         // ended on purpose
}

// bootOptions are a guest's machine; zero values are 1 vCPU and 256 MiB.
type bootOptions struct {
	cpus, mem int
	options   string // the kernel's, before "--"
	args      string // the program's
	count     bool   // instructions, where the machine can
	wire      *wire.Wire
}

// boot starts pkg and waits until port ("tcp:80") answers a connection.
func (r *Run) boot(ctx context.Context, pkg, port string, o bootOptions) (*guest, error) {
	elf, err := r.image(pkg)
	if err != nil {
		return nil, err
	}
	g := &guest{wire: o.wire}
	if g.wire == nil {
		g.wire, err = wire.Open(wire.Options{Kind: wire.TAP})
		if errors.Is(err, wire.ErrPrivilege) {
			return nil, fmt.Errorf("%w: %v", ErrSkip, err)
		}
		if err != nil {
			return nil, err
		}
	}
	nic := g.wire.NIC(0)
	if r.cfg.Pcap != "" {
		if err := os.MkdirAll(r.cfg.Pcap, 0o755); err != nil {
			return nil, err
		}
		nic.Pcap = filepath.Join(r.cfg.Pcap, fmt.Sprintf("%s-%d.pcap", r.Scenario.Name, len(r.guests)))
	}
	ip := wire.GuestIP(0)
	s := vm.Spec{
		Accel: r.cfg.Accel, CPUs: o.cpus, MemMiB: o.mem, Kernel: elf, RNG: true, NICs: []vm.NIC{nic},
		Append: fmt.Sprintf("--ip=eth0,%v,%d --defaultgw=%v %s -- %s", ip.Addr(), ip.Bits(), wire.Host.Addr(), o.options, o.args),
	}
	if o.count {
		if s, err = g.count(ctx, s, r); err != nil {
			return nil, errors.Join(err, g.wire.Close())
		}
	}
	if g.vm, err = vm.Start(context.WithoutCancel(ctx), s, vm.Options{Enter: g.wire.Enter}); err != nil {
		if o.wire == nil {
			err = errors.Join(err, g.wire.Close())
		}
		return nil, err
	}
	r.guests = append(r.guests, g)
	return g, g.waitPort(ctx, port)
}

// count adds the instruction counter; without a compiler or TCG there is none.
func (g *guest) count(ctx context.Context, s vm.Spec, r *Run) (vm.Spec, error) {
	s, err := s.Resolve(ctx)
	if err != nil || s.Accel != vm.TCG || s.CPUs > 1 {
		return s, err
	}
	so, err := tcg.Build(ctx, r.cfg.Cache, s.QEMU)
	if err != nil {
		r.logf("instructions are not counted: %v", err)
		return s, nil
	}
	if g.counter, err = tcg.New(0); err != nil {
		return s, err
	}
	s.Plugins = append(s.Plugins, g.counter.Plugin(so))
	return s, nil
}

// waitPort waits until a TCP port accepts.
func (g *guest) waitPort(ctx context.Context, port string) error {
	_, addr, err := g.wire.Addr(0, port)
	if err != nil {
		return err
	}
	for {
		dctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		nc, err := g.wire.DialContext(dctx, "tcp", addr)
		cancel()
		if err == nil {
			return nc.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s never answered: %w; console:%s", addr, err, g.vm.Tail(12))
		case <-g.vm.Done():
			return fmt.Errorf("the guest ended before %s answered: %v; console:%s", addr, g.vm.Wait(), g.vm.Tail(12))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// peer is the guest as a client sees it; port is TCP's and UDP's.
func (g *guest) peer(port int) peer {
	return peer{dial: g.wire.DialContext, addr: net.JoinHostPort(wire.GuestIP(0).Addr().String(), strconv.Itoa(port)), do: g.wire.Space.Do, lend: g.lend}
}

// lend puts 10.77.0.(240+n) on the host's side, beside the host's own address.
func (g *guest) lend(n int) (from netip.Addr, takeAway func() error, err error) {
	a := wire.Host.Addr().As4()
	a[3] = byte(240 + n)
	lent := netip.PrefixFrom(netip.AddrFrom4(a), wire.Host.Bits())
	change := func(f func(netlink.Link, *netlink.Addr) error) error {
		return g.wire.Space.Do(func() error {
			l, err := netlink.LinkByName(g.wire.NIC(0).IfName)
			if err != nil {
				return err
			}
			return f(l, &netlink.Addr{IPNet: &net.IPNet{IP: lent.Addr().AsSlice(), Mask: net.CIDRMask(lent.Bits(), 32)}})
		})
	}
	if err := change(netlink.AddrAdd); err != nil {
		return from, nil, fmt.Errorf("address %v: %w", lent, err)
	}
	return lent.Addr(), func() error { return change(netlink.AddrDel) }, nil
}

// run runs a command in the guest's network and returns its standard output.
func (g *guest) run(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	if _, err := exec.LookPath(args[0]); err != nil {
		return "", "", fmt.Errorf("%w: %s is not installed (make deps)", ErrSkip, args[0])
	}
	cmd := exec.Command(args[0], args[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = g.wire.Space.Run(ctx, cmd); err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, lastLines(errs.String()+out.String(), 5))
	}
	return out.String(), errs.String(), err
}

func lastLines(s string, n int) string {
	ls := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(ls[max(0, len(ls)-n):], "\n")
}

// unwell is what a guest says when something is wrong in it.
var unwell = regexp.MustCompile(`^panic: |fatal error: |^goroutine \d+ |page fault|^SIG[A-Z]+: |out of memory`)

// trouble reports a guest that ended by itself or said that it is unwell.
func (g *guest) trouble() error {
	if g.gone {
		return nil
	}
	for _, l := range g.vm.Lines() {
		if unwell.MatchString(l.Text) {
			return fmt.Errorf("the guest's console, line %d: %s", l.N+1, l.Text)
		}
	}
	select {
	case <-g.vm.Done():
		return fmt.Errorf("the guest ended: %v; console:%s", g.vm.Wait(), g.vm.Tail(12))
	default:
		return nil
	}
}

// stop ends QEMU at once, as a power cut does.
func (g *guest) stop() {
	if !g.gone {
		g.gone = true
		g.vm.Kill()
		if g.counter != nil {
			g.counter.Close() //nolint:errcheck // memory of this process
		}
	}
}

// rss is QEMU's resident memory in bytes: the guest's RAM as far as it was ever
// touched, and QEMU's own.
func (g *guest) rss() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.vm.PID()))
	if err != nil {
		return 0, err
	}
	return parseRSS(string(b))
}

var vmRSS = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

func parseRSS(status string) (float64, error) {
	m := vmRSS.FindStringSubmatch(status)
	if m == nil {
		return 0, errors.New("no VmRSS in a process's status")
	}
	kb, err := strconv.ParseFloat(m[1], 64)
	return kb * 1024, err
}

// wires are those of the run's guests, each once.
func (r *Run) wires() []*wire.Wire {
	var ws []*wire.Wire
	for _, g := range r.guests {
		if !slices.Contains(ws, g.wire) {
			ws = append(ws, g.wire)
		}
	}
	return ws
}
