// Package kernel holds no code, only the test that keeps the import direction.
package kernel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// This is a statement of policy. Changing this list is a design decision: say
// why in the commit. Do not change it to make a build pass.
//
//	metal < hw < irq, pkt, blk < drivers | net | vfs < linux, rest < platform < appliances
//	leaves: trace, imagefmt, net/wire, net/clock, net/seq, linux/abi
//	ktest: tests only      harness, capstan ↛ kernel (except imagefmt)
//
// A package belongs to the layer with the longest path that it is at or below. A
// layer's packages may import each other, unless it is apart, and those of the
// layers in sees. For every other layer there is a reason: the one in not, else
// because.
var layers = []layer{
	// Below the Go runtime.
	{path: "kernel/metal", sees: "",
		because: "code below the Go runtime may call only code that check-metal checks as well"},
	{path: "kernel/metal/boot", sees: "kernel/metal",
		because: "code below the Go runtime may call only code that check-metal checks as well"},

	// Leaves: all may import them, so they import nothing.
	{path: "kernel/trace", sees: "", leaf: true,
		because: "everything above metal logs and counts: a leaf that imports back makes a cycle"},
	{path: "kernel/imagefmt", sees: "", leaf: true,
		because: "builder and kernel share it: data, nothing else"},
	{path: "kernel/net/wire", sees: "", leaf: true,
		because: "header views hold no state and know no protocol, so that anything may parse"},
	{path: "kernel/net/clock", sees: "", leaf: true,
		because: "an interface that tests implement too"},
	{path: "kernel/net/seq", sees: "", leaf: true,
		because: "arithmetic only"},
	{path: "kernel/linux/abi", sees: "", leaf: true,
		because: "Linux's numbers and structs: data only"},

	// Hardware.
	{path: "kernel/hw/gate", sees: "kernel/metal kernel/metal/boot kernel/trace",
		because: "the border to metal: it translates calls and knows nobody who makes them"},
	{path: "kernel/hw/dma", sees: "",
		because: "the memory type that drivers and net share must work hosted and know nothing"},
	{path: "kernel/hw", sees: "kernel/hw/dma kernel/trace",
		because: "typed views and parsers, which run hosted and hold no policy",
		not: map[string]string{
			"kernel/hw/gate": "hardware comes in as a parameter, or it could not be tested hosted",
			"kernel/irq":     "hw describes interrupts; irq, above it, waits for them",
		}},
	{path: "kernel/irq", sees: "kernel/hw kernel/hw/gate kernel/hw/dma kernel/trace",
		because: "interrupts know no device and no packet"},
	{path: "kernel/pkt", sees: "kernel/hw/dma kernel/trace",
		because: "the one type that drivers and net share knows neither, nor any protocol"},
	{path: "kernel/blk", sees: "kernel/hw/dma kernel/trace",
		because: "what disk drivers and users of disks share knows neither"},

	// Drivers, network and files: siblings.
	{path: "kernel/drivers/virtio", sees: "kernel/hw kernel/hw/dma kernel/irq kernel/trace",
		because: "the transport that virtio drivers share knows no device"},
	{path: "kernel/drivers/nic", sees: "kernel/irq kernel/pkt kernel/hw kernel/hw/dma",
		because: "what drivers of network cards share above their registers knows no card"},
	{path: "kernel/drivers/scsi", sees: "kernel/blk kernel/hw/dma kernel/trace",
		because: "the command layer that SCSI host adapters share knows no adapter"},
	{path: "kernel/drivers", apart: true, sees: "kernel/drivers/virtio kernel/drivers/nic kernel/drivers/scsi kernel/hw kernel/hw/dma kernel/irq kernel/pkt kernel/blk kernel/trace",
		because: "a driver turns a device into an interface, and knows nobody who uses it",
		not: map[string]string{
			"kernel/drivers": "one package per device; what two share is a package of its own in this list",
			"kernel/net":     "drivers and net meet in pkt only, and are joined in platform",
			"kernel/vfs":     "a file system declares the device that it wants; platform joins them",
			"kernel/hw/gate": "a driver takes registers, memory and interrupts as parameters, or it could not be tested hosted",
		}},
	{path: "kernel/net", sees: "kernel/net/wire kernel/net/clock kernel/net/seq kernel/pkt kernel/hw/dma kernel/trace",
		because: "the stack runs hosted, on any wire",
		not: map[string]string{
			"kernel/drivers": "drivers and net meet in pkt only, and are joined in platform",
			"kernel/hw":      "the stack knows packets, not hardware; packet memory comes through pkt and hw/dma",
			"kernel/irq":     "the driver's receive loop waits for interrupts, not the stack",
			"kernel/vfs":     "siblings",
			"kernel/linux":   "sockets of the Linux ABI are made on net, not the other way round",
		}},
	{path: "kernel/vfs", sees: "kernel/trace kernel/net/clock",
		because: "files run hosted, on any block device, which they declare themselves",
		not: map[string]string{
			"kernel/drivers": "a file system declares the device that it wants; platform joins them",
			"kernel/blk":     "a file system declares the device that it wants; platform joins them",
			"kernel/net":     "siblings",
			"kernel/linux":   "the Linux ABI is made on vfs, not the other way round",
		}},

	// What is made of them.
	{path: "kernel/linux", sees: "kernel/linux/abi kernel/vfs kernel/net kernel/net/wire kernel/net/clock kernel/net/seq kernel/pkt kernel/hw/gate kernel/hw/dma kernel/trace",
		because: "the Linux ABI decodes, calls and encodes; it knows no device",
		not: map[string]string{
			"kernel/rest":  "siblings",
			"kernel/metal": "user mode is entered through hw/gate",
		}},
	{path: "kernel/rest", sees: "kernel/vfs kernel/net kernel/net/clock kernel/trace",
		because: "the REST API shows what platform hands it; it reaches for nothing",
		not: map[string]string{
			"kernel/linux":   "siblings",
			"kernel/hw/gate": "what the API tells of the machine, platform passes in, so that it runs hosted",
		}},
	{path: "kernel/platform", sees: "kernel/metal/boot kernel/hw/gate kernel/hw kernel/hw/dma kernel/irq kernel/pkt kernel/blk kernel/drivers/virtio kernel/drivers/nic kernel/drivers/scsi kernel/drivers " +
		"kernel/net kernel/net/wire kernel/net/clock kernel/net/seq kernel/vfs kernel/linux kernel/linux/abi kernel/rest kernel/trace kernel/imagefmt",
		because: "the composition root is below the appliances and in no test",
		not: map[string]string{
			"kernel/metal": "a blank import of metal/boot makes a kernel of a program; all else goes through hw/gate",
		}},

	// Tests.
	{path: "kernel/ktest", sees: everyKernelLayer,
		because: "test helpers of the kernel need nothing of the host's tools"},
	{path: "kernel/ktest/progs", sees: everyKernelLayer + " kernel/metal kernel/metal/boot kernel/ktest",
		because: "a boot test is a program of the guest"},

	// What runs on the kernel, and what runs on the host.
	{path: "appliances", apart: true, sees: "kernel/platform kernel/net kernel/net/wire kernel/net/clock kernel/net/seq kernel/pkt kernel/hw/dma kernel/vfs kernel/linux kernel/linux/abi kernel/rest kernel/trace kernel/imagefmt",
		because: "an appliance uses the kernel through platform and the packages made for applications",
		not: map[string]string{
			"appliances":     "one folder is one image; what two share belongs into the kernel",
			"kernel/drivers": "an appliance gets its devices from platform",
			"kernel/metal":   "an appliance imports platform, which brings the kernel",
			"harness":        "the harness runs on the host",
		}},
	{path: "harness", sees: "kernel/imagefmt",
		because: "the harness measures from outside: it must not share code with what it judges",
		not:     map[string]string{"capstan": "capstan is a user of the harness's image builder"}},
	{path: "capstan", sees: "harness kernel/imagefmt",
		because: "the image tool runs on the host; it shares the image format with the kernel and nothing else"},
}

