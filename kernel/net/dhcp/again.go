package dhcp

import (
	"fmt"
	"strings"
	"time"

	"osv/kernel/net/wire"
)

// What makes the client ask again before T1: another host name, a link that came
// back.

// maxName is the longest host name (RFC 1035 §2.3.4, as text without a dot at
// its end).
const maxName = 253

// CheckHostname says why name cannot be sent as a host name: RFC 2132 §3.14
// refers to the letters of RFC 1035 §2.3.1. The empty name, which is not sent,
// is all right.
func CheckHostname(name string) error {
	if name == "" {
		return nil
	}
	if len(name) > maxName {
		return fmt.Errorf("dhcp: host name of %d octets: at most %d", len(name), maxName)
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("dhcp: host name %q: label %q", name, label)
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
				return fmt.Errorf("dhcp: host name %q: character %q", name, r)
			}
		}
	}
	return nil
}

// SetHostname makes name the one that is sent from now on; "" for none. A lease
// that is held is renewed at once, so that the server learns of it (RFC 2131
// §4.4.5 allows renewal before T1).
func (c *Client) SetHostname(name string) error {
	if err := CheckHostname(name); err != nil {
		return err
	}
	c.mu.Lock()
	if c.name == name {
		c.mu.Unlock()
		return nil
	}
	c.name = name
	if c.state == Bound || c.state == Renewing && c.age() < c.lease.Renew {
		c.tries = 0
		c.after(0)
	}
	c.finish(nil)
	return nil
}

// insist asks, out of turn, until somebody answers. Where nobody does it lets the
// matter rest: what is left of the lease is used (RFC 2131 §3.2 4). Caller must hold
// mu.
func (c *Client) insist(ask func() (send func())) []func() {
	if c.tries >= maxRequests {
		c.state = Bound
		c.after(c.untilRenew())
		return nil
	}
	send := ask()
	c.after(c.backoff())
	c.tries++
	return []func(){send}
}

// LinkUp tells that the link has a carrier again, maybe on another network: the
// client asks whether its lease holds there (INIT-REBOOT, RFC 2131 §4.4.2), and
// looks for one at once where it has none. The address stays in use meanwhile.
func (c *Client) LinkUp() {
	c.mu.Lock()
	switch {
	case c.state == Stopped || c.state == Checking:
	case c.held:
		c.state, c.tries = Rebooting, 0
		c.xid, c.began = uint32(c.cfg.Random()), c.cfg.Clock.Now()
		c.after(0)
	default:
		c.restart(0)
	}
	c.finish(nil)
}

// asking reports whether an ACK now means that the lease held is confirmed.
// Caller must hold mu.
func (c *Client) asking() bool {
	return c.state == Renewing || c.state == Rebinding || c.state == Rebooting
}

// age is how long the lease has been held. Caller must hold mu.
func (c *Client) age() time.Duration { return time.Duration(c.cfg.Clock.Now() - c.lease.obtained) }

// untilRenew is what is left until T1. Caller must hold mu.
func (c *Client) untilRenew() time.Duration {
	if c.lease.Renew == wire.Forever {
		return wire.Forever
	}
	return max(c.lease.Renew-c.age(), 0)
}
