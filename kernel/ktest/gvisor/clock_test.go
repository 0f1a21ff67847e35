package gvisor

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"osv/kernel/net/clock"
)

// speed is how much faster than real time both stacks live: timeouts of seconds
// are most of what a bad wire costs.
const speed = 20

// fastClock is the clock of both ends.
type fastClock struct{ start time.Time }

func (c *fastClock) Now() int64 { return int64(time.Since(c.start))*speed + 1e12 }

func (c *fastClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	return fastTimer{time.AfterFunc(d/speed, f)}
}

type fastTimer struct{ t *time.Timer }

func (t fastTimer) Stop() bool                 { return t.t.Stop() }
func (t fastTimer) Reset(d time.Duration) bool { return t.t.Reset(d / speed) }

// theirClock is the same in gVisor's terms.
type theirClock struct{ c *fastClock }

func (c theirClock) Now() time.Time { return c.c.start.Add(time.Duration(c.c.Now())) }

func (c theirClock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(time.Duration(c.c.Now()))
}

func (c theirClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return theirTimer{time.AfterFunc(d/speed, f)}
}

type theirTimer struct{ t *time.Timer }

func (t theirTimer) Stop() bool            { return t.t.Stop() }
func (t theirTimer) Reset(d time.Duration) { t.t.Reset(d / speed) }
