package tcp

import "time"

// Sender is what a connection's sender knows and has done.
type Sender struct {
	SRTT, RTTVar, RTO, MinRTT time.Duration
	Cwnd, Ssthresh, Pipe      int // octets
	MSS                       int // octets of a full segment
	PeerWindow                int // octets
	SACK, Timestamps          bool
	Counts
}

// Counts are what has happened on a connection.
type Counts struct {
	SegsOut, SegsIn uint64 // as they are on the wire: what the link cuts, or has merged, counts for each
	Quick           uint64 // frames that quick.go took
	Retransmits     uint64 // ranges sent again
	Timeouts        uint64 // retransmission timeouts
	Recoveries      uint64 // times that fast recovery began
	Probes          uint64 // tail loss probes
	Undone          uint64 // reductions of the window that were taken back
	OutOfOrder      uint64 // segments beyond a hole
	Duplicate       uint64 // segments that brought nothing new
	Dropped         uint64 // segments beyond a hole for which there was no room
}

// Sender tells how the sender of c is doing.
func (c *Conn) Sender() Sender {
	return Sender{
		SRTT: time.Duration(c.rtt.srtt), RTTVar: time.Duration(c.rtt.rttvar), RTO: time.Duration(c.rtt.backedOff(c.backoff)),
		MinRTT: time.Duration(c.rtt.min()),
		Cwnd:   c.cc.cwnd, Ssthresh: c.cc.ssthresh, Pipe: c.pipe(), MSS: c.cc.mss, PeerWindow: c.sndWnd,
		SACK: c.sackOK, Timestamps: c.tsOK, Counts: c.count,
	}
}
