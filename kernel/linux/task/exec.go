package task

import (
	"crypto/rand"
	"errors"
	"strings"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/elf"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/signal"
	"osv/kernel/vfs"
)

// ExecArgs are those of execve(2) and execveat(2).
type ExecArgs struct {
	Dir   vfs.Path // zero: the working directory
	Path  string
	Flags vfs.Flags // Follow, EmptyPath
	// Name is what AT_EXECFN and a script are told, "" for Path.
	Name      string
	Argv, Env []string
}

// program is a program that is loaded and waits to be started.
type program struct {
	space *mm.Space
	image *Image
	creds *vfs.Creds
	comm  string
	entry uint64
	sp    uint64
}

// maxInterps is how often a script may name a script.
const maxInterps = 5

// Exec replaces the process's program. When it returns nil, the registers are the new
// program's; until then nothing has changed, and other threads live.
func (t *Task) Exec(a ExecArgs) error {
	x, err := t.load(a)
	if err != nil {
		return err
	}
	if err := t.aloneInGroup(); err != nil {
		x.space.Close()
		return err
	}
	t.install(x)
	return nil
}

// prepare loads the first program.
func (t *Task) prepare(path string, argv, env []string) (*program, error) {
	return t.load(ExecArgs{Path: path, Flags: vfs.Follow, Argv: argv, Env: env})
}

// file is a program's file, and how its mappings hold it.
type file struct {
	*fd.Open
	reader fileReader
}

type fileReader struct{ f vfs.File }

func (r fileReader) ReadAt(p []byte, off int64) (int, error) {
	return r.f.Read(&vfs.Bytes{B: p}, off)
}

func (t *Task) open(dir vfs.Path, path string, flags vfs.Flags) (*file, error) {
	o, err := vfs.OpenExec(t.ctx, dir, path, flags)
	if err != nil {
		return nil, err
	}
	return &file{Open: fd.NewOpenAt(o), reader: fileReader{o.File}}, nil
}

// elf is the file as the loader wants it.
func (f *file) elf(t *Task) elf.File {
	where, tree := f.Where(), t.ctx.Tree
	return elf.File{Reader: f.reader, Map: mm.MapRequest{
		File: f.File(),
		Ref:  func() { f.Retain() }, Unref: func() { f.Release() },
		Path: func() string { return tree.PathString(tree.Root(), where) },
	}}
}

// load does all of execve that can fail.
func (t *Task) load(a ExecArgs) (*program, error) {
	stack := t.p.Limit(abi.RLIMIT_STACK).Cur
	if err := elf.CheckArgs(a.Argv, a.Env, stack); err != nil {
		return nil, err
	}
	if a.Name == "" {
		a.Name = a.Path
	}
	if len(a.Argv) == 0 {
		a.Argv = []string{""} // as Linux since 5.18
	}
	argv, name := a.Argv, a.Name
	f, err := t.open(a.Dir, a.Path, a.Flags)
	if err != nil {
		return nil, err
	}
	defer func() { f.Release() }()
	for n := 0; ; n++ {
		interp, arg, ok, err := elf.Script(f.reader)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if n == maxInterps {
			return nil, syscall.ELOOP
		}
		list := []string{interp}
		if arg != "" {
			list = append(list, arg)
		}
		argv = append(append(list, name), argv[1:]...)
		next, err := t.open(vfs.Path{}, interp, vfs.Follow)
		if err != nil {
			return nil, err
		}
		f.Release()
		f, name = next, interp
	}
	if err := elf.CheckArgs(argv, a.Env, stack); err != nil {
		return nil, err
	}
	return t.loadELF(f, argv, a.Env, a.Name)
}

func (t *Task) loadELF(f *file, argv, env []string, name string) (*program, error) {
	img, err := elf.Parse(f.reader)
	if err != nil {
		return nil, err
	}
	var interp *elf.Image
	var lf *file
	if img.Interp != "" {
		if lf, err = t.open(vfs.Path{}, img.Interp, vfs.Follow); err != nil {
			return nil, err
		}
		defer lf.Release()
		if interp, err = elf.Parse(lf.reader); err != nil {
			if errors.Is(err, syscall.ENOEXEC) {
				err = syscall.ELIBBAD
			}
			return nil, err
		}
	}
	creds, secure, err := t.execCreds(f)
	if err != nil {
		return nil, err
	}
	s, err := t.newSpace()
	if err != nil {
		return nil, err
	}
	x := &program{space: s, creds: creds}
	if err := t.build(x, f, lf, img, interp, argv, env, name, secure); err != nil {
		s.Close()
		if !isErrno(err) {
			err = syscall.ENOMEM
		}
		return nil, err
	}
	return x, nil
}

