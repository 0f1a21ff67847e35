package dhcp

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

var (
	lease7  = [][]byte{mask24, hour}
	forever = []byte{optLeaseTime, 4, 255, 255, 255, 255}
)

// renewal is the next message, which must be a renewal that carries a name.
func (r *rig) renewal(name string) sent {
	r.t.Helper()
	q := r.next(msgRequest)
	if q.dst != server || !bytes.Equal(q.b[offCIAddr:offCIAddr+4], []byte{10, 0, 0, 7}) || opt(q.b, optRequestedIP) != nil || string(opt(q.b, optHostname)) != name {
		r.t.Fatalf("to %v, name %q: want a renewal with the name %q", q.dst, opt(q.b, optHostname), name)
	}
	return q
}

func (r *rig) ack(q sent, yi string, opts ...[]byte) {
	r.t.Helper()
	r.c.Input(reply(q.b, msgACK, yi, opts...))
	r.want("bound " + yi + "/24")
}

func (r *rig) rename(name string) {
	r.t.Helper()
	if err := r.c.SetHostname(name); err != nil {
		r.t.Fatal(err)
	}
	r.clk.Advance(0)
}

// A changed name goes to the server at once, and with every message after.
func TestSetHostname(t *testing.T) {
	r := newRig(t, nil)
	r.bind()
	r.rename("guest") // no news
	r.quiet()
	r.rename("db-1.example.org")
	r.ack(r.renewal("db-1.example.org"), "10.0.0.7", lease7...)
	r.clk.Advance(30*time.Minute - time.Second)
	r.quiet()
	r.clk.Advance(time.Second)
	q := r.renewal("db-1.example.org")
	// It changes while the server is asked: its answer is to the old name.
	r.rename("db-2")
	r.quiet()
	r.ack(q, "10.0.0.7", lease7...)
	r.clk.Advance(0)
	r.ack(r.renewal("db-2"), "10.0.0.7", lease7...)
	r.rename("")
	if q := r.next(msgRequest); opt(q.b, optHostname) != nil {
		t.Errorf("name %q, want none", opt(q.b, optHostname))
	}
}

// Nobody answers: a few questions, then T1 as if nothing had been.
func TestSetHostnameUnanswered(t *testing.T) {
	r := newRig(t, nil)
	r.bind()
	r.rename("b")
	r.clk.Advance(time.Minute)
	for range maxRequests {
		r.renewal("b")
	}
	r.quiet()
	if s, _, held := r.c.State(); s != Bound || !held {
		t.Errorf("state %v, held %v", s, held)
	}
	r.clk.Advance(29*time.Minute - time.Second)
	r.quiet()
	r.clk.Advance(time.Second)
	q := r.renewal("b")
	r.rename("c") // after T1: the next question has it
	r.quiet()
	r.ack(q, "10.0.0.7", lease7...)
	r.clk.Advance(0)
	r.renewal("c")
	r.clk.Advance(time.Second)
	r.out = nil
	r.rename("d") // while c is asked for: from the start
	for range maxRequests {
		r.renewal("d")
		r.clk.Advance(20 * time.Second)
	}
	r.quiet()
	r.want()
}

func TestSetHostnameInfiniteLease(t *testing.T) {
	r := newRig(t, nil)
	r.c.Start()
	r.clk.Advance(0)
	r.c.Input(reply(r.next(msgDiscover).b, msgOffer, "10.0.0.7", mask24, forever))
	r.ack(r.next(msgRequest), "10.0.0.7", mask24, forever)
	r.rename("x")
	r.ack(r.renewal("x"), "10.0.0.7", mask24, forever)
	r.clk.Advance(1000 * time.Hour)
	r.quiet()
	r.rename("y")
	r.clk.Advance(1000 * time.Hour)
	if len(r.out) != maxRequests {
		t.Errorf("%d messages, want %d", len(r.out), maxRequests)
	}
	if s, _, held := r.c.State(); s != Bound || !held {
		t.Errorf("state %v, held %v", s, held)
	}
}

func TestCheckHostname(t *testing.T) {
	for _, good := range []string{"", "a", "A-1", "0.pool.example", strings.Repeat("a", 63)} {
		if err := CheckHostname(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"-a", "a-", "a..b", ".", "a.", "a b", "a_b", "ä", "a\x00", strings.Repeat("a", 64), strings.Repeat("aa.", 84) + "aa"} {
		if CheckHostname(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	c := New(Config{Hostname: "a"})
	if c.SetHostname("no good") == nil || c.name != "a" {
		t.Errorf("name is %q", c.name)
	}
}

// RFC 2131 §4.4.2 and §3.2: asked whether the lease holds on this network.
func TestLinkUp(t *testing.T) {
	rebooting := func() (*rig, sent) {
		r := newRig(t, nil)
		r.bind()
		r.clk.Advance(10 * time.Minute)
		r.c.LinkUp()
		r.clk.Advance(0)
		q := r.next(msgRequest)
		if q.src != any4 || q.dst != broadcast4 || !bytes.Equal(opt(q.b, optRequestedIP), []byte{10, 0, 0, 7}) || opt(q.b, optServerID) != nil ||
			be.Uint32(q.b[offCIAddr:]) != 0 || be.Uint16(q.b[offFlags:]) != flagBroadcast {
			t.Errorf("request % x", q.b)
		}
		if s, _, held := r.c.State(); s != Rebooting || !held || s.String() != "rebooting" {
			t.Errorf("state %v, held %v", s, held)
		}
		return r, q
	}
	t.Run("confirmed", func(t *testing.T) {
		r, q := rebooting()
		r.c.Input(reply(q.b, msgACK, "10.0.0.8", mask24, hour)) // not what we asked for
		r.want()
		r.ack(q, "10.0.0.7", lease7...)
		r.clk.Advance(30*time.Minute - time.Second)
		r.quiet()
	})
	t.Run("refused", func(t *testing.T) {
		r, q := rebooting()
		r.c.Input(reply(q.b, msgNAK, "0.0.0.0"))
		r.want("lost 10.0.0.7/24")
		r.clk.Advance(afterNAK)
		r.next(msgDiscover)
	})
	t.Run("silence", func(t *testing.T) {
		r, _ := rebooting()
		r.clk.Advance(time.Minute)
		for range maxRequests - 1 {
			r.next(msgRequest)
		}
		r.quiet()
		r.want()
		r.clk.Advance(19*time.Minute - time.Second)
		r.quiet()
		r.clk.Advance(time.Second) // T1 of the lease as granted
		r.renewal("guest")
		r.out = nil
		r.clk.Advance(30 * time.Minute)
		r.want("lost 10.0.0.7/24")
	})
	t.Run("no lease yet", func(t *testing.T) {
		r := newRig(t, nil)
		r.c.LinkUp()
		r.clk.Advance(time.Hour)
		r.quiet() // not started
		r.c.Start()
		r.clk.Advance(5 * time.Minute)
		r.out = nil // the next question would come in up to a minute
		r.c.LinkUp()
		r.clk.Advance(0)
		r.next(msgDiscover)
	})
	t.Run("infinite lease", func(t *testing.T) {
		r := newRig(t, nil)
		r.c.Start()
		r.clk.Advance(0)
		r.c.Input(reply(r.next(msgDiscover).b, msgOffer, "10.0.0.7", mask24, forever))
		r.ack(r.next(msgRequest), "10.0.0.7", mask24, forever)
		r.c.LinkUp()
		r.clk.Advance(1000 * time.Hour)
		if len(r.out) != maxRequests {
			t.Errorf("%d messages, want %d", len(r.out), maxRequests)
		}
		r.want()
	})
}