const everyKernelLayer = "kernel/hw/gate kernel/hw/dma kernel/hw kernel/irq kernel/pkt kernel/blk kernel/drivers/virtio kernel/drivers/nic kernel/drivers/scsi kernel/drivers " +
	"kernel/net/wire kernel/net/clock kernel/net/seq kernel/net kernel/vfs kernel/linux/abi kernel/linux kernel/rest kernel/platform kernel/trace kernel/imagefmt"

// In tests, a package may also import what these allow.
var inTests = []struct{ from, to, because string }{
	{"kernel", "kernel/ktest", "fakes and helpers"},
	{"appliances", "kernel/ktest", "fakes and helpers"},
	{"appliances", "harness", "a boot test starts the image and talks to it"},
}

// From outside of the module and the standard library, a package that is not a
// test may import these only. The kernel is ours; peers and helpers of tests are
// not part of it.
var outside = []struct{ from, to, because string }{
	{"kernel/net/taplink", "golang.org/x/sys", "a TAP device of the host, for hosted runs"},
	{"kernel/net/dns", "golang.org/x/net/dns/dnsmessage", "the message format, by the package that the standard library's own resolver uses and does not export"},
	{"kernel/rest/cloudinit", "go.yaml.in/yaml/v3", "user data is YAML; a parser of it is not what this project is for"},
	{"kernel/rest/sshd", "golang.org/x/crypto/ssh", "the protocol, by the package that Go's own authors keep"},
	{"kernel/rest/sshd", "golang.org/x/term", "the line editor"},
	{"kernel/rest/sshd", "github.com/pkg/sftp", "the file protocol"},
	{"kernel/platform/cloud", "golang.org/x/crypto/ssh", "the fingerprint that the console shows"},
	{"kernel/rest", "github.com/swaggest/swgui/v5/static", "Swagger UI's files, as data; no code of it runs in a guest"},
	{"kernel/ktest", "", "tests only"},
	{"appliances", "github.com/alecthomas/kong", "command lines"},
	{"harness", "", "it runs on the host"},
	{"capstan", "", "it runs on the host"},
}

