// Package fd is file descriptors: the table that numbers them, the open file
// descriptions that they name, the one loop that waits for a file, and the files that
// exist only as descriptors (pipes, eventfd, timerfd, signalfd, epoll, inotify, the
// console's terminal), with poll, select and the locks on files.
//
// Spec: Linux 6.1 (fs/file.c, fs/pipe.c, fs/eventpoll.c, fs/select.c, fs/locks.c) as
// man-pages 6.03 describe it; hosted tests put the same questions to the host's Linux.
// Who may use it: kernel/linux and what is below it. It knows no task: who waits is a
// Sleeper. Files themselves never block (kernel/vfs); only this package waits.
//
// Locks, outermost first: Table.mu; a lock of one file (pipe.mu, Epoll.scan, …); the
// poll.List of a source; Epoll.mu. Nothing waits for a file with any of them held.
//
// Start reading at Open, then Table, then WaitFor.
package fd

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/vfs/poll"
)

// Sleeper is a thread that may wait: task.Sleeper, word for word.
type Sleeper interface {
	// Sleep returns nil once c has been signalled (a channel of capacity 1, or closed),
	// syscall.ETIMEDOUT at the deadline (the zero time is none), abi.ERESTARTSYS where
	// a signal is to be handled or the task is to die. What is ready already wins.
	Sleep(c <-chan struct{}, deadline time.Time) error
}

// Status flags that fcntl can set (SETFL_MASK of fs/fcntl.c).
const setFlags = syscall.O_APPEND | syscall.O_NONBLOCK | syscall.O_DIRECT | syscall.O_ASYNC | oNoatime

// Flags of open that package syscall lacks for this machine or names differently.
const (
	oPath      = 0x200000
	oNoatime   = 0x40000
	oTmpfile   = 0x400000
	oLargefile = 0x8000
)

// always are the readiness bits that are told whether or not they were asked for.
const always = poll.Err | poll.Hup

// interrupted turns what Sleep says of a signal into what a call with a timeout
// returns: it is not begun again, since its time would start anew.
func interrupted(err error, timed bool) error {
	if timed && err == abi.ERESTARTSYS {
		return syscall.EINTR
	}
	return err
}
