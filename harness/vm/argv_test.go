package vm

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// goldenSpecs are one line of testdata/argv.golden each.
var goldenSpecs = []struct {
	name string
	spec Spec
}{
	{"defaults", Spec{}},
	{"tcg", Spec{Accel: TCG}},
	{"tcg on one thread", Spec{Accel: TCG, CPUs: 2, OneThread: true}},
	{"kvm", Spec{Accel: KVM, CPUs: 4, MemMiB: 1024}},
	{"boot", Spec{Accel: TCG, Kernel: "build/x.elf", Append: "--ip=eth0,10.0.0.2 a='b c'", Initrd: "i.cpio", RNG: true}},
	{"no debug exit", Spec{Accel: TCG, NoDebugExit: true}},
	{"microvm", Spec{Accel: TCG, Machine: MicroVM, RNG: true, NICs: []NIC{{Kind: NetUser}}, Disks: []Disk{{Path: "d.img"}}}},
	{"microvm with pci", Spec{Accel: TCG, Machine: MicroVM, MachineOpts: []string{"pcie=on"}, NICs: []NIC{{Kind: NetUser}}}},
	{"pc ahci", Spec{Accel: TCG, Machine: PC, Disks: []Disk{{Path: "d.img", Bus: AHCI}}}},
	{"q35 ahci", Spec{Accel: TCG, Disks: []Disk{{Path: "d.img", Bus: AHCI}, {Path: "e.img", Bus: AHCI, ReadOnly: true}}}},
	{"disks", Spec{Accel: TCG, Disks: []Disk{
		{Path: "a,b.img", Queues: 2, Serial: "S1", Discard: true},
		{Path: "q.qcow2", Format: "qcow2", Bus: NVMe},
		{Path: "p.img", Bus: PVSCSI, Props: []string{"rotation_rate=1"}},
		{Path: "s,t.img", Snapshot: true},
	}}},
	{"blkdebug", Spec{Accel: TCG, Disks: []Disk{{Path: "a.img", Errors: []InjectError{
		{Event: "read_aio", Sector: 64, Once: true}, {IO: "write", Errno: 28},
	}}}}},
	{"user net", Spec{Accel: TCG, NICs: []NIC{{Kind: NetUser, Net: "10.9.0.0/24", HostAddr: "10.9.0.1", Restrict: true, HostFwd: []string{"udp:127.0.0.1:11211-:11211"}}}}},
	{"tap", Spec{Accel: TCG, NICs: []NIC{{Kind: NetTAP, IfName: "t0", MAC: "52:54:00:00:00:09", NoVNetHdr: true, Pcap: "p.pcap"}}}},
	{"tap multiqueue no offloads", Spec{Accel: TCG, NICs: []NIC{{Kind: NetTAP, IfName: "t0", Queues: 4, VHost: true, Off: OffloadsOff}}}},
	{"vhost-user", Spec{Accel: TCG, NICs: []NIC{{Kind: NetVHostUser, Socket: "v.sock", NoMSIX: true}}}},
	{"vhost-user multiqueue", Spec{Accel: TCG, NICs: []NIC{{Kind: NetVHostUser, Socket: "v.sock", Queues: 2}}}},
	{"vhost-user, abstract socket", Spec{Accel: TCG, NICs: []NIC{{Kind: NetVHostUser, Socket: "@osv-x", NoMSIX: true}}}},
	{"dgram and e1000", Spec{Accel: TCG, NICs: []NIC{{Kind: NetDgram, LocalPath: "a", RemotePath: "b", Model: "e1000"}}}},
	{"plugin, gdb, extra", Spec{Accel: TCG, Plugins: []Plugin{{Path: "c.so", Args: []string{"out=f"}}}, GDBPort: 1234, Extra: []string{"-d", "int"}}},
	{"pinning is not in the line", Spec{Accel: TCG, Pin: Pin{VCPU: []int{0}, Rest: []int{1}}}},
}

func TestArgvGolden(t *testing.T) {
	var b strings.Builder
	for _, g := range goldenSpecs {
		if err := g.spec.Validate(); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
		b.WriteString("# " + g.name + "\n" + g.spec.Line() + "\n")
		if again := g.spec.Line(); !strings.HasSuffix(b.String(), again+"\n") {
			t.Errorf("%s: two calls give two lines", g.name)
		}
	}
	path := filepath.Join("testdata", "argv.golden")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := at(gotLines, i), at(wantLines, i)
		if g != w {
			t.Errorf("line %d\n got %s\nwant %s", i+1, g, w)
		}
	}
}

func at(s []string, i int) string {
	if i < len(s) {
		return s[i]
	}
	return "(nothing)"
}

// A default must not leak into the caller's value through shared slices.
func TestArgvLeavesSpecAlone(t *testing.T) {
	opts := append(make([]string, 0, 8), "acpi=on")
	s := Spec{Accel: TCG, MachineOpts: opts, NICs: []NIC{{Kind: NetVHostUser, Socket: "v"}}}
	s.Argv()
	if got := opts[:2][1]; got != "" {
		t.Errorf("Argv wrote %q behind MachineOpts", got)
	}
}

