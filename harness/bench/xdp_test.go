package bench

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/design"
)

// A guest with the XDP cache runs memcached on one vCPU and a card of QEMU's; its
// loader is built, or is in the folder of images.
func TestXDPCache(t *testing.T) {
	xdp := design.System{Name: "linux-xdp", Guest: "linux", Profile: "xdp"}
	k := &Linux{QEMU: &QEMU{Cache: t.TempDir()}, Module: "../.."}
	if err := k.Can(xdp, "memcached"); err != nil {
		t.Error(err)
	}
	two := xdp
	two.CPUs = 2
	for want, err := range map[string]error{
		"not iperf3's": k.Can(xdp, "iperf3"),
		"1 vCPU":       k.Can(two, "memcached"),
		"vhost-user":   (&Linux{QEMU: &QEMU{VHost: true}}).Can(xdp, "memcached"),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if err := (&Linux{QEMU: &QEMU{}, Images: t.TempDir()}).Can(xdp, "memcached"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder of images without a loader: %v", err)
	}

	stock := design.System{Name: "linux-stock", Guest: "linux", Profile: "stock"}
	if files, err := k.Build(t.Context(), design.Plan{Systems: []design.System{stock}}); err != nil || files != nil {
		t.Errorf("stock Linux needs %v, %v", files, err)
	}
	files, err := k.Build(t.Context(), design.Plan{Systems: []design.System{stock, xdp}})
	if err != nil || len(files) != 1 || filepath.Base(files[0]) != "xdpload" {
		t.Fatalf("%v %v", files, err)
	}
	away := &Linux{QEMU: &QEMU{}, Images: filepath.Dir(files[0])}
	if err := away.Can(xdp, "memcached"); err != nil {
		t.Error(err)
	}
	if got, err := away.Build(t.Context(), design.Plan{Systems: []design.System{xdp}}); err != nil || len(got) != 1 || got[0] != files[0] {
		t.Errorf("%v %v", got, err)
	}
	k = &Linux{QEMU: &QEMU{Cache: t.TempDir()}, Module: t.TempDir()}
	if _, err := k.Build(t.Context(), design.Plan{Systems: []design.System{xdp}}); err == nil {
		t.Error("a folder without the module builds")
	}
}
