package rootfs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func tools(t *testing.T) {
	t.Helper()
	for _, n := range []string{"mke2fs", "debugfs", "e2fsck"} {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("%s is not installed", n)
		}
	}
}

func debugfs(t *testing.T, img, cmd string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", cmd, img).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Two builds are the same file, whoever owns what and whenever it was made here; and
// the image has what was asked for.
func TestBuildFromFiles(t *testing.T) {
	tools(t)
	dir := t.TempDir()
	src := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(src, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "sub/f"), []byte("hello"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub/f", filepath.Join(src, "l")); err != nil {
		t.Fatal(err)
	}
	s := Spec{Name: "t", Files: []File{
		{Src: src, Dst: "/data"}, {Src: filepath.Join(src, "sub/f"), Dst: "/bin/prog", Mode: "4755", UID: 7, GID: 8},
		{Dst: "/etc/x", Text: "text\n"}, {Dst: "/etc/y", Link: "x"}, {Dst: "/var/spool/q", Dir: true, Mode: "1777"}, {Dst: "/empty"},
	}}
	var sums [2][]byte
	for i := range sums {
		out := filepath.Join(dir, fmt.Sprint(i))
		r, err := Build(context.Background(), s, out, Config{})
		if err != nil {
			t.Fatal(err)
		}
		if sums[i], err = os.ReadFile(out); err != nil || int64(len(sums[i])) != r.Size {
			t.Fatalf("%v, %d bytes of %d", err, len(sums[i]), r.Size)
		}
	}
	if !slices.Equal(sums[0], sums[1]) {
		t.Error("two builds differ")
	}
	img := filepath.Join(dir, "0")
	for cmd, want := range map[string][]string{
		"cat /data/sub/f":    {"hello"},
		"cat /etc/x":         {"text\n"},
		"stat /usr/bin/prog": {"Mode:  04755", "User:     7   Group:     8", "2024"},
		"stat /data/l":       {"Type: symlink", `Fast link dest: "sub/f"`},
		"stat /lib":          {`Fast link dest: "usr/lib"`},
		"stat /var/spool/q":  {"Mode:  01777", "User:     0   Group:     0"},
		"stat /empty":        {"Size: 0"},
		"cat /etc/hosts":     {"localhost"},
	} {
		out := debugfs(t, img, cmd)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", cmd, w, out)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".rootfs-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestErrors(t *testing.T) {
	tools(t)
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("full"), 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		s    Spec
		want string
	}{
		{Spec{}, "neither packages nor files"},
		{Spec{Files: []File{{Dst: "rel"}}}, `file "rel": the destination is not absolute`},
		{Spec{Files: []File{{Dst: "/a", Text: "x", Link: "y"}}}, "more than one of src, text, link and dir"},
		{Spec{Files: []File{{Dst: "/a", Mode: "9"}}}, `mode "9" is not octal`},
		{Spec{Files: []File{{Dst: "/a", Text: "x"}}, Run: []string{"/a", `say "x"`}}, "takes no double quotes"},
		{Spec{Files: []File{{Dst: "/a", Src: filepath.Join(dir, "none")}}}, "no such file"},
		{Spec{Files: []File{{Dst: "/etc", Src: big}}}, "is a directory in the image"},
		{Spec{Files: []File{{Dst: "/a", Text: "x"}}, Size: "x"}, `size "x": want a number`},
		{Spec{Files: []File{{Dst: "/a", Src: big}}, Size: "4M"}, "in an image of 4 MiB"},
	} {
		_, err := Build(context.Background(), x.s, filepath.Join(dir, "out"), Config{})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %q", x.s, err, x.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
			t.Errorf("%+v: an image in spite of the error", x.s)
		}
	}
}

func TestShortForms(t *testing.T) {
	if f, err := ParseFile("a:/b:755"); err != nil || f != (File{Src: "a", Dst: "/b", Mode: "755"}) {
		t.Errorf("%+v %v", f, err)
	}
	for _, s := range []string{"a", "a:b", ":/b", "a:/b:x", "a:/b:7:8"} {
		if _, err := ParseFile(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	for s, want := range map[string]int64{"1": 1, "4K": 4096, "64M": 64 << 20, "2G": 2 << 30, "": 0, "M": 0, "-1M": 0, "9999999999G": 0} {
		if n, err := ParseSize(s); n != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d %v", s, n, err)
		}
	}
}

// TestDescriptions loads every description of the appliances.
func TestDescriptions(t *testing.T) {
	all, err := filepath.Glob("../../appliances/linux/*.yaml")
	if err != nil || len(all) == 0 {
		t.Fatalf("%v, %d files", err, len(all))
	}
	for _, f := range all {
		s, err := Load(f)
		if err != nil {
			t.Error(err)
			continue
		}
		if s.Name+".yaml" != filepath.Base(f) || len(s.Run) == 0 || !filepath.IsAbs(s.Run[0]) {
			t.Errorf("%s: name %q, run %q", f, s.Name, s.Run)
		}
	}
	bad := filepath.Join(t.TempDir(), "x.yaml")
	os.WriteFile(bad, []byte("name: x\ncolour: red\n"), 0o600)
	if _, err := Load(bad); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("an unknown field: %v", err)
	}
	if _, err := Load(bad + "none"); err == nil {
		t.Error("no file, no error")
	}
}

func TestResolve(t *testing.T) {
	sum := strings.Repeat("a", 64)
	stanza := func(name, depends string) string {
		return "Package: " + name + "\nVersion: 1\nDescription: x\n Depends: not this\nDepends: " + depends + "\nSHA256: " + sum + "\n\nPackage: " + name + "\nVersion: 0\nSHA256: " + sum + "\n\n"
	}
	all := map[string]string{
		"app":  stanza("app", "lib (>= 2) | other, virtual | real:any, perl"),
		"lib":  stanza("lib", "app, libc"),
		"libc": stanza("libc", "lib"), "real": stanza("real", "libc"), "lost": stanza("lost", "nowhere"),
	}
	asked := 0
	show := func(names []string) (map[string]Package, error) {
		asked++
		text := ""
		for _, n := range names {
			text += all[n]
		}
		return parseStanzas(text)
	}
	got, err := Config{}.resolve(Spec{Packages: []string{"app"}}, show)
	var names []string
	for _, p := range got {
		names = append(names, p.Name)
	}
	if err != nil || !slices.Equal(names, []string{"app", "lib", "libc", "real"}) {
		t.Errorf("%q %v", names, err)
	}
	if asked > 3 {
		t.Errorf("%d questions", asked)
	}
	if _, err := (Config{}).resolve(Spec{Packages: []string{"lost"}}, show); err == nil || !strings.Contains(err.Error(), "package lost needs nowhere") {
		t.Error(err)
	}
	if _, err := (Config{}).resolve(Spec{Packages: []string{"none"}}, show); err == nil {
		t.Error("an unknown package is taken")
	}
	if got[0].Version != "1" {
		t.Errorf("not the first stanza: %+v", got[0])
	}
	if _, err := parseStanzas("Package: x\n"); err == nil {
		t.Error("half a stanza is taken")
	}
}

// TestPackage downloads one small package where there is a network.
func TestPackage(t *testing.T) {
	tools(t)
	if testing.Short() {
		t.Skip("downloads")
	}
	dir := t.TempDir()
	c := Config{Cache: filepath.Join(dir, "debs")}
	for range 2 { // the second comes from the cache
		r, err := Build(context.Background(), Spec{Packages: []string{"hello"}}, filepath.Join(dir, "img"), c)
		if err != nil {
			if strings.Contains(err.Error(), "apt-get") || strings.Contains(err.Error(), "keyring") {
				t.Skipf("no network: %v", err)
			}
			t.Fatal(err)
		}
		if len(r.Packages) < 2 { // hello and libc6
			t.Errorf("packages %+v", r.Packages)
		}
	}
	if out := debugfs(t, filepath.Join(dir, "img"), "stat /usr/bin/hello"); !strings.Contains(out, "Mode:  0755") {
		t.Error(out)
	}
	if out := debugfs(t, filepath.Join(dir, "img"), "stat /etc/ld.so.cache"); !strings.Contains(out, "Type: regular") {
		t.Error(out)
	}
}
