package tcp

// The user calls of a script, as system calls.

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func (s *linuxScript) socket() int {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	must(err)
	must(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	cc := "reno"
	if s.opts["cubic"] {
		cc = "cubic"
	}
	const tcpCongestion = 13
	must(syscall.SetsockoptString(fd, syscall.IPPROTO_TCP, tcpCongestion, cc))
	must(syscall.Bind(fd, &syscall.SockaddrInet4{Port: 80, Addr: linuxAddr.As4()}))
	return fd
}

func (s *linuxScript) connect() {
	s.setup()
	s.fd = s.socket()
	if err := syscall.Connect(s.fd, &syscall.SockaddrInet4{Port: int(s.remote), Addr: peerAddr.As4()}); err != syscall.EINPROGRESS {
		must(err)
	}
}

func (s *linuxScript) accept() {
	for range 100 {
		fd, _, err := syscall.Accept4(s.lfd, syscall.SOCK_NONBLOCK)
		if err == nil {
			s.fd = fd
			return
		}
		time.Sleep(time.Millisecond)
	}
	panic(errors.New("nothing to accept"))
}

func (s *linuxScript) write(rest string) {
	what, want, _ := strings.Cut(rest, "=")
	n, err := syscall.SendmsgN(s.fd, make([]byte, atoi(strings.TrimSpace(what))), nil, nil, syscall.MSG_NOSIGNAL)
	switch want = strings.TrimSpace(want); {
	case want == "error":
		if err == nil {
			panic(errors.New("no error"))
		}
	case want == "":
		must(err)
	case err == nil && n != atoi(want):
		panic(fmt.Errorf("took %d", n))
	}
}

func (s *linuxScript) read(rest string) {
	what, want, _ := strings.Cut(rest, "=")
	n, _, err := syscall.Recvfrom(s.fd, make([]byte, atoi(strings.TrimSpace(what))), 0)
	switch want = strings.TrimSpace(want); {
	case want == "eof":
		if n != 0 || err != nil {
			panic(fmt.Errorf("%d octets, %v", n, err))
		}
	case want == "error":
		if err == nil || err == syscall.EAGAIN {
			panic(fmt.Errorf("%d octets, %v", n, err))
		}
	case err != nil:
		panic(err)
	case want != "" && n != atoi(want), want == "" && n != atoi(strings.TrimSpace(what)):
		panic(fmt.Errorf("%d octets", n))
	}
}

func (s *linuxScript) option(args []string) {
	const keepIdle, keepIntvl, keepCnt, userTimeout = 4, 5, 6, 18
	set := func(level, opt, v int) { must(syscall.SetsockoptInt(s.fd, level, opt, v)) }
	for _, a := range args {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "nodelay":
			set(syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		case "usertimeout":
			d, err := time.ParseDuration(val)
			must(err)
			set(syscall.IPPROTO_TCP, userTimeout, int(d.Milliseconds()))
		case "keepalive":
			v := strings.Split(val, ",")
			for i, opt := range []int{keepIdle, keepIntvl} {
				d, err := time.ParseDuration(v[i])
				must(err)
				set(syscall.IPPROTO_TCP, opt, int(d.Seconds()))
			}
			set(syscall.IPPROTO_TCP, keepCnt, atoi(v[2]))
			set(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
		}
	}
}

// linuxStates are TCP_ESTABLISHED and so on, from 1.
var linuxStates = [...]string{"", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED",
	"CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING"}

func (s *linuxScript) state(want string) {
	if s.fd < 0 {
		return
	}
	var info [256]byte
	n := uint32(len(info))
	if _, _, e := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(s.fd), syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0); e != 0 {
		panic(e)
	}
	got := linuxStates[info[0]]
	if want == "TIME-WAIT" && got == "CLOSED" {
		return // the socket does not see what waits in its place
	}
	if got != want {
		panic(fmt.Errorf("state is %s", got))
	}
}
