package gate

import (
	"time"
	"unsafe"

	"osv/kernel/metal/clock"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/shim"
)

// ThreadState is what a thread does.
type ThreadState uint8

const (
	ThreadWaits   ThreadState = iota // for Wait; an idle one, for nobody else to want its processor
	ThreadReady                      // waits for a processor
	ThreadRunning                    // on one
)

// ThreadWait is what a thread waits for.
type ThreadWait uint8

const (
	WaitsNot          ThreadWait = sched.WaitNone
	WaitsForFutex     ThreadWait = sched.WaitFutex
	WaitsForTime      ThreadWait = sched.WaitSleep
	WaitsForPoller    ThreadWait = sched.WaitPoll // of the Go runtime: timers
	WaitsForInterrupt ThreadWait = sched.WaitIRQ
)

// Thread is one thread of the machine: the Go runtime's Ms, and the idle thread of each
// processor. Its counts begin with it.
type Thread struct {
	ID     int // what gettid returns; of idle threads above all those
	Idle   bool
	CPU    int // where it runs or ran last
	State  ThreadState
	Wait   ThreadWait
	Vector uint8         // with WaitsForInterrupt
	Time   time.Duration // on processors

	Switches    uint64 // times that it came to a processor
	Preemptions uint64 // times that it left one though it could have gone on
	Migrations  uint64 // times that it came to another processor than its last
}

// Threads lists the threads, by ID. What is said of one is of one moment; of all, nearly.
func Threads() []Thread {
	var out []Thread
	var batch [sched.InfoBatch]sched.Info
	for from := uintptr(0); ; {
		r := call(shim.CallThreads, from, uintptr(unsafe.Pointer(&batch)), 0)
		n := r & 0xff
		for _, i := range batch[:n] {
			t := Thread{
				ID: int(i.ID), Idle: i.ID >= sched.IdleID, CPU: int(i.CPU), Wait: ThreadWait(i.Wait), Vector: uint8(i.Vector),
				Time: time.Duration(clock.ToNS(i.Ticks)), Switches: i.Switches, Preemptions: i.Preemptions, Migrations: i.Migrations,
			}
			switch sched.State(i.State) {
			case sched.Ready:
				t.State = ThreadReady
			case sched.Running:
				t.State = ThreadRunning
			}
			out = append(out, t)
		}
		if n < sched.InfoBatch {
			return out
		}
		from = r >> 8
	}
}
