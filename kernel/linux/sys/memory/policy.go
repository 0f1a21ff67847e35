package memory

import (
	"encoding/binary"
	"math/bits"
	"syscall"

	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
)

// Memory policies, from uapi/linux/mempolicy.h. All memory is node 0's, so that every
// policy that names it has been obeyed already.
const (
	mpolDefault    = 0
	mpolPreferred  = 1
	mpolBind       = 2
	mpolInterleave = 3
	mpolLocal      = 4
	mpolMany       = 5 // MPOL_PREFERRED_MANY

	mpolStaticNodes   = 1 << 15
	mpolRelativeNodes = 1 << 14
	mpolNumaBalancing = 1 << 13
	mpolModeFlags     = mpolStaticNodes | mpolRelativeNodes | mpolNumaBalancing

	// Flags of get_mempolicy.
	mpolFNode    = 1
	mpolFAddr    = 2
	mpolFAllowed = 4

	// Flags of mbind.
	mpolMFStrict  = 1
	mpolMFMove    = 2
	mpolMFMoveAll = 4

	maxNode = 1 << 10 // MAX_NUMNODES
)

// nodes reads a node mask of maxnode-1 bits: whether it has node 0, and whether any.
func nodes(t *task.Task, addr, maxnode uint64) (zero, any bool, err error) {
	if maxnode == 0 || addr == 0 {
		return false, false, nil
	}
	maxnode--
	if maxnode > mm.PageSize*8 {
		return false, false, syscall.EINVAL
	}
	var w [8]byte
	for i := uint64(0); i < maxnode; i += 64 {
		if err := t.Mem().CopyIn(w[:], addr+i/8); err != nil {
			return false, false, err
		}
		x := binary.LittleEndian.Uint64(w[:])
		if left := maxnode - i; left < 64 {
			x &= 1<<left - 1
		}
		if i >= maxNode && x != 0 {
			return false, false, syscall.EINVAL
		}
		zero = zero || i == 0 && x&1 != 0
		any = any || x != 0
	}
	return zero, any, nil
}

// policy checks a mode and its mask.
func policy(t *task.Task, mode uint32, mask, maxnode uint64) error {
	flags := mode & mpolModeFlags
	mode &^= mpolModeFlags
	if mode > mpolMany || flags&mpolStaticNodes != 0 && flags&mpolRelativeNodes != 0 ||
		flags&mpolNumaBalancing != 0 && mode != mpolBind {
		return syscall.EINVAL
	}
	zero, any, err := nodes(t, mask, maxnode)
	if err != nil {
		return err
	}
	switch mode {
	case mpolDefault, mpolLocal:
		if any || mode == mpolLocal && flags != 0 {
			return syscall.EINVAL
		}
	case mpolPreferred:
		if any && !zero || !any && flags&(mpolStaticNodes|mpolRelativeNodes) != 0 {
			return syscall.EINVAL
		}
	default:
		if !zero {
			return syscall.EINVAL
		}
	}
	return nil
}

func setMempolicy(t *task.Task, a *sys.Args) (uint64, error) {
	return 0, policy(t, uint32(a[0]), a[1], a[2])
}

func getMempolicy(t *task.Task, a *sys.Args) (uint64, error) {
	mode, mask, maxnode, addr, flags := a[0], a[1], a[2], a[3], a[4]
	if flags&^(mpolFNode|mpolFAddr|mpolFAllowed) != 0 || mask != 0 && maxnode < 1 {
		return 0, syscall.EINVAL
	}
	m := t.Mem()
	set := uint64(0)
	switch {
	case flags&mpolFAllowed != 0:
		if flags&(mpolFNode|mpolFAddr) != 0 {
			return 0, syscall.EINVAL
		}
		set = 1
	case flags&mpolFAddr != 0:
		var one [1]byte
		if err := m.CopyIn(one[:], addr); err != nil {
			return 0, err
		}
	case addr != 0:
		return 0, syscall.EINVAL
	case flags&mpolFNode != 0:
		return 0, syscall.EINVAL // the policy is not to interleave
	}
	if mode != 0 {
		var w [4]byte // MPOL_DEFAULT, or node 0
		if err := m.CopyOut(mode, w[:]); err != nil {
			return 0, err
		}
	}
	if mask != 0 {
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], set)
		for i := uint64(0); i < min(maxnode-1, maxNode) || i == 0; i += 64 {
			if err := m.CopyOut(mask+i/8, w[:]); err != nil {
				return 0, err
			}
			clear(w[:])
		}
	}
	return 0, nil
}

