package linux

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"osv/harness/vm"
)

func TestAppend(t *testing.T) {
	g := Guest{Profile: Stock, Service: Memcached, IP: netip.MustParsePrefix("10.0.0.2/24"), Gateway: netip.MustParseAddr("10.0.0.1"), Extra: []string{"nokaslr"}, Args: []string{"-vv"}}
	got, err := g.Append(2)
	want := `console=ttyS0 panic=-1 no_timer_check quiet nokaslr osv_ip=10.0.0.2/24 osv_gw=10.0.0.1 osv_ports=tcp:11211,udp:11211 osv_svc="memcached -u root -l 0.0.0.0 -p 11211 -U 11211 -m 64 -c 4096 -t 4 -vv"`
	if err != nil || got != want {
		t.Errorf("%s\nwant %s\n%v", got, want, err)
	}
	g.Profile = Tuned
	got, err = g.Append(2)
	for _, want := range []string{" mitigations=off nowatchdog audit=0", "osv_sysctl=net.core.somaxconn=4096,", "osv_files=/sys/kernel/mm/transparent_hugepage/enabled=always", " -t 2 -o no_lru_maintainer,no_lru_crawler -vv\""} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("no %q in %s (%v)", want, got, err)
		}
	}
	if none, err := (Guest{Service: None, PowerOff: true, Verbose: true, Symbols: true}).Append(1); err != nil || none != "console=ttyS0 panic=-1 no_timer_check osv_syms=1 osv_end=poweroff" {
		t.Errorf("%s %v", none, err)
	}
	g.Args = []string{"two words"}
	if _, err := g.Append(1); err == nil || !strings.Contains(err.Error(), `"two words"`) {
		t.Errorf("space in an argument: %v", err)
	}
	g.Args = []string{strings.Repeat("x", 3000)}
	if _, err := g.Append(1); err == nil || !strings.Contains(err.Error(), "x86 takes 2047") {
		t.Errorf("long line: %v", err)
	}
	if _, err := g.Spec(vm.Spec{}); err == nil {
		t.Error("Spec takes a long line")
	}
}

func TestSpec(t *testing.T) {
	g := Guest{Image: Image{Kernel: "k", Initrd: "i", BareInitrd: "b"}, Profile: BusyPoll, Service: IPerf3}
	s, err := g.Spec(vm.Spec{CPUs: 3, MemMiB: 77})
	if err != nil || s.Kernel != "k" || s.Initrd != "i" || s.MemMiB != 77 || !s.RNG || !strings.Contains(s.Append, "net.core.busy_poll=50") || !strings.Contains(s.Append, `osv_svc="iperf3 -s"`) {
		t.Errorf("%+v %v", s, err)
	}
	if b := BareSpec(g.Image, vm.Spec{}, "mitigations=off"); b.Initrd != "b" || b.Append != "console=ttyS0 panic=-1 no_timer_check quiet mitigations=off" {
		t.Errorf("%+v", b)
	}
	if len(Tuned.Sysctl) >= len(BusyPoll.Sysctl) {
		t.Error("BusyPoll changed Tuned")
	}
}

// Nothing that a profile sets is missing from the ledger, and every deviation
// from Debian's defaults gives its reason.
func TestLedgerIsComplete(t *testing.T) {
	for name, p := range Profiles {
		g := Guest{Image: Image{KernelVersion: "6.1", Packages: []Package{{Name: "memcached", Version: "1.6"}}}, Profile: p, Service: Memcached}
		all := map[string]Fact{}
		for _, f := range g.Ledger(1) {
			all[f.Name] = f
		}
		if p.Name != name || all["profile"].Value != name || all["package memcached"].Value != "1.6" || all["service"].Why == "" || all["mitigations"].Value == "" {
			t.Errorf("%s: %v", name, all)
		}
		for kind, fs := range map[string][]Fact{"kernel parameter ": p.Cmdline, "sysctl ": p.Sysctl, "file ": p.Files, "service argument ": p.Args["memcached"]} {
			for _, f := range fs {
				if f.Why == "" {
					t.Errorf("%s: %s has no reason", name, f.Name)
				}
				if _, ok := all[kind+f.Name]; !ok && f.Name != "mitigations" {
					t.Errorf("%s: %s is not in the ledger", name, f.Name)
				}
			}
		}
	}
}

func TestParseFacts(t *testing.T) {
	var lines []vm.Line
	for _, s := range []string{"noise", "OSV-GUEST ready x", "OSV-GUEST fact kernel 6.1", "OSV-GUEST fact cmdline a b=c", "OSV-GUEST sym ffffffff81000000 T _text", "OSV-GUEST fact end of facts", "OSV-GUEST fact late 1"} {
		lines = append(lines, vm.Line{Text: s})
	}
	fs := ParseFacts(lines)
	if len(fs) != 2 || fs[1] != (Fact{Name: "cmdline", Value: "a b=c"}) {
		t.Errorf("%+v", fs)
	}
}

func TestKernelSymbols(t *testing.T) {
	got := KernelSymbols([]vm.Line{{Text: "OSV-GUEST sym ffff T a"}, {Text: "x"}, {Text: "OSV-GUEST sym fffe t b [m]"}})
	if got != "ffff T a\nfffe t b [m]\n" {
		t.Errorf("%q", got)
	}
}

// WaitReady tells a service that is up from an init that gave up; the lines come
// from the 30-byte guest.
func TestWaitReady(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
	for text, want := range map[string]string{
		"OSV-GUEST ready memcached\nOSV-GUEST fact a b\nOSV-GUEST fact end of facts\n": "",
		"OSV-GUEST fail module x.ko\n": "linux guest: fail module x.ko",
		"nothing of interest\n":        "ended first",
	} {
		elf := t.TempDir() + "/k.elf"
		if err := os.WriteFile(elf, vm.TinyGuest(text, 0), 0o644); err != nil {
			t.Fatal(err)
		}
		v, err := vm.Start(t.Context(), vm.Spec{Kernel: elf, Accel: vm.TCG}, vm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = WaitReady(v, 20*time.Second)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
		facts, err := Measured(v, 20*time.Second)
		if want == "" && (err != nil || len(facts) != 1) || want != "" && err == nil {
			t.Errorf("%q: facts %v, %v", text, facts, err)
		}
		v.Wait()
	}
}

func TestWithoutSymbols(t *testing.T) {
	got := WithoutSymbols("[    1.0] a\n[    1.1] OSV-GUEST sym ffff T a\r\nOSV-GUEST sym fffe t b\nOSV-GUEST ready\nlast")
	if want := "[    1.0] a\nOSV-GUEST ready\nlast"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
