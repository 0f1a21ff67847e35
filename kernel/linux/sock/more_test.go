package sock

import (
	"net/netip"
	"syscall"
	"testing"

	"osv/kernel/hw/dma"
	"osv/kernel/linux/abi"
	netsock "osv/kernel/net/sock"
	"osv/kernel/net/stack"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// file is something that SCM_RIGHTS passes: an open file description with a count.
type file struct {
	f    vfs.File
	refs int64
}

func (f *file) File() vfs.File { return f.f }
func (f *file) Refs() int64    { return f.refs }
func (f *file) Hold()          { f.refs++ }
func (f *file) Release() error {
	if f.refs--; f.refs == 0 && f.f != nil {
		return f.f.Close()
	}
	return nil
}

func pairOf(t *testing.T, n *Net, typ int) (a, b *unix) {
	t.Helper()
	x, y, err := n.Pair(newCaller(), syscall.AF_UNIX, typ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return x.(*unix), y.(*unix)
}

func TestRightsTravel(t *testing.T) {
	n, c := newWorld(t), newCaller()
	for _, typ := range []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM} {
		a, b := pairOf(t, n, typ)
		x, y := &file{refs: 1}, &file{refs: 1}
		m := Message{Control: Control{Have: HasRights, Rights: []Right{x, y}}}
		if _, err := a.Send(c, &vfs.Bytes{B: []byte("two files")}, &m, 0); err != nil || len(m.Control.Rights) != 0 {
			t.Fatal(err, m)
		}
		if n.unix.count != 2 {
			t.Errorf("%d files are under way", n.unix.count)
		}
		send(t, a, "more")
		var got Message
		d := vfs.Bytes{B: make([]byte, 100)}
		if k, err := b.Recv(&d, &got, msgPeek); k != 9 || err != nil || len(got.Control.Rights) != 2 || x.refs != 2 || n.unix.count != 2 {
			t.Fatal(k, err, got, x.refs, n.unix.count)
		}
		for _, r := range got.Control.Rights { // they are the reader's
			_ = r.Release()
		}
		d = vfs.Bytes{B: make([]byte, 100)}
		if k, err := b.Recv(&d, &got, 0); k != 9 || err != nil || len(got.Control.Rights) != 2 || got.Control.Rights[0] != Right(x) || got.Control.Have&HasRights == 0 {
			t.Fatal(k, err, got) // and no octets of the next letter
		}
		if n.unix.count != 0 {
			t.Errorf("%d files are under way after their arrival", n.unix.count)
		}
		// A reader without room for control messages has them closed.
		m = Message{Control: Control{Have: HasRights, Rights: []Right{x}}}
		d = vfs.Bytes{B: make([]byte, 100)}
		b.Recv(&d, nil, 0)
		a.Send(c, &vfs.Bytes{B: []byte("x")}, &m, 0)
		if _, err := b.Recv(&d, nil, 0); err != nil || x.refs != 0 {
			t.Error(err, x.refs)
		}
		// So has a socket that is closed before they were read.
		m = Message{Control: Control{Have: HasRights, Rights: []Right{y}}}
		a.Send(c, &vfs.Bytes{B: []byte("x")}, &m, 0)
		b.Close()
		if y.refs != 0 || n.unix.count != 0 {
			t.Error(y.refs, n.unix.count)
		}
		a.Close()
	}
}

// Sockets that are only in messages to each other are found and closed.
func TestCyclesAreCollected(t *testing.T) {
	n, c := newWorld(t), newCaller()
	a, b := pairOf(t, n, syscall.SOCK_STREAM)
	fa, fb := &file{f: a, refs: 1}, &file{f: b, refs: 1}
	pass := func(from *unix, what *file) {
		t.Helper()
		what.refs++
		m := Message{Control: Control{Have: HasRights, Rights: []Right{what}}}
		if _, err := from.Send(c, &vfs.Bytes{B: []byte("x")}, &m, 0); err != nil {
			t.Fatal(err)
		}
	}
	pass(a, fa) // in b's inbox
	pass(b, fb) // in a's
	// While a descriptor is there nothing is dropped.
	n.collect()
	if n.unix.count != 2 {
		t.Fatalf("%d under way", n.unix.count)
	}
	fa.Release()
	fb.Release()
	other, _ := pairOf(t, n, syscall.SOCK_STREAM)
	other.Close() // any close looks
	if n.unix.count != 0 || fa.refs != 0 || fb.refs != 0 || !a.dead.Load() || !b.dead.Load() {
		t.Errorf("%d under way, references %d and %d", n.unix.count, fa.refs, fb.refs)
	}
	if !a.MayPass(maxInFlight) || a.MayPass(maxInFlight+1) {
		t.Error("bound of files under way")
	}
}

func TestCredentials(t *testing.T) {
	n, c := newWorld(t), newCaller()
	a, b := pairOf(t, n, syscall.SOCK_STREAM)
	defer a.Close()
	defer b.Close()
	var v [12]byte
	if k, err := a.Option(syscall.SOL_SOCKET, abi.SO_PEERCRED, v[:]); k != 12 || err != nil || ne.Uint32(v[:]) != 42 || ne.Uint32(v[4:]) != 1000 {
		t.Error(k, err, v)
	}
	if err := b.SetOption(syscall.SOL_SOCKET, abi.SO_PASSCRED, []byte{1, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	other := newCaller()
	other.cred.PID = 43
	a.Send(c, &vfs.Bytes{B: []byte("one")}, nil, 0)
	a.Send(other, &vfs.Bytes{B: []byte("two")}, nil, 0)
	for _, want := range []struct {
		pid  uint32
		data string
	}{{42, "one"}, {43, "two"}} { // of different senders, not together
		var m Message
		d := vfs.Bytes{B: make([]byte, 10)}
		if k, err := b.Recv(&d, &m, 0); err != nil || string(d.B[:k]) != want.data || m.Control.Cred.PID != want.pid || m.Control.Have != HasCred {
			t.Errorf("%q %v %+v", d.B, err, m)
		}
	}
	lie := Message{Control: Control{Have: HasCred, Cred: Cred{PID: 1}}}
	if _, err := a.Send(c, &vfs.Bytes{B: []byte("x")}, &lie, 0); err != syscall.EPERM {
		t.Error(err)
	}
	c.root = true
	if _, err := a.Send(c, &vfs.Bytes{B: []byte("x")}, &lie, 0); err != nil {
		t.Error(err)
	}
}

func TestUnixBuffers(t *testing.T) {
	n, c := newWorld(t), newCaller()
	a, b := pairOf(t, n, syscall.SOCK_STREAM)
	total := 0
	for {
		k, err := a.Send(c, &vfs.Bytes{B: make([]byte, 1000)}, nil, 0)
		if err == syscall.EAGAIN {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		total += k
	}
	if total < 100000 || total > 300000 {
		t.Errorf("%d bytes fit", total)
	}
	if a.Ready()&poll.Out != 0 {
		t.Error("still writable")
	}
	told := 0
	w := poll.Waiter{Notify: func(e poll.Events) bool {
		if e&poll.Out != 0 {
			told++
		}
		return true
	}}
	a.Watch(&w)
	for range 200 {
		b.Recv(&vfs.Bytes{B: make([]byte, 1000)}, nil, 0)
	}
	a.Unwatch(&w)
	if told != 1 || a.Ready()&poll.Out == 0 {
		t.Errorf("told %d times of room", told)
	}
	send(t, a, "unread")
	m := make(sliceMemory, 8)
	if _, err := b.Control(m, abi.SIOCINQ, 0); err != nil || ne.Uint32(m) == 0 {
		t.Error(err, m)
	}
	if _, err := a.Control(m, abi.SIOCOUTQ, 0); err != nil || ne.Uint32(m) == 0 {
		t.Error(err, m)
	}
	if _, err := a.Control(m, 0x1234, 0); err != syscall.ENOTTY {
		t.Error(err)
	}
	a.Close()
	b.Close()
	big, small := pairOf(t, n, syscall.SOCK_DGRAM)
	if _, err := big.Send(c, &vfs.Bytes{B: make([]byte, 300000)}, nil, 0); err != syscall.EMSGSIZE {
		t.Error(err)
	}
	big.Close()
	small.Close()
}

func TestUnixQueueOfDatagrams(t *testing.T) {
	n, c := newWorld(t), newCaller()
	r := must(n.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)).(*unix)
	s := must(n.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)).(*unix)
	defer r.Close()
	defer s.Close()
	at := Addr{Family: syscall.AF_UNIX, Path: "/log"}
	if err := r.Bind(c, &at); err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(c, &at); err != syscall.EADDRINUSE {
		t.Error(err)
	}
	if err := s.Connect(c, &at); err != nil {
		t.Fatal(err)
	}
	k := 0
	for ; ; k++ {
		if _, err := s.Send(c, &vfs.Bytes{B: []byte("x")}, nil, 0); err != nil {
			if err != syscall.EAGAIN {
				t.Fatal(err)
			}
			break
		}
	}
	if k != dgramQueue+1 || s.Ready()&poll.Out != 0 {
		t.Errorf("%d datagrams fit", k)
	}
	told := false
	w := poll.Waiter{Notify: func(e poll.Events) bool { told = told || e&poll.Out != 0; return true }}
	s.Watch(&w)
	defer s.Unwatch(&w)
	r.Recv(&vfs.Bytes{B: make([]byte, 1)}, nil, 0)
	if !told || s.Ready()&poll.Out == 0 {
		t.Error("not told of room")
	}
	if err := s.Connect(c, &Addr{Family: syscall.AF_UNIX, Path: "/none"}); err != syscall.ENOENT {
		t.Error(err)
	}
	if err := s.Bind(c, &Addr{Family: syscall.AF_UNIX}); err != nil || s.LocalAddr().Path[0] != 0 || len(s.LocalAddr().Path) != 6 {
		t.Error(err, s.LocalAddr())
	}
}

func TestUnixBacklog(t *testing.T) {
	n, c := newWorld(t), newCaller()
	l := must(n.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0))
	at := Addr{Family: syscall.AF_UNIX, Path: "/run/l"}
	l.Bind(c, &at)
	l.Listen(c, 0)
	a := must(n.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0))
	b := must(n.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0))
	if err := a.Connect(c, &at); err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(c, &at); err != syscall.EAGAIN {
		t.Fatal(err)
	}
	if err := b.Connected(); err != syscall.EAGAIN {
		t.Error(err)
	}
	told := false
	w := poll.Waiter{Notify: func(e poll.Events) bool { told = told || e&poll.Out != 0; return true }}
	b.Watch(&w)
	x, _, err := l.Accept(0)
	if err != nil || !told {
		t.Error(err, told)
	}
	b.Unwatch(&w)
	if err := b.Connect(c, &at); err != nil {
		t.Error(err)
	}
	l.Close() // b was not accepted
	if got, err := b.Recv(&vfs.Bytes{B: make([]byte, 1)}, nil, 0); got != 0 || err != syscall.ECONNRESET {
		t.Error(got, err)
	}
	if err := a.Connect(c, &at); err != syscall.ECONNREFUSED {
		t.Error(err)
	}
	for _, s := range []Socket{a, b, x} {
		s.Close()
	}
}

