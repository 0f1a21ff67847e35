package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/design"
	"osv/harness/guestapi"
	"osv/harness/load/udp"
	"osv/harness/tcg"
	"osv/harness/vm"
	"osv/harness/wire"
	"osv/harness/wire/vhost"
)

// QEMU is what the kinds linux and osv share: one typed description of the
// machine, so that both guests get the same.
type QEMU struct {
	Cache string          // folder of built images and of the counting plugin
	Base  vm.Spec         // machine, accelerator, CPU model; resolved by Open
	Log   func(string)    // progress of preparing; nil = silent
	Wire  wire.Options    // Kind "" = TAP, or user-mode networking without privilege
	VHost bool            // serve the card's rings in this process instead (UDP only)
	why   map[string]bool // messages said already
	mu    sync.Mutex
}

// Open resolves the accelerator once, so that all boots of a run have the same.
func (q *QEMU) Open(ctx context.Context) error {
	var err error
	if q.Base, err = q.Base.Resolve(ctx); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

func (q *QEMU) log(format string, a ...any) {
	if q.Log == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := fmt.Sprintf(format, a...)
	if q.why == nil {
		q.why = map[string]bool{}
	}
	if !q.why[s] {
		q.why[s] = true
		q.Log(s)
	}
}

// plug adds the instruction counter where it can count: under TCG, with a compiler
// at hand. Vcpus count into the same words without a lock, so several share one
// host thread.
func (q *QEMU) plug(ctx context.Context, s *vm.Spec, blocks int) *tcg.Counter {
	if s.Accel != vm.TCG {
		return nil
	}
	s.OneThread = s.CPUs > 1
	so, err := tcg.Build(ctx, q.Cache, s.QEMU)
	if err != nil {
		q.log("instructions are not counted: %v", err)
		return nil
	}
	c, err := tcg.New(blocks)
	if err != nil {
		q.log("instructions are not counted: %v", err)
		return nil
	}
	s.Plugins = append(s.Plugins, c.Plugin(so))
	return c
}

// qemuGuest is a running machine with its wire.
type qemuGuest struct {
	v       *vm.VM
	w       *wire.Wire    // nil with dev
	dev     *vhost.Device // the card's back end, in this process
	port    udp.Port      // over dev
	counter *tcg.Counter
	facts   Facts
	symbols func(ctx context.Context) (*tcg.Symbols, string, error)
	api     *guestapi.Client
	stopped bool
}

// start boots a machine on a wire of its own. prepare makes the guest's spec
// from the machine's.
func (q *QEMU) start(ctx context.Context, cfg Config, prepare func(base vm.Spec) (vm.Spec, error)) (g *qemuGuest, err error) {
	g = &qemuGuest{}
	defer func() {
		if err != nil {
			_ = g.Stop()
			g = nil
		}
	}()
	base := q.Base
	base.CPUs, base.MemMiB = cfg.CPUs, cfg.MemMiB
	if q.VHost {
		if g.dev, err = vhost.New(vhost.Options{}); err != nil {
			return g, fmt.Errorf("bench: %w", err)
		}
		base.NICs = []vm.NIC{g.dev.NIC(wire.GuestMAC(0), base.Accel)}
	} else {
		opt := q.Wire
		opt.Ports = cfg.Ports
		if g.w, err = wire.Open(opt); err != nil {
			return g, fmt.Errorf("bench: %w", err)
		}
		base.NICs = []vm.NIC{g.w.NIC(0)}
	}
	spec, err := prepare(base)
	if err != nil {
		return g, err
	}
	if cfg.Profile {
		g.counter = q.plug(ctx, &spec, tcg.MaxBlocks)
	} else if cfg.Instructions {
		g.counter = q.plug(ctx, &spec, 0)
	}
	// The context bounds the boot, not the guest's life: Stop ends that.
	vo := vm.Options{LogPath: cfg.Serial}
	if g.w != nil {
		vo.Enter = g.w.Enter
	}
	if g.v, err = vm.Start(context.WithoutCancel(ctx), spec, vo); err != nil {
		return g, fmt.Errorf("bench: %w", err)
	}
	if g.dev != nil {
		err = g.connectFrames(ctx, cfg.Ports)
	} else {
		g.facts.FirstReply, err = g.firstReply(ctx, cfg.Ports)
	}
	if err != nil {
		return g, err
	}
	g.facts.Line, g.facts.Accel = homeless(g.v.Spec.Line()), string(g.v.Spec.Accel)
	if g.facts.Wire = "vhost-user"; g.w != nil {
		g.facts.Wire, g.facts.WireNote = string(g.w.Kind), g.w.Note
	}
	g.facts.Parity = parity(g.v.Spec, g.facts)
	return g, nil
}

// firstReply waits for every port and returns the seconds from QEMU's start to
// the first right reply on the first of them.
func (g *qemuGuest) firstReply(ctx context.Context, ports []string) (float64, error) {
	var first time.Time
	for _, port := range ports {
		network, _, _ := strings.Cut(port, ":")
		_, addr, err := g.w.Addr(0, port)
		if err != nil {
			return 0, err
		}
		at, err := WaitReply(ctx, g.w.DialContext, port, network, addr, g.Alive)
		if err != nil {
			return 0, fmt.Errorf("bench: %w; console: %s", err, g.v.Tail(6))
		}
		if first.IsZero() {
			first = at
		}
	}
	return first.Sub(g.v.Started).Seconds(), nil
}

// parity is the machine's side of the ledger; it is the same for every guest, or
// the report says so.
func parity(s vm.Spec, f Facts) map[string]string {
	p := map[string]string{
		"machine": string(s.Machine), "accelerator": string(s.Accel), "CPU model": s.CPU, "vCPUs": fmt.Sprint(s.CPUs), "memory": fmt.Sprintf("%d MiB", s.MemMiB),
		"wire": f.Wire, "instruction counting": "off", "command line": s.Append,
	}
	if len(s.Plugins) > 0 {
		p["instruction counting"] = "on"
	}
	if len(s.NICs) > 0 {
		n := s.NICs[0]
		model := n.Model
		if model == "" {
			model = "virtio-net"
		}
		p["network card"] = model
		p["queue pairs"] = fmt.Sprint(max(n.Queues, 1))
		p["offloads off"] = strings.Join(n.Off, " ")
		p["vhost"] = fmt.Sprint(n.VHost)
	}
	return p
}

func (g *qemuGuest) Facts() Facts { return g.facts }

func (g *qemuGuest) Addr(port string) (string, error) {
	if g.w == nil {
		return port, nil // reached by frames, not by an address
	}
	_, addr, err := g.w.Addr(0, port)
	return addr, err
}

func (g *qemuGuest) Run(ctx context.Context, cmd *exec.Cmd) error {
	if g.w == nil {
		return errors.New("bench: nothing but UDP on raw frames reaches a guest on vhost-user")
	}
	if g.w.Space == nil {
		return runCommand(ctx, cmd)
	}
	return g.w.Space.Run(ctx, cmd)
}

func (g *qemuGuest) Place(p design.Placement) ([]int, error) {
	pin, client, err := pins(p)
	if err != nil {
		return nil, err
	}
	return client, g.v.Repin(pin)
}

// pins chooses host cores for a placement: the first core that this process may
// use for the vCPU, the next ones for the rest.
func pins(p design.Placement) (vm.Pin, []int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return vm.Pin{}, nil, fmt.Errorf("bench: host cores: %w", err)
	}
	var cores []int
	for i := 0; i < 1024; i++ {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	if p == design.Free {
		return vm.Pin{VCPU: cores, Rest: cores}, nil, nil
	}
	if len(cores) < 2 {
		return vm.Pin{}, nil, fmt.Errorf("bench: placement %s needs two host cores, this process may use %d", p, len(cores))
	}
	rest := cores[1:]
	if p == design.OneCore {
		return vm.Pin{VCPU: cores[:1], Rest: cores[:1]}, rest, nil
	}
	return vm.Pin{VCPU: cores[:1], Rest: rest}, rest, nil
}

func (g *qemuGuest) Probes() []string {
	var out []string
	ts, err := g.v.Threads()
	if err != nil {
		return nil
	}
	pid := g.v.PID()
	for _, t := range ts {
		name := string(t.Role)
		out = append(out, fmt.Sprintf("%s=cpu:%d/%d", name, pid, t.TID))
		if t.Role == vm.RoleVCPU {
			out = append(out, fmt.Sprintf("vcpu_wait=wait:%d/%d", pid, t.TID))
		}
	}
	// Threads of other roles come and go; one that ends during a load would
	// fail the probe.
	kept := out[:0]
	for _, p := range out {
		if !strings.HasPrefix(p, string(vm.RoleOther)+"=") {
			kept = append(kept, p)
		}
	}
	kept = append(append(kept, "steal=steal:"), kvmExits(kvmDebug, pid)...)
	if g.counter != nil {
		kept = append(append(kept, g.counter.Probes("insn")...), g.counter.EventProbes()...)
	}
	return kept
}

// kvmDebug is where KVM keeps its counters (Documentation/virt/kvm, "debugfs").
const kvmDebug = "/sys/kernel/debug/kvm"

// kvmExits is the probe of a machine's VM exits, none where KVM does not run it or
// this user may not read debugfs.
func kvmExits(root string, pid int) []string {
	files, err := filepath.Glob(filepath.Join(root, fmt.Sprintf("%d-*", pid), "exits"))
	if err != nil || len(files) == 0 {
		return nil
	}
	return []string{"exits=num:" + files[0]}
}

// API is the guest's REST API, nil where the image has none.
func (g *qemuGuest) API() *guestapi.Client { return g.api }

// Pause stops the vCPUs and the guest's clock with them.
func (g *qemuGuest) Pause() error { return g.v.Pause() }

// Resume lets the guest run again; it does not see that time has passed.
func (g *qemuGuest) Resume() error { return g.v.Continue() }

func (g *qemuGuest) Alive() error {
	select {
	case <-g.v.Done():
		return fmt.Errorf("the guest ended: %v; console: %s", g.v.Wait(), g.v.Tail(6))
	default:
		return nil
	}
}

func (g *qemuGuest) Stop() error {
	if g.stopped {
		return nil
	}
	g.stopped = true
	var err error
	if g.v != nil {
		g.v.Kill()
		err = g.v.LogErr()
	}
	if g.counter != nil {
		err = errors.Join(err, g.counter.Close())
	}
	if g.dev != nil {
		err = errors.Join(err, g.dev.Close())
	}
	if g.w != nil {
		err = errors.Join(err, g.w.Close())
	}
	return err
}

// Blocks is the table of executed blocks, where the guest was booted with one.
func (g *qemuGuest) Blocks() []tcg.Block {
	if g.counter == nil {
		return nil
	}
	return g.counter.Blocks()
}

// Symbols names the guest's code.
func (g *qemuGuest) Symbols(ctx context.Context) (*tcg.Symbols, string, error) {
	if g.symbols == nil {
		return nil, "", errors.New("bench: this guest has no symbols")
	}
	return g.symbols(ctx)
}

func fileBytes(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// homeless writes the user's home folder as ~: a published run names no path of
// the machine that it was made on.
func homeless(line string) string {
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		line = strings.ReplaceAll(line, home+"/", "~/")
	}
	return line
}
