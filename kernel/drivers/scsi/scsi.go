// Package scsi is the SCSI command layer that drivers of host adapters share: it
// finds logical units, asks them what they are, and makes a blk.Disk of each that
// is a disk.
//
// Spec: SAM-5 (architecture, status codes, task management), SPC-4 (INQUIRY,
// REPORT LUNS, TEST UNIT READY, MODE SENSE, sense data), SBC-3 (READ, WRITE,
// READ CAPACITY, SYNCHRONIZE CACHE, UNMAP, WRITE SAME, block limits). Covered:
// single-level LUNs, blocks of up to 64 KiB, simple task attribute, retries after
// UNIT ATTENTION, BUSY, TASK SET FULL and resets, capacity changes, commands that
// are not answered (ABORT TASK, then LOGICAL UNIT RESET, then a reset of the
// adapter). Not covered: CD-ROMs, tapes and all else that is no direct access
// block device (skipped with a message), protection information, reservations,
// ACA, multipath, units that appear later.
//
// Who may use it: drivers of host adapters. It knows no registers; an adapter is a
// Transport.
//
// The way of a request: Disk.Submit → a Command for each part → Transport.Queue →
// the adapter → Finish → Disk, which judges status and sense, sends again what may
// be sent again, and calls the Request's Done.
//
// Concurrency: any goroutine may call anything. Each disk has a mutex, which is
// never held while a Transport is called.
//
// Start reading at Transport, then host.go and disk.go. Tests play the units with
// ktest/fakescsi.
package scsi

import (
	"errors"
	"fmt"

	"osv/kernel/blk"
	"osv/kernel/trace"
)

var log = trace.For("scsi")

// LUN is a logical unit number as it travels, SAM-5 §4.7.1.
type LUN [8]byte

// FlatLUN is unit n of a single level: peripheral device addressing below 256, else
// flat space addressing, SAM-5 §4.7.5. n is below 16,384.
func FlatLUN(n int) LUN {
	if n < 256 {
		return LUN{0, byte(n)}
	}
	return LUN{0x40 | byte(n>>8), byte(n)}
}

// Flat is the unit's number where l has a single level.
func (l LUN) Flat() (n int, ok bool) {
	if [6]byte(l[2:]) != [6]byte{} {
		return 0, false
	}
	switch l[0] >> 6 {
	case 0:
		return int(l[1]), l[0] == 0 // bus 0: this level
	case 1:
		return int(l[0]&0x3f)<<8 | int(l[1]), true
	}
	return 0, false
}

// Address is a logical unit behind an adapter.
type Address struct {
	Target int
	LUN    LUN
}

func (a Address) String() string {
	if n, ok := a.LUN.Flat(); ok {
		return fmt.Sprintf("%d:%d", a.Target, n)
	}
	return fmt.Sprintf("%d:%x", a.Target, a.LUN[:])
}

// Direction is which way data goes.
type Direction uint8

const (
	NoData   Direction = iota
	FromUnit           // data-in: the unit writes memory
	ToUnit             // data-out
)

// HostStatus is what the adapter says of a command, beside the unit's status.
type HostStatus uint8

const (
	HostOK       HostStatus = iota // Status is the unit's
	HostNoTarget                   // no such target
	HostNoUnit                     // no such unit of the target
	HostAborted                    // ended by an abort
	HostReset                      // ended by a reset
	HostBusy                       // the adapter took it not: again, later
	HostOverrun                    // the unit wanted to move more than there is memory
	HostFailed                     // the adapter failed: Err says how
	HostGone                       // the adapter has stopped for good: Err says why
)

var hostNames = [...]string{"ok", "no such target", "no such unit", "aborted", "reset", "adapter busy", "data overrun",
	"adapter failure", "adapter stopped"}

func (h HostStatus) String() string { return hostNames[h] }

// Status is the unit's status code, SAM-5 §5.3.1.
type Status uint8

