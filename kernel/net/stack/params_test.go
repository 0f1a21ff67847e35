package stack

import (
	"fmt"
	"testing"
)

func TestParseIP(t *testing.T) {
	for v, want := range map[string]string{
		"eth0,192.168.122.89,255.255.255.0": "eth0 192.168.122.89/24",
		"eth0,10.0.0.1,8":                   "eth0 10.0.0.1/8",
		"eth1, 10.0.0.1 ,255.255.255.255":   "eth1 10.0.0.1/32",
		"eth1,10.0.0.1,0.0.0.0":             "eth1 10.0.0.1/0",
		"eth0,10.0.0.1/24":                  "eth0 10.0.0.1/24",
		"eth0,fd00::1,64":                   "eth0 fd00::1/64",
		"eth0,fd00::1,255.255.0.0":          "",
		"eth0,10.0.0.1,255.0.255.0":         "",
		"eth0,10.0.0.1,33":                  "",
		"eth0,10.0.0.1":                     "",
		"eth0,10.0.0.1,x":                   "",
		"eth0,10.0.0,24":                    "",
		",10.0.0.1,24":                      "",
		"eth0":                              "",
		"a,b,c,d":                           "",
	} {
		ip, err := ParseIP(v)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %v", ip.NIC, ip.Addr)
		}
		if got != want {
			t.Errorf("%q: %q (%v), want %q", v, got, err, want)
		}
	}
}

func TestStaticConfig(t *testing.T) {
	ips := []string{"eth0,10.0.0.1,24", "eth1,10.1.0.1,24", "eth0,fd00::1,64"}
	cfg, static, err := StaticConfig("eth0", ips, "10.0.0.254")
	if err != nil || !static || len(cfg.Addrs) != 2 || cfg.Gateway != addr("10.0.0.254") {
		t.Errorf("%+v %v %v", cfg, static, err)
	}
	if cfg, static, err := StaticConfig("eth1", ips, "10.0.0.254"); err != nil || !static || cfg.Gateway.IsValid() {
		t.Errorf("gateway of another interface: %+v %v", cfg, err)
	}
	if _, static, err := StaticConfig("eth2", ips, ""); static || err != nil {
		t.Errorf("%v %v", static, err)
	}
	if _, _, err := StaticConfig("eth0", []string{"x"}, ""); err == nil {
		t.Error("bad --ip accepted")
	}
	if _, _, err := StaticConfig("eth0", ips, "x"); err == nil {
		t.Error("bad --defaultgw accepted")
	}
	if as, err := ParseNameservers([]string{"10.0.0.1", "10.0.0.2, fd00::1"}); err != nil || len(as) != 3 {
		t.Errorf("%v %v", as, err)
	}
	if _, err := ParseNameservers([]string{"x"}); err == nil {
		t.Error("bad --nameserver accepted")
	}
}
