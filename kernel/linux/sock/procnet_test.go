package sock

import (
	"syscall"
	"testing"
)

func TestProcNet(t *testing.T) {
	n := newWired(t)
	c := newCaller()
	p := n.Proc()
	ifs := p.Interfaces()
	if len(ifs) != 2 || ifs[0].Name != "lo" || ifs[0].Index != 1 || len(ifs[0].Addr6) != 1 || ifs[0].Bits6[0] != 128 {
		t.Errorf("%+v", ifs)
	}
	gateway := false
	for _, r := range p.Routes() {
		if r.Router == [4]byte{10, 0, 0, 1} {
			gateway = r.Mask == [4]byte{} && r.Interface == "sim0"
		} else if r.Mask != [4]byte{255, 255, 255, 0} {
			t.Errorf("%+v", r)
		}
	}
	if !gateway {
		t.Errorf("%+v", p.Routes())
	}
	l := must(n.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0))
	l.Bind(c, in4(80))
	l.Listen(c, 1)
	u := must(n.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM, 0))
	u.Bind(c, in6("::", 53))
	a, b := pairOf(t, n, syscall.SOCK_STREAM)
	x := must(n.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0))
	x.Bind(c, &Addr{Family: syscall.AF_UNIX, Path: "/dev/log"})
	if s := p.Sockets("tcp"); len(s) != 1 || s[0].LocalPort != 80 || s[0].State != 10 || string(s[0].Local) != "\x7f\x00\x00\x01" || len(s[0].Remote) != 4 {
		t.Errorf("%+v", s)
	}
	if s := p.Sockets("udp6"); len(s) != 1 || s[0].LocalPort != 53 || s[0].State != 7 || len(s[0].Local) != 16 || len(s[0].Remote) != 16 {
		t.Errorf("%+v", s)
	}
	if s := p.Sockets("unix"); len(s) != 3 || s[0].State != 3 || s[2].Path != "/dev/log" {
		t.Errorf("%+v", s)
	}
	for _, s := range []Socket{l, u, a, b, x} {
		s.Close()
	}
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6", "unix", "raw"} {
		if k := p.InUse(proto); k != 0 {
			t.Errorf("%d sockets of %s are left", k, proto)
		}
	}
	if bare := New(Config{}).Proc(); bare.Interfaces() != nil || bare.Routes() != nil {
		t.Error("a network without a stack")
	}
}