func TestValidateNamesTheFault(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Machine: "virt"}, `machine "virt"`},
		{Spec{Accel: "hvf"}, `accelerator "hvf"`},
		{Spec{CPUs: 300}, "300 vCPUs"},
		{Spec{CPUs: -1}, "-1 vCPUs"},
		{Spec{MemMiB: -5}, "-5 MiB"},
		{Spec{Initrd: "x"}, "initrd without a kernel"},
		{Spec{Accel: KVM, Plugins: []Plugin{{Path: "p"}}}, "plugins need"},
		{Spec{Disks: []Disk{{}}}, "disk 0: no path"},
		{Spec{Disks: []Disk{{Path: "a", Bus: "floppy"}}}, `bus "floppy"`},
		{Spec{NICs: []NIC{{}}}, `nic 0: backend ""`},
		{Spec{NICs: []NIC{{Kind: NetTAP}}}, "without interface name"},
		{Spec{NICs: []NIC{{Kind: NetTAP, IfName: "a,b"}}}, "comma"},
		{Spec{NICs: []NIC{{Kind: NetDgram, LocalPath: "a"}}}, "without remote socket"},
		{Spec{NICs: []NIC{{Kind: NetVHostUser}}}, "without socket"},
	} {
		err := c.spec.Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.spec, err, c.want)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{[]string{"a", "b=c,d"}, "a b=c,d"},
		{[]string{"", "x y"}, "'' 'x y'"},
		{[]string{"it's", "$HOME", `{"a":1}`}, `'it'\''s' '$HOME' '{"a":1}'`},
	} {
		if got := Quote(c.in); got != c.want {
			t.Errorf("Quote(%q) = %s, want %s", c.in, got, c.want)
		}
	}
}

func TestParseNIC(t *testing.T) {
	for in, want := range map[string]string{
		"user":                             "user,id=n0",
		"user,fwd=tcp::80-:80,restrict":    "restrict=on,hostfwd=tcp::80-:80",
		"tap=t0,vhost,queues=2,mac=a:b":    "ifname=t0,script=no,downscript=no,queues=2,vhost=on",
		"dgram=/a:/b,pcap=x.pcap":          "filter-dump,id=dump0,netdev=n0,file=x.pcap",
		"vhost-user=/s,nomsix,off=csum":    "vectors=0,csum=off",
		"user,model=vmxnet3":               "vmxnet3,netdev=n0",
		"user,off":                         "guest_tso6=off",
		"!tap":                             "without interface name",
		"!user,queues=0":                   "queues=0",
		"!user,frob":                       `"frob" is not known`,
		"!bridge=br0":                      `backend "bridge"`,
		"!vhost-user=":                     "without socket",
		"!user,queues=many":                "queues=many",
		"!dgram=/only-one,mac=52:54:0:0:1": "without remote socket",
	} {
		in, bad := strings.CutPrefix(in, "!")
		n, err := ParseNIC(in)
		if bad {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want one with %q", in, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := Quote(n.argv(0, Spec{}.withDefaults())); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s in it", in, got, want)
		}
	}
}

func TestParseDisk(t *testing.T) {
	for in, want := range map[string]string{
		"a.img":                             `"filename":"a.img"`,
		"a.img,ro,discard,serial=X":         `"read-only":true`,
		"a.img,bus=nvme":                    "nvme,drive=d0",
		"a.img,queues=3":                    "num-queues=3",
		"a.img,bus=virtio-scsi,queues=3":    "virtio-scsi-pci,id=vscsi0,num_queues=3",
		"a.img,format=qcow2,snapshot":       "format=qcow2,snapshot=on",
		"a.img,eio=read_aio@0x40,eio=flush": `{"event":"read_aio","errno":5,"sector":64}`,
		"!":                                 "no path",
		"!a,bus=tape":                       `bus "tape"`,
		"!a,queues=-1":                      "queues=-1",
		"!a,eio=x@y":                        `sector "y"`,
		"!a,what":                           `"what" is not known`,
	} {
		in, bad := strings.CutPrefix(in, "!")
		d, err := ParseDisk(in)
		if bad {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want one with %q", in, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := Quote(d.argv(0, Spec{}.withDefaults())); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s in it", in, got, want)
		}
	}
}

func TestParsePin(t *testing.T) {
	p, err := ParsePin("0,2/1")
	if err != nil || len(p.VCPU) != 2 || p.VCPU[1] != 2 || len(p.Rest) != 1 || p.Rest[0] != 1 {
		t.Errorf("0,2/1: %+v, %v", p, err)
	}
	if p, err := ParsePin(""); err != nil || p.VCPU != nil || p.Rest != nil {
		t.Errorf("empty: %+v, %v", p, err)
	}
	for _, bad := range []string{"1", "a/0", "0/-1"} {
		if _, err := ParsePin(bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestGDBScript(t *testing.T) {
	s := GDBScript("build/x.elf", 25001)
	for _, want := range []string{"file build/x.elf\n", "target remote 127.0.0.1:25001\n", "hbreak main.main\n"} {
		if !strings.Contains(s, want) {
			t.Errorf("no %q in %s", want, s)
		}
	}
}
