package memory

import (
	"encoding/binary"
	"syscall"

	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// mayTrace is Linux's check for reaching into another process (PTRACE_MODE_ATTACH
// with the real credentials): the same user in every way, or CAP_SYS_PTRACE.
func mayTrace(t *task.Task, p *task.Process) bool {
	c, o := t.Creds(), p.Creds()
	if c.Has(capSysPtrace) {
		return true
	}
	return c.UID == o.UID && c.UID == o.EUID && c.UID == o.SUID &&
		c.GID == o.GID && c.GID == o.EGID && c.GID == o.SGID && p.Flag(task.Dumpable)
}

// Capabilities, from uapi/linux/capability.h.
const (
	capIPCLock   vfs.Cap = 14
	capSysPtrace vfs.Cap = 19
)

const maxIovecs = 1024 // UIO_MAXIOV

// iovecs reads an array of struct iovec.
func iovecs(t *task.Task, addr, n uint64) ([]mm.Iovec, error) {
	if n > maxIovecs {
		return nil, syscall.EINVAL
	}
	b := make([]byte, n*16)
	if err := t.Mem().CopyIn(b, addr); err != nil {
		return nil, err
	}
	v := make([]mm.Iovec, n)
	for i := range v {
		v[i] = mm.Iovec{Base: binary.LittleEndian.Uint64(b[i*16:]), Len: binary.LittleEndian.Uint64(b[i*16+8:])}
		if int64(v[i].Len) < 0 {
			return nil, syscall.EINVAL
		}
	}
	return v, nil
}

func vmReadv(t *task.Task, a *sys.Args) (uint64, error)  { return transfer(t, a, false) }
func vmWritev(t *task.Task, a *sys.Args) (uint64, error) { return transfer(t, a, true) }

// transfer copies between the caller and another process: process_vm_readv(2). What
// was copied before an error is the result.
func transfer(t *task.Task, a *sys.Args, write bool) (uint64, error) {
	if a[5] != 0 {
		return 0, syscall.EINVAL
	}
	local, err := iovecs(t, a[1], a[2])
	if err != nil {
		return 0, err
	}
	remote, err := iovecs(t, a[3], a[4])
	if err != nil {
		return 0, err
	}
	s, err := other(t, int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer s.Close()
	from, to := s.SrcVec(remote), t.Mem().DstVec(local)
	if write {
		from, to = t.Mem().SrcVec(local), s.DstVec(remote)
	}
	total := uint64(0)
	buf := make([]byte, min(from.Left(), to.Room(), 64<<10))
	for from.Left() > 0 && to.Room() > 0 {
		n, err := from.Take(buf[:min(len(buf), to.Room())])
		k, err2 := to.Put(buf[:n])
		total += uint64(k)
		if err == nil {
			err = err2
		}
		if err != nil {
			if total > 0 {
				break
			}
			return 0, err
		}
	}
	return total, nil
}

// Commands of membarrier, from uapi/linux/membarrier.h. The one after each of the
// expedited ones registers for it.
const (
	barrierQuery       = 0
	barrierGlobal      = 1 << 0
	barrierGlobalExp   = 1 << 1
	barrierPrivateExp  = 1 << 3
	barrierSyncCore    = 1 << 5
	barrierCommands    = barrierGlobalExp | barrierPrivateExp | barrierSyncCore
	barrierRegisterAll = barrierCommands << 1
)

// membarrier has all processors that run the program (or any program) pass a barrier:
// an interrupt, which makes them take up changed code as well.
func membarrier(t *task.Task, a *sys.Args) (uint64, error) {
	cmd, flags := uint32(a[0]), uint32(a[1])
	if flags != 0 {
		return 0, syscall.EINVAL
	}
	m := t.Mem()
	switch cmd {
	case barrierQuery:
		return barrierGlobal | barrierCommands | barrierRegisterAll, nil
	case barrierGlobal, barrierGlobalExp:
		for _, p := range t.Kernel().Processes() {
			if s := p.ShareMem(); s != nil {
				err := s.Barrier()
				s.Close()
				if err != nil {
					return 0, err
				}
			}
		}
		return 0, nil
	case barrierPrivateExp, barrierSyncCore:
		if m.Barriers.Load()&cmd == 0 {
			return 0, syscall.EPERM
		}
		return 0, m.Barrier()
	case barrierGlobalExp << 1, barrierPrivateExp << 1, barrierSyncCore << 1:
		m.Barriers.Or(cmd >> 1)
		return 0, nil
	}
	return 0, syscall.EINVAL
}