func mbind(t *task.Task, a *sys.Args) (uint64, error) {
	start, n, mode, mask, maxnode, flags := a[0], a[1], uint32(a[2]), a[3], a[4], uint32(a[5])
	if flags&^(mpolMFStrict|mpolMFMove|mpolMFMoveAll) != 0 || start&(mm.PageSize-1) != 0 {
		return 0, syscall.EINVAL
	}
	if err := policy(t, mode, mask, maxnode); err != nil {
		return 0, err
	}
	end := start + (n+mm.PageSize-1)&^(mm.PageSize-1)
	if end < start {
		return 0, syscall.EINVAL
	}
	if end == start {
		return 0, nil
	}
	if !t.Mem().Mapped(start, end) {
		return 0, syscall.EFAULT
	}
	return 0, nil
}

// homeNode is set_mempolicy_home_node.
func homeNode(t *task.Task, a *sys.Args) (uint64, error) {
	start, n, node, flags := a[0], a[1], a[2], a[3]
	end := start + (n+mm.PageSize-1)&^(mm.PageSize-1)
	if start&(mm.PageSize-1) != 0 || flags != 0 || node != 0 || end < start {
		return 0, syscall.EINVAL
	}
	return 0, nil
}

// other returns the address space of a process, which the caller closes; 0 is the
// caller's own.
func other(t *task.Task, pid int) (*mm.Space, error) {
	if pid == 0 || pid == t.Proc().PID() {
		return t.Mem().Share(), nil
	}
	p := t.Kernel().Process(pid)
	if p == nil {
		if th := t.Kernel().Task(pid); th != nil {
			p = th.Proc()
		} else {
			return nil, syscall.ESRCH
		}
	}
	if !mayTrace(t, p) {
		return nil, syscall.EPERM
	}
	s := p.ShareMem()
	if s == nil {
		return nil, syscall.ESRCH
	}
	return s, nil
}

// migratePages moves nothing: it returns that no page was left behind.
func migratePages(t *task.Task, a *sys.Args) (uint64, error) {
	pid, maxnode, from, to := int(int32(a[0])), a[1], a[2], a[3]
	if _, _, err := nodes(t, from, maxnode); err != nil {
		return 0, err
	}
	zero, _, err := nodes(t, to, maxnode)
	if err != nil {
		return 0, err
	}
	s, err := other(t, pid)
	if err != nil {
		return 0, err
	}
	s.Close()
	if !zero {
		return 0, syscall.EINVAL
	}
	return 0, nil
}

// movePages tells of each page that it is on node 0, or not there.
func movePages(t *task.Task, a *sys.Args) (uint64, error) {
	pid, count, pages, to, status, flags := int(int32(a[0])), a[1], a[2], a[3], a[4], uint32(a[5])
	if flags&^(mpolMFMove|mpolMFMoveAll) != 0 {
		return 0, syscall.EINVAL
	}
	if hi, _ := bits.Mul64(count, 8); hi != 0 {
		return 0, syscall.E2BIG
	}
	s, err := other(t, pid)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	m := t.Mem()
	var w [8]byte
	for i := uint64(0); i < count; i++ {
		if err := m.CopyIn(w[:], pages+i*8); err != nil {
			return 0, err
		}
		page := binary.LittleEndian.Uint64(w[:]) &^ (mm.PageSize - 1)
		if to != 0 {
			if err := m.CopyIn(w[:4], to+i*4); err != nil {
				return 0, err
			}
			if binary.LittleEndian.Uint32(w[:]) != 0 {
				return 0, syscall.ENODEV
			}
		}
		var vec [1]byte
		state := int32(0)
		switch {
		case s.Mincore(page, 1, vec[:]) != nil:
			state = -int32(syscall.EFAULT)
		case vec[0] == 0:
			state = -int32(syscall.ENOENT)
		}
		binary.LittleEndian.PutUint32(w[:], uint32(state))
		if err := m.CopyOut(status+i*4, w[:4]); err != nil {
			return 0, err
		}
	}
	return 0, nil
}
