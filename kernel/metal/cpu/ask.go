package cpu

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/metal/arch"
)

// What a processor asks others for.
const (
	reqFlush     = iota + 1 // drop translations of the pages listed, or all
	reqLeaveRoot            // stop using a page table that is to be freed
	reqDropFP               // complete a User's image
)

// MaxPages is how many pages a flush names one by one; more are all.
const MaxPages = 32

// request is the one that is out, guarded by mu: who asks waits for all answers.
// todo has a bit for each processor that has not answered.
var request struct {
	mu    SpinLock
	kind  uint32
	arg   uintptr
	n     uintptr
	pages [MaxPages]uintptr
	todo  uint64
}

// ask has the processors in mask, of which this is none, serve a request.
func ask(c *CPU, kind uint32, arg uintptr, mask uint64) {
	request.mu.Lock()
	request.kind, request.arg = kind, arg
	send(c, mask)
	request.mu.Unlock()
}

// send waits until mask has served what request holds.
func send(c *CPU, mask uint64) {
	atomic.StoreUint64(&request.todo, mask)
	for i := 0; mask>>uint(i) != 0; i++ {
		if mask>>uint(i)&1 != 0 {
			c.Stats.Shootdowns++
			SendIPI(&all[i], VectorIPI)
		}
	}
	for atomic.LoadUint64(&request.todo) != 0 {
		PollTLB()
		arch.Pause()
	}
}

// serve answers the request that is out, if it is for c.
func serve(c *CPU) {
	bit := uint64(1) << uint(c.ID)
	if atomic.LoadUint64(&request.todo)&bit == 0 {
		return
	}
	switch request.kind {
	case reqFlush:
		flushRequested(c)
	case reqLeaveRoot:
		leaveRoot(c, request.arg)
	case reqDropFP:
		if c.FPOwner == request.arg {
			dropFP(c)
		}
	}
	atomic.AndUint64(&request.todo, ^bit)
}

func flushRequested(c *CPU) {
	if c.CR3 != request.arg {
		return // the load of another root has dropped them
	}
	if request.n > MaxPages {
		arch.WriteCR3(c.CR3)
		return
	}
	for i := uintptr(0); i < request.n; i++ {
		arch.InvalidatePage(request.pages[i])
	}
}

func leaveRoot(c *CPU, root uintptr) {
	if c.CR3 == root {
		LoadRoot(c, KernelRoot)
	}
}

// KernelRoot is the page table that maps nothing below the kernel's half.
var KernelRoot uintptr

// LoadRoot switches c, this processor, to a page table. The word is stored first:
// who changes a table and then does not find it here knows that the load, which
// waits for the store, comes after the change.
func LoadRoot(c *CPU, root uintptr) {
	atomic.StoreUintptr(&c.CR3, root)
	arch.WriteCR3(root)
}

// users returns the other processors that use root.
func users(c *CPU, root uintptr) (mask uint64) {
	n := Count()
	for i := 0; i < n; i++ {
		if i != int(c.ID) && atomic.LoadUintptr(&all[i].CR3) == root {
			mask |= 1 << uint(i)
		}
	}
	return mask
}

// FlushPages makes every processor that uses root drop its translations of n pages
// whose addresses are at list, or all of them if n > MaxPages. The entries in
// memory are changed already.
func FlushPages(c *CPU, root, list, n uintptr) {
	if c.CR3 == root {
		if n > MaxPages {
			arch.WriteCR3(root)
		} else {
			for i := uintptr(0); i < n; i++ {
				arch.InvalidatePage(*arch.Ptr(list + i*8))
			}
		}
	}
	mask := users(c, root)
	if mask == 0 {
		return
	}
	request.mu.Lock()
	request.kind, request.arg, request.n = reqFlush, root, n
	if n <= MaxPages {
		arch.Copy(uintptr(unsafe.Pointer(&request.pages)), list, n*8)
	}
	send(c, mask)
	request.mu.Unlock()
}

// RetireRoot makes every processor leave root. The caller lets nobody enter it again.
func RetireRoot(c *CPU, root uintptr) {
	leaveRoot(c, root)
	if mask := users(c, root); mask != 0 {
		ask(c, reqLeaveRoot, root, mask)
	}
}
