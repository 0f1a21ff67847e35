package sched

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/clock"
	"osv/kernel/metal/cpu"
)

// The runtime's network poller: one epoll instance that watches one eventfd, by
// which the runtime interrupts its own epoll_wait (netpollBreak). Nothing else
// is ever registered: our own devices and connections do not use descriptors.
const (
	// PollFD and EventFD are the descriptors handed out for the two.
	PollFD  = 4
	EventFD = 5

	epollIn = 1
)

var (
	poller    uint32 // thread that waits
	eventData uint64 // what epoll_ctl registered
	eventSet  bool
)

// PollRegister is epoll_ctl(ADD) of the eventfd.
func PollRegister(data uint64) {
	sleep.Lock()
	eventData = data
	sleep.Unlock()
}

// PollWait is epoll_wait: it fills one event at events, or blocks the current
// thread for ms milliseconds (negative: for ever).
func PollWait(c *cpu.CPU, events uintptr, ms int32) {
	t := Current(c)
	sleep.Lock()
	switch {
	case eventSet:
		t.RAX = fillEvent(events)
	case ms == 0:
		t.RAX = 0
	case interrupted(t):
		t.RAX = eINTR
	default:
		deadline := int64(0)
		if ms > 0 {
			deadline = clock.Now() + int64(ms)*1000000
		}
		t.pollEvents, poller = events, t.id
		block(c, t, WaitPoll, deadline, 0)
	}
	sleep.Unlock()
}

// EventWrite sets the eventfd and wakes the poller.
func EventWrite() {
	sleep.Lock()
	eventSet = true
	if poller != none {
		t := byID(poller)
		wakeUp(t, fillEvent(t.pollEvents))
	}
	sleep.Unlock()
}

// EventRead clears the eventfd; false if it was not set.
func EventRead() bool {
	sleep.Lock()
	was := eventSet
	eventSet = false
	sleep.Unlock()
	return was
}

// fillEvent writes struct epoll_event, packed: u32 events, u64 data.
func fillEvent(p uintptr) uintptr {
	*arch.U32(p) = epollIn
	*arch.U32(p + 4) = uint32(eventData)
	*arch.U32(p + 8) = uint32(eventData >> 32)
	return 1
}