const (
	Good                Status = 0x00
	CheckCondition      Status = 0x02
	ConditionMet        Status = 0x04
	Busy                Status = 0x08
	ReservationConflict Status = 0x18
	TaskSetFull         Status = 0x28
	ACAActive           Status = 0x30
	TaskAborted         Status = 0x40
)

// SenseBytes is how much sense data a command keeps.
const SenseBytes = 96

// Result is how a command ended.
type Result struct {
	Host   HostStatus
	Status Status
	// Residual is how many bytes of data were not moved; -1 where the adapter does
	// not tell.
	Residual int
	SenseLen int // of Sense
	Sense    [SenseBytes]byte
	Err      error // for HostFailed and HostGone
}

// Command is one command for one unit. The layer fills it in; from Transport.Queue
// to Finish it is the adapter's.
type Command struct {
	To     Address
	CDB    [16]byte
	CDBLen int
	Dir    Direction
	Data   []blk.Seg // within the adapter's limits
	Len    int       // bytes of Data

	Result

	done  func(*Command) (more List)
	owner any
	next  *Command // in a List
}

// clear makes r that of a command which is not yet done.
func (r *Result) clear() { r.Host, r.Status, r.Residual, r.SenseLen, r.Err = HostOK, Good, 0, 0, nil }

// List is a queue of Commands; the zero value is empty. A Command is in one List at
// a time.
type List struct{ head, tail *Command }

// Head is the first Command, nil where there is none.
func (l *List) Head() *Command { return l.head }

// Push adds c at the end.
func (l *List) Push(c *Command) {
	c.next = nil
	if l.tail == nil {
		l.head = c
	} else {
		l.tail.next = c
	}
	l.tail = c
}

// Pop takes the first Command, nil where there is none.
func (l *List) Pop() *Command {
	c := l.head
	if c != nil {
		if l.head = c.next; l.head == nil {
			l.tail = nil
		}
		c.next = nil
	}
	return c
}

// Append moves all of m to the end of l.
func (l *List) Append(m *List) {
	switch {
	case m.head == nil:
	case l.head == nil:
		*l = *m
	default:
		l.tail.next, l.tail = m.head, m.tail
	}
	*m = List{}
}

// Has reports whether c is in l.
func (l *List) Has(c *Command) bool {
	for x := l.head; x != nil; x = x.next {
		if x == c {
			return true
		}
	}
	return false
}

// Transport is a host adapter that has been started.
type Transport interface {
	Limits() Limits
	// Queue starts all Commands of l; those beyond the adapter's queue wait in it.
	// Each is given to Finish once, by another goroutine, or by this one where the
	// adapter has stopped. The caller holds no lock.
	Queue(l List)
	// Poll takes completions whose interrupt was lost.
	Poll()
	// Abort ends one command by task management and waits for the answer to that;
	// the command itself ends by Finish, before or soon after. A command that is
	// not under way is no error; for one that still waits in the adapter, nothing
	// is done and ErrWaits is returned.
	Abort(c *Command) error
	// ResetUnit is a LOGICAL UNIT RESET, and waits for the answer.
	ResetUnit(a Address) error
	// Reset resets the adapter; all commands under way end. Where it does not come
	// back, it stops for good.
	Reset(why string)
	// Err says why the adapter stopped, nil while it works.
	Err() error
}

// ErrWaits is what Abort says of a command that the unit does not have yet.
var ErrWaits = errors.New("command waits for room in the adapter")

// Limits are an adapter's.
type Limits struct {
	Driver   string // for errors: "pvscsi"
	Targets  int    // numbered from 0
	MaxSegs  int    // of a command's Data
	MaxBytes int    // of a command; 0: no limit
	PerUnit  int    // commands under way for one unit
	Queues   int    // of commands
	// Skip is a target that is never there (the adapter's own number), or -1.
	Skip int
}

// Finish hands commands that have ended back to their owners, and returns what is
// to be queued next: the adapter queues it, in one go. The caller holds no lock.
func Finish(done List) (more List) {
	for c := done.Pop(); c != nil; c = done.Pop() {
		l := c.done(c)
		more.Append(&l)
	}
	return more
}
