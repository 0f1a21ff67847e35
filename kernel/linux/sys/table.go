package sys

import (
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// Numbers is how many system call numbers the table has: 0 to 462, Linux 6.10's.
const Numbers = len(spec)

// Options of a table.
type Options struct {
	// Log gets a line about the first call of each number that nobody serves.
	Log io.Writer
	// Who says what the log and the trace call a thread, and gives its memory.
	Who func(t *task.Task) (tid int, name string, mem vfs.Memory)
	// Count keeps Calls, Time their latencies too. Both cost an access to shared memory
	// per call.
	Count, Time bool
	// Trace gets each call as strace prints it, at most TraceRate lines a second
	// (0: DefaultTraceRate); what is left out is counted and told.
	Trace     io.Writer
	TraceRate int
}

// Table serves system calls by number.
type Table struct {
	fn      [Numbers]Fn
	entries [Numbers]Entry
	opt     Options
	slow    atomic.Bool // counting, timing or tracing
	counts  [Numbers]count
	missing [Numbers]atomic.Uint64 // calls of numbers that nobody serves
	beyond  atomic.Uint64          // calls of numbers that the table does not have
	logMu   sync.Mutex
	tracer  *tracer
}

type count struct{ n, errors, nanos, worst atomic.Uint64 }

// NewTable joins the topics' lists. It is an error if two serve one number, if a name
// is not Linux's, or if an entry that serves a call has no function or no honest note.
func NewTable(opt Options, topics ...[]Entry) (*Table, error) {
	t := &Table{opt: opt}
	for nr, s := range spec {
		t.entries[nr] = Entry{Nr: uint16(nr), Name: s.name, Note: s.note}
	}
	var seen [Numbers]bool
	for _, topic := range topics {
		for _, e := range topic {
			if err := check(e, seen[:]); err != nil {
				return nil, err
			}
			seen[e.Nr] = true
			if e.Level == None && e.Note == "" {
				e.Note = t.entries[e.Nr].Note
			}
			t.entries[e.Nr] = e
			t.fn[e.Nr] = e.Fn
		}
	}
	if opt.Trace != nil {
		t.tracer = newTracer(opt)
	}
	t.slow.Store(opt.Count || opt.Time || opt.Trace != nil)
	return t, nil
}

func check(e Entry, seen []bool) error {
	switch {
	case int(e.Nr) >= Numbers || spec[e.Nr].name == "":
		return fmt.Errorf("sys: %s: Linux has no call %d", e.Name, e.Nr)
	case spec[e.Nr].name != e.Name:
		return fmt.Errorf("sys: call %d is %s, not %s", e.Nr, spec[e.Nr].name, e.Name)
	case seen[e.Nr]:
		return fmt.Errorf("sys: %s (%d) is served twice", e.Name, e.Nr)
	case e.Level != None && e.Fn == nil:
		return fmt.Errorf("sys: %s (%d) has no function", e.Name, e.Nr)
	case e.Level == Partial && e.Note == "":
		return fmt.Errorf("sys: %s (%d) is partial without a note", e.Name, e.Nr)
	}
	return nil
}

// Calls are the functions by number, for callers that need Dispatch for the others
// only; nil where each call is counted, timed or traced.
func (tb *Table) Calls() []Fn {
	if tb.slow.Load() {
		return nil
	}
	return tb.fn[:]
}

// Dispatch serves call nr of thread t. The error is a syscall.Errno or a restart code;
// ENOSYS for what nobody serves. It allocates nothing itself.
func (tb *Table) Dispatch(t *task.Task, nr uint64, a *[6]uint64) (uint64, error) {
	if nr >= uint64(Numbers) || tb.fn[nr] == nil {
		return 0, tb.none(t, nr, a)
	}
	if tb.slow.Load() {
		return tb.dispatchSlow(t, nr, a)
	}
	return tb.fn[nr](t, a)
}

func (tb *Table) dispatchSlow(t *task.Task, nr uint64, a *[6]uint64) (uint64, error) {
	var line *traceLine
	if tb.tracer != nil {
		line = tb.tracer.enter(t, &tb.entries[nr], a)
	}
	var begin time.Time
	if tb.opt.Time {
		begin = time.Now()
	}
	r, err := tb.fn[nr](t, a)
	if tb.opt.Count || tb.opt.Time {
		c := &tb.counts[nr]
		c.n.Add(1)
		if err != nil {
			c.errors.Add(1)
		}
		if tb.opt.Time {
			c.add(uint64(time.Since(begin)))
		}
	}
	if line != nil {
		tb.tracer.exit(line, r, err)
	}
	return r, err
}

func (c *count) add(nanos uint64) {
	c.nanos.Add(nanos)
	for {
		w := c.worst.Load()
		if nanos <= w || c.worst.CompareAndSwap(w, nanos) {
			return
		}
	}
}

// none counts a call that nobody serves, and logs the first of its number.
func (tb *Table) none(t *task.Task, nr uint64, a *[6]uint64) error {
	n, name, note := uint64(0), "", ""
	if nr < uint64(Numbers) {
		n = tb.missing[nr].Add(1)
		name, note = tb.entries[nr].Name, tb.entries[nr].Note
	} else {
		n = tb.beyond.Add(1)
	}
	if n == 1 && tb.opt.Log != nil {
		tb.logNone(t, nr, name, note, a)
	}
	if tb.tracer != nil {
		e := Entry{Name: name, Sig: "xxxxxx"}
		if name == "" {
			e.Name = fmt.Sprintf("syscall_%#x", nr)
		}
		if line := tb.tracer.enter(t, &e, a); line != nil {
			tb.tracer.exit(line, 0, syscall.ENOSYS)
		}
	}
	return syscall.ENOSYS
}

func (tb *Table) logNone(t *task.Task, nr uint64, name, note string, a *[6]uint64) {
	who := ""
	if tb.opt.Who != nil {
		tid, comm, _ := tb.opt.Who(t)
		who = fmt.Sprintf("%s[%d]: ", comm, tid)
	}
	if name == "" {
		name = "no call of Linux"
	}
	if note != "" {
		note = " (" + note + ")"
	}
	tb.logMu.Lock()
	defer tb.logMu.Unlock()
	fmt.Fprintf(tb.opt.Log, "linux: %ssystem call %d, %s, is not served: ENOSYS%s; said once\n", who, nr, name, note)
}

// Entries are all numbers that Linux has, lowest first.
func (tb *Table) Entries() []Entry {
	var out []Entry
	for _, e := range tb.entries {
		if e.Name != "" {
			out = append(out, e)
		}
	}
	return out
}

// Stat is what was counted of one call.
type Stat struct {
	Entry
	Calls, Errors uint64
	Total, Worst  time.Duration // with Options.Time
}

// Stats are the calls that were made, with Options.Count; and those that nobody
// serves, always.
func (tb *Table) Stats() []Stat {
	var out []Stat
	for nr, e := range tb.entries {
		c := &tb.counts[nr]
		s := Stat{Entry: e, Calls: c.n.Load(), Errors: c.errors.Load(), Total: duration(c.nanos.Load()), Worst: duration(c.worst.Load())}
		if m := tb.missing[nr].Load(); m > 0 {
			s.Calls, s.Errors = m, m
		}
		if s.Calls > 0 {
			out = append(out, s)
		}
	}
	return out
}

func duration(n uint64) time.Duration { return time.Duration(min(n, math.MaxInt64)) }
