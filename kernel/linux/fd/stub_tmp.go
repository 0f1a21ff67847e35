package fd

import "sync/atomic"

var eventsOn atomic.Bool

const (
	InAccess = 1
	InModify = 2
)

func (o *Open) tell(mask uint32)  {}
func (o *Open) tellClose()        {}
func dropLocks(o *Open)           {}
func dropPosix(t *Table, o *Open) {}
