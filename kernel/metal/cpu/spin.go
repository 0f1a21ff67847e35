package cpu

import (
	"sync/atomic"

	"osv/kernel/metal/arch"
)

// SpinLock is held for short times with interrupts off. A waiter answers TLB
// shootdowns meanwhile, so a holder may wait for one.
//
// Lock order, outermost first: sched.sleep, vm.mu, phys.mu, sched's run queues.
type SpinLock struct {
	word uint32 // 0 free, else owner's CPU index + 1
}

// Lock acquires l.
func (l *SpinLock) Lock() {
	me := uint32(Current().ID) + 1
	for !atomic.CompareAndSwapUint32(&l.word, 0, me) {
		for atomic.LoadUint32(&l.word) != 0 {
			PollTLB()
			arch.Pause()
		}
	}
}

// Unlock releases l.
func (l *SpinLock) Unlock() { atomic.StoreUint32(&l.word, 0) }

// HeldHere says whether this processor holds l.
func (l *SpinLock) HeldHere() bool {
	return atomic.LoadUint32(&l.word) == uint32(Current().ID)+1
}
