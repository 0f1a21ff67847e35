package tcp

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"osv/kernel/ktest/netns"
	"osv/kernel/net/seq"
	"osv/kernel/net/taplink"
	"osv/kernel/net/wire"
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