// metalStd are the packages of the standard library for code below the runtime:
// functions of a few instructions, and atomics.
var metalStd = []string{"unsafe", "sync/atomic", "math/bits"}

const module = "osv"

// layer is one line of the policy.
type layer struct {
	path    string
	sees    string // layers, separated by spaces
	leaf    bool   // imports the standard library only
	apart   bool   // its packages may not import each other across folders
	because string
	not     map[string]string // reasons for single layers
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Error                              *struct{ Err string }
}

// in says whether path is dir or below it.
func in(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// layerOf returns the layer of a package by its path in the module.
func layerOf(path string) *layer {
	var best *layer
	for i := range layers {
		if l := &layers[i]; in(path, l.path) && (best == nil || len(l.path) > len(best.path)) {
			best = l
		}
	}
	return best
}

// violations returns what the packages import against the policy.
func violations(pkgs []pkg) (out []string) {
	for _, p := range pkgs {
		path, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours || path == "kernel" { // kernel is this test
			continue
		}
		if layerOf(path) == nil {
			out = append(out, fmt.Sprintf("%s: no layer has this path; where it stands is a design decision", path))
			continue
		}
		tests := slices.Concat(p.TestImports, p.XTestImports)
		slices.Sort(tests)
		for _, i := range p.Imports {
			if why := forbidden(path, i, false); why != "" {
				out = append(out, fmt.Sprintf("%s imports %s: %s", path, strings.TrimPrefix(i, module+"/"), why))
			}
		}
		for _, i := range slices.Compact(tests) {
			if why := forbidden(path, i, true); why != "" {
				out = append(out, fmt.Sprintf("%s (test) imports %s: %s", path, strings.TrimPrefix(i, module+"/"), why))
			}
		}
	}
	return out
}

// forbidden returns why a package may not import another, "" if it may.
func forbidden(from, imported string, test bool) string {
	// The test that measures an appliance's whole path plays the platform: it joins
	// a driver on a fake card with the stack itself.
	if path := strings.TrimPrefix(imported, module+"/"); test && in(from, "appliances") && (in(path, "kernel/drivers") || path == "kernel/irq") {
		return ""
	}
	l := layerOf(from)
	to, ours := strings.CutPrefix(imported, module+"/")
	if !ours {
		return forbiddenOutside(from, imported, test)
	}
	if from == to {
		return "" // an external test package
	}
	t := layerOf(to)
	if t == nil {
		return "no layer has this path"
	}
	same := t == l && !(l.apart && folder(from, l) != folder(to, l))
	if same || slices.Contains(strings.Fields(l.sees), t.path) {
		return ""
	}
	if test {
		for _, e := range inTests {
			if in(from, e.from) && in(to, e.to) {
				return ""
			}
		}
	}
	if why := l.not[t.path]; why != "" {
		return fmt.Sprintf("layer %s may not see layer %s: %s", l.path, t.path, why)
	}
	if in(to, "kernel/ktest") {
		return fmt.Sprintf("layer %s may not see layer %s: test helpers are for tests", l.path, t.path)
	}
	return fmt.Sprintf("layer %s may not see layer %s: %s", l.path, t.path, l.because)
}

// folder is the first folder of a package's path below its layer's.
func folder(path string, l *layer) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, l.path), "/"), "/")
	return first
}

