// Package mmsg moves many datagrams with one system call: recvmmsg(2) and
// sendmmsg(2), non-blocking, without allocation.
//
// Who may use it: the datagram engine and the null server. A Vec belongs to one
// thread.
package mmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// header is struct mmsghdr of recvmmsg(2).
type header struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// Vec is a fixed set of message headers with one piece, and if asked for one
// peer address, each. The Go pointers in it are typed, so the collector follows
// them.
type Vec struct {
	hdr  []header
	iov  []unix.Iovec
	name []unix.RawSockaddrInet6 // large enough for IPv4 too
}

// New makes a Vec of n messages. named keeps the address of each received
// message, to which Send answers.
func New(n int, named bool) *Vec {
	v := &Vec{hdr: make([]header, n), iov: make([]unix.Iovec, n)}
	if named {
		v.name = make([]unix.RawSockaddrInet6, n)
	}
	for i := range v.hdr {
		v.hdr[i].hdr.Iov = &v.iov[i]
		v.hdr[i].hdr.SetIovlen(1)
	}
	return v
}

// Set points message i at b, which must not be empty.
func (v *Vec) Set(i int, b []byte) {
	v.iov[i].Base = &b[0]
	v.iov[i].SetLen(len(b))
}

// Len is the size of the received message i.
func (v *Vec) Len(i int) int { return int(v.hdr[i].n) }

// Recv receives up to n messages; 0 and EAGAIN where there are none.
func (v *Vec) Recv(fd, n int) (int, unix.Errno) {
	for i := range v.name {
		v.hdr[i].hdr.Name = (*byte)(unsafe.Pointer(&v.name[i]))
		v.hdr[i].hdr.Namelen = uint32(unsafe.Sizeof(v.name[i]))
	}
	// The call does not block, so the raw form does not hold up the scheduler.
	r, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&v.hdr[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(r), e
}

// Send sends the first n messages and returns how many went.
func (v *Vec) Send(fd, n int) (int, unix.Errno) {
	r, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&v.hdr[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(r), e
}

// Reply prepares message i of v as an answer to message j of from.
func (v *Vec) Reply(i int, b []byte, from *Vec, j int) {
	v.Set(i, b)
	v.hdr[i].hdr.Name = (*byte)(unsafe.Pointer(&from.name[j]))
	v.hdr[i].hdr.Namelen = from.hdr[j].hdr.Namelen
}
