package stream

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pwait2 is epoll_pwait2(2) without a signal mask.
func pwait2(ep int, events []unix.EpollEvent, timeout *unix.Timespec) (int, unix.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(timeout)), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}
