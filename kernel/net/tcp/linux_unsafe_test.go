package tcp

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"

	"osv/kernel/ktest/netns"
	"osv/kernel/net/seq"
	"osv/kernel/net/taplink"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// The packet scripts, run against the TCP of the machine's Linux: the script
// plays the peer on a TAP device in a namespace of its own, and user calls become
// system calls. What a script says about windows, buffers and timestamps' values
// is not looked at; time is real, so scripts that need much of it are left out.
//
// testdata/linux.txt tells of each script whether Linux behaves the same, and if
// not, why it is not held to it.

var (
	linuxToo = flag.Bool("tcp.linux", false, "run the packet scripts against this machine's Linux as well")
	linuxAll = flag.Bool("tcp.linuxall", false, "with -tcp.linux: also those that it is known to differ in")
)

func TestMain(m *testing.M) { netns.Main(m) }

// errLeftOut says why a script cannot be run against Linux.
type errLeftOut string

func (e errLeftOut) Error() string { return string(e) }

type linuxScript struct {
	link   *taplink.Link
	frames chan wire.TCP
	done   chan struct{}
	fd     int // of the connection; -1 for none
	lfd    int // of the listener
	remote uint16
	iss    seq.Num
	issSet bool
	lastTS uint32
	now    time.Duration // of the script
	start  time.Time
	after  bool // the last command was advance
	opts   map[string]bool
	back   int
}

var linuxAddr, peerAddr = netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.2")

// linuxPort is the peer's in the next run: what Linux keeps of the last run does
// not get in the way.
var linuxPort uint16 = 4000

var peerMAC = [6]byte{2, 0x77, 0, 0, 0, 2}

func sysctl(name, value string) error {
	return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
}

func newLinuxScript(t *testing.T) *linuxScript {
	l, err := taplink.Open("scr0", taplink.Options{Mem: &testMem})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"all", "default"} {
		sysctl("ipv6/conf/"+v+"/disable_ipv6", "1")
	}
	sysctl("ipv4/tcp_no_metrics_save", "1")
	sysctl("ipv4/tcp_syn_linear_timeouts", "0")
	sysctl("ipv4/tcp_ecn", "0")
	sysctl("ipv4/tcp_invalid_ratelimit", "0") // else one challenge ACK in half a second
	netns.Up(t, "scr0", netip.PrefixFrom(linuxAddr, 24))
	dev, err := netlink.LinkByName("scr0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.NeighAdd(&netlink.Neigh{LinkIndex: dev.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: peerAddr.AsSlice(), HardwareAddr: peerMAC[:]}); err != nil {
		t.Fatal(err)
	}
	s := &linuxScript{link: l, frames: make(chan wire.TCP, 1024), done: make(chan struct{}), fd: -1, lfd: -1, remote: linuxPort,
		start: time.Now(), opts: map[string]bool{}}
	linuxPort++
	go s.receive()
	return s
}

// receive gathers what Linux sends.
func (s *linuxScript) receive() {
	defer close(s.done)
	bufs := make([]*pkt.Buf, 16)
	for {
		n := s.link.RxBatch(0, bufs)
		if n == 0 {
			if s.link.RxWait(0) != nil {
				return
			}
		}
		for _, b := range bufs[:n] {
			f := bytes.Clone(b.Bytes())
			b.Put()
			if len(f) < wire.EthLen+wire.IPv4MinLen || f[12] != 8 || f[13] != 0 {
				continue
			}
			ip, ok := wire.ParseIPv4(f[wire.EthLen:])
			if !ok || ip.Proto() != wire.ProtoTCP || ip.Dst() != peerAddr {
				continue
			}
			if h, ok := wire.ParseTCP(ip[ip.HeaderLen():ip.TotalLen()]); ok {
				s.frames <- h
			}
		}
	}
}

func (s *linuxScript) close() {
	for _, fd := range []int{s.fd, s.lfd} {
		if fd >= 0 {
			syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
			syscall.Close(fd)
		}
	}
	s.link.Close()
	<-s.done
	s.link.Release()
}

