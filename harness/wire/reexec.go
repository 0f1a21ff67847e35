package wire

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"osv/harness/internal/ownthread"
)

// insideEnv marks the process that Become has started.
const insideEnv = "OSV_USERNS"

// Become gives an unprivileged user the right to make network namespaces: it runs
// this program again, with the same arguments, in a user namespace of its own,
// and exits with its status. In a process that has the right already, in the one
// it started, and where user namespaces are forbidden, it does nothing.
//
// Call it first in main. The new process keeps the host's network and files; only
// what Open makes is apart. (A Go program is multi-threaded from the start, and a
// multi-threaded process cannot enter a new user namespace: hence the new one.)
func Become() {
	if os.Getenv(insideEnv) != "" || MayUnshare() {
		return
	}
	if code, ok := rerun(); ok {
		os.Exit(code)
	}
}

// MayUnshare reports whether this process may make a network namespace.
func MayUnshare() bool {
	return ownthread.Do(func() error { return unix.Unshare(unix.CLONE_NEWNET) }) == nil
}

// rerun starts this program in a user namespace and waits for it; ok says that it
// ran.
func rerun() (code int, ok bool) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// Ctrl-C reaches both by the terminal; the inner one decides. Others are
	// handed on.
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(sigs)
	runtime.LockOSThread() // the parent-death signal is tied to this thread
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-sigs:
				if s != os.Interrupt {
					cmd.Process.Signal(s) //nolint:errcheck // it may have ended
				}
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	if ws, is := cmd.ProcessState.Sys().(syscall.WaitStatus); is && ws.Signaled() {
		return 128 + int(ws.Signal()), true
	}
	return cmd.ProcessState.ExitCode(), true
}
