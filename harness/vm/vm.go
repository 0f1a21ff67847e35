package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options is how a machine is run; none of it changes the machine.
type Options struct {
	LogPath string    // the serial console is kept in this file; "" = not kept
	Echo    io.Writer // gets the console as it comes
	Stdin   io.Reader // typed into the guest's serial port; nil = nothing
	Print   io.Writer // gets the QEMU line before the start

	// Hold leaves the machine stopped before its first instruction, for a
	// debugger or for Continue.
	Hold bool
	// Enter runs on the thread that starts QEMU, just before: a network
	// namespace entered there is QEMU's.
	Enter func() error
	// StartTimeout bounds the time until QEMU answers; 0 = 20 s.
	StartTimeout time.Duration
}

// VM is a running machine. All methods may be called from several goroutines.
type VM struct {
	Spec    Spec      // as started, with everything resolved
	Started time.Time // just before QEMU was executed

	pid   int
	qmp   *QMP
	cons  *console
	vcpus map[int]int // thread id → vCPU index

	done chan struct{} // closed when exit is valid
	exit Exit

	mu        sync.Mutex
	reason    string // of the last SHUTDOWN event
	killed    bool
	cause     error
	continued time.Time
}

// Start runs s until the guest ends, Quit, Kill, or the end of ctx, which kills
// it. QEMU is started stopped, its threads are pinned, and only then does the
// guest run. A failed start leaves nothing behind. QEMU dies with this process
// in any case.
func Start(ctx context.Context, s Spec, o Options) (*VM, error) {
	s, err := s.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	if o.Print != nil {
		fmt.Fprintln(o.Print, s.Line())
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = 20 * time.Second
	}
	v := &VM{Spec: s, done: make(chan struct{})}
	var log *os.File
	var file io.Writer // stays a nil interface without a log
	if o.LogPath != "" {
		if log, err = os.Create(o.LogPath); err != nil {
			return nil, fmt.Errorf("vm: serial log: %w", err)
		}
		file = log
	}
	v.cons = newConsole(file, o.Echo)
	p, err := v.launch(o)
	if err != nil {
		if log != nil {
			log.Close()
		}
		return nil, err
	}
	go v.reap(p, log)

	stop := context.AfterFunc(ctx, func() { v.kill(context.Cause(ctx)) })
	go func() { <-v.done; stop() }()

	err = v.connect(p, o.StartTimeout)
	if err == nil {
		err = pinThreads(v.pid, v.vcpus, s.Pin)
	}
	if err == nil && !o.Hold {
		err = v.Continue()
	}
	if err == nil {
		return v, nil
	}
	v.kill(err)
	<-v.done
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if v.exit.Kind == ExitFailed {
		return nil, fmt.Errorf("vm: %v\n  %s", v.exit, s.Line())
	}
	return nil, fmt.Errorf("vm: %w\n  %s", err, s.Line())
}

// Resolve fills every default, checks s and settles Auto by trying KVM once.
func (s Spec) Resolve(ctx context.Context) (Spec, error) {
	if err := s.Validate(); err != nil {
		return s, err
	}
	if s.QEMU == "" {
		s.QEMU = "qemu-system-x86_64"
	}
	if s.Accel == Auto {
		s.Accel = TCG
		if len(s.Plugins) == 0 {
			s.Accel = Probe(ctx, s.QEMU)
		}
	}
	s = s.withDefaults()
	return s, s.Validate()
}

// Pause stops the guest's vCPUs and its clock; Continue lets them run again.
func (v *VM) Pause() error {
	if err := v.qmp.Do("stop", nil, nil); err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	return nil
}

// Continue lets a held or paused machine run.
func (v *VM) Continue() error {
	at := time.Now()
	if err := v.qmp.Do("cont", nil, nil); err != nil {
		// A guest may be done before its "cont" is answered.
		if errors.Is(err, errQMPClosed) {
			<-v.done
			if v.exit.Kind != ExitFailed {
				return nil
			}
			return fmt.Errorf("vm: %v", v.exit)
		}
		return fmt.Errorf("vm: %w", err)
	}
	v.mu.Lock()
	if v.continued.IsZero() {
		v.continued = at
	}
	v.mu.Unlock()
	return nil
}

