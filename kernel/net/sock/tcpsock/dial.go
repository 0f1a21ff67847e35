package tcpsock

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"osv/kernel/net/tcp"
)

// Ports that Dial chooses from (RFC 6335 §6).
const (
	firstPort = 49152
	numPorts  = 65536 - firstPort
)

// Dial connects to remote. The zero local, or one with an unspecified address or
// port 0, leaves the choice to the host. ctx bounds the attempt.
func (h *Host) Dial(ctx context.Context, local, remote netip.AddrPort) (*Conn, error) {
	c, err := h.dial(ctx, local, remote)
	if err != nil {
		return nil, opError("dial", nil, tcpAddr(remote), err)
	}
	h.Stats.Dialled.Add(1)
	return c, nil
}

func (h *Host) dial(ctx context.Context, local, remote netip.AddrPort) (*Conn, error) {
	t, path, err := h.way(local, remote)
	if err != nil {
		return nil, err
	}
	c, err := h.open(t, path, &DialConfig{Options: tcp.Options{NoDelay: !h.nagle}})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		// wake alone would be lost if the wait has not begun.
		c.mu.Lock()
		c.wr.wake()
		c.mu.Unlock()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		now := c.h.clock.Now()
		c.pull(now)
		c.settle(now)
		switch s := c.core.State(); {
		case s == tcp.StateClosed && c.core.Err() != nil:
			return nil, c.core.Err()
		case s == tcp.StateClosed:
			return nil, tcp.ErrAborted
		case s != tcp.StateSynSent && s != tcp.StateSynReceived:
			return c, nil
		}
		if err := ctx.Err(); err != nil {
			c.closed = true
			c.core.Abort(now)
			c.core.Close(now)
			c.settle(now)
			if errors.Is(err, context.DeadlineExceeded) {
				return nil, errDeadline
			}
			return nil, err
		}
		c.sleep(&c.wr)
	}
}

// way finds the way from local to remote.
func (h *Host) way(local, remote netip.AddrPort) (tcp.Tuple, tcp.Path, error) {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	src, path, err := h.stack.Route(local.Addr().Unmap(), remote.Addr())
	if err == nil && remote.Port() == 0 {
		err = fmt.Errorf("tcp: port 0 of %v", remote.Addr())
	}
	return tcp.Tuple{Local: netip.AddrPortFrom(src, local.Port()), Remote: remote}, path, err
}

// open sends the SYN of a connection t, from a port that is free where t has
// none. It returns with the flow inserted.
func (h *Host) open(t tcp.Tuple, path tcp.Path, cfg *DialConfig) (*Conn, error) {
	first, ports, tries := firstPort, numPorts, 1
	if cfg.PortFrom != 0 && cfg.PortTo >= cfg.PortFrom {
		first, ports = int(cfg.PortFrom), int(cfg.PortTo-cfg.PortFrom)+1
	}
	if t.Local.Port() == 0 {
		tries = ports
	}
	// RFC 6056 §3.3.3: ports of one pair of ends follow each other, from a place
	// that nobody can tell.
	h.mu.Lock()
	h.portSeed++
	from := uint64(tcp.PortOffset(&h.cfg.Key, &t)) + h.portSeed
	h.mu.Unlock()
	for i := range tries {
		if tries > 1 {
			t.Local = netip.AddrPortFrom(t.Local.Addr(), uint16(uint64(first)+(from+uint64(i))%uint64(ports)))
		}
		core := tcp.New(&h.cfg, t, path)
		core.SetOptions(0, cfg.Options)
		if cfg.RecvBuf > 0 {
			core.SetRecvBuffer(cfg.RecvBuf)
		}
		if cfg.SendBuf > 0 {
			core.SetSendBuffer(cfg.SendBuf)
		}
		c := h.newConn(core, false)
		c.SetArrival(cfg.Arrival)
		c.mu.Lock()
		err := h.add(c)
		if err == nil {
			if err = h.stack.InsertFlow(&t, tcp.Flow{Chan: c.ch, Slow: c}); err != nil {
				h.remove(c)
			}
		}
		if err == nil {
			now := h.clock.Now()
			err = core.Connect(now)
			c.settle(now)
			c.mu.Unlock()
			return c, err
		}
		c.ch.Close()
		c.mu.Unlock()
		if tries == 1 || errors.Is(err, ErrHostClosed) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("tcp: %v to %v: no free port: %w", t.Local.Addr(), t.Remote, errInUse)
}
