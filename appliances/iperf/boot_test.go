//go:build boot

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"osv/harness/image"
	"osv/harness/vm"
	"osv/harness/wire"
)

// The tests of this file boot the appliance in QEMU, on a TAP device in a network
// namespace of its own, and run Debian's tools against it from there:
//
//	go test -tags boot -run TestBoot ./appliances/iperf

var long = flag.Int("iperf.long", 10, "seconds of the long tests (the bar is 60)")

var elf = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "osv-iperf-")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "iperf.elf")
	return out, image.Build(".", out)
})

// guest is a booted iperf.
type guest struct {
	*vm.VM
	wire *wire.Wire
	t    *testing.T
}

func boot(t *testing.T, cpus int, args string) *guest {
	t.Helper()
	kernel, err := elf()
	if err != nil {
		t.Fatal(err)
	}
	w, err := wire.Open(wire.Options{Kind: wire.TAP})
	if errors.Is(err, wire.ErrPrivilege) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ip := wire.GuestIP(0)
	s := vm.Spec{
		CPUs: cpus, Kernel: kernel, RNG: true, NICs: []vm.NIC{w.NIC(0)},
		Append: fmt.Sprintf("--ip=eth0,%v,%d %s", ip.Addr(), ip.Bits(), args),
	}
	v, err := vm.Start(t.Context(), s, vm.Options{Enter: w.Enter})
	if err != nil {
		w.Close()
		t.Fatal(err)
	}
	g := &guest{v, w, t}
	t.Cleanup(func() {
		v.Kill()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s%s", s.Line(), v.Tail(60))
		}
	})
	return g
}

// waitLine waits for a line of the console.
func (g *guest) waitLine(re string) {
	g.t.Helper()
	if _, err := g.WaitLine(regexp.MustCompile(re), 60*time.Second); err != nil {
		g.t.Fatal(err)
	}
}

// run runs a command in the guest's network.
func (g *guest) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.Command(args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := g.wire.Space.Run(ctx, cmd)
	return out.Bytes(), err
}

var trouble = regexp.MustCompile(`panic|fatal error|^goroutine |page fault|^iperf: `)

// healthy looks for what a guest says when something is wrong.
func (g *guest) healthy() {
	g.t.Helper()
	for _, l := range g.Lines() {
		if trouble.MatchString(l.Text) {
			g.t.Errorf("console line %d: %s", l.N+1, l.Text)
			return
		}
	}
}

func TestBootDebianClients(t *testing.T) {
	for _, cpus := range []int{1, 2} {
		t.Run(fmt.Sprintf("%dcpu", cpus), func(t *testing.T) {
			g := boot(t, cpus, "")
			g.waitLine(`Server listening on 5201`)
			g.waitLine(`\(iperf 2\)`)
			runModes(t, modes(1, 5009), wire.GuestIP(0).Addr().String(), "5201", "5001", g.run)
			g.healthy()
		})
	}
}

func TestBootClient(t *testing.T) {
	tool(t, "iperf3")
	for _, args := range []string{"-t 2", "-t 2 -R", "-t 2 --bidir -P 4", "-t 2 -u -b 20M --bidir", "-n 10M -V"} {
		t.Run(args, func(t *testing.T) {
			// The guest starts first; its client waits for the connection.
			g := boot(t, 1, "--delay=2 -- -c "+wire.Host.Addr().String()+" "+args)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			done := make(chan struct{})
			go func() {
				defer close(done)
				g.run(ctx, "iperf3", "-s", "-1")
			}()
			e, late := g.WaitTimeout(50 * time.Second)
			cancel()
			<-done
			if late || !e.OK() {
				t.Errorf("%v, late %v", e, late)
			}
			g.waitLine(`^iperf Done\.$`)
			g.healthy()
		})
	}
}

func TestBootOneOff(t *testing.T) {
	tool(t, "iperf3")
	g := boot(t, 2, "-- -s -1 -V --iperf2-port 0")
	g.waitLine(`Server listening on 5201`)
	out, err := g.run(t.Context(), "iperf3", "-c", wire.GuestIP(0).Addr().String(), "-t", "3", "--bidir")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if e, late := g.WaitTimeout(20 * time.Second); late || !e.OK() {
		t.Errorf("%v, late %v", e, late)
	}
	g.waitLine(`counters per second: eth0\.rx\.frames \d+`)
	g.healthy()
}

// Eight streams each way for a long time: the rate goes to the log.
func TestBootLong(t *testing.T) {
	tool(t, "iperf3")
	g := boot(t, 1, "-- -s")
	g.waitLine(`Server listening on 5201`)
	for _, args := range []string{"", "-R", "-P 8", "-P 8 -R", "-P 8 --bidir", "-u -b 200M", "-u -b 200M -R"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(*long+30)*time.Second)
		out, err := g.run(ctx, append([]string{"iperf3", "-c", wire.GuestIP(0).Addr().String(), "-J", "-t", fmt.Sprint(*long)}, strings.Fields(args)...)...)
		cancel()
		var d document
		if jerr := json.Unmarshal(out, &d); err != nil || jerr != nil || d.Error != "" {
			t.Errorf("%s: %v %v %q", args, err, jerr, d.Error)
			continue
		}
		for i, iv := range d.Intervals {
			if iv.Sum.Bytes == 0 {
				t.Errorf("%s: nothing in interval %d", args, i)
			}
		}
		r := d.End.SumReceived
		t.Logf("%-12s %6.0f Mbit/s, back %6.0f Mbit/s, %.0f of %.0f lost, %.0f retransmits", args, r.Rate/1e6, d.End.SumReceivedBack.Rate/1e6, r.Lost, r.Packets, d.End.SumSent.Retransmits)
	}
	g.healthy()
}
