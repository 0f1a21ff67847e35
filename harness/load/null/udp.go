package null

import (
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"

	"osv/harness/load/mctext"
	"osv/harness/load/mmsg"
)

const batch = 64

// frameBytes is the header of memcached's UDP protocol; a datagram of a reply
// carries at most 1,400 bytes with it.
const (
	frameBytes    = 8
	datagramBytes = 1400
)

// ListenUDP starts a null server for datagrams. Port 0 picks one.
func ListenUDP(addr netip.AddrPort, items *mctext.Items) (*Server, error) {
	s, err := newServer(items)
	if err != nil {
		return nil, err
	}
	fd, at, err := listen(addr, unix.SOCK_DGRAM)
	if err != nil {
		s.Close()
		return nil, err
	}
	s.Addr, s.fds = at, []int{fd}
	s.done.Add(1)
	go s.udpLoop(fd)
	return s, nil
}

func (s *Server) udpLoop(fd int) {
	defer s.done.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rx, tx := mmsg.New(batch, true), mmsg.New(1, true)
	out := make([]byte, 0, mctext.MaxValue+1024)
	one := make([]byte, 0, datagramBytes)
	many := mmsg.New(batch, true)
	replies := make([][]byte, batch)
	bufs := make([][]byte, batch)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
		replies[i] = make([]byte, 0, datagramBytes)
		rx.Set(i, bufs[i])
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(s.wake[0]), Events: unix.POLLIN}}
	for {
		n, e := rx.Recv(fd, batch)
		if e != 0 {
			if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR || poll[1].Revents != 0 {
				return
			}
			continue
		}
		ready := 0
		for i := range n {
			d := bufs[i][:rx.Len(i)]
			if len(d) < frameBytes {
				continue
			}
			var used int
			out, used = s.answer(out[:0], d[frameBytes:])
			if used <= 0 {
				continue
			}
			const room = datagramBytes - frameBytes
			if len(out) <= room {
				r := appendFrame(replies[ready][:0], d, 0, 1)
				replies[ready] = append(r, out...)
				many.Reply(ready, replies[ready], rx, i)
				ready++
				continue
			}
			total := (len(out) + room - 1) / room
			for seq := range total {
				r := appendFrame(one[:0], d, seq, total)
				r = append(r, out[seq*room:min(len(out), (seq+1)*room)]...)
				tx.Reply(0, r, rx, i)
				tx.Send(fd, 1)
			}
		}
		if ready > 0 {
			many.Send(fd, ready)
		}
	}
}

func appendFrame(dst, request []byte, seq, total int) []byte {
	return append(dst, request[0], request[1], byte(seq>>8), byte(seq), byte(total>>8), byte(total), 0, 0)
}
