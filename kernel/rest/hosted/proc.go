package hosted

import (
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"osv/kernel/rest/machine"
)

// lines yields the lines of a file of /proc; none where it cannot be read.
func lines(name string) iter.Seq[string] {
	b, _ := os.ReadFile(name)
	return strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n")
}

// number reads an unsigned number, 0 where it is none.
func number(s string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	return n
}

// userHZ is the unit of times in /proc: USER_HZ, which Linux has not changed since
// it was made a constant of the ABI.
const userHZ = 100

// states are the letters of /proc/PID/stat.
var states = map[string]string{"R": "running", "S": "waiting", "D": "waiting for a device", "Z": "ended", "T": "stopped", "t": "stopped", "I": "idle"}

// Threads tells of the threads of this process, from /proc/self/task.
func (s *system) Threads() []machine.Thread {
	dirs, _ := filepath.Glob("/proc/self/task/*")
	var out []machine.Thread
	for _, dir := range dirs {
		if t, ok := thread(dir); ok {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b machine.Thread) int { return int(a.ID - b.ID) })
	return out
}

// thread reads one; it may have ended meanwhile.
func thread(dir string) (machine.Thread, bool) {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	// The name, in parentheses, may have any character.
	open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
	if err != nil || open < 0 || end < open {
		return machine.Thread{}, false
	}
	f := strings.Fields(string(b)[end+1:]) // from field 3 on
	if len(f) < 37 {
		return machine.Thread{}, false
	}
	id, _ := strconv.ParseInt(filepath.Base(dir), 10, 64)
	ms := int64(number(f[14-3])+number(f[15-3])) * 1000 / userHZ
	cpu := int64(number(f[39-3]))
	prio, _ := strconv.ParseFloat(f[18-3], 64)
	t := machine.Thread{ID: id, Name: string(b)[open+1 : end], Status: states[f[0]], CPU: &cpu, CPUms: &ms, Priority: &prio}
	if t.Status == "" {
		t.Status = f[0]
	}
	if b, err := os.ReadFile(filepath.Join(dir, "schedstat")); err == nil { // where the kernel has it
		first, _, _ := strings.Cut(string(b), " ")
		ns := int64(number(first))
		ms = ns / 1e6
		t.CPUns = &ns
	}
	for line := range lines(filepath.Join(dir, "status")) {
		k, v, _ := strings.Cut(line, ":")
		n := number(v)
		switch k {
		case "voluntary_ctxt_switches":
			t.Switches = &n
		case "nonvoluntary_ctxt_switches":
			t.Preemptions = &n
			sum := n + *or(t.Switches)
			t.Switches = &sum
		}
	}
	return t, true
}

func or(p *uint64) *uint64 {
	if p == nil {
		return new(uint64)
	}
	return p
}