// runLinux runs a script. The error tells the line.
func runLinux(t *testing.T, text string) (err error) {
	s := newLinuxScript(t)
	defer s.close()
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(error)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	for i, l := range strings.Split(text, "\n") {
		if l, _, _ = strings.Cut(l, "#"); strings.TrimSpace(l) == "" {
			continue
		}
		func() {
			defer func() {
				if r := recover(); r != nil {
					var left errLeftOut
					if e, ok := r.(error); ok && !errors.As(e, &left) {
						r = fmt.Errorf("line %d: %s: %w", i+1, strings.TrimSpace(l), e)
					}
					panic(r)
				}
			}()
			s.run(strings.TrimSpace(l))
		}()
	}
	s.quiet()
	return nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func leaveOut(format string, args ...any) { panic(errLeftOut(fmt.Sprintf(format, args...))) }

func (s *linuxScript) run(line string) {
	cmd, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	after := s.after
	s.after = cmd == "advance"
	switch cmd {
	case "with":
		for _, a := range args {
			key, val, _ := strings.Cut(a, "=")
			switch {
			case val == "" || key == "rcvmax":
				s.opts[key] = true
			default:
				leaveOut("needs %s", key)
			}
		}
		if s.opts["v6"] || s.opts["gso"] {
			leaveOut("needs %s", rest)
		}
	case "listen":
		if len(args) > 0 {
			leaveOut("needs %s", rest)
		}
		s.setup()
		s.lfd = s.socket()
		must(syscall.Listen(s.lfd, 10))
	case "connect":
		s.connect()
	case "established":
		s.connect()
		s.next(time.Second)
		if len(args) > 0 && strings.HasPrefix(args[0], "rtt=") {
			s.advance(args[0][4:])
			args = args[1:]
		}
		s.send(append([]string{"S.", "seq=0", "ack=1"}, args...))
		s.next(time.Second)
	case "<", "<+":
		s.send(args)
	case ">":
		s.expect(args)
	case "none":
		if !after {
			s.quiet()
		} else if len(s.frames) > 0 {
			panic(fmt.Errorf("was sent: %s", s.show(<-s.frames)))
		}
	case "burst":
		n, length, at := atoi(args[0]), 0, -1
		for _, a := range args[1:] {
			key, val, _ := strings.Cut(a, "=")
			if key == "len" {
				length = atoi(val)
			} else {
				at = atoi(val)
			}
		}
		for range n {
			h := s.next(time.Second)
			have := seq.Num(h.Seq()).Sub(s.iss)
			if at < 0 {
				at = have
			}
			if have != at || len(h.Payload()) != length {
				panic(fmt.Errorf("want seq=%d len=%d, sent %s", at, length, s.show(h)))
			}
			at += length
		}
	case "skip":
		for range atoi(args[0]) {
			s.next(time.Second)
		}
	case "write":
		s.write(rest)
	case "read":
		s.read(rest)
	case "shutdown":
		must(syscall.Shutdown(s.fd, syscall.SHUT_WR))
	case "closeread":
		must(syscall.Shutdown(s.fd, syscall.SHUT_RD))
	case "close":
		must(syscall.Close(s.fd))
		s.fd = -1
	case "abort":
		must(syscall.SetsockoptLinger(s.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}))
		must(syscall.Close(s.fd))
		s.fd = -1
	case "advance":
		s.advance(rest)
	case "accept":
		s.accept()
	case "state":
		s.state(rest)
	case "error", "cwnd", "ssthresh", "inflight", "readable", "unsent", "unacked", "urgentleft", "halfopen":
		// internal
	case "option":
		s.option(args)
	default: // icmp, urgent, tx, mem, flush, newiss
		leaveOut("needs %s", cmd)
	}
}

func atoi(v string) int {
	n, err := strconv.Atoi(v)
	must(err)
	return n
}

func (s *linuxScript) setup() {
	onOff := map[bool]string{false: "0", true: "1"}
	must(sysctl("ipv4/tcp_sack", onOff[s.opts["sack"]]))
	must(sysctl("ipv4/tcp_timestamps", onOff[s.opts["ts"]]))
	must(sysctl("ipv4/tcp_window_scaling", onOff[s.opts["ws"]]))
}

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

