package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"osv/harness/rootfs"
)

// A description sets what no flag did.
func TestFill(t *testing.T) {
	spec := rootfs.Spec{Run: []string{"/bin/x", "a b", ""}, Append: "--strace", Memory: "512M", CPUs: 2, Ports: []int{80, 81}}
	c := cli{CPUs: defaultCPUs, Mem: defaultMem, Append: "--verbose"}
	if err := c.fill(spec, "k.elf", "d.img"); err != nil {
		t.Fatal(err)
	}
	if c.Kernel != "k.elf" || c.CPUs != 2 || c.Mem != 512 || c.Append != `--verbose --strace -- /bin/x "a b" ""` ||
		!reflect.DeepEqual(c.Disk, []string{"d.img"}) || !reflect.DeepEqual(c.Net, []string{"user,fwd=tcp:127.0.0.1:80-:80,fwd=tcp:127.0.0.1:81-:81"}) {
		t.Errorf("%+v", c)
	}
	c = cli{CPUs: 4, Mem: 128, Net: []string{"wire"}, Disk: []string{"more"}}
	if err := c.fill(spec, "k.elf", "d.img"); err != nil || c.CPUs != 4 || c.Mem != 128 || c.Net[0] != "wire" || len(c.Disk) != 2 {
		t.Errorf("flags do not win: %+v, %v", c, err)
	}
	if err := (&cli{Mem: defaultMem}).fill(rootfs.Spec{Memory: "lots"}, "", ""); err == nil {
		t.Error("memory: lots")
	}
}

func TestProgramErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	os.WriteFile(file, []byte("name: x\n"), 0o644)
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{file}, &out, &errs); code != 2 || !strings.Contains(errs.String(), "run: names no program") {
		t.Errorf("%d %s", code, errs.String())
	}
	if newer(file, "nothing") || newer("nothing", file) {
		t.Error("a file that is not there has an age")
	}
}
