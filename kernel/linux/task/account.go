package task

import (
	"math"
	"sync/atomic"
	"time"
)

// account is a thread's processor time. The sum is the time between sleeps: it costs
// two readings of the clock a sleep, none a system call, and counts the wait for a
// processor as running. How it divides into user and system time is sampled, one call
// in sampleEvery.
type account struct {
	ran   atomic.Int64 // ns, up to since
	since atomic.Int64 // ns of mono(); 0: sleeps
	user  atomic.Int64 // ns of the samples
	sys   atomic.Int64

	voluntary   atomic.Int64
	involuntary atomic.Int64
}

const sampleEvery = 64

// idle notes that the task begins to sleep, busy that it has ended.
func (t *Task) idle() {
	a := &t.acct
	now := int64(mono())
	if s := a.since.Swap(0); s != 0 {
		a.ran.Add(now - s)
	}
	a.voluntary.Add(1)
	t.k.load.busy.Add(-1)
}

func (t *Task) busy() {
	t.acct.since.Store(max(1, int64(mono())))
	t.k.load.busy.Add(1)
}

// Usage is processor time and what getrusage(2) tells beside it.
type Usage struct {
	User, Sys              time.Duration
	Voluntary, Involuntary int64
	MinorFaults            int64
	MajorFaults            int64
	MaxRSS                 int64 // bytes
}

// Sum is user and system time.
func (u Usage) Sum() time.Duration { return u.User + u.Sys }

func (u *Usage) add(v Usage) {
	u.User += v.User
	u.Sys += v.Sys
	u.Voluntary += v.Voluntary
	u.Involuntary += v.Involuntary
	u.MinorFaults += v.MinorFaults
	u.MajorFaults += v.MajorFaults
	u.MaxRSS = max(u.MaxRSS, v.MaxRSS)
}

// CPUTime is the thread's processor time; any goroutine may ask.
func (t *Task) CPUTime() time.Duration {
	a := &t.acct
	for {
		s := a.since.Load()
		sum := a.ran.Load()
		if a.since.Load() != s {
			continue
		}
		if s != 0 {
			sum += max(0, int64(mono())-s)
		}
		return time.Duration(sum)
	}
}

// Usage is the thread's; any goroutine may ask.
func (t *Task) Usage() Usage {
	a := &t.acct
	sum := t.CPUTime()
	u := Usage{Voluntary: a.voluntary.Load(), Involuntary: a.involuntary.Load()}
	user, sys := a.user.Load(), a.sys.Load()
	if user+sys == 0 {
		u.User = sum
		return u
	}
	u.Sys = time.Duration(float64(sum) * float64(sys) / float64(user+sys))
	u.User = sum - u.Sys
	return u
}

// Usage is what p's threads have used, those that have ended too.
func (p *Process) Usage() Usage {
	u := p.ownUsage()
	if s := p.ShareMem(); s != nil {
		u.memory(s)
		s.Close()
	}
	return u
}

// ownUsage is Usage without what the present address space tells.
func (p *Process) ownUsage() Usage {
	p.cpu.mu.Lock()
	defer p.cpu.mu.Unlock()
	u := p.cpu.used
	for _, t := range p.cpu.tasks {
		u.add(t.Usage())
	}
	return u
}

// UserTime is the processor time that p has spent in user mode.
func (p *Process) UserTime() time.Duration { return p.ownUsage().User }

// begins and ends keep account of whose time is p's.
func (p *Process) begins(t *Task) {
	p.cpu.mu.Lock()
	defer p.cpu.mu.Unlock()
	p.cpu.tasks = append(p.cpu.tasks, t)
}

func (p *Process) ends(t *Task) {
	p.cpu.mu.Lock()
	defer p.cpu.mu.Unlock()
	p.cpu.tasks = remove(p.cpu.tasks, t)
	p.cpu.used.add(t.Usage())
}

// CPUTime is the processor time of all of p's threads.
func (p *Process) CPUTime() time.Duration {
	p.cpu.mu.Lock()
	defer p.cpu.mu.Unlock()
	sum := p.cpu.used.Sum()
	for _, t := range p.cpu.tasks {
		sum += t.CPUTime()
	}
	return sum
}

// ChildUsage is that of children that were waited for, and theirs.
func (p *Process) ChildUsage() Usage {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	return p.childUsed
}

// Load is the average number of threads that ran or wanted to, over 1, 5 and 15
// minutes. It moves when somebody asks.
func (k *Kernel) Load() [3]float64 {
	l := &k.load
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.at.IsZero() {
		l.at = k.start
	}
	d := now.Sub(l.at).Seconds()
	if d < 1 {
		return l.avg
	}
	l.at = now
	n := float64(max(0, l.busy.Load()-1)) // less the one that asks
	for i, minutes := range [3]float64{1, 5, 15} {
		keep := math.Exp(-d / (60 * minutes))
		l.avg[i] = l.avg[i]*keep + n*(1-keep)
	}
	return l.avg
}

// Running is how many threads do not sleep.
func (k *Kernel) Running() int { return int(max(0, k.load.busy.Load())) }
