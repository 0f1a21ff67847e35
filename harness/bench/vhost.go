package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"osv/harness/load/udp"
	"osv/harness/wire"
)

// A guest on vhost-user: the rings of its network card are served by this
// process, so packets pass neither QEMU's main loop nor the host's stack. There
// is no TCP on our side of it; boot times are not taken, since ARP is asked for
// only every 200 ms.

// framed is a guest whose UDP services are reached by raw frames.
type framed struct{ *qemuGuest }

// Frames gives the way to a UDP port.
func (g framed) Frames(port string) (udp.Port, error) {
	if !strings.HasPrefix(port, "udp:") {
		return nil, fmt.Errorf("bench: %s cannot be reached on vhost-user", port)
	}
	return keptOpen{g.port}, nil
}

// keptOpen leaves a port open for the next load.
type keptOpen struct{ udp.Port }

func (keptOpen) Close() error { return nil }

// guest is g as the runner sees it.
func (g *qemuGuest) guest() Guest {
	if g.dev != nil {
		return framed{g}
	}
	return g
}

// hostMAC is the generator's own address on the wire.
var hostMAC = [6]byte{0x52, 0x54, 0, 0x77, 0, 1}

// connectFrames waits until the guest's driver has set up the rings, finds the
// guest, and asks memcached for its version until it answers.
func (g *qemuGuest) connectFrames(ctx context.Context, ports []string) error {
	target := 0
	for _, p := range ports {
		n, ok := strings.CutPrefix(p, "udp:")
		if !ok {
			return fmt.Errorf("bench: %s cannot be reached on vhost-user", p)
		}
		if _, err := fmt.Sscan(n, &target); err != nil {
			return fmt.Errorf("bench: port %s: %w", p, err)
		}
	}
	if err := g.dev.WaitReady(ctx); err != nil {
		return fmt.Errorf("bench: vhost-user: %w; console: %s", err, g.v.Tail(6))
	}
	patience := 60 * time.Second
	if end, ok := ctx.Deadline(); ok {
		patience = time.Until(end)
	}
	var err error
	g.port, err = udp.OpenFrames(g.dev.Port(0), udp.FrameConfig{MAC: hostMAC, Local: wire.Host.Addr(), Flows: 1, Patience: patience,
		Remote: netip.AddrPortFrom(wire.GuestIP(0).Addr(), uint16(target))})
	if err != nil {
		return fmt.Errorf("bench: %w; console: %s", err, g.v.Tail(6))
	}
	req := [][]byte{[]byte("\x00\x01\x00\x00\x00\x01\x00\x00version\r\n")}
	in := make([][]byte, 8)
	for ctx.Err() == nil {
		if err := g.Alive(); err != nil {
			return err
		}
		if _, err := g.port.Send(req); err != nil {
			return fmt.Errorf("bench: vhost-user: %w", err)
		}
		for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
			if err := g.port.Wait(10 * time.Millisecond); err != nil {
				return fmt.Errorf("bench: vhost-user: %w", err)
			}
			n, err := g.port.Recv(in)
			if err != nil {
				return fmt.Errorf("bench: vhost-user: %w", err)
			}
			for _, d := range in[:n] {
				if strings.Contains(string(d), "VERSION ") {
					return nil
				}
			}
		}
	}
	return errors.Join(errors.New("bench: no reply on vhost-user"), ctx.Err())
}