func isErrno(err error) bool {
	var e syscall.Errno
	return errors.As(err, &e)
}

// newSpace makes an empty address space with the process's limits.
func (t *Task) newSpace() (*mm.Space, error) {
	opt := t.k.cfg.Memory
	t.p.mu.Lock()
	opt.Limits = memLimits(&t.p.limits)
	t.p.mu.Unlock()
	return mm.New(t.k.cfg.Machine, opt)
}

// outOfMemory kills the program: the memory that it was promised is not there.
func (p *Process) outOfMemory() {
	_ = p.Send(abi.Siginfo{Signo: int32(sigkill), Code: abi.SI_KERNEL})
}

// build maps program, interpreter, vDSO and stack.
func (t *Task) build(x *program, f, lf *file, img, interp *elf.Image, argv, env []string, name string, secure bool) error {
	k, s := t.k, x.space
	random := k.cfg.Memory.Random
	slide := func(pages uint64) uint64 {
		if random == nil {
			return 0
		}
		return random() % pages * mm.PageSize
	}
	main, err := elf.Load(s, f.elf(t), img, slide(1<<28))
	if err != nil {
		return err
	}
	x.entry = main.Entry
	var base uint64
	if interp != nil {
		l, err := elf.Load(s, lf.elf(t), interp, 0)
		if err != nil {
			return err
		}
		x.entry, base = l.Entry, l.Bias
	}
	s.SetBrk(main.End + slide(1<<13))
	var vdso uint64
	if k.cfg.MapVDSO != nil {
		if vdso, err = k.cfg.MapVDSO(s); err != nil {
			return err
		}
	}
	c := x.creds
	st := elf.Start{Argv: argv, Env: env, ExecFn: name, Platform: "x86_64"}
	if _, err := rand.Read(st.Random[:]); err != nil {
		return err
	}
	isSecure := uint64(0)
	if secure {
		isSecure = 1
	}
	if vdso != 0 {
		st.Aux = append(st.Aux, [2]uint64{abi.AT_SYSINFO_EHDR, vdso})
	}
	st.Aux = append(st.Aux, [][2]uint64{
		{abi.AT_MINSIGSTKSZ, signal.MinStack(len(t.cpu.XState()))},
		{abi.AT_HWCAP, k.cfg.HWCap}, {abi.AT_PAGESZ, mm.PageSize}, {abi.AT_CLKTCK, abi.USER_HZ},
		{abi.AT_PHDR, main.Phdr}, {abi.AT_PHENT, 56}, {abi.AT_PHNUM, uint64(img.PhdrCount)},
		{abi.AT_BASE, base}, {abi.AT_FLAGS, 0}, {abi.AT_ENTRY, main.Entry},
		{abi.AT_UID, uint64(c.UID)}, {abi.AT_EUID, uint64(c.EUID)}, {abi.AT_GID, uint64(c.GID)}, {abi.AT_EGID, uint64(c.EGID)},
		{abi.AT_SECURE, isSecure}, {abi.AT_HWCAP2, k.cfg.HWCap2},
	}...)
	top := uint64(mm.TaskSize) - slide(1<<22)
	// The kernel keeps some of the stack mapped, so that the first pages need no growth.
	size := st.Size() + 32*mm.PageSize
	if err := elf.MapStack(s, top, size, img.ExecStack); err != nil {
		return err
	}
	s.SetStack(top - 1)
	at, err := st.Build(s, top)
	if err != nil {
		return err
	}
	x.sp = at.SP
	x.image = &Image{
		Path: f.elf(t).Map.Path(), File: f.Where(), ArgStart: at.ArgStart, ArgEnd: at.ArgEnd,
		EnvStart: at.EnvStart, EnvEnd: at.EnvEnd, StackTop: at.SP, Auxv: at.Auxv,
	}
	x.comm = name[strings.LastIndexByte(name, '/')+1:]
	return nil
}