// advance sleeps, to a little before the time the script says: Linux's timers
// are not late by less than that.
func (s *linuxScript) advance(d string) {
	v, err := time.ParseDuration(strings.TrimSpace(d))
	must(err)
	if s.now += v; s.now > 4*time.Second {
		leaveOut("takes more than four seconds")
	}
	time.Sleep(time.Until(s.start.Add(s.now - 8*time.Millisecond)))
}

// quiet looks whether anything is sent.
func (s *linuxScript) quiet() {
	select {
	case h := <-s.frames:
		panic(fmt.Errorf("was sent: %s", s.show(h)))
	case <-time.After(15 * time.Millisecond):
	}
}

func (s *linuxScript) next(wait time.Duration) wire.TCP {
	select {
	case h := <-s.frames:
		if h.Flags()&wire.TCPSyn != 0 && !s.issSet {
			s.iss, s.issSet = seq.Num(h.Seq()), true
		}
		var o wire.TCPOptions
		o.Parse(h.Options())
		s.lastTS = o.TSVal
		return h
	case <-time.After(wait):
		panic(errors.New("nothing was sent"))
	}
}

func (s *linuxScript) send(args []string) {
	f := wire.TCPFields{SrcPort: s.remote, DstPort: 80, Window: 65535}
	for _, r := range args[0] {
		f.Flags |= 1 << strings.IndexRune("FSRP.UEW", r)
	}
	var o wire.TCPOptions
	n := 0
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "seq":
			f.Seq = uint32(atoi(val))
		case "ack":
			f.Ack = uint32(s.iss.Add(atoi(val)))
		case "win":
			f.Window = uint16(atoi(val))
		case "len":
			n = atoi(val)
		case "mss":
			o.Have |= wire.TCPOptMSS
			o.MSS = uint16(atoi(val))
		case "ws":
			o.Have |= wire.TCPOptWScale
			o.WScale = uint8(atoi(val))
		case "sackok":
			o.Have |= wire.TCPOptSACKOK
		case "ts":
			v, _, _ := strings.Cut(val, ",")
			o.Have |= wire.TCPOptTimestamp
			o.TSVal, o.TSEcr = uint32(atoi(v)), s.lastTS
		case "sack":
			o.Have |= wire.TCPOptSACK
			for _, b := range strings.Split(val, ",") {
				l, r, _ := strings.Cut(b, "-")
				o.SACK[o.NSACK] = wire.TCPSACKBlock{Left: uint32(s.iss.Add(atoi(l))), Right: uint32(s.iss.Add(atoi(r)))}
				o.NSACK++
			}
		default:
			leaveOut("needs %s", key)
		}
	}
	tcpLen := wire.TCPMinHeader + o.Len() + n
	b := s.link.TxBuf(0)
	p := b.Append(wire.EthLen + wire.IPv4MinLen + tcpLen)
	clear(p)
	copy(p[6:], peerMAC[:])
	copy(p, linuxMAC())
	p[12], p[13] = 8, 0
	wire.PutIPv4(p[wire.EthLen:], &wire.IPv4Fields{TotalLen: wire.IPv4MinLen + tcpLen, DF: true, TTL: 64, Proto: wire.ProtoTCP,
		Src: wire.U32(peerAddr), Dst: wire.U32(linuxAddr)})
	h := wire.TCP(p[wire.EthLen+wire.IPv4MinLen:])
	h.Put(&f, wire.TCPMinHeader+o.Len())
	o.Put(h[wire.TCPMinHeader:])
	h.SetChecksum(^wire.Fold(wire.Sum(wire.PseudoSum4(wire.U32(peerAddr), wire.U32(linuxAddr), wire.ProtoTCP, tcpLen), h)))
	if s.link.TxBatch(0, []*pkt.Buf{b}) != 1 {
		panic(errors.New("TAP takes nothing"))
	}
	// Linux has dealt with a frame when the write returns, but for softirqs that
	// were put off.
	time.Sleep(500 * time.Microsecond)
}

