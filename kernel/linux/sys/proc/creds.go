package proc

import (
	"slices"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// Capabilities that decide here (capabilities(7)).
const (
	capSetGID      = vfs.Cap(6)
	capSetUID      = vfs.Cap(7)
	capSetPCap     = vfs.Cap(8)
	capSysResource = vfs.Cap(24)
	capSysBoot     = vfs.Cap(22)
)

// fsCaps are those that follow the file system user (CAP_FS_SET).
const fsCaps = 1<<vfs.CapChown | 1<<vfs.CapDACOverride | 1<<vfs.CapDACReadSearch | 1<<vfs.CapFOwner | 1<<vfs.CapFSetID |
	1<<9 | 1<<vfs.CapMknod | 1<<32

// none is -1 as an id: leave it.
const none = ^uint32(0)

func getuid(t *task.Task, _ *sys.Args) (uint64, error)  { return uint64(t.Creds().UID), nil }
func geteuid(t *task.Task, _ *sys.Args) (uint64, error) { return uint64(t.Creds().EUID), nil }
func getgid(t *task.Task, _ *sys.Args) (uint64, error)  { return uint64(t.Creds().GID), nil }
func getegid(t *task.Task, _ *sys.Args) (uint64, error) { return uint64(t.Creds().EGID), nil }

// setUsers makes c, a changed copy of old, the thread's, after the effect that other
// user ids have on capabilities (cap_emulate_setxuid).
func setUsers(t *task.Task, old, c *vfs.Creds) {
	c.FSUID = c.EUID
	was := old.UID == 0 || old.EUID == 0 || old.SUID == 0
	is := c.UID == 0 || c.EUID == 0 || c.SUID == 0
	if was && !is {
		if !t.Proc().Flag(task.KeepCaps) {
			c.Permitted, c.Effective = 0, 0
		}
		c.Ambient = 0
	}
	if old.EUID == 0 && c.EUID != 0 {
		c.Effective = 0
	}
	if old.EUID != 0 && c.EUID == 0 {
		c.Effective = c.Permitted
	}
	fsUser(old, c)
	if old.EUID != c.EUID || old.EGID != c.EGID {
		t.Proc().SetFlag(task.Dumpable, false)
	}
	t.SetCreds(c)
}

// fsUser is the effect of another file system user.
func fsUser(old, c *vfs.Creds) {
	if old.FSUID == 0 && c.FSUID != 0 {
		c.Effective &^= fsCaps
	}
	if old.FSUID != 0 && c.FSUID == 0 {
		c.Effective |= c.Permitted & fsCaps
	}
}

func setuid(t *task.Task, a *sys.Args) (uint64, error) {
	id, old := uint32(a[0]), t.Creds()
	if id == none {
		return 0, syscall.EINVAL
	}
	c := old.Clone()
	switch {
	case old.Has(capSetUID):
		c.UID, c.SUID = id, id
	case id != old.UID && id != old.SUID:
		return 0, syscall.EPERM
	}
	c.EUID = id
	setUsers(t, old, c)
	return 0, nil
}

func setgid(t *task.Task, a *sys.Args) (uint64, error) {
	id, old := uint32(a[0]), t.Creds()
	if id == none {
		return 0, syscall.EINVAL
	}
	c := old.Clone()
	switch {
	case old.Has(capSetGID):
		c.GID, c.SGID = id, id
	case id != old.GID && id != old.SGID:
		return 0, syscall.EPERM
	}
	c.EGID, c.FSGID = id, id
	t.SetCreds(c)
	return 0, nil
}

func setreuid(t *task.Task, a *sys.Args) (uint64, error) {
	r, e, old := uint32(a[0]), uint32(a[1]), t.Creds()
	c := old.Clone()
	free := old.Has(capSetUID)
	if r != none {
		if r != old.UID && r != old.EUID && !free {
			return 0, syscall.EPERM
		}
		c.UID = r
	}
	if e != none {
		if e != old.UID && e != old.EUID && e != old.SUID && !free {
			return 0, syscall.EPERM
		}
		c.EUID = e
	}
	if r != none || e != none && e != old.UID {
		c.SUID = c.EUID
	}
	setUsers(t, old, c)
	return 0, nil
}

func setregid(t *task.Task, a *sys.Args) (uint64, error) {
	r, e, old := uint32(a[0]), uint32(a[1]), t.Creds()
	c := old.Clone()
	free := old.Has(capSetGID)
	if r != none {
		if r != old.GID && r != old.EGID && !free {
			return 0, syscall.EPERM
		}
		c.GID = r
	}
	if e != none {
		if e != old.GID && e != old.EGID && e != old.SGID && !free {
			return 0, syscall.EPERM
		}
		c.EGID = e
	}
	if r != none || e != none && e != old.GID {
		c.SGID = c.EGID
	}
	c.FSGID = c.EGID
	t.SetCreds(c)
	return 0, nil
}

func setresuid(t *task.Task, a *sys.Args) (uint64, error) {
	old := t.Creds()
	c := old.Clone()
	for n, p := range [...]*uint32{&c.UID, &c.EUID, &c.SUID} {
		id := uint32(a[n])
		if id == none {
			continue
		}
		if id != old.UID && id != old.EUID && id != old.SUID && !old.Has(capSetUID) {
			return 0, syscall.EPERM
		}
		*p = id
	}
	setUsers(t, old, c)
	return 0, nil
}

func setresgid(t *task.Task, a *sys.Args) (uint64, error) {
	old := t.Creds()
	c := old.Clone()
	for n, p := range [...]*uint32{&c.GID, &c.EGID, &c.SGID} {
		id := uint32(a[n])
		if id == none {
			continue
		}
		if id != old.GID && id != old.EGID && id != old.SGID && !old.Has(capSetGID) {
			return 0, syscall.EPERM
		}
		*p = id
	}
	c.FSGID = c.EGID
	t.SetCreds(c)
	return 0, nil
}

// put32 writes numbers to one address each.
func put32(t *task.Task, a *sys.Args, v ...uint32) (uint64, error) {
	var b [4]byte
	for n, x := range v {
		le.PutUint32(b[:], x)
		if err := t.Mem().CopyOut(a[n], b[:]); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func getresuid(t *task.Task, a *sys.Args) (uint64, error) {
	c := t.Creds()
	return put32(t, a, c.UID, c.EUID, c.SUID)
}

func getresgid(t *task.Task, a *sys.Args) (uint64, error) {
	c := t.Creds()
	return put32(t, a, c.GID, c.EGID, c.SGID)
}

// setfsuid and setfsgid return what was set, whether or not it could be changed.
func setfsuid(t *task.Task, a *sys.Args) (uint64, error) {
	id, old := uint32(a[0]), t.Creds()
	if id != none && (id == old.UID || id == old.EUID || id == old.SUID || id == old.FSUID || old.Has(capSetUID)) {
		c := old.Clone()
		c.FSUID = id
		fsUser(old, c)
		t.SetCreds(c)
	}
	return uint64(old.FSUID), nil
}

func setfsgid(t *task.Task, a *sys.Args) (uint64, error) {
	id, old := uint32(a[0]), t.Creds()
	if id != none && (id == old.GID || id == old.EGID || id == old.SGID || id == old.FSGID || old.Has(capSetGID)) {
		c := old.Clone()
		c.FSGID = id
		t.SetCreds(c)
	}
	return uint64(old.FSGID), nil
}

// maxGroups is NGROUPS_MAX.
const maxGroups = 65536

func getgroups(t *task.Task, a *sys.Args) (uint64, error) {
	g, n := t.Creds().Groups, number(a[0])
	switch {
	case n < 0:
		return 0, syscall.EINVAL
	case n == 0:
		return uint64(len(g)), nil
	case n < len(g):
		return 0, syscall.EINVAL
	}
	b := make([]byte, 4*len(g))
	for i, v := range g {
		le.PutUint32(b[4*i:], v)
	}
	return uint64(len(g)), t.Mem().CopyOut(a[1], b)
}

func setgroups(t *task.Task, a *sys.Args) (uint64, error) {
	n, old := number(a[0]), t.Creds()
	switch {
	case !old.Has(capSetGID):
		return 0, syscall.EPERM
	case n < 0 || n > maxGroups:
		return 0, syscall.EINVAL
	}
	b := make([]byte, 4*n)
	if err := t.Mem().CopyIn(b, a[1]); err != nil {
		return 0, err
	}
	c := old.Clone()
	c.Groups = make([]uint32, n)
	for i := range c.Groups {
		c.Groups[i] = le.Uint32(b[4*i:])
	}
	slices.Sort(c.Groups)
	t.SetCreds(c)
	return 0, nil
}

// capVersion reads a cap_user_header: how many words of 32 bits a set has. One that
// is not known is answered with the one that is, and EINVAL.
func capVersion(t *task.Task, addr uint64) (words, pid int, known bool, err error) {
	var b [8]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return 0, 0, false, err
	}
	pid = int(int32(le.Uint32(b[4:])))
	switch le.Uint32(b[:]) {
	case abi.LINUX_CAPABILITY_VERSION_1:
		return 1, pid, true, nil
	case abi.LINUX_CAPABILITY_VERSION_2, abi.LINUX_CAPABILITY_VERSION_3:
		return 2, pid, true, nil
	}
	le.PutUint32(b[:], abi.LINUX_CAPABILITY_VERSION_3)
	return 0, pid, false, t.Mem().CopyOut(addr, b[:4])
}

func capget(t *task.Task, a *sys.Args) (uint64, error) {
	words, pid, ok, err := capVersion(t, a[0])
	if err != nil {
		return 0, err
	}
	if !ok {
		if a[1] == 0 {
			return 0, nil // a question for the version
		}
		return 0, syscall.EINVAL
	}
	if a[1] == 0 {
		return 0, nil
	}
	o, err := who(t, pid)
	if err != nil {
		return 0, err
	}
	c := o.Creds()
	var b [24]byte
	for n := range words {
		le.PutUint32(b[12*n:], uint32(c.Effective>>(32*n)))
		le.PutUint32(b[12*n+4:], uint32(c.Permitted>>(32*n)))
		le.PutUint32(b[12*n+8:], uint32(c.Inheritable>>(32*n)))
	}
	return out(t, a[1], b[:12*words])
}

func capset(t *task.Task, a *sys.Args) (uint64, error) {
	words, pid, ok, err := capVersion(t, a[0])
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, syscall.EINVAL
	}
	if pid != 0 && pid != t.TID() {
		return 0, syscall.EPERM
	}
	var b [24]byte
	if err := t.Mem().CopyIn(b[:12*words], a[1]); err != nil {
		return 0, err
	}
	var eff, perm, inh uint64
	for n := range words {
		eff |= uint64(le.Uint32(b[12*n:])) << (32 * n)
		perm |= uint64(le.Uint32(b[12*n+4:])) << (32 * n)
		inh |= uint64(le.Uint32(b[12*n+8:])) << (32 * n)
	}
	eff, perm, inh = eff&abi.CAP_FULL, perm&abi.CAP_FULL, inh&abi.CAP_FULL
	old := t.Creds()
	switch {
	case perm&^old.Permitted != 0, eff&^perm != 0:
		return 0, syscall.EPERM
	case !old.Has(capSetPCap) && inh&^(old.Inheritable|old.Permitted) != 0:
		return 0, syscall.EPERM
	case inh&^(old.Inheritable|old.Bounding) != 0:
		return 0, syscall.EPERM
	}
	c := old.Clone()
	c.Effective, c.Permitted, c.Inheritable = eff, perm, inh
	c.Ambient &= perm & inh
	t.SetCreds(c)
	return 0, nil
}
