package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/internal/ownthread"
)

// process is QEMU as the operating system sees it, with our ends of its pipes.
type process struct {
	control *os.File // QMP
	out     *os.File // console
	errs    *os.File // standard error
	waited  chan waitResult
	ready   chan bool // sent once by connect: QEMU has answered
}

type waitResult struct {
	ws  syscall.WaitStatus
	err error
}

// controlArgs are what Start adds to Argv: begin stopped, QMP on descriptor 3.
var controlArgs = []string{"-S", "-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"}

// launch starts QEMU on a thread of its own: the parent-death signal is tied to
// the forking thread, and Options.Enter may change that thread's namespace.
func (v *VM) launch(o Options) (*process, error) {
	argv := append(v.Spec.Argv(), controlArgs...)
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("vm: %s is not installed (Debian: apt-get install qemu-system-x86)", argv[0])
	}
	var ours, theirs []*os.File // closed on failure; after the start in any case
	closeAll := func(fs []*os.File) {
		for _, f := range fs {
			f.Close()
		}
	}
	pipe := func(write bool) (mine, his *os.File) {
		r, w, perr := os.Pipe()
		if perr != nil {
			err = errors.Join(err, perr)
			return nil, nil
		}
		if mine, his = r, w; write {
			mine, his = w, r
		}
		ours, theirs = append(ours, mine), append(theirs, his)
		return mine, his
	}
	p := &process{waited: make(chan waitResult, 1), ready: make(chan bool, 1)}
	var hisOut, hisErr, hisCtl, hisIn, stdin *os.File
	p.out, hisOut = pipe(false)
	p.errs, hisErr = pipe(false)
	if o.Stdin != nil {
		stdin, hisIn = pipe(true)
	} else if hisIn, err = os.Open(os.DevNull); err == nil {
		theirs = append(theirs, hisIn)
	}
	fds, serr := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if serr == nil {
		p.control, hisCtl = os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp-qemu")
		ours, theirs = append(ours, p.control), append(theirs, hisCtl)
	}
	if err = errors.Join(err, serr); err != nil {
		closeAll(ours)
		closeAll(theirs)
		return nil, fmt.Errorf("vm: pipes to QEMU: %w", err)
	}

	started := make(chan error, 1)
	ownthread.Go(func() {
		if o.Enter != nil {
			if err := o.Enter(); err != nil {
				started <- err
				return
			}
		}
		v.Started = time.Now()
		proc, err := os.StartProcess(path, argv, &os.ProcAttr{
			Files: []*os.File{hisIn, hisOut, hisErr, hisCtl},
			Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
		})
		if err != nil {
			started <- err
			return
		}
		v.pid = proc.Pid
		started <- nil
		st, err := proc.Wait()
		r := waitResult{err: err}
		if err == nil {
			r.ws = st.Sys().(syscall.WaitStatus)
		}
		p.waited <- r
	})
	err = <-started
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return nil, fmt.Errorf("vm: start QEMU: %w", err)
	}
	if stdin != nil {
		go func() {
			io.Copy(stdin, o.Stdin) //nolint:errcheck // ends when QEMU does
			stdin.Close()
		}()
	}
	return p, nil
}

// connect opens QMP and learns which thread is which vCPU.
func (v *VM) connect(p *process, timeout time.Duration) error {
	q, err := newQMP(p.control, timeout, v.event)
	if err != nil {
		p.ready <- false
		return err
	}
	v.qmp = q
	p.ready <- true
	var cpus []struct {
		Index  int `json:"cpu-index"`
		Thread int `json:"thread-id"`
	}
	if err := q.Do("query-cpus-fast", nil, &cpus); err != nil {
		return err
	}
	v.vcpus = make(map[int]int, len(cpus))
	for _, c := range cpus {
		v.vcpus[c.Thread] = c.Index
	}
	return nil
}

// reap drains QEMU's pipes, waits for its end and publishes how it ended.
func (v *VM) reap(p *process, log *os.File) {
	var drained sync.WaitGroup
	var stderr tailBuffer
	drained.Add(2)
	go func() { defer drained.Done(); io.Copy(v.cons, p.out) }()   //nolint:errcheck // ends at EOF or deadline
	go func() { defer drained.Done(); io.Copy(&stderr, p.errs) }() //nolint:errcheck // the same
	r := <-p.waited
	v.mu.Lock()
	unix.Kill(-v.pid, unix.SIGKILL) //nolint:errcheck // helpers QEMU may have started
	v.mu.Unlock()
	// Should a stranger still hold the pipes, give up on them.
	p.out.SetReadDeadline(time.Now().Add(2 * time.Second))  //nolint:errcheck // pipes take deadlines
	p.errs.SetReadDeadline(time.Now().Add(2 * time.Second)) //nolint:errcheck // the same
	drained.Wait()
	running := <-p.ready
	if running {
		<-v.qmp.Done() // the last events
	}
	p.control.Close()
	p.out.Close()
	p.errs.Close()
	v.cons.finish()
	if log != nil {
		if err := log.Close(); err != nil {
			v.cons.mu.Lock()
			v.cons.err = errors.Join(v.cons.err, err)
			v.cons.mu.Unlock()
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.err != nil {
		v.exit = Exit{Kind: ExitFailed, Status: -1, Stderr: r.err.Error()}
	} else {
		v.exit = decodeExit(r.ws, running, v.killed, v.reason)
		v.exit.Stderr = stderr.String()
	}
	if v.killed && v.exit.Kind == ExitKilled {
		v.exit.Cause = v.cause
	}
	close(v.done)
}

// event runs in the QMP reader.
func (v *VM) event(e QMPEvent) {
	if e.Name != "SHUTDOWN" {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reason = shutdownReason(e.Data)
}

// tailBuffer keeps the last 16 KiB written to it.
type tailBuffer struct {
	mu  sync.Mutex
	buf []byte
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	const keep = 16 << 10
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if len(b.buf) > keep {
		b.buf = append([]byte(nil), b.buf[len(b.buf)-keep:]...)
	}
	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.TrimSpace(string(b.buf))
}
