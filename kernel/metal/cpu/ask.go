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
	if c.CR3&^rootBits != request.arg {
		return // the load of another root has dropped them
	}
	if request.n > MaxPages {
		arch.WriteCR3(request.arg)
		return
	}
	for i := uintptr(0); i < request.n; i++ {
		arch.InvalidatePage(request.pages[i])
	}
}

func leaveRoot(c *CPU, root uintptr) {
	if c.CR3&^rootBits == root {
		LoadRoot(c, KernelRoot)
	}
}

// Bits in CPU.CR3 beside the root. A processor that idles on a program's root is
// lazy: it is not interrupted for a flush, but loads the root anew before it enters
// ring 3 again if one has left stale there.
const (
	rootLazy  = 1
	rootStale = 2
	rootBits  = rootLazy | rootStale
)

// Rest is for a processor that is about to idle: it completes the image of the User
// whose registers it has, and becomes lazy, so that others need not wake it.
func Rest(c *CPU) {
	if Count() == 1 {
		return
	}
	dropFP(c)
	if c.CR3 != KernelRoot && c.CR3&rootLazy == 0 { // others write to the word of one that is lazy
		atomic.StoreUintptr(&c.CR3, c.CR3|rootLazy)
	}
}

// useRoot makes root the one that this processor runs on.
func useRoot(c *CPU, root uintptr) {
	if c.CR3 != root && !atomic.CompareAndSwapUintptr(&c.CR3, root|rootLazy, root) {
		LoadRoot(c, root)
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

// users returns the other processors that use root; with lazy those too that idle on
// it, which otherwise are told to load it anew.
func users(c *CPU, root uintptr, lazy bool) (mask uint64) {
	n := Count()
	for i := 0; i < n; i++ {
		p := &all[i].CR3
		r := atomic.LoadUintptr(p)
		if i == int(c.ID) || r&^rootBits != root {
			continue
		}
		if !lazy && r&rootLazy != 0 && atomic.CompareAndSwapUintptr(p, root|rootLazy, root|rootBits) {
			continue
		}
		if lazy || atomic.LoadUintptr(p) != root|rootBits {
			mask |= 1 << uint(i)
		}
	}
	return mask
}

// FlushPages makes every processor that uses root drop its translations of n pages
// whose addresses are at list, or all of them if n > MaxPages. The entries in
// memory are changed already.
func FlushPages(c *CPU, root, list, n uintptr) {
	if c.CR3&^rootBits == root {
		if n > MaxPages {
			arch.WriteCR3(root)
		} else {
			for i := uintptr(0); i < n; i++ {
				arch.InvalidatePage(*arch.Ptr(list + i*8))
			}
		}
	}
	mask := users(c, root, false)
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
	if mask := users(c, root, true); mask != 0 {
		ask(c, reqLeaveRoot, root, mask)
	}
}