// Connections and datagrams to a shared port go to all who share it.
func TestReusePort(t *testing.T) {
	w := newOurs(t)
	const members, clients = 3, 60
	for i := range members {
		w.socket(syscall.AF_INET, syscall.SOCK_STREAM)
		if i < members {
			w.setInt(i, syscall.SOL_SOCKET, abi.SO_REUSEPORT, 1)
		}
		if err := w.bind(i, in4(7000)); err != nil {
			t.Fatal(err)
		}
		if err := w.listen(i, 100); err != nil {
			t.Fatal(err)
		}
	}
	w.socket(syscall.AF_INET, syscall.SOCK_STREAM)
	if err := w.bind(members, in4(7000)); err != syscall.EADDRINUSE {
		t.Error(err)
	}
	for range clients {
		w.socket(syscall.AF_INET, syscall.SOCK_STREAM)
		if err := w.connect(len(w.s)-1, in4(7000)); err != syscall.EINPROGRESS {
			t.Fatal(err)
		}
	}
	w.settle()
	total := 0
	for i := range members {
		k := 0
		for {
			if _, err := w.accept(i); err != nil {
				break
			}
			k++
		}
		if k == 0 {
			t.Errorf("listener %d got none", i)
		}
		total += k
	}
	if total != clients {
		t.Errorf("%d connections of %d", total, clients)
	}
	// The others go on when one leaves.
	w.close(0)
	w.s[0] = must(w.n.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0))
	if err := w.connect(0, in4(7000)); err != syscall.EINPROGRESS {
		t.Fatal(err)
	}
	w.settle()
	if err := w.s[0].Connected(); err != nil {
		t.Error(err)
	}
	for i, s := range w.s {
		if s != nil {
			w.close(i)
		}
	}
	w.settle()
	w.s = nil
	for i := range members {
		w.socket(syscall.AF_INET, syscall.SOCK_DGRAM)
		w.setInt(i, syscall.SOL_SOCKET, abi.SO_REUSEPORT, 1)
		if err := w.bind(i, in4(7001)); err != nil {
			t.Fatal(err)
		}
	}
	for range clients {
		w.socket(syscall.AF_INET, syscall.SOCK_DGRAM)
		if _, err := w.send(len(w.s)-1, []byte("x"), in4(7001), 0); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	total = 0
	for i := range members {
		k := 0
		for {
			if _, _, _, err := w.recv(i, 10, 0); err != nil {
				break
			}
			k++
		}
		if k == 0 {
			t.Errorf("socket %d got none", i)
		}
		total += k
	}
	if total != clients {
		t.Errorf("%d datagrams of %d", total, clients)
	}
	for i := range w.s {
		w.close(i)
	}
	w.s = nil
}

