package linux

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeApt puts scripts in place of apt-get, apt-cache and dpkg-deb.
func fakeApt(t *testing.T, get, cache string) *apt {
	t.Helper()
	if _, err := os.Stat(keyring); err != nil {
		t.Skip("no Debian keyring on this host")
	}
	bin := t.TempDir()
	for name, body := range map[string]string{"apt-get": get, "apt-cache": cache, "dpkg-deb": "exit 0"} {
		script := "#!/bin/sh\nwhile [ \"$1\" = -qq ] || [ \"$1\" = -o ]; do [ \"$1\" = -o ] && shift; shift; done\n" + body + "\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return &apt{dir: filepath.Join(t.TempDir(), "apt"), log: func(string) {}}
}

const sumA = "00be21c0c17f08ddf26e82d3b53fe7a41efa4a288938da6bb69e89c4b25c281d"

func TestAptResolves(t *testing.T) {
	a := fakeApt(t, `case $1 in
update) ;;
download) echo "'http://x/a%3ab.deb' a_1%3a2-3_amd64.deb 10 SHA256:`+sumA+`"; echo "W: noise";;
esac`, `printf 'Package: m\nDepends: foo, linux-image-6.1.0-56-cloud-amd64 (= 6.1)\n'`)
	pkgs, err := a.resolve(t.Context(), []string{"a"})
	if err != nil || len(pkgs) != 1 || pkgs[0] != (Package{"a", "1:2-3", "a_1%3a2-3_amd64.deb", sumA}) {
		t.Errorf("%+v %v", pkgs, err)
	}
	if _, err := a.resolve(t.Context(), []string{"a", "b"}); err == nil || !strings.Contains(err.Error(), "package b: not in") {
		t.Errorf("missing package: %v", err)
	}
	if k, err := a.kernelPackage(t.Context(), "m"); err != nil || k != "linux-image-6.1.0-56-cloud-amd64" {
		t.Errorf("%s %v", k, err)
	}
}

func TestAptUsesItsOwnIndex(t *testing.T) {
	t.Setenv(MirrorEnv, "http://mirror.example/debian/")
	a := fakeApt(t, "exit 0", "echo Package: m")
	if _, err := a.kernelPackage(t.Context(), "m"); err == nil || !strings.Contains(err.Error(), "depends on no kernel") {
		t.Errorf("%v", err)
	}
	list, err := os.ReadFile(filepath.Join(a.dir, "sources.list"))
	if err != nil || !strings.Contains(string(list), "http://mirror.example/debian bookworm main\n") || !strings.Contains(string(list), "http://mirror.example/debian-security bookworm-security main\n") {
		t.Errorf("%s %v", list, err)
	}
	for _, o := range a.options() {
		if strings.HasPrefix(o, "Dir::") && !strings.Contains(o, a.dir) && !strings.HasSuffix(o, "=/dev/null") {
			t.Errorf("option %s leaves the cache folder", o)
		}
	}
}

func TestAptFailures(t *testing.T) {
	a := fakeApt(t, "echo E: no route to host >&2; exit 100", "exit 1")
	for _, f := range []func() error{
		func() error { _, err := a.resolve(t.Context(), []string{"a"}); return err },
		func() error { _, err := a.kernelPackage(t.Context(), "m"); return err },
		func() error { return a.download(t.Context(), Package{Name: "a", Version: "1"}, t.TempDir()) },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "no route to host") {
			t.Errorf("%v", err)
		}
	}
	a = fakeApt(t, "[ $1 = update ]", "exit 1")
	if _, err := a.kernelPackage(t.Context(), "m"); err == nil {
		t.Error("apt-cache fails: no error")
	}
	if _, err := a.resolve(t.Context(), []string{"a"}); err == nil {
		t.Error("download fails: no error")
	}
	t.Setenv("PATH", t.TempDir())
	if err := (&apt{}).update(t.Context()); err == nil || !strings.Contains(err.Error(), "apt-get is not installed") {
		t.Errorf("no apt: %v", err)
	}
}

// A package that left the index is looked for in a newer one.
func TestAptDownloadUpdatesOnce(t *testing.T) {
	a := fakeApt(t, `case $1 in
update) touch "`+"$0"+`.updated";;
download) [ -e "`+"$0"+`.updated" ] || exit 1; echo "$2" > got;;
esac`, "exit 1")
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(a.dir, "sources.list"), nil, 0o644)
	dir := t.TempDir()
	if err := a.download(t.Context(), Package{Name: "a", Version: "1:2"}, dir); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "got")); string(b) != "a=1:2\n" {
		t.Errorf("asked for %q", b)
	}
}