func forbiddenOutside(from, imported string, test bool) string {
	host, _, _ := strings.Cut(imported, "/")
	std := !strings.Contains(host, ".")
	switch {
	case test:
		return ""
	case std && in(from, "kernel/metal") && !slices.Contains(metalStd, imported):
		return "below the runtime, only " + strings.Join(metalStd, ", ")
	case std:
		return ""
	}
	for _, e := range outside {
		if in(from, e.from) && in(imported, e.to) || in(from, e.from) && e.to == "" {
			return ""
		}
	}
	return "the kernel uses the standard library only"
}

func TestLayers(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-pgo=off", "-json=ImportPath,Imports,TestImports,XTestImports,Error", "./...")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v\n%s", err, errs.Bytes())
	}
	var pkgs []pkg
	for d := json.NewDecoder(&out); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Error != nil {
			t.Errorf("%s: %s", p.ImportPath, p.Error.Err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 20 {
		t.Fatalf("go list found %d packages: the test sees nothing", len(pkgs))
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

// The list itself is sound: names exist, each edge that is not permitted has a
// reason, and what is permitted has no cycle.
func TestLayersListIsSound(t *testing.T) {
	byPath := map[string]*layer{}
	for i := range layers {
		l := &layers[i]
		if byPath[l.path] != nil {
			t.Errorf("layer %s is listed twice", l.path)
		}
		byPath[l.path] = l
	}
	for _, l := range layers {
		if l.because == "" {
			t.Errorf("layer %s: no reason", l.path)
		}
		if l.leaf && l.sees != "" {
			t.Errorf("layer %s is a leaf, and sees %s", l.path, l.sees)
		}
		for _, s := range strings.Fields(l.sees) {
			if byPath[s] == nil {
				t.Errorf("layer %s sees %s, which is no layer", l.path, s)
			}
			if l.not[s] != "" {
				t.Errorf("layer %s sees %s, and may not", l.path, s)
			}
		}
		for n, why := range l.not {
			if byPath[n] == nil || why == "" || n == l.path && !l.apart {
				t.Errorf("layer %s: reason %q for %s", l.path, why, n)
			}
		}
	}
	state := map[string]int{} // 1 = being visited, 2 = done
	var visit func(path, way string)
	visit = func(path, way string) {
		way += " → " + path
		switch state[path] {
		case 1:
			t.Errorf("layers see each other in a circle:%s", way)
			return
		case 2:
			return
		}
		state[path] = 1
		if l := byPath[path]; l != nil {
			for _, s := range strings.Fields(l.sees) {
				visit(s, way)
			}
		}
		state[path] = 2
	}
	for _, l := range layers {
		visit(l.path, "")
	}
}

// A violation that is planted is found, and named with its reason.
func TestLayersSeeEachViolation(t *testing.T) {
	for _, test := range []struct{ from, to, want string }{
		// Permitted.
		{"kernel/metal/shim", "osv/kernel/metal/cpu", ""},
		{"kernel/metal/shim", "unsafe", ""},
		{"kernel/hw/gate", "osv/kernel/metal/boot", ""},
		{"kernel/hw/pci", "osv/kernel/hw/mmio", ""},
		{"kernel/drivers/virtionet", "osv/kernel/drivers/virtio", ""},
		{"kernel/drivers/ahci/port", "osv/kernel/drivers/ahci", ""},
		{"kernel/drivers/nvme", "osv/kernel/blk", ""},
		{"kernel/drivers/pvscsi", "osv/kernel/drivers/scsi", ""},
		{"kernel/net/tcp", "osv/kernel/net/wire", ""},
		{"kernel/net/stack", "osv/kernel/hw/dma", ""},
		{"kernel/platform", "osv/kernel/metal/boot", ""},
		{"kernel/ktest/progs/bench", "osv/kernel/metal/clock", ""},
		{"appliances/memcached", "osv/appliances/memcached/store", ""},
		{"harness/image", "osv/kernel/imagefmt", ""},
		{"harness/plot", "gonum.org/v1/plot", ""},
		{"test kernel/net/tcp", "osv/kernel/ktest/simnet", ""},
		{"test kernel/net/tcp", "gvisor.dev/gvisor/pkg/tcpip", ""},
		{"test appliances/iperf", "osv/harness/vm", ""},
		{"test kernel/hw/pci", "osv/kernel/hw/pci", ""},

		// Forbidden.
		{"kernel/metal/shim", "osv/kernel/trace", "layer kernel/metal may not see layer kernel/trace: code below the Go runtime"},
		{"kernel/metal/shim", "osv/kernel/metal/boot", "layer kernel/metal may not see layer kernel/metal/boot"},
		{"kernel/metal/shim", "fmt", "below the runtime, only unsafe"},
		{"kernel/metal/shim", "golang.org/x/sys/unix", "standard library only"},
		{"kernel/hw/mmio", "osv/kernel/metal/arch", "layer kernel/hw may not see layer kernel/metal"},
		{"kernel/hw/mmio", "osv/kernel/net/seq", "layer kernel/hw may not see layer kernel/net/seq"},
		{"kernel/hw/mmio", "osv/kernel/hw/gate", "or it could not be tested hosted"},
		{"kernel/hw/pci", "osv/kernel/irq", "irq, above it"},
		{"kernel/irq", "osv/kernel/drivers/virtio", "know no device"},
		{"kernel/pkt", "osv/kernel/net/wire", "nor any protocol"},
		{"kernel/pkt", "osv/kernel/hw/mmio", "layer kernel/pkt may not see layer kernel/hw"},
		{"kernel/drivers/virtionet", "osv/kernel/net/demux", "meet in pkt only"},
		{"kernel/drivers/virtionet", "osv/kernel/drivers/virtioblk", "one package per device"},
		{"kernel/drivers/virtio", "osv/kernel/drivers/virtionet", "knows no device"},
		{"kernel/drivers/scsi", "osv/kernel/drivers/pvscsi", "knows no adapter"},
		{"kernel/drivers/scsi", "osv/kernel/hw/mmio", "knows no adapter"},
		{"kernel/drivers/virtionet", "osv/kernel/hw/gate", "parameters"},
		{"kernel/drivers/virtionet", "osv/kernel/platform", "knows nobody who uses it"},
		{"kernel/net/tcp", "osv/kernel/drivers/virtionet", "joined in platform"},
		{"kernel/net/tcp", "osv/kernel/hw/mmio", "not hardware"},
		{"kernel/net/tcp", "osv/kernel/irq", "receive loop"},
		{"kernel/net/tcp", "gvisor.dev/gvisor/pkg/tcpip", "standard library only"},
		{"kernel/net/tcp", "osv/kernel/ktest/simnet", "test helpers are for tests"},
		{"kernel/net/wire", "osv/kernel/net/tcp", "know no protocol"},
		{"kernel/net/wire", "osv/kernel/trace", "layer kernel/net/wire may not see layer kernel/trace"},
		{"kernel/trace", "osv/kernel/hw/gate", "makes a cycle"},
		{"kernel/vfs/ext4", "osv/kernel/drivers/virtioblk", "declares the device"},
		{"kernel/vfs/ext4", "osv/kernel/blk", "declares the device"},
		{"kernel/blk", "osv/kernel/hw/pci", "knows neither"},
		{"kernel/blk", "osv/kernel/drivers/nvme", "knows neither"},
		{"kernel/vfs/ext4", "osv/kernel/net/tcp", "siblings"},
		{"kernel/linux/sys", "osv/kernel/metal/vm", "through hw/gate"},
		{"kernel/linux/sys", "osv/kernel/rest", "siblings"},
		{"kernel/rest", "osv/kernel/hw/gate", "platform passes in"},
		{"kernel/platform", "osv/kernel/metal/vm", "all else goes through hw/gate"},
		{"kernel/platform", "osv/appliances/iperf", "below the appliances"},
		{"kernel/platform", "osv/kernel/ktest/fakedev", "test helpers are for tests"},
		{"kernel/platform", "osv/harness/vm", "layer kernel/platform may not see layer harness"},
		{"appliances/iperf", "osv/kernel/drivers/virtionet", "devices from platform"},
		{"appliances/iperf", "osv/kernel/metal/boot", "layer appliances may not see layer kernel/metal/boot"},
		{"appliances/iperf", "osv/appliances/memcached/store", "one folder is one image"},
		{"appliances/iperf", "osv/harness/load", "runs on the host"},
		{"harness/load", "osv/kernel/net/wire", "measures from outside"},
		{"harness/load", "osv/appliances/memcached/proto", "measures from outside"},
		{"capstan", "osv/kernel/platform", "layer capstan may not see layer kernel/platform"},
		{"test kernel/net/tcp", "osv/kernel/drivers/virtionet", "joined in platform"},
		{"test kernel/net/tcp", "osv/harness/vm", "layer kernel/net may not see layer harness"},
		{"test harness/load", "osv/kernel/net/wire", "measures from outside"},
		{"kernel/ktest/fakedev", "osv/harness/vm", "layer kernel/ktest may not see layer harness"},
		{"kernel/newthing", "fmt", "no layer has this path"},
		{"kernel/net/tcp", "osv/kernel/newthing", "no layer has this path"},
	} {
		p := pkg{ImportPath: "osv/" + test.from, Imports: []string{test.to}}
		if from, ok := strings.CutPrefix(test.from, "test "); ok {
			p = pkg{ImportPath: "osv/" + from, XTestImports: []string{test.to}, TestImports: []string{test.to}}
		}
		got := strings.Join(violations([]pkg{p}), "\n")
		if test.want == "" && got != "" || test.want != "" && (!strings.Contains(got, test.want) || strings.Contains(got, "\n")) {
			t.Errorf("%s imports %s: %q, want %q", test.from, test.to, got, test.want)
		}
	}
}
