package tcpsock

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"osv/kernel/net/tcp"
)

var (
	errInUse = errors.New("address already in use")
	// ErrWouldBlock is what the Try calls return when there is nothing to do yet.
	ErrWouldBlock = errors.New("tcp: operation would block")
)

// sockError gives an error of package tcp the number that callers of package net
// compare with.
type sockError struct {
	error
	errno syscall.Errno
}

func (e *sockError) Is(target error) bool { return target == e.errno }
func (e *sockError) Unwrap() error        { return e.error }
func (e *sockError) Timeout() bool        { return e.errno == syscall.ETIMEDOUT }
func (e *sockError) Temporary() bool      { return false }

var sockErrors = []*sockError{
	{tcp.ErrReset, syscall.ECONNRESET},
	{tcp.ErrRefused, syscall.ECONNREFUSED},
	{tcp.ErrTimeout, syscall.ETIMEDOUT},
	{tcp.ErrKeepalive, syscall.ETIMEDOUT},
	{tcp.ErrAborted, syscall.ECONNABORTED},
	{tcp.ErrClosing, syscall.EPIPE},
	{tcp.ErrNotOpen, syscall.ENOTCONN},
	{tcp.ErrUnreachable, syscall.EHOSTUNREACH},
	{errInUse, syscall.EADDRINUSE},
}

// opError is err as the functions of package net return it.
func opError(op string, local, remote net.Addr, err error) error {
	if err == nil || err == io.EOF || err == ErrWouldBlock {
		return err
	}
	for _, e := range sockErrors {
		if errors.Is(err, e.error) {
			if err != e.error {
				e = &sockError{err, e.errno}
			}
			err = e
			break
		}
	}
	return &net.OpError{Op: op, Net: "tcp", Source: local, Addr: remote, Err: err}
}

func tcpAddr(a netip.AddrPort) *net.TCPAddr { return net.TCPAddrFromAddrPort(a) }

// errDeadline and errClosed are what a call returns after a deadline, and on
// what its user has closed.
var (
	errDeadline = os.ErrDeadlineExceeded
	errClosed   = net.ErrClosed
)