func TestCorkAndMore(t *testing.T) {
	w := newOurs(t)
	a, b := connectOurs(t, w)
	m := &Message{}
	part := func(p string, flags int) {
		if k, err := a.Send(nil, &vfs.Bytes{B: []byte(p)}, m, flags); k != len(p) || err != nil {
			t.Fatal(k, err)
		}
		w.settle()
	}
	want := func(p string) {
		t.Helper()
		d := vfs.Bytes{B: make([]byte, 100)}
		k, err := b.Recv(&d, nil, 0)
		if p == "" && err == syscall.EAGAIN {
			return
		}
		if string(d.B[:k]) != p {
			t.Errorf("%q, want %q (%v)", d.B[:k], p, err)
		}
	}
	part("head ", msgMore)
	want("")
	part("tail", 0)
	want("head tail")
	w.setInt(1, syscall.IPPROTO_TCP, syscall.TCP_CORK, 1)
	part("corked", 0)
	want("")
	w.setInt(1, syscall.IPPROTO_TCP, syscall.TCP_CORK, 0)
	w.settle()
	want("corked")
	part("late", msgMore)
	a.(*tcp).pushCorked() // the timer's
	w.settle()
	want("late")
}

func TestUDPCorkAndSegments(t *testing.T) {
	w := newOurs(t)
	w.socket(syscall.AF_INET, syscall.SOCK_DGRAM)
	w.socket(syscall.AF_INET, syscall.SOCK_DGRAM)
	w.bind(1, in4(5000))
	a := w.s[0]
	defer w.close(0)
	defer w.close(1)
	got := func(want ...string) {
		t.Helper()
		w.settle()
		for _, p := range want {
			if d, _, _, err := w.recv(1, 100, 0); d != p || err != nil {
				t.Errorf("%q %v, want %q", d, err, p)
			}
		}
		if d, _, _, err := w.recv(1, 100, 0); err != syscall.EAGAIN {
			t.Errorf("%q %v, want no more", d, err)
		}
	}
	w.send(0, []byte("one "), in4(5000), msgMore)
	got()
	w.send(0, []byte("two"), in4(5000), 0)
	got("one two")
	m := Message{Addr: *in4(5000), Control: Control{Have: HasSegment, Segment: 2}}
	if k, err := a.Send(nil, &vfs.Bytes{B: []byte("abcde")}, &m, 0); k != 5 || err != nil {
		t.Fatal(k, err)
	}
	got("ab", "cd", "e")
	w.setInt(0, abi.SOL_UDP, abi.UDP_CORK, 1)
	w.send(0, []byte("x"), in4(5000), 0)
	w.send(0, []byte("y"), in4(5000), 0)
	got()
	w.setInt(0, abi.SOL_UDP, abi.UDP_CORK, 0)
	got("xy")
	w.setInt(0, syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, abi.IP_PMTUDISC_DO)
	if _, err := w.send(0, make([]byte, 10000), in4(5000), 0); err != syscall.EMSGSIZE {
		t.Error(err)
	}
	if _, err := w.send(0, make([]byte, 70000), in4(5000), 0); err != syscall.EMSGSIZE {
		t.Error(err)
	}
	bcast := Addr{Family: syscall.AF_INET, Inet: netip.MustParseAddrPort("255.255.255.255:5000")}
	if _, err := w.send(0, []byte("x"), &bcast, 0); err != syscall.EACCES {
		t.Error(err)
	}
}

