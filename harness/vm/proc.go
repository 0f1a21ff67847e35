package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Role is what a thread of QEMU does.
type Role string

// The roles of QEMU's threads.
const (
	RoleVCPU  Role = "vcpu"  // runs guest code
	RoleMain  Role = "main"  // main loop: devices, timers, network backends
	RoleOther Role = "other" // I/O workers, RCU
)

// ThreadTime is the processor time one thread of QEMU has had since its start.
type ThreadTime struct {
	TID  int
	Name string
	Role Role
	VCPU int // RoleVCPU: its index, else -1

	Run    time.Duration // on a core (nanosecond clock of the scheduler)
	Wait   time.Duration // runnable but not on a core: the host was busy
	User   time.Duration // in user mode, in steps of the clock tick (10 ms)
	System time.Duration // in the kernel, same steps
}

// Usage sums threads by role.
type Usage struct {
	VCPU, Main, Other ThreadSum
}

// ThreadSum is the time of several threads.
type ThreadSum struct {
	Run, Wait time.Duration
}

// Total is the run time of all threads.
func (u Usage) Total() time.Duration { return u.VCPU.Run + u.Main.Run + u.Other.Run }

// Sub is u minus an earlier reading.
func (u Usage) Sub(e Usage) Usage {
	sub := func(a, b ThreadSum) ThreadSum { return ThreadSum{a.Run - b.Run, a.Wait - b.Wait} }
	return Usage{sub(u.VCPU, e.VCPU), sub(u.Main, e.Main), sub(u.Other, e.Other)}
}

// SumThreads adds up threads by role.
func SumThreads(ts []ThreadTime) Usage {
	var u Usage
	for _, t := range ts {
		s := &u.Other
		switch t.Role {
		case RoleVCPU:
			s = &u.VCPU
		case RoleMain:
			s = &u.Main
		}
		s.Run += t.Run
		s.Wait += t.Wait
	}
	return u
}

// procRoot is /proc; tests read a made-up one.
var procRoot = "/proc"

// userHZ is the unit of the times in /proc/PID/stat; Linux fixes it at 100 for
// user space on every architecture this runs on.
const userHZ = 100

// readThreads reads the times of all threads of process pid. vcpus maps thread
// ids to vCPU indices.
func readThreads(pid int, vcpus map[int]int) ([]ThreadTime, error) {
	dir := filepath.Join(procRoot, strconv.Itoa(pid), "task")
	ents, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("vm: threads of process %d: %w", pid, err)
	}
	var out []ThreadTime
	for _, e := range ents {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		t, err := readThread(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		t.TID, t.Role, t.VCPU = tid, RoleOther, -1
		if tid == pid {
			t.Role = RoleMain
		}
		if i, ok := vcpus[tid]; ok {
			t.Role, t.VCPU = RoleVCPU, i
		}
		out = append(out, t)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].TID < out[j].TID })
	return out, nil
}

// readThread reads one /proc/PID/task/TID (proc(5), files stat and schedstat).
func readThread(dir string) (ThreadTime, error) {
	var t ThreadTime
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return t, err
	}
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return t, fmt.Errorf("vm: %s/stat: no command name", dir)
	}
	t.Name = string(stat[open+1 : end])
	f := strings.Fields(string(stat[end+1:])) // f[0] is field 3, the state
	if len(f) < 13 {
		return t, fmt.Errorf("vm: %s/stat: %d fields after the name, want 13 or more", dir, len(f))
	}
	ticks := func(s string) time.Duration {
		n, _ := strconv.ParseInt(s, 10, 64)
		return time.Duration(n) * (time.Second / userHZ)
	}
	t.User, t.System = ticks(f[11]), ticks(f[12])

	sched, err := os.ReadFile(filepath.Join(dir, "schedstat"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Run = t.User + t.System // a kernel without CONFIG_SCHED_INFO
		return t, nil
	}
	if err != nil {
		return t, err
	}
	var run, wait int64
	if _, err := fmt.Sscan(string(sched), &run, &wait); err != nil {
		return t, fmt.Errorf("vm: %s/schedstat %q: %w", dir, sched, err)
	}
	t.Run, t.Wait = time.Duration(run), time.Duration(wait)
	return t, nil
}

// pinThreads places the threads of pid: vCPUs by p.VCPU, all others by p.Rest.
// Threads made later inherit the cores of their maker.
func pinThreads(pid int, vcpus map[int]int, p Pin) error {
	if len(p.Rest) == 0 && len(p.VCPU) == 0 {
		return nil
	}
	ts, err := readThreads(pid, vcpus)
	if err != nil {
		return err
	}
	for _, t := range ts {
		cores := p.Rest
		if t.Role == RoleVCPU {
			cores = nil
			if len(p.VCPU) > 0 {
				cores = []int{p.VCPU[t.VCPU%len(p.VCPU)]}
			}
		}
		if len(cores) == 0 {
			continue
		}
		if err := SetAffinity(t.TID, cores); err != nil {
			return fmt.Errorf("vm: pin %s thread %d: %w", t.Role, t.TID, err)
		}
	}
	return nil
}

// SetAffinity lets thread tid (0 = the calling thread) run on cores only.
func SetAffinity(tid int, cores []int) error {
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	if set.Count() != len(cores) {
		return fmt.Errorf("cores %v: repeated or out of range", cores)
	}
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("cores %v: %w", cores, err)
	}
	return nil
}

// AllowedCPUs is how many host cores this process may use.
func AllowedCPUs() int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return 1
	}
	return max(set.Count(), 1)
}
