package sock

import (
	"time"

	"osv/kernel/linux/abi"
	ntcp "osv/kernel/net/tcp"
)

// linuxStates are the numbers of include/net/tcp_states.h.
var linuxStates = [...]byte{
	ntcp.StateClosed: 7, ntcp.StateListen: 10, ntcp.StateSynSent: 2, ntcp.StateSynReceived: 3,
	ntcp.StateEstablished: 1, ntcp.StateFinWait1: 4, ntcp.StateFinWait2: 5, ntcp.StateCloseWait: 8,
	ntcp.StateClosing: 11, ntcp.StateLastAck: 9, ntcp.StateTimeWait: 6,
}

// Bits of tcpi_options.
const (
	tcpiTimestamps = 1
	tcpiSACK       = 2
	tcpiWScale     = 4
)

// info fills in a struct tcp_info of Linux 6.1. What the stack does not count is 0.
func (s *tcp) info(b *[abi.SizeofTCPInfo]byte) {
	u32 := func(off, n int) { ne.PutUint32(b[off:], uint32(max(0, min(n, 1<<32-1)))) }
	u64 := func(off int, n uint64) { ne.PutUint64(b[off:], n) }
	us := func(d time.Duration) int { return int(d / time.Microsecond) }
	const infinite = 1<<31 - 1
	c := s.conn.Load()
	if c == nil {
		b[0] = 7
		if l := s.lis.Load(); l != nil {
			b[0] = 10
			u32(24, l.Waiting())
		}
		u32(8, 1e6)
		u32(16, 536)
		u32(20, 88)
		u32(76, infinite)
		u32(80, 10)
		return
	}
	i := c.Info()
	var mtu int
	c.WithPath(func(p *ntcp.Path) { mtu = p.MTU })
	mss := max(i.MSS, 1)
	b[0] = linuxStates[i.State]
	if i.Timestamps {
		b[5] |= tcpiTimestamps
	}
	if i.SACK {
		b[5] |= tcpiSACK
	}
	b[5] |= tcpiWScale
	u32(8, us(i.RTO))
	u32(12, 40000)
	u32(16, i.MSS)
	u32(20, i.MSS)
	u32(24, (i.Unacked+mss-1)/mss)
	u32(60, mtu)
	u32(68, us(i.SRTT))
	u32(72, us(i.RTTVar))
	u32(76, min(i.Ssthresh/mss, infinite))
	u32(80, i.Cwnd/mss)
	u32(84, i.MSS)
	u32(88, 3)
	u32(96, defaultTCPRcv/2)
	u32(100, int(i.Retransmits))
	u64(104, ^uint64(0))
	u64(112, ^uint64(0))
	u32(136, int(i.SegsOut))
	u32(140, int(i.SegsIn))
	u32(144, i.Unsent)
	u32(148, us(i.MinRTT))
	u32(152, int(i.SegsIn))
	u32(156, int(i.SegsOut))
	if i.SRTT > 0 {
		u64(160, uint64(i.Cwnd)*uint64(time.Second)/uint64(i.SRTT))
	}
	u32(224, int(i.OutOfOrder))
	u32(228, i.PeerWindow)
}
