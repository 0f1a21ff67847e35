package platform

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseOptions(t *testing.T) {
	got, err := ParseOptions(strings.Fields("--ip=eth0,10.0.0.2,255.255.255.0 --ip=eth1,fd00::2,64 --defaultgw=10.0.0.1 " +
		"--nameserver=10.0.0.1 --env=A=b=c --cwd=/data --console=all --verbose --bootchart --trace=net.*,irq --trace-list " +
		"--maxnic=2 --mtu=9000 --delay=0.5 --nopci --nolro --power-off-on-abort -p 11211 --verbose virtio_mmio.device=4K@0xd0000000:5"))
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		IPs:       []IPOption{{"eth0", netip.MustParsePrefix("10.0.0.2/24")}, {"eth1", netip.MustParsePrefix("fd00::2/64")}},
		DefaultGW: netip.MustParseAddr("10.0.0.1"), Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		Env: []string{"A=b=c"}, Cwd: "/data", Console: "all", Verbose: true, Bootchart: true,
		Trace: []string{"net.*", "irq"}, TraceList: true, MaxNIC: 2, MTU: 9000, Delay: 500 * time.Millisecond, NoPCI: true, NoLRO: true,
		PowerOffOnAbort: true, MMIO: []MMIOSlot{{0xd0000000, 4096, 5}}, Args: []string{"-p", "11211", "--verbose"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	got, err = ParseOptions([]string{"--verbose", "--", "--help"})
	if err != nil || got.Help || len(got.Args) != 1 {
		t.Errorf("after --: %+v, %v", got, err)
	}
}

// Each error names the option and the value.
func TestParseOptionsRejects(t *testing.T) {
	for in, want := range map[string]string{
		"--frob":                         "unknown option --frob",
		"--frob=1":                       "unknown option --frob",
		"--verbose=yes":                  `option --verbose takes no value, has "yes"`,
		"--ip":                           "option --ip needs a value",
		"--ip=":                          "option --ip needs a value",
		"--ip=eth0":                      "want NIC,ADDRESS,MASK",
		"--ip=eth0,10.0.0.300,24":        `"10.0.0.300" is not an IP address`,
		"--ip=eth0,10.0.0.2,255.0.255.0": "ones are not in a row",
		"--ip=eth0,10.0.0.2,33":          "33 bits does not fit 10.0.0.2",
		"--ip=eth0,10.0.0.2,x":           "not a network mask",
		"--defaultgw=gw":                 `option --defaultgw: "gw": not an IP address`,
		"--nameserver=x":                 "not an IP address",
		"--env=X":                        "want NAME=VALUE",
		"--env==x":                       "want NAME=VALUE",
		"--console=lpt":                  "want serial, debug, all or none",
		"--mtu=67":                       "want 68 to 9000 bytes",
		"--maxnic=-1":                    "want a number of network cards",
		"--delay=NaN":                    "want seconds",
		"virtio_mmio.device=4K":          "want SIZE@BASE:IRQ",
		"virtio_mmio.device=0@1:2":       "want SIZE@BASE:IRQ",
	} {
		_, err := ParseOptions([]string{in})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add("--ip=eth0,10.0.0.2,24 virtio_mmio.device=4K@0xd0000000:5 -- x")
	f.Fuzz(func(t *testing.T, s string) { ParseOptions(strings.Fields(s)) })
}
