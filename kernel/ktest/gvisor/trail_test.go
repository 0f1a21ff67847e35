package gvisor

import (
	"fmt"
	"strings"
	"sync"

	"osv/kernel/net/wire"
)

// trail keeps the last frames that the two ends have put on the wire, for the
// log of a test that fails.
type trail struct {
	mu    sync.Mutex
	lines [trailLen]string
	n     int

	theirsAt int64 // when gVisor last sent, ns
	scale    uint8 // of our window
	window   int   // that we advertised last
}

const trailLen = 80

// tap makes port i of the wire leave its mark.
func (w *world) tap(i int) {
	name := [2]string{"ours  ", "theirs"}[i]
	w.wire.Links[i].SetTap(func(f []byte) {
		if len(f) < wire.EthLen+wire.IPv4MinLen+wire.TCPMinHeader || f[12] != 8 || f[13] != 0 || f[23] != wire.ProtoTCP {
			return
		}
		ip := f[wire.EthLen:]
		h, ok := wire.ParseTCP(ip[wire.IPv4MinLen:min(len(ip), int(ip[2])<<8|int(ip[3]))])
		if !ok {
			return
		}
		var o wire.TCPOptions
		o.Parse(h.Options())
		var s strings.Builder
		fmt.Fprintf(&s, "%9.1f ms %s %v seq %d ack %d win %d len %d", float64(w.clock.Now()-1e12)/1e6, name, h.Flags(), h.Seq(), h.Ack(), h.Window(), len(h.Payload()))
		for _, b := range o.SACK[:o.NSACK] {
			fmt.Fprintf(&s, " sack %d-%d", b.Left, b.Right)
		}
		w.trail.mu.Lock()
		switch {
		case i == 1:
			w.trail.theirsAt = w.clock.Now()
		case h.Flags()&wire.TCPSyn != 0:
			if w.trail.scale = 0; o.Have&wire.TCPOptWScale != 0 {
				w.trail.scale = o.WScale
			}
		default:
			w.trail.window = int(h.Window()) << w.trail.scale
		}
		w.trail.lines[w.trail.n%trailLen] = s.String()
		w.trail.n++
		w.trail.mu.Unlock()
	})
}

func (t *trail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s strings.Builder
	for i := max(0, t.n-trailLen); i < t.n; i++ {
		fmt.Fprintln(&s, t.lines[i%trailLen])
	}
	return s.String()
}

// theyAreStuck reports that gVisor has been silent for a minute with room in our
// window, while nothing of ours waits to be acknowledged. That it should send
// the test knows. Its sender does so about once in 500 seeds, with octets waiting
// or not acknowledged: its retransmission timer does not run.
func (w *world) theyAreStuck(c conn) bool {
	w.trail.mu.Lock()
	defer w.trail.mu.Unlock()
	i := c.(ourConn).Info()
	return i.Unsent == 0 && i.Unacked == 0 && w.trail.window >= 1460 && w.clock.Now()-w.trail.theirsAt > 60e9
}
