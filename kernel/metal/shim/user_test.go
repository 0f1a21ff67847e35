package shim

import (
	"testing"
	"unsafe"

	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
)

func TestUserCalls(t *testing.T) {
	g := start(t)
	_, before, _ := phys.Counts()
	at := g.call(CallUserNew)
	u := (*cpu.User)(unsafe.Pointer(at))
	if u.FPCPU != -1 || u.CPU != -1 || u.RFlags != 0x202 {
		t.Errorf("a new program: %+v", u.RFlags)
	}
	g.want(0, CallUserTake, at)
	g.want(0, CallUserKick, at) // it is nowhere
	g.want(0, CallUserFree, at)
	g.want(-22, CallUserFree, at)

	root := g.call(CallRootNew)
	if root%phys.FrameSize != 0 {
		t.Errorf("root %#x", root)
	}
	g.want(0, CallFlush, root, g.at, 1)
	g.want(0, CallFlush, root, 0, cpu.MaxPages+1)
	g.want(0, CallRootFree, root)

	g.want(0, CallFrameList, g.at, 3, 2)
	list := (*[3]uintptr)(unsafe.Pointer(g.at))
	for _, p := range list {
		if p%(4*phys.FrameSize) != 0 {
			t.Errorf("block %#x", p)
		}
	}
	g.want(0, CallFreeList, g.at, 3, 2)
	g.want(-22, CallFreeList, g.at, 3, 2) // twice
	g.want(-22, CallFrameList, g.at, maxList+1, 0)
	g.want(-22, CallFreeList, g.at, maxList+1, 0)
	g.want(-12, CallFrameList, g.at, maxList, phys.LargeOrder) // more than there is
	if _, now, _ := phys.Counts(); now != before {
		t.Errorf("%d frames are lost", before-now)
	}
}
