package manage

import (
	"testing"
	"time"

	"osv/kernel/hw/gate"
)

// What a thread is and does is told in words of its own.
func TestThread(t *testing.T) {
	for _, c := range []struct {
		in                   gate.Thread
		owner                string
		name, status, reason string
	}{
		{gate.Thread{ID: 1, State: gate.ThreadRunning}, "", "main", "running", ""},
		{gate.Thread{ID: 2, State: gate.ThreadReady}, "", "go2", "queued", ""},
		{gate.Thread{ID: 3, Wait: gate.WaitsForFutex}, "", "go3", "waiting", "futex"},
		{gate.Thread{ID: 4, Wait: gate.WaitsForTime}, "", "go4", "waiting", "time"},
		{gate.Thread{ID: 5, Wait: gate.WaitsForPoller}, "", "go5", "waiting", "timers"},
		{gate.Thread{ID: 6, Wait: gate.WaitsForInterrupt, Vector: 0x31}, "eth0", "go6", "waiting", "interrupt of eth0"},
		{gate.Thread{ID: 7, Wait: gate.WaitsForInterrupt, Vector: 0x31}, "", "go7", "waiting", "interrupt 49"},
		{gate.Thread{ID: 4097, Idle: true, CPU: 1}, "", "idle1", "waiting", ""},
	} {
		c.in.Time, c.in.Switches, c.in.Preemptions, c.in.Migrations = 1500*time.Microsecond, 3, 2, 1
		m := thread(c.in, c.owner)
		if m.ID != int64(c.in.ID) || m.Name != c.name || m.Status != c.status || m.WaitsFor != c.reason || *m.CPU != int64(c.in.CPU) ||
			*m.CPUms != 1 || *m.CPUns != 1500000 || *m.Switches != 3 || *m.Preemptions != 2 || *m.Migrations != 1 {
			t.Errorf("%+v gives %+v, want %s %s %q", c.in, m, c.name, c.status, c.reason)
		}
	}
}
