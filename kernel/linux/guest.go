package linux

import (
	"osv/kernel/hw/gate"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/task"
	"osv/kernel/linux/usermem"
	"osv/kernel/linux/vdso"
)

// Guest fills in what of a Config the processor of a booted guest provides.
func Guest(cfg *Config) {
	cfg.Machine = usermem.New(usermem.Guest{})
	cfg.NewCPU = newCPU
	cfg.Features, _ = gate.UserXFeatures()
	if cfg.Features == 0 {
		cfg.Features = 3 // x87 and SSE, which FXSAVE has
	}
	if o, err := vdso.New(cfg.Machine); err == nil { // without it, time is a system call
		c := gate.Clock()
		o.Update(vdso.Params{Start: c.Start, Mul: c.Mul, WallNS: c.WallNS, Usable: true})
		cfg.MapVDSO = o.Map
	}
}

// cpu is a thread's processor state in a guest.
type cpu struct{ u *gate.User }

func newCPU() (task.CPU, error) {
	u, err := gate.NewUser()
	if err != nil {
		return nil, err
	}
	return &cpu{u}, nil
}

func (c *cpu) Regs() *abi.Regs     { return (*abi.Regs)(c.u.Regs()) }
func (c *cpu) Kick()               { c.u.Kick() }
func (c *cpu) XState() []byte      { return c.u.XState() }
func (c *cpu) CopyFrom(o task.CPU) { c.u.CopyFrom(o.(*cpu).u) }
func (c *cpu) Free()               { c.u.Free() }

func (c *cpu) Enter(root uint64) task.Reason {
	switch c.u.Run(root) {
	case gate.UserSyscall:
		return task.Reason{}
	case gate.UserFault:
		r := c.u.Fault()
		return task.Reason{Kind: task.Fault, Vector: r.Vector, Err: r.Err, Addr: r.Addr}
	}
	return task.Reason{Kind: task.Kick}
}
