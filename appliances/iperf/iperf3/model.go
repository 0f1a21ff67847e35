package iperf3

import (
	"net/netip"

	"osv/appliances/iperf/host"
)

// Sample is what one stream did in a span of time.
type Sample struct {
	ID         int
	Sender     bool    // this end sends
	Start, End float64 // seconds since the beginning of what counts
	Bytes      uint64
	Omitted    bool

	Retransmits int64         // -1: not known
	Info        *host.TCPInfo // of a TCP sender, where the host tells

	Packets, Lost, OutOfOrder int64   // UDP
	Jitter                    float64 // seconds
}

// rate is one of the host's counters per second.
type rate struct {
	Name string
	PerS float64
}

// interval is what all streams did between two reports.
type interval struct {
	Samples  []Sample
	Omitted  bool
	Counters []rate
}

// pair is a stream when all is over, as both ends saw it. A side that this end
// does not know is nil.
type pair struct {
	ID             int
	Sender         bool // this end sends
	Sent, Received *Sample
	Conn           connStats // of a sender here
}

// ending is the report of a whole test.
type ending struct {
	Pairs         []pair
	Local, Remote [3]float64 // CPU percent: all, user, system
	HasRemote     bool
	SenderCC      string
	ReceiverCC    string
	Server        Results // what the server sent, its output above all
}

// greeting is what is known before data flows.
type greeting struct {
	Params  *Params
	Cookie  string
	MSS     int // of the control connection; 0: not known
	Streams []endpoints
}

// missing warns of what the host leaves out of o.
func missing(h host.Host, o host.Socket, out reporter) {
	if m := h.Missing(o); m != "" {
		out.warn("this host does not set " + m)
	}
}

type endpoints struct {
	ID            int
	Sender        bool
	Local, Remote netip.AddrPort
}

// reporter shows a test to the user. Its methods are called by one goroutine.
type reporter interface {
	// connecting: the client is about to; accepted: the server has.
	connecting(host string, port uint16)
	accepted(peer netip.AddrPort)
	start(g *greeting)
	warn(text string)
	interval(iv *interval)
	end(e *ending)
	fail(err error)
	// output ends the report of a test: JSON is written now. It returns what the
	// server sends to a client that asked for its output.
	output() (text string, json []byte)
}

// ending pairs what this end saw with what the other said.
func (t *test) ending(peer *Results) *ending {
	e := &ending{Local: t.cpuPercent}
	byID := map[int]StreamResults{}
	if peer != nil {
		e.Remote, e.HasRemote, e.Server = peer.CPU, true, *peer
		for _, s := range peer.Streams {
			byID[s.ID] = s
		}
	}
	for i, s := range t.streams {
		mine := t.final[i]
		p := pair{ID: s.id, Sender: s.sender, Conn: s.conns}
		var other *Sample
		if r, ok := byID[s.id]; ok {
			other = &Sample{
				ID: s.id, Sender: s.sender, Start: r.Start, End: r.End, Bytes: r.Bytes,
				Retransmits: r.Retransmits, Jitter: r.Jitter,
				Packets: r.Packets - r.OmittedPackets, Lost: r.Errors - r.OmittedErrors,
			}
			if peer.Retransmits != 1 {
				other.Retransmits = -1
			}
			if !r.Omits { // the omitted part is only known here
				other.Packets -= s.base.packets
			}
			if other.End <= other.Start {
				other.Start, other.End = mine.Start, mine.End
			}
		}
		if s.sender {
			p.Sent, p.Received = &mine, other
		} else {
			p.Sent, p.Received = other, &mine
		}
		e.Pairs = append(e.Pairs, p)
	}
	mine, theirs := t.congestion(), ""
	if peer != nil {
		theirs = peer.Congestion
	}
	e.SenderCC, e.ReceiverCC = mine, theirs
	if t.client == t.p.Reverse {
		e.SenderCC, e.ReceiverCC = theirs, mine
	}
	return e
}
