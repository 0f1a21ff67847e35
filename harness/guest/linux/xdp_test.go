package linux

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/vm"
)

// The image with the cache is the image, then the modules it lacks, then the
// loader; the image itself has none of that.
func TestWithXDP(t *testing.T) {
	a := newFakeArchive(t, goodKernel(), goodTree())
	img, err := Ensure(t.Context(), Config{CacheDir: t.TempDir(), archive: a})
	if err != nil {
		t.Fatal(err)
	}
	loader := filepath.Join(t.TempDir(), "loader")
	if _, err := img.WithXDP(loader); err == nil {
		t.Error("a loader that is not there is taken")
	}
	if err := os.WriteFile(loader, []byte("loader"), 0o755); err != nil {
		t.Fatal(err)
	}
	x, err := img.WithXDP(loader)
	if err != nil {
		t.Fatal(err)
	}
	if x.Digest == img.Digest || x.Initrd == img.Initrd || x.Kernel != img.Kernel {
		t.Errorf("%+v", x)
	}
	plain, _ := os.ReadFile(img.Initrd)
	all, err := os.ReadFile(x.Initrd)
	if err != nil || !bytes.HasPrefix(all, plain) || len(all)%4 != 0 {
		t.Fatalf("%d bytes after %d: %v", len(all), len(plain), err)
	}
	rest := all[len(plain):]
	mods := readCPIO(t, rest)
	if got := string(mods[xdpOrder].data); got != "sch_anchor.ko\nsch_ingress.ko\ncls_bpf.ko\n" || len(mods["lib/modules/cls_bpf.ko"].data) == 0 {
		t.Errorf("modules %q of %v", got, sortedKeys(mods))
	}
	end := bytes.Index(rest, []byte("TRAILER!!!"))
	last := readCPIO(t, bytes.TrimLeft(rest[end+len("TRAILER!!!"):], "\x00"))
	if string(last[xdpLoader].data) != "loader" || last[xdpLoader].mode&0o777 != 0o755 {
		t.Errorf("loader %+v", last[xdpLoader])
	}
	again, err := img.WithXDP(loader)
	if err != nil || again.Initrd != x.Initrd {
		t.Errorf("%+v %v", again, err)
	}
}

func TestProfileXDP(t *testing.T) {
	g := Guest{Image: Image{Initrd: "i", xdp: true}, Profile: XDP, Service: Memcached, IP: netip.MustParsePrefix("10.0.0.2/24")}
	s, err := g.Spec(vm.Spec{CPUs: 1})
	if err != nil || !strings.Contains(s.Append, " osv_xdp=eth0") || !strings.Contains(s.Append, "mitigations=off") {
		t.Errorf("%s %v", s.Append, err)
	}
	ledger := ""
	for _, f := range g.Ledger(1) {
		ledger += f.Name + "\n"
	}
	if !strings.Contains(ledger, "XDP cache") {
		t.Errorf("ledger:\n%s", ledger)
	}
	for want, change := range map[string]func(*Guest, *vm.Spec){
		"1 vCPU":          func(_ *Guest, s *vm.Spec) { s.CPUs = 2 },
		"needs an image":  func(g *Guest, _ *vm.Spec) { g.Image.xdp = false },
		"needs a network": func(g *Guest, _ *vm.Spec) { g.IP = netip.Prefix{} },
	} {
		g, s := g, vm.Spec{CPUs: 1}
		change(&g, &s)
		if _, err := g.Spec(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	lines := []vm.Line{{Text: "OSV-GUEST init"}, {Text: "OSV-GUEST fact xdp native"}, {Text: "OSV-GUEST ready memcached"}}
	if XDPMode(lines) != "native" || XDPMode(lines[:1]) != "" {
		t.Error("mode")
	}
}

func TestBuildXDP(t *testing.T) {
	out := filepath.Join(t.TempDir(), "sub", "xdpload")
	if err := BuildXDP(t.Context(), "../../..", out); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || !bytes.HasPrefix(b, []byte("\x7fELF")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := BuildXDP(t.Context(), t.TempDir(), out); err == nil {
		t.Error("a folder without the module is taken")
	}
}