func TestUDPControl(t *testing.T) {
	w := newOurs(t)
	w.socket(syscall.AF_INET6, syscall.SOCK_DGRAM)
	w.socket(syscall.AF_INET, syscall.SOCK_DGRAM)
	w.bind(0, in6("::", 5000))
	defer w.close(0)
	defer w.close(1)
	for _, name := range []int{abi.IPV6_RECVPKTINFO, abi.IPV6_RECVHOPLIMIT, abi.IPV6_RECVTCLASS} {
		w.setInt(0, syscall.IPPROTO_IPV6, name, 1)
	}
	w.setInt(0, syscall.IPPROTO_IP, syscall.IP_RECVTTL, 1)
	w.setInt(0, syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
	w.setInt(1, syscall.IPPROTO_IP, syscall.IP_TTL, 9)
	w.send(1, []byte("x"), in4(5000), 0)
	w.settle()
	var m Message
	if _, err := w.s[0].Recv(&vfs.Bytes{B: make([]byte, 9)}, &m, 0); err != nil {
		t.Fatal(err)
	}
	c := &m.Control
	if c.Have != HasPktInfo6|HasTTL|HasTimeNS || c.TTL != 9 || c.If != 1 || c.Dst != netip.MustParseAddr("127.0.0.1") || c.Time.IsZero() {
		t.Errorf("%+v", c)
	}
	w.socket(syscall.AF_INET6, syscall.SOCK_DGRAM)
	defer w.close(2)
	w.send(2, []byte("x"), in6("::1", 5000), 0)
	w.settle()
	if _, err := w.s[0].Recv(&vfs.Bytes{B: make([]byte, 9)}, &m, 0); err != nil || c.Have != HasPktInfo6|HasHops|HasTClass|HasTimeNS || c.Dst != netip.IPv6Loopback() {
		t.Errorf("%v %+v", err, c)
	}
}

// A bind to an address of IPv6 makes a socket one of IPv6 only, also those that it
// accepts; to :: or a mapped address it does not.
func TestBindMakesV6Only(t *testing.T) {
	n := newWorld(t)
	for addr, want := range map[string]byte{"::1": 1, "::": 0, "::ffff:127.0.0.1": 0} {
		for _, typ := range []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM} {
			s := must(n.Socket(syscall.AF_INET6, typ, 0))
			if err := s.Bind(newCaller(), in6(addr, 0)); err != nil {
				t.Fatal(addr, err)
			}
			v := make([]byte, 4)
			if k, err := s.Option(syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, v); k != 4 || err != nil || v[0] != want {
				t.Errorf("%s, type %d: IPV6_V6ONLY %d, want %d (%v)", addr, typ, v[0], want, err)
			}
			_ = s.Close()
		}
	}
}

// A datagram that finds the way full is lost without an error, unless the program has
// asked for errors: memcached takes an error for a reply that is still to be sent, and
// sends it in place of the next.
func TestFullWayIsNoError(t *testing.T) {
	mem := new(dma.Host)
	st, err := stack.New(stack.Config{Mem: mem, Manual: true}) // nobody takes what loopback holds
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netsock.New(st, netsock.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ns.Close()
		st.Close()
	})
	n := New(Config{Net: ns})
	s := must(n.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0))
	defer s.Close()
	to := Message{Addr: *in4(9)}
	put := func() error {
		_, err := s.Send(newCaller(), &vfs.Bytes{B: []byte("reply")}, &to, 0)
		return err
	}
	const many = 6000
	for k := range many {
		if err := put(); err != nil {
			t.Fatalf("datagram %d: %v", k, err)
		}
	}
	if err := s.SetOption(syscall.IPPROTO_IP, syscall.IP_RECVERR, []byte{1, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != syscall.ENOBUFS {
		t.Errorf("with IP_RECVERR: %v, want ENOBUFS", err)
	}
}
