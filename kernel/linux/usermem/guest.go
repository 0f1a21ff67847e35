package usermem

import "osv/kernel/hw/gate"

// Guest is the Hardware of a booted guest.
type Guest struct{}

func (Guest) AllocFrames(list []uint64, order uint) error { return gate.AllocFrames(list, order) }
func (Guest) FreeFrameList(list []uint64, order uint)     { gate.FreeFrameList(list, order) }
func (Guest) NewRoot() (uint64, error)                    { return gate.NewRoot() }
func (Guest) FreeRoot(root uint64)                        { gate.FreeRoot(root) }
func (Guest) FlushPages(root uint64, pages []uint64)      { gate.FlushPages(root, pages) }
func (Guest) FlushRoot(root uint64)                       { gate.FlushRoot(root) }
func (Guest) FreeMemory() uint64                          { return gate.FreeMemory() }
func (Guest) Direct() uintptr                             { return gate.DirectMap }

var _ [MaxFlush - gate.MaxFlush]struct{} // the two are one number
var _ [gate.MaxFlush - MaxFlush]struct{}
