// Package memory is the system calls of memory: mmap and its kin, brk, locking, advice,
// memory policies of the one node, process_vm_readv and membarrier.
//
// Spec: Linux 6.1 and man-pages 6.03, section 2. It decodes arguments, checks what
// concerns descriptors and credentials, and calls kernel/linux/mm, which knows the rest.
// The root package joins Calls into the table. Start reading at Calls.
package memory

import (
	"syscall"

	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// Calls are this topic's entries.
var Calls = []sys.Entry{
	{Nr: 9, Name: "mmap", Level: sys.Full, Fn: mmap, Sig: "puPMfx"},
	{Nr: 10, Name: "mprotect", Level: sys.Full, Fn: mprotect, Sig: "puP"},
	{Nr: 11, Name: "munmap", Level: sys.Full, Fn: munmap, Sig: "pu"},
	{Nr: 12, Name: "brk", Level: sys.Full, Fn: brk, Sig: "p"},
	{Nr: 25, Name: "mremap", Level: sys.Full, Fn: mremap, Sig: "puuxp"},
	{Nr: 26, Name: "msync", Level: sys.Full, Fn: msync, Sig: "pux"},
	{Nr: 27, Name: "mincore", Level: sys.Full, Fn: mincore, Sig: "pup"},
	{Nr: 28, Name: "madvise", Level: sys.Partial, Fn: madvise, Sig: "puv",
		Note: "MADV_FREE frees at once, MADV_WILLNEED waits, MADV_COLD, _PAGEOUT, _MERGEABLE and _COLLAPSE do nothing, _HWPOISON is EINVAL"},
	{Nr: 149, Name: "mlock", Level: sys.Full, Fn: mlock, Sig: "pu"},
	{Nr: 150, Name: "munlock", Level: sys.Full, Fn: munlock, Sig: "pu"},
	{Nr: 151, Name: "mlockall", Level: sys.Full, Fn: mlockall, Sig: "x"},
	{Nr: 152, Name: "munlockall", Level: sys.Full, Fn: munlockall, Sig: ""},
	{Nr: 237, Name: "mbind", Level: sys.Partial, Fn: mbind, Sig: "pudpux", Note: onePolicy},
	{Nr: 238, Name: "set_mempolicy", Level: sys.Partial, Fn: setMempolicy, Sig: "dpu", Note: onePolicy},
	{Nr: 239, Name: "get_mempolicy", Level: sys.Partial, Fn: getMempolicy, Sig: "ppupx", Note: onePolicy},
	{Nr: 256, Name: "migrate_pages", Level: sys.Full, Fn: migratePages, Sig: "dupp"},
	{Nr: 279, Name: "move_pages", Level: sys.Full, Fn: movePages, Sig: "dupppx"},
	{Nr: 310, Name: "process_vm_readv", Level: sys.Full, Fn: vmReadv, Sig: "dpupux"},
	{Nr: 311, Name: "process_vm_writev", Level: sys.Full, Fn: vmWritev, Sig: "dpupux"},
	{Nr: 324, Name: "membarrier", Level: sys.Partial, Fn: membarrier, Sig: "dxd", Note: "not for restartable sequences"},
	{Nr: 325, Name: "mlock2", Level: sys.Full, Fn: mlock2, Sig: "pux"},
	{Nr: 329, Name: "pkey_mprotect", Level: sys.Partial, Fn: pkeyMprotect, Sig: "puPd", Note: noKeys},
	{Nr: 330, Name: "pkey_alloc", Level: sys.Partial, Fn: pkeyAlloc, Sig: "xx", Note: noKeys},
	{Nr: 331, Name: "pkey_free", Level: sys.Partial, Fn: pkeyFree, Sig: "d", Note: noKeys},
	{Nr: 450, Name: "set_mempolicy_home_node", Level: sys.Partial, Fn: homeNode, Sig: "puux", Note: onePolicy},
}

const (
	onePolicy = "one memory node: arguments are checked, policies are not kept"
	noKeys    = "no protection keys, as on a processor without PKU"
)

// Flags of mmap that decide what concerns descriptors.
const (
	mapType     = 0x0f
	mapShared   = 0x01
	mapValidate = 0x03
	mapAnon     = syscall.MAP_ANON
)

func mmap(t *task.Task, a *sys.Args) (uint64, error) {
	r := mm.MapRequest{Addr: a[0], Length: a[1], Prot: mm.Prot(a[2]), Flags: int(int32(a[3])), Offset: a[5]}
	if r.Offset&(mm.PageSize-1) != 0 {
		return 0, syscall.EINVAL
	}
	if r.Flags&syscall.MAP_LOCKED != 0 {
		allowLocking(t)
	}
	if r.Flags&mapAnon == 0 {
		o, err := t.Files().Get(int(int32(a[4])))
		if err != nil {
			return 0, err
		}
		defer o.Release()
		held, err := describe(t, &r, o)
		if err != nil {
			return 0, err
		}
		if held != nil { // the mapping, if there is one by then, has its own hold
			defer held.LetMap()
		}
	}
	return t.Mem().Mmap(r)
}

// describe fills in what is to be mapped, with the checks of Linux's do_mmap.
//
// What it returns beside an error is held, so that no seal comes in between, and is the
// caller's to let go.
func describe(t *task.Task, r *mm.MapRequest, o *fd.Open) (sealed, error) {
	if r.Length == 0 {
		return nil, syscall.EINVAL
	}
	r.File, r.Max = o.File(), mm.ProtRead|mm.ProtWrite|mm.ProtExec
	where := o.Where()
	shared := r.Flags&mapType == mapShared || r.Flags&mapType == mapValidate
	if shared && !o.CanWrite() {
		if r.Prot&mm.ProtWrite != 0 {
			return nil, syscall.EACCES
		}
		r.Max &^= mm.ProtWrite
	}
	if !o.CanRead() {
		return nil, syscall.EACCES
	}
	if where.M != nil && where.M.Flags()&vfs.MountNoExec != 0 {
		if r.Prot&mm.ProtExec != 0 {
			return nil, syscall.EPERM
		}
		r.Max &^= mm.ProtExec
	}
	r.Ref = func() { o.Retain() }
	r.Unref = func() { o.Release() }
	m, held := r.File.(sealed)
	if held = held && shared && r.Max&mm.ProtWrite != 0; held {
		if err := m.HoldMap(); err == nil {
			r.Ref = func() { o.Retain(); m.HoldMapAgain() }
			r.Unref = func() { m.LetMap(); o.Release() }
		} else if held = false; r.Prot&mm.ProtWrite != 0 {
			return nil, err
		} else {
			r.Max &^= mm.ProtWrite
		}
	}
	if where.M != nil {
		ctx := t.FS()
		r.Path = func() string { return ctx.Tree.PathString(ctx.Root(), where) }
	}
	if !held {
		return nil, nil
	}
	return m, nil
}

// sealed is a file that may forbid shared mappings that can be written to, and counts
// them (memfd).
type sealed interface {
	HoldMap() error
	HoldMapAgain()
	LetMap()
}

// allowLocking tells the space whether the caller may lock beyond the limit.
func allowLocking(t *task.Task) { t.Mem().SetIPCLock(t.Creds().Has(capIPCLock)) }

func mprotect(t *task.Task, a *sys.Args) (uint64, error) {
	return 0, t.Mem().Mprotect(a[0], a[1], prot(a[2]))
}

// prot is a protection as Linux takes it: a word whose bits all count.
func prot(x uint64) uint32 {
	if x>>32 != 0 {
		return ^uint32(0) // no bits that anyone knows
	}
	return uint32(x)
}

func munmap(t *task.Task, a *sys.Args) (uint64, error) { return 0, t.Mem().Munmap(a[0], a[1]) }

func brk(t *task.Task, a *sys.Args) (uint64, error) { return t.Mem().Brk(a[0]), nil }

func mremap(t *task.Task, a *sys.Args) (uint64, error) {
	flags := int(uint32(a[3]))
	if a[3]>>32 != 0 {
		return 0, syscall.EINVAL
	}
	to := uint64(0)
	if flags&(mm.MremapFixed|mm.MremapDontUnmap) != 0 {
		to = a[4] // else the register holds anything
	}
	return t.Mem().Mremap(a[0], a[1], a[2], flags, to)
}

func msync(t *task.Task, a *sys.Args) (uint64, error) {
	return 0, t.Mem().Msync(a[0], a[1], int(int32(a[2])))
}

func mincore(t *task.Task, a *sys.Args) (uint64, error) {
	addr, n, to := a[0], a[1], a[2]
	if addr&(mm.PageSize-1) != 0 {
		return 0, syscall.EINVAL
	}
	if addr > mm.TaskSize || n > mm.TaskSize-addr {
		return 0, syscall.ENOMEM
	}
	var vec [512]byte
	for pages := (n + mm.PageSize - 1) / mm.PageSize; pages > 0; {
		k := min(pages, uint64(len(vec)))
		if err := t.Mem().Mincore(addr, k*mm.PageSize, vec[:k]); err != nil {
			return 0, err
		}
		if err := t.Mem().CopyOut(to, vec[:k]); err != nil {
			return 0, err
		}
		addr, to, pages = addr+k*mm.PageSize, to+k, pages-k
	}
	return 0, nil
}

func madvise(t *task.Task, a *sys.Args) (uint64, error) {
	return 0, t.Mem().Madvise(a[0], a[1], int(int32(a[2])))
}

func mlock(t *task.Task, a *sys.Args) (uint64, error) {
	allowLocking(t)
	return 0, t.Mem().Mlock(a[0], a[1], 0)
}

func mlock2(t *task.Task, a *sys.Args) (uint64, error) {
	allowLocking(t)
	return 0, t.Mem().Mlock(a[0], a[1], int(int32(a[2])))
}

func munlock(t *task.Task, a *sys.Args) (uint64, error) { return 0, t.Mem().Munlock(a[0], a[1]) }

func mlockall(t *task.Task, a *sys.Args) (uint64, error) {
	allowLocking(t)
	return 0, t.Mem().MlockAll(int(int32(a[0])))
}

func munlockall(t *task.Task, _ *sys.Args) (uint64, error) { return 0, t.Mem().MunlockAll() }

// pkeyMprotect knows one key: -1, which is mprotect.
func pkeyMprotect(t *task.Task, a *sys.Args) (uint64, error) {
	if int32(a[3]) != -1 {
		return 0, syscall.EINVAL
	}
	return mprotect(t, a)
}

// pkeyAlloc has none to give.
func pkeyAlloc(_ *task.Task, a *sys.Args) (uint64, error) {
	const disableAccess, disableWrite = 1, 2
	if a[0] != 0 || a[1]&^(disableAccess|disableWrite) != 0 {
		return 0, syscall.EINVAL
	}
	return 0, syscall.ENOSPC
}

func pkeyFree(*task.Task, *sys.Args) (uint64, error) { return 0, syscall.EINVAL }
