package bench

import (
	"debug/elf"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"osv/harness/design"
)

// The HTTP server of both systems is one program: for Linux it is built static, and
// is among what is copied to another machine; without it there Linux has no HTTP.
func TestHTTPServerOfLinux(t *testing.T) {
	stock := design.System{Name: "linux-stock", Guest: "linux", Profile: "stock"}
	k := &Linux{QEMU: &QEMU{Cache: t.TempDir()}, Module: "../.."}
	if err := k.Can(stock, "http"); err != nil {
		t.Error(err)
	}
	plan := design.Plan{Systems: []design.System{stock}, Workloads: []design.Workload{{Name: "http-get", Port: design.HTTPPort}}}
	files, err := k.Build(t.Context(), plan)
	if err != nil || len(files) != 1 || filepath.Base(files[0]) != "httpd" {
		t.Fatalf("%v %v", files, err)
	}
	f, err := elf.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("the program needs a dynamic linker, which the guest may not have")
	}
	away := &Linux{QEMU: &QEMU{}, Images: filepath.Dir(files[0])}
	if err := away.Can(stock, "http"); err != nil {
		t.Error(err)
	}
	if got, err := away.Build(t.Context(), plan); err != nil || !slices.Equal(got, files) {
		t.Errorf("%v %v", got, err)
	}
	if err := (&Linux{QEMU: &QEMU{}, Images: t.TempDir()}).Can(stock, "http"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	k.Module = t.TempDir()
	if _, err := k.Build(t.Context(), plan); err == nil {
		t.Error("a program without source is built")
	}
	if s, ok := linuxService("http"); !ok || len(s.Argv(1)) != 1 || s.Argv(1)[0] != "/bin/httpd" {
		t.Errorf("%+v %v", s, ok)
	}
	if _, ok := linuxService("init-only"); ok {
		t.Error("init-only is a service")
	}
}
