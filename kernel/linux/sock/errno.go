package sock

import (
	"errors"
	"io"
	"net"
	"syscall"

	"osv/kernel/net/demux"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	ntcp "osv/kernel/net/tcp"
	nudp "osv/kernel/net/udp"
)

// errnos are what the errors of the stack are called by Linux.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{ntcp.ErrReset, syscall.ECONNRESET},
	{ntcp.ErrRefused, syscall.ECONNREFUSED},
	{ntcp.ErrTimeout, syscall.ETIMEDOUT},
	{ntcp.ErrKeepalive, syscall.ETIMEDOUT},
	{ntcp.ErrAborted, syscall.ECONNABORTED},
	{ntcp.ErrClosing, syscall.EPIPE},
	{ntcp.ErrNotOpen, syscall.ENOTCONN},
	{ntcp.ErrUnreachable, syscall.EHOSTUNREACH},
	{stack.ErrNoRoute, syscall.ENETUNREACH},
	{stack.ErrNoSource, syscall.EADDRNOTAVAIL},
	{stack.ErrTooBig, syscall.EMSGSIZE},
	{stack.ErrTxFull, syscall.ENOBUFS},
	{demux.ErrExists, syscall.EADDRINUSE},
	{demux.ErrFull, syscall.EADDRNOTAVAIL},
	{net.ErrClosed, syscall.EBADF},
	{tcpsock.ErrWouldBlock, syscall.EAGAIN},
	{nudp.ErrWouldBlock, syscall.EAGAIN},
	{io.EOF, 0},
}

// errno is an error of the stack as a syscall.Errno, def where nothing is known of it.
func errno(err error, def syscall.Errno) syscall.Errno {
	if e, ok := err.(syscall.Errno); ok {
		return e
	}
	for i := range errnos {
		if err == errnos[i].err {
			return errnos[i].errno
		}
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	for i := range errnos {
		if errors.Is(err, errnos[i].err) {
			return errnos[i].errno
		}
	}
	if tcpsock.IsInUse(err) {
		return syscall.EADDRINUSE
	}
	return def
}