// execCreds are the credentials of the new program: those of the file where it has the
// set-ID bits (capabilities(7), transformation during execve, for user 0 and others).
func (t *Task) execCreds(f *file) (c *vfs.Creds, secure bool, err error) {
	old := t.Creds()
	c = old.Clone()
	where := f.Where()
	a, err := where.Node().Attr()
	if err != nil {
		return nil, false, err
	}
	c.EUID, c.EGID = old.EUID, old.EGID
	if where.M.Flags()&vfs.MountNoSuid == 0 && !t.p.Flag(NoNewPrivs) {
		if a.Mode&syscall.S_ISUID != 0 {
			c.EUID = a.UID
		}
		if a.Mode&(syscall.S_ISGID|0o010) == syscall.S_ISGID|0o010 {
			c.EGID = a.GID
		}
	}
	c.SUID, c.FSUID, c.SGID, c.FSGID = c.EUID, c.EUID, c.EGID, c.EGID
	switch {
	case c.EUID == 0 || c.UID == 0:
		c.Permitted = c.Inheritable | c.Bounding
		c.Effective = 0
		if c.EUID == 0 {
			c.Effective = c.Permitted
		}
		c.Ambient = 0
	default:
		if c.EUID != old.EUID || c.EGID != old.EGID {
			c.Ambient = 0
		}
		c.Permitted, c.Effective = c.Ambient, c.Ambient
	}
	return c, c.UID != c.EUID || c.GID != c.EGID, nil
}

// aloneInGroup ends all other threads and waits for that. EAGAIN where another thread
// is doing the same, or the process ends.
func (t *Task) aloneInGroup() error {
	p := t.p
	p.mu.Lock()
	if p.exiting || p.execer != nil || t.killed.Load() {
		p.mu.Unlock()
		return syscall.EAGAIN
	}
	if len(p.tasks) > 1 {
		p.execer, p.alone = t, make(chan struct{})
		for _, o := range p.tasks {
			if o != t {
				o.killed.Store(true)
				o.recalc()
				o.notify()
			}
		}
		alone := p.alone
		p.mu.Unlock()
		if err := t.SleepKillable(alone); err != nil {
			return err
		}
		p.mu.Lock()
	}
	leader := p.leader
	p.mu.Unlock()
	if leader != nil && leader != t {
		t.k.lead(t, leader)
	}
	return nil
}

// lead makes t, the last thread, its process's leader, with the number that goes with
// it.
func (k *Kernel) lead(t, old *Task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(k.tasks, t.TID())
	k.dropID(t.TID())
	t.tid.Store(int32(p.pid))
	k.tasks[p.pid] = t
	p.leader = t
	t.named()
}

// install starts the program that is loaded.
func (t *Task) install(x *program) {
	p := t.p
	if t.mem != nil {
		t.leaveOld()
	}
	t.mem = x.space
	x.space.SetOOM(p.outOfMemory) // until now execve failed for lack of memory
	p.mem.Store(x.space)
	p.exe.Store(x.image)
	if f := t.Files(); f != nil {
		t.unshareFiles()
		t.Files().CloseOnExec()
	}
	p.k.mu.Lock()
	p.execed = true
	p.exitSignal = int(sigchld)
	p.k.mu.Unlock()
	p.timers.exec()
	p.mu.Lock()
	actions := newActions()
	for i, a := range p.actions {
		if a.Handler == abi.SIG_IGN {
			actions[i].Handler = abi.SIG_IGN
		}
	}
	p.actions = actions
	p.keepCaps, p.dumpable = false, x.creds.UID == x.creds.EUID && x.creds.GID == x.creds.EGID
	p.mu.Unlock()
	t.SetCreds(x.creds)
	t.SetComm(x.comm)
	t.alt = signal.Stack{Flags: abi.SS_DISABLE}
	t.fault = faultState{}
	t.restartFn = nil
	t.SetPDeathSignal(0)
	*t.regs = abi.Regs{RIP: x.entry, RSP: x.sp, RFlags: abi.FlagIF | 2}
	signal.InitXState(t.cpu.XState())
}

// leaveOld is what execve does with the memory of the program before.
func (t *Task) leaveOld() {
	t.leaveWords()
	p, old := t.p, t.mem
	t.mem = nil
	p.mem.Store(nil)
	p.rememberMemory(old)
	old.Close()
	if t.vforked != nil {
		close(t.vforked)
		t.vforked = nil
	}
}

// Age is the time since the process was made.
func (p *Process) Age() time.Duration { return mono() - p.started }