func linuxMAC() []byte {
	i, err := net.InterfaceByName("scr0")
	must(err)
	return i.HardwareAddr
}

func (s *linuxScript) show(h wire.TCP) string {
	var o wire.TCPOptions
	o.Parse(h.Options())
	v := fmt.Sprintf("%v seq=%d", h.Flags(), seq.Num(h.Seq()).Sub(s.iss))
	if h.Flags()&wire.TCPAck != 0 {
		v += fmt.Sprintf(" ack=%d", h.Ack())
	}
	v += fmt.Sprintf(" win=%d len=%d", h.Window(), len(h.Payload()))
	for _, b := range o.SACK[:o.NSACK] {
		v += fmt.Sprintf(" sack=%d-%d", b.Left, b.Right)
	}
	return v
}

func (s *linuxScript) expect(args []string) {
	h := s.next(250 * time.Millisecond)
	var o wire.TCPOptions
	o.Parse(h.Options())
	differ := func(what string) {
		panic(fmt.Errorf("%s differs: sent %s", what, s.show(h)))
	}
	var want wire.TCPFlags
	for _, r := range args[0] {
		want |= 1 << strings.IndexRune("FSRP.UEW", r)
	}
	if h.Flags()|wire.TCPPsh != want|wire.TCPPsh {
		differ("flags")
	}
	length := 0
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "seq":
			if seq.Num(h.Seq()).Sub(s.iss) != atoi(val) {
				differ(key)
			}
		case "ack":
			if int(h.Ack()) != atoi(val) {
				differ(key)
			}
		case "len":
			length = atoi(val)
		case "mss":
			if int(o.MSS) != atoi(val) {
				differ(key)
			}
		case "sack", "nosack":
			have := ""
			for _, b := range o.SACK[:o.NSACK] {
				have += fmt.Sprintf(",%d-%d", b.Left, b.Right)
			}
			if strings.TrimPrefix(have, ",") != val {
				differ(key)
			}
		case "sackok", "nosackok":
			if (o.Have&wire.TCPOptSACKOK != 0) != (key == "sackok") {
				differ(key)
			}
		case "ts", "nots":
			if (o.Have&wire.TCPOptTimestamp != 0) != (key == "ts") {
				differ(key)
			}
		case "win":
			if (h.Window() == 0) != (atoi(val) == 0) {
				differ(key)
			}
		}
	}
	if len(h.Payload()) != length {
		differ("len")
	}
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

// linuxVerdicts reads testdata/linux.txt: a script's name, and "same" or the
// reason why Linux is not held to it.
func linuxVerdicts(t *testing.T) map[string]string {
	text, err := os.ReadFile("testdata/linux.txt")
	if err != nil {
		t.Fatal(err)
	}
	v := map[string]string{}
	for _, l := range strings.Split(string(text), "\n") {
		if l, _, _ = strings.Cut(l, "#"); strings.TrimSpace(l) == "" {
			continue
		}
		name, why, _ := strings.Cut(strings.TrimSpace(l), " ")
		v[name] = strings.TrimSpace(why)
	}
	return v
}

func TestScriptsOnLinux(t *testing.T) {
	if !*linuxToo {
		t.Skip("conformance, in real time: -tcp.linux")
	}
	netns.Require(t)
	verdicts := linuxVerdicts(t)
	files, _ := filepath.Glob("testdata/*.pkt")
	same := 0
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".pkt")
		v, ok := verdicts[name]
		delete(verdicts, name)
		if !ok || v == "" {
			t.Errorf("%s: testdata/linux.txt does not say whether Linux does the same", name)
		}
		if v != "same" && !*linuxAll {
			continue
		}
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			// Real time on a busy machine: one that fails gets a second chance.
			for range 3 {
				if err = runLinux(t, string(text)); err == nil {
					break
				}
				var left errLeftOut
				if errors.As(err, &left) {
					break
				}
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			same++
		})
	}
	for name := range verdicts {
		t.Errorf("testdata/linux.txt: there is no script %s", name)
	}
	t.Logf("Linux does the same in %d of %d scripts", same, len(files))
}
