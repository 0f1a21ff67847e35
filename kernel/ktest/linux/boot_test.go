//go:build boot

package linux

import (
	"bytes"
	"context"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// differs are cases that are not the same in a guest, and why: none now. A case that
// becomes the same has to go from here.
var differs = map[string]string{}

// varies are cases that are the same in a guest in one run and not in another.
var varies = map[string]string{
	"proc_affinity": "which processors a thread may run on is kept and told only",
}

// guest is what a program is booted with. Nothing of harness may be imported here, so
// its commands are run.
type guest struct {
	kernel, rootfs, osvrun string
	dir                    string
}

func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, b)
	}
	return b
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("QEMU is not installed")
	}
	top, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{dir: t.TempDir()}
	g.kernel, g.rootfs, g.osvrun = filepath.Join(g.dir, "linux.elf"), filepath.Join(g.dir, "rootfs"), filepath.Join(g.dir, "osvrun")
	run(t, top, "go", "run", "./harness/cmd/mkelf", "-o", g.kernel, "./appliances/linux")
	run(t, top, "go", "build", "-o", g.rootfs, "./harness/cmd/rootfs")
	run(t, top, "go", "build", "-o", g.osvrun, "./harness/cmd/osvrun")
	return g
}

// libraries are the files that a dynamically linked program opens at its start.
func libraries(t *testing.T, prog string) []string {
	t.Helper()
	f, err := elf.Open(prog)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Section(".interp") == nil {
		return nil
	}
	var out []string
	for _, l := range strings.Split(string(run(t, "", "ldd", prog)), "\n") {
		for _, w := range strings.Fields(l) {
			if strings.HasPrefix(w, "/") {
				out = append(out, w+":"+w+":755")
				break
			}
		}
	}
	if len(out) > 0 { // opened by pthread_cancel and pthread_exit
		const gcc = "/lib/x86_64-linux-gnu/libgcc_s.so.1"
		if _, err := os.Stat(gcc); err == nil {
			out = append(out, gcc+":"+gcc+":755")
		}
	}
	return out
}

// boot runs a program of the host in a guest and returns what the console said.
func (g *guest) boot(t *testing.T, prog string, cpus string, timeout time.Duration, args ...string) []byte {
	t.Helper()
	name := strings.ReplaceAll(strings.TrimPrefix(prog, g.dir+"/"), "/", "-")
	img := filepath.Join(g.dir, name+".img")
	base := "/" + filepath.Base(prog)
	ra := []string{"-q", "-o", img, "--free", "64M", "-f", prog + ":" + base + ":755"}
	for _, l := range libraries(t, prog) {
		ra = append(ra, "-f", l)
	}
	run(t, "", g.rootfs, ra...)
	ctx, cancel := context.WithTimeout(context.Background(), timeout+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.osvrun, g.kernel, "-q", "-c", cpus, "-m", "512", "--disk", img, "--timeout", timeout.String(),
		"-a", "-- "+strings.Join(append([]string{base}, args...), " "))
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	if dir := os.Getenv("KTEST_LOGS"); dir != "" {
		os.WriteFile(filepath.Join(dir, name+"-"+cpus+".log"), b.Bytes(), 0o644)
	}
	if err != nil {
		t.Errorf("%s with %s vCPUs: %v\n%s", prog, cpus, err, tail(b.Bytes()))
	}
	return b.Bytes()
}

func tail(b []byte) []byte {
	if len(b) > 3000 {
		b = b[len(b)-3000:]
	}
	return b
}

func judge(t *testing.T, name string, host, got outcome) {
	t.Helper()
	if got.ended == "" {
		t.Errorf("%s: the guest's run did not end", name)
	}
	diff := compare(host, got)
	for n, d := range diff {
		if why := differs[n] + varies[n]; why != "" {
			t.Logf("%s: %s: known: %s", name, n, why)
			continue
		}
		t.Errorf("%s: %s: %s", name, n, d)
	}
	for n, why := range differs {
		if _, ran := host.lines[n]; ran && diff[n] == "" {
			t.Errorf("%s: %s is the same as on Linux now: take it from the list (%s)", name, n, why)
		}
	}
	t.Logf("%s: %d of %d cases as on Linux", name, len(host.order)-len(diff), len(host.order))
}

// TestBoot runs the set in guests and compares it with the host's Linux.
func TestBoot(t *testing.T) {
	needGCC(t)
	if os.Getuid() != 0 {
		t.Skip("the cases about users need user 0")
	}
	g := newGuest(t)
	ctx := context.Background()
	for _, x := range []struct {
		name string
		l    linking
		cpus string
	}{{"static", static, "2"}, {"dynamic", dynamic, "1"}} {
		p := place(t, g.dir, x.name)
		if err := buildC(ctx, "conf", p, x.l); err != nil {
			t.Fatal(err)
		}
		judge(t, x.name, onHost(t, p), parse(g.boot(t, p, x.cpus, 5*time.Minute)))
	}
	p := filepath.Join(g.dir, "goconf")
	if err := buildGo(ctx, "goconf", p); err != nil {
		t.Fatal(err)
	}
	judge(t, "goconf", onHost(t, p), parse(g.boot(t, p, "2", 3*time.Minute)))
}

// TestBootPunishment: no program brings the kernel down.
func TestBootPunishment(t *testing.T) {
	needGCC(t)
	g := newGuest(t)
	for name, args := range map[string][]string{
		"stress": {"20", "64"}, "syzz": {"1", "20000"}, "hostile": nil, "sysbench": {"3"},
	} {
		p := filepath.Join(g.dir, name)
		if err := buildC(context.Background(), name, p, static); err != nil {
			t.Fatal(err)
		}
		b := g.boot(t, p, "2", 5*time.Minute, args...)
		if !bytes.Contains(b, []byte(name+": done")) {
			t.Errorf("%s did not end well\n%s", name, tail(b))
		}
	}
}