// Continued is when the guest was first let run; zero before that. Started to
// Continued is QEMU's own start and the harness's pinning.
func (v *VM) Continued() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.continued
}

// PID is QEMU's process.
func (v *VM) PID() int { return v.pid }

// QMP is the control connection.
func (v *VM) QMP() *QMP { return v.qmp }

// WaitLine returns the first console line, from the start of the log on, that
// matches re. It fails after timeout or when the machine ends without it; the
// error then shows the end of the log.
func (v *VM) WaitLine(re *regexp.Regexp, timeout time.Duration) (Line, error) {
	return v.WaitLineFrom(0, re, timeout)
}

// WaitLineFrom is WaitLine that starts at line number from.
func (v *VM) WaitLineFrom(from int, re *regexp.Regexp, timeout time.Duration) (Line, error) {
	t := time.NewTimer(timeout)
	defer t.Stop()
	l, err := v.cons.wait(re, from, t.C)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, errConsoleClosed):
		<-v.done
		err = fmt.Errorf("the machine ended first (%v)", v.exit)
	default:
		err = fmt.Errorf("not seen within %v", timeout)
	}
	return Line{}, fmt.Errorf("vm: console line %q: %w%s", re, err, v.cons.tail(12))
}

// Lines are the console lines so far (the last 8 MiB of them).
func (v *VM) Lines() []Line { return v.cons.snapshot() }

// Tail is the end of the console for an error text, each line indented.
func (v *VM) Tail(n int) string { return v.cons.tail(n) }

// Done is closed when the machine has ended and its log is complete.
func (v *VM) Done() <-chan struct{} { return v.done }

// Wait blocks until the machine has ended.
func (v *VM) Wait() Exit {
	<-v.done
	return v.exit
}

// WaitTimeout is Wait that kills the machine after d; late reports that it did.
func (v *VM) WaitTimeout(d time.Duration) (e Exit, late bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-v.done:
		return v.exit, false
	case <-t.C:
		v.kill(fmt.Errorf("still running after %v", d))
		<-v.done
		return v.exit, v.exit.Kind == ExitKilled
	}
}

// Powerdown presses the ACPI power button.
func (v *VM) Powerdown() error { return v.qmp.Do("system_powerdown", nil, nil) }

// Quit ends QEMU in an orderly way (disk caches are written) and waits up to
// five seconds for it before it kills.
func (v *VM) Quit() Exit {
	if err := v.qmp.Do("quit", nil, nil); err != nil && !errors.Is(err, errQMPClosed) {
		v.kill(err)
	}
	e, _ := v.WaitTimeout(5 * time.Second)
	return e
}

// Kill ends QEMU at once and waits for it.
func (v *VM) Kill() Exit {
	v.kill(nil)
	return v.Wait()
}

func (v *VM) kill(cause error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.done: // the process id may already be another's
		return
	default:
	}
	if !v.killed {
		v.killed, v.cause = true, cause
	}
	unix.Kill(-v.pid, unix.SIGKILL) //nolint:errcheck // gone already is fine
}

// Threads reads the processor time of QEMU's threads.
func (v *VM) Threads() ([]ThreadTime, error) { return readThreads(v.pid, v.vcpus) }

// Usage is Threads summed by role.
func (v *VM) Usage() (Usage, error) {
	ts, err := v.Threads()
	return SumThreads(ts), err
}

// Repin moves the threads of a running machine.
func (v *VM) Repin(p Pin) error { return pinThreads(v.pid, v.vcpus, p) }

// LogErr is the first failure to write the serial log, such as a full disk. The
// machine does not stop for it.
func (v *VM) LogErr() error {
	v.cons.mu.Lock()
	defer v.cons.mu.Unlock()
	return v.cons.err
}
