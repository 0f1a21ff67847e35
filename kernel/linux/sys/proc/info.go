package proc

import (
	"crypto/rand"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// Release and Version are what uname tells of the kernel; Version is a date, as
// Linux's ends in one.
const (
	Release = "6.1.0-osv"
	Version = "#1 SMP OSv in Go"
)

// fieldSize is the size of each string of struct utsname.
const fieldSize = 65

func uname(t *task.Task, a *sys.Args) (uint64, error) {
	k := t.Kernel()
	var b [6 * fieldSize]byte
	for n, s := range [...]string{"Linux", k.Hostname(), Release, Version, "x86_64", k.Domain()} {
		copy(b[n*fieldSize:n*fieldSize+fieldSize-1], s)
	}
	return out(t, a[0], b[:])
}

// sysinfoSize is the size of struct sysinfo in bytes.
const sysinfoSize = 112

func sysinfo(t *task.Task, a *sys.Args) (uint64, error) {
	k := t.Kernel()
	var b [sysinfoSize]byte
	le.PutUint64(b[0:], uint64((k.Uptime()+time.Second-1)/time.Second))
	for n, l := range k.Load() {
		le.PutUint64(b[8+8*n:], uint64(l*65536))
	}
	le.PutUint64(b[32:], k.TotalMemory())
	le.PutUint64(b[40:], k.Machine().FreeBytes())
	le.PutUint16(b[80:], uint16(min(k.Live(), 65535)))
	le.PutUint32(b[104:], 1) // unit of the sizes
	return out(t, a[0], b[:])
}

func personality(t *task.Task, a *sys.Args) (uint64, error) {
	switch uint32(a[0]) {
	case 0, 0xffffffff: // PER_LINUX, and the question
		return 0, nil
	}
	return 0, syscall.EINVAL
}

// Flags of getrandom(2).
const (
	grndNonblock = 1
	grndRandom   = 2
	grndInsecure = 4
)

func getrandom(t *task.Task, a *sys.Args) (uint64, error) {
	f := a[2]
	if f&^(grndNonblock|grndRandom|grndInsecure) != 0 || f&(grndRandom|grndInsecure) == grndRandom|grndInsecure {
		return 0, syscall.EINVAL
	}
	n := min(a[1], 1<<31-1)
	var small [256]byte
	for done := uint64(0); done < n; {
		p := small[:min(n-done, uint64(len(small)))]
		if _, err := rand.Read(p); err != nil {
			return done, syscall.EAGAIN
		}
		if err := t.Mem().CopyOut(a[0]+done, p); err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		done += uint64(len(p))
		if done >= 256 && t.Interrupted() {
			return done, nil
		}
	}
	return n, nil
}

// Actions of syslog(2) that are answered.
const (
	syslogReadAll    = 3
	syslogSizeUnread = 9
	syslogSizeBuffer = 10
)

func syslog(t *task.Task, a *sys.Args) (uint64, error) {
	switch n := number(a[0]); {
	case n == syslogSizeBuffer:
		return 1 << 17, nil
	case n < 0 || n > syslogSizeBuffer:
		return 0, syscall.EINVAL
	}
	return 0, nil
}

// The words that reboot(2) must be given, and its commands.
const (
	rebootMagic1    = 0xfee1dead
	rebootRestart   = 0x01234567
	rebootHalt      = 0xcdef0123
	rebootPowerOff  = 0x4321fedc
	rebootCtrlAltOn = 0x89abcdef
	rebootCtrlAlt   = 0
	rebootRestart2  = 0xa1b2c3d4
)

func reboot(t *task.Task, a *sys.Args) (uint64, error) {
	if !t.Creds().Has(capSysBoot) {
		return 0, syscall.EPERM
	}
	if uint32(a[0]) != rebootMagic1 {
		return 0, syscall.EINVAL
	}
	switch uint32(a[1]) {
	case 672274793, 85072278, 369367448, 537993216:
	default:
		return 0, syscall.EINVAL
	}
	switch uint32(a[2]) {
	case rebootCtrlAlt, rebootCtrlAltOn:
		return 0, nil
	case rebootRestart, rebootRestart2:
		_ = t.FS().Tree.Sync()
		t.Kernel().PowerOff(true)
	case rebootHalt, rebootPowerOff:
		_ = t.FS().Tree.Sync()
		t.Kernel().PowerOff(false)
	default:
		return 0, syscall.EINVAL
	}
	return 0, nil
}

// name reads a host's or domain's name.
func name(t *task.Task, a *sys.Args) (string, error) {
	if !t.Creds().Has(vfs.CapSysAdmin) {
		return "", syscall.EPERM
	}
	if n := number(a[1]); n < 0 || n > fieldSize-1 {
		return "", syscall.EINVAL
	}
	b := make([]byte, a[1]&0xff)
	err := t.Mem().CopyIn(b, a[0])
	return string(b), err
}

func sethostname(t *task.Task, a *sys.Args) (uint64, error) {
	s, err := name(t, a)
	if err == nil {
		t.Kernel().SetHostname(s)
	}
	return 0, err
}

func setdomainname(t *task.Task, a *sys.Args) (uint64, error) {
	s, err := name(t, a)
	if err == nil {
		t.Kernel().SetDomain(s)
	}
	return 0, err
}

func prlimit64(t *task.Task, a *sys.Args) (uint64, error) {
	p, err := process(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	if err := mayLimit(t, p); err != nil {
		return 0, err
	}
	return 0, limits(t, p, number(a[1]), a[2], a[3])
}

// mayLimit is who may ask for another process's limits: EPERM.
func mayLimit(t *task.Task, p *task.Process) error {
	c, d := t.Creds(), p.Creds()
	if p == t.Proc() || c.Has(capSysResource) ||
		c.UID == d.EUID && c.UID == d.SUID && c.UID == d.UID && c.GID == d.EGID && c.GID == d.SGID && c.GID == d.GID {
		return nil
	}
	return syscall.EPERM
}

// limits tells a limit at old and sets it from new; addresses 0 leave that out.
func limits(t *task.Task, p *task.Process, resource int, set, old uint64) error {
	if resource < 0 || resource >= abi.RLIM_NLIMITS {
		return syscall.EINVAL
	}
	var b [16]byte
	was := p.Limit(resource)
	if set != 0 {
		if err := t.Mem().CopyIn(b[:], set); err != nil {
			return err
		}
		l := abi.Rlimit{Cur: le.Uint64(b[0:]), Max: le.Uint64(b[8:])}
		switch {
		case l.Cur > l.Max:
			return syscall.EINVAL
		case resource == abi.RLIMIT_NOFILE && l.Max > maxOpen:
			return syscall.EPERM // fs.nr_open
		case l.Max > was.Max && !t.Creds().Has(capSysResource):
			return syscall.EPERM
		}
		p.SetLimit(resource, l)
	}
	if old == 0 {
		return nil
	}
	le.PutUint64(b[0:], was.Cur)
	le.PutUint64(b[8:], was.Max)
	return t.Mem().CopyOut(old, b[:])
}

// maxOpen is fs.nr_open.
const maxOpen = 1 << 20

func getrlimit(t *task.Task, a *sys.Args) (uint64, error) {
	if a[1] == 0 {
		return 0, syscall.EFAULT
	}
	return 0, limits(t, t.Proc(), number(a[0]), 0, a[1])
}

func setrlimit(t *task.Task, a *sys.Args) (uint64, error) {
	if a[1] == 0 {
		return 0, syscall.EFAULT
	}
	return 0, limits(t, t.Proc(), number(a[0]), a[1], 0)
}
