package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-containerregistry/pkg/registry"

	"osv/capstan/hypervisor"
	"osv/capstan/internal/fixture"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain plays QEMU, or is the command itself, where FAKE says so.
func TestMain(m *testing.M) {
	switch os.Getenv("FAKE") {
	case "qemu":
		fixture.FakeQEMU()
	case "capstan":
		main()
	}
	os.Exit(m.Run())
}

// world is a user's computer: folders of its own, and this test's binary as QEMU.
type world struct {
	t    *testing.T
	root string
	host *hypervisor.Host
	in   io.Reader
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root, err := os.MkdirTemp("", "cap") // short: there are sockets below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	t.Setenv("CAPSTAN_ROOT", root)
	for _, v := range []string{"CAPSTAN_REPO_URL", "CAPSTAN_OFFLINE", "CAPSTAN_KEY_PASSWORD", "SOURCE_DATE_EPOCH"} {
		t.Setenv(v, "")
	}
	t.Setenv("FAKE", "qemu")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := hypervisor.Local()
	h.Look = func(tool string) (string, error) {
		if tool == "qemu-system-x86_64" {
			return self, nil
		}
		return "", exec.ErrNotFound
	}
	h.KVM = func(context.Context, string) bool { return false }
	w := &world{t: t, root: root, host: h, in: strings.NewReader("")}
	t.Cleanup(func() {
		for _, name := range strings.Fields(w.quiet("instances", "-q")) {
			w.quiet("stop", "--force", name)
		}
	})
	return w
}

func (w *world) run(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, w.in, &o, &e, w.host)
	return code, o.String(), e.String()
}

func (w *world) quiet(args ...string) string {
	_, out, _ := w.run(args...)
	return out
}

// ok runs a command that must succeed, and returns both its outputs.
func (w *world) ok(args ...string) string {
	w.t.Helper()
	code, out, errs := w.run(args...)
	if code != 0 {
		w.t.Fatalf("capstan %s: status %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out + errs
}

// fails runs a command that must fail with this status and this message.
func (w *world) fails(want int, message string, args ...string) {
	w.t.Helper()
	code, out, errs := w.run(args...)
	errs = strings.ReplaceAll(errs, w.root, "ROOT")
	if code != want || !strings.HasPrefix(errs, "capstan: "+message) {
		w.t.Errorf("capstan %s: status %d, %s%swant status %d, capstan: %s", strings.Join(args, " "), code, out, errs, want, message)
	}
}

// kernel is a file with a kernel.
func (w *world) kernel(n int) string {
	w.t.Helper()
	name := filepath.Join(w.t.TempDir(), "k.elf")
	if err := os.WriteFile(name, fixture.Kernel(n), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func ask(t *testing.T, port int) string {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The way of an image: made here, pushed to a registry, fetched by another user, run,
// talked to, stopped, deleted.
func TestFromPushToDelete(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	url := "oci+http://" + strings.TrimPrefix(srv.URL, "http://") + "/osv"
	maker := newWorld(t)
	key := filepath.Join(t.TempDir(), "k")
	maker.ok("trust", "keygen", key)
	maker.ok("import", "-v", "1.0", "-d", "a test", "--port", "80", "app:1", maker.kernel(200000))
	if got := maker.ok("-u", url, "push", "-k", key+".key", "app:1"); !strings.Contains(got, "pushed app:1: ") || !strings.Contains(got, "signed with key ") {
		t.Error(got)
	}

	user := newWorld(t)
	user.fails(1, "image app:1 from ", "-u", url, "pull", "app:1") // the key is a stranger's
	user.ok("trust", "add", key+".pub")
	if got := user.ok("-u", url, "search", "app"); !strings.Contains(got, "app:1 ") {
		t.Error(got)
	}
	if got := user.ok("-u", url, "pull", "app:1"); !strings.Contains(got, "pulled app:1: ") {
		t.Error(got)
	}
	port := freePort(t)
	user.ok("run", "-d", "-i", "one", "-f", fmt.Sprintf("%d:80", port), "app:1")
	if got := ask(t, port); got != "guest" {
		t.Errorf("the guest says %q", got)
	}
	if got := user.ok("instances"); !strings.Contains(got, fmt.Sprintf("one   qemu        running  app:1  %d:80/tcp", port)) {
		t.Error(got)
	}
	user.fails(1, "instance one is running: stop it (capstan stop one) or choose another name (-i NAME)\n", "run", "-d", "-i", "one", "app:1")
	user.fails(1, fmt.Sprintf("port 127.0.0.1:%d/tcp is taken: stop what uses it, or choose another: -f ", port), "run", "-d", "-i", "two", "-f", fmt.Sprintf("%d:80", port), "app:1")
	if got := user.ok("instances", "-q"); got != "one\n" {
		t.Errorf("a clash of ports left %q", got)
	}
	user.fails(1, "instance one runs: stop it first (capstan stop one)\n", "delete", "one")
	user.ok("rmi", "app:1") // the instance has its own link
	user.ok("stop", "one")
	if got := user.ok("instances"); !strings.Contains(got, "stopped") {
		t.Error(got)
	}
	user.ok("run", "-d", "-i", "one")
	user.ok("stop", "--force", "one")
	user.ok("delete", "one")
	user.fails(3, "instance one: there is none (there are no instances)\n", "stop", "one")
	if left, _ := os.ReadDir(filepath.Join(user.root, "instances", "qemu")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestRunForeground(t *testing.T) {
	w := newWorld(t)
	w.ok("import", "app", w.kernel(1000))
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs syncBuffer
	done := make(chan int)
	go func() { done <- run(ctx, []string{"run", "app"}, strings.NewReader(""), &out, &errs, w.host) }()
	for !strings.Contains(out.String(), "hello from the guest") {
		select {
		case code := <-done:
			t.Fatalf("status %d: %s", code, errs.String())
		default:
		}
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("status %d: %s", code, errs.String())
	}
}

// The command line of an instance is in its copy-on-write disk.
func TestCommandLineOfAnInstance(t *testing.T) {
	w := newWorld(t)
	w.ok("import", "app", w.kernel(1000))
	w.ok("run", "-d", "--no-ports", "-e", "serve -m 64", "--env", "A=b c", "-v", "app")
	var list []struct{ Machine hypervisor.Machine }
	if err := json.Unmarshal([]byte(w.quiet("instances", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	if want := `--verbose --env="A=b c" -- serve -m 64`; len(list) != 1 || list[0].Machine.CommandLine != want {
		t.Errorf("%+v, want %s", list, want)
	}
	w.ok("stop", "app")
	// Not kept: another run has a disk of its own. Kept: it stays.
	w.ok("run", "-d", "--persist", "app")
	w.ok("stop", "app")
	w.fails(1, "instance app is kept (--persist): start it (capstan run -i app), delete it (capstan delete app), or choose another name (-i NAME)\n", "run", "-d", "app")
	w.ok("run", "-d", "-i", "app")
	w.fails(1, "instance app runs already\n", "run", "-d", "-i", "app")
}

func TestMessages(t *testing.T) {
	w := newWorld(t)
	t.Chdir(t.TempDir())
	const set = "set a repository (repo_url in ROOT/config.yaml, CAPSTAN_REPO_URL or -u), or build it here: capstan build ./appliances/nothing\n"
	w.fails(3, "image nothing:latest: not in the store (the store is empty); "+set, "run", "nothing")
	w.fails(1, "no repository; "+set, "pull", "nothing")
	w.fails(3, "image nothing:latest: not in the store (the store is empty); this is offline: fetch it where there is a network (capstan pull nothing:latest), or carry it over (capstan save, capstan load), or build it here: capstan build ./appliances/nothing\n", "--offline", "run", "nothing")
	w.fails(1, "repository oci://x/y: offline: the network may not be used; this is offline: ", "--offline", "-u", "oci://x/y", "pull", "nothing")
	w.fails(1, "no repository to search: set repo_url in ROOT/config.yaml, CAPSTAN_REPO_URL or -u\n", "search")
	w.fails(3, "image nothing:latest: not in the store (the store is empty)\n", "info", "nothing")
	w.fails(2, `image name "A B": want `, "info", "A B")
	w.fails(2, "unknown flag --frob", "images", "--frob")
	w.fails(2, `hypervisor "xen": want qemu, vbox, vmw, gce, firecracker (capstan --help)`, "run", "-p", "xen", "x")
	w.fails(2, "run: want an image, or an instance by -i", "run")
	w.fails(2, "-p vdi: no hypervisor or format", "build", "-p", "vdi")
	w.fails(1, "./no: no such folder\n", "build", "./no")
	w.fails(1, "no: no such folder, and no Capstanfile here\n", "build", "no")
	w.ok("import", "app", w.kernel(1000))
	for arg, want := range map[string]string{
		"-m 1X":          `size "1X": want a number with K, M, G or T (512M)`,
		"-m 1K":          `memory "1K": want whole MiB (512M, 1G)`,
		"-c 999":         "-c 999: want 1 to 255 vCPUs",
		"-f 80":          `port forward "80": want `,
		"-i A":           `instance name "A": want 1 to 63 small letters, digits and -`,
		"--mac=x":        "--mac=x: want six bytes, as 52:54:00:05:76:01",
		"--volume=/no/x": "volume: stat /no/x: no such file or directory (capstan volume create makes one)",
		"--env=A":        `--env "A": want NAME=VALUE`,
		"--volume=:a":    `volume ":a": "a": want `,
	} {
		w.fails(2, want, append(append([]string{"run"}, strings.Fields(arg)...), "app")...)
	}
	w.fails(2, "--boot and -e: one replaces", "run", "--boot=a", "-e=b", "app")
	w.fails(2, "--direct: only qemu boots", "run", "--direct", "-p", "vbox", "app")
	w.fails(2, "command line of 5000 bytes: at most 4096 fit", "run", "--boot="+strings.Repeat("-", 5000), "app")
	for h, tool := range map[string]string{"vbox": "VBoxManage", "vmw": "vmrun"} {
		w.fails(1, h+": "+tool+" is not installed (not in PATH): ", "run", "-p", h, "app")
	}
	w.fails(1, `gce: --gce-upload-dir="": want gs://BUCKET[/FOLDER]`, "run", "-p", "gce", "app")
	w.fails(1, "gce: gcloud is not installed", "run", "-p", "gce", "--gce-upload-dir=gs://b", "app")
	w.fails(1, "firecracker: firecracker is not installed", "run", "-p", "firecracker", "-n", "tap", "-b", "t0", "app")
	if left := w.quiet("instances", "-q"); left != "" {
		t.Errorf("instances that never ran are left: %q", left)
	}
	if err := os.WriteFile(filepath.Join(w.root, "config.yaml"), []byte("frob: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.fails(1, "ROOT/config.yaml: yaml: ", "images")
}

func TestStoreVerbs(t *testing.T) {
	w := newWorld(t)
	w.ok("import", "app", w.kernel(1000))
	if got := w.ok("images"); !strings.Contains(got, "app:latest  -        ") {
		t.Error(got)
	}
	var rows []imageRow
	if err := json.Unmarshal([]byte(w.quiet("images", "--json")), &rows); err != nil || len(rows) != 1 || rows[0].Name != "app:latest" {
		t.Errorf("%+v, %v", rows, err)
	}
	if got := w.ok("info", "--verify", "app"); !strings.Contains(got, "machine:   256 MiB, 1 vCPU\n") {
		t.Error(got)
	}
	if got := w.ok("info", "--json", "app"); !strings.Contains(got, `"name": "app:latest"`) {
		t.Error(got)
	}
	tar := filepath.Join(t.TempDir(), "x.tar")
	w.ok("save", "-o", tar, "app")
	_, stream, _ := w.run("save", "-o", "-", "app")
	if file, err := os.ReadFile(tar); err != nil || string(file) != stream {
		t.Errorf("file and standard output differ: %v", err)
	}
	w.ok("rmi", "app")
	if got := w.ok("load", tar); !strings.HasPrefix(got, "loaded app:latest: ") {
		t.Error(got)
	}
	w.in = strings.NewReader(stream)
	w.ok("load", "-")
	dir := t.TempDir()
	vol := filepath.Join(dir, "v.raw")
	w.ok("volume", "create", "-s", "1M", vol)
	w.fails(1, "volume "+vol+": there is a file\n", "volume", "create", vol)
	w.ok("run", "-d", "--volume", vol, "app")
	w.fails(1, "volume "+vol+": instance app has it (capstan delete app)\n", "volume", "delete", vol)
	w.ok("stop", "app")
	w.ok("delete", "app")
	w.ok("volume", "delete", vol)
	w.fails(2, "--created=x: want RFC 3339", "import", "-c", "x", "b", w.kernel(10))
	w.ok("import", "-c", "2014-04-01T00:00:00Z", "b", w.kernel(10))
	w.fails(1, "", "import", "c", tar)
	if got := w.ok("version"); got != "capstan development\n" {
		t.Error(got)
	}
	t.Setenv("CAPSTAN_REPO_URL", "oci://x")
	if got := w.ok("config", "print"); !strings.Contains(got, "repo_url:    oci://x\n") {
		t.Error(got)
	}
	if got := w.ok("config", "print", "--json"); !strings.Contains(got, `"offline": "false"`) {
		t.Error(got)
	}
}

// A signed folder: pushed to, served over HTTP, pulled from by run.
func TestRunFetchesFromATree(t *testing.T) {
	maker := newWorld(t)
	dir := t.TempDir()
	key := filepath.Join(t.TempDir(), "k")
	maker.ok("trust", "keygen", key)
	maker.ok("import", "app", maker.kernel(1000))
	if got := maker.ok("-u", dir, "push", "app"); !strings.Contains(got, "not signed (--key FILE signs)") {
		t.Error(got)
	}
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer srv.Close()
	user := newWorld(t)
	t.Setenv("CAPSTAN_REPO_URL", srv.URL)
	user.fails(1, "image app:latest from "+srv.URL+": not signed: nothing was fetched (--insecure-unsigned takes it all the same)\n", "run", "-d", "app")
	if got := user.ok("run", "-d", "--insecure-unsigned", "app"); !strings.Contains(got, "not signed") {
		t.Error(got)
	}
	user.ok("stop", "app")
	user.ok("rmi", "app")
	maker.ok("sign", "-k", key+".key", dir)
	user.ok("trust", "add", "--name", "maker", key+".pub")
	if got := user.ok("trust", "list"); !strings.Contains(got, "maker") {
		t.Error(got)
	}
	user.ok("pull", "-p", "all", "app")
	if got := user.ok("trust", "list", "--json"); !strings.Contains(got, `"name": "maker"`) {
		t.Error(got)
	}
	user.ok("trust", "remove", "maker")
	user.fails(3, "image other:latest: not found in "+srv.URL+" (it has app)\n", "pull", "other")
	if got := user.ok("search", "--json"); !strings.Contains(got, `"name": "app"`) {
		t.Error(got)
	}
}

// A disk that is full: a small file system of the test's own, in a namespace.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size=400k none "$CAPSTAN_ROOT" || exit 77; "$0" "$@"; code=$?; find "$CAPSTAN_ROOT" -type f | sed "s|$CAPSTAN_ROOT|left |"; exit $code`
	try := func(args ...string) (code int, out string) {
		t.Helper()
		cmd := exec.Command("unshare", append([]string{"--user", "--map-root-user", "--mount", "sh", "-c", script, self}, args...)...)
		cmd.Env = append(os.Environ(), "FAKE=capstan", "CAPSTAN_ROOT="+w.root)
		b, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 77 || strings.Contains(string(b), "unshare") {
			t.Skipf("no namespaces here: %v %s", err, b)
		}
		return cmd.ProcessState.ExitCode(), string(b)
	}
	tree := t.TempDir()
	maker := newWorld(t)
	maker.ok("import", "big", maker.kernel(600000))
	maker.ok("-u", tree, "push", "big")
	w.t.Setenv("CAPSTAN_ROOT", w.root)
	for _, args := range [][]string{{"-u", tree, "pull", "--insecure-unsigned", "big"}, {"import", "big", w.kernel(600000)}} {
		code, out := try(args...)
		_, left, _ := strings.Cut(out, "no space left on device\n")
		if code != 1 || !strings.Contains(left, "left /oci/oci-layout\n") || strings.Contains(left, "index.json") || strings.Contains(left, "/.") || strings.Contains(left, "/partial/") {
			t.Errorf("%v: status %d, %s", args, code, out)
		}
	}
}

func TestPackageInit(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "my-app")
	w.ok("package", "init", "-t", "mine", dir)
	b, err := os.ReadFile(filepath.Join(dir, "Capstanfile"))
	if err != nil || string(b) != "name: my-app\ntitle: mine\n" {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "main.go")); err != nil {
		t.Error(err)
	}
	w.fails(1, "open ", "package", "init", dir)
	// It is a module of its own, and becomes an image in one step.
	t.Setenv("FAKE", "")
	if got := w.ok("build", dir); !strings.HasPrefix(got, "built my-app:latest: ") {
		t.Error(got)
	}
}

// A folder of this module in one step, without a Capstanfile; twice the same.
func TestComposeIsReproducible(t *testing.T) {
	w := newWorld(t)
	t.Setenv("FAKE", "")
	prog := filepath.Join("..", "..", "..", "kernel", "ktest", "progs", "hello")
	var digests []string
	for _, name := range []string{"a", "a"} {
		w.ok("compose", "-c", "--verbose", name, prog)
		var row imageRow
		if err := json.Unmarshal([]byte(w.quiet("info", "--json", name)), &row); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, row.Digest)
	}
	if digests[0] != digests[1] || digests[0] == "" {
		t.Errorf("two builds: %v", digests)
	}
	w.ok("build", "-v", "-m", "64M", "-c", "2", "-e", "-- x", "-t", "b:1", "-p", "vbox", "-p", "raw", prog)
	if got := w.ok("info", "b:1"); !strings.Contains(got, "formats:   virtualbox raw elf\n") || !strings.Contains(got, "machine:   64 MiB, 2 vCPU\n") {
		t.Error(got)
	}
	files := t.TempDir()
	w.fails(1, "Capstanfile: files or rootfs given, and osv/kernel/ktest/progs/hello embeds none: ", "compose", "c", prog, func() string {
		if err := os.WriteFile(filepath.Join(files, "f"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return files
	}())
}

// Help of every verb, as it is printed.
func TestHelp(t *testing.T) {
	w := newWorld(t)
	p, err := kong.New(&cli{}, kong.Name("capstan"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, v := range verbsOf(p.Model) {
		args := append(strings.Fields(v.path), "--help")
		fmt.Fprintf(&all, "$ capstan %s\n%s\n", strings.Join(args, " "), w.ok(args...))
	}
	if w.ok() != w.ok("--help") {
		t.Error("no arguments are not --help")
	}
	file := filepath.Join("testdata", "help.txt")
	if *update {
		if err := os.WriteFile(file, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if all.String() != string(want) {
		t.Errorf("help has changed; look at it and run go test -update:\n%s", all.String())
	}
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	w.ok("import", "app", w.kernel(100))
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := w.ok("completion", shell)
		for _, word := range []string{"volume", "insecure-unsigned", "instances"} {
			if !strings.Contains(script, word) {
				t.Errorf("%s: no %s", shell, word)
			}
		}
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	for line, want := range map[string]string{"capstan vol": "volume", "capstan volume c": "create", "capstan run --pers": "--persist", "capstan run ap": "app:latest"} {
		words := strings.Fields(line)
		script := w.ok("completion", "bash") + "\ncapstan() { echo app:latest; }\n" +
			fmt.Sprintf("COMP_WORDS=(%s); COMP_CWORD=%d; _capstan; echo \"${COMPREPLY[@]}\"\n", line, len(words)-1)
		out, err := exec.Command(bash, "-c", script).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: %q, %v, want %s", line, out, err, want)
		}
	}
}

// In the foreground, the guest's exit status is capstan's.
func TestRunPassesOnTheGuestsStatus(t *testing.T) {
	w := newWorld(t)
	w.ok("import", "app", w.kernel(1000))
	for _, status := range []int{0, 1, 7, 100} {
		code, out, errs := w.run("run", "--no-ports", "-e", fmt.Sprintf("end=%d", status), "--direct", "app")
		if code != status || !strings.Contains(out, "hello from the guest") {
			t.Errorf("status %d of the guest: %d, %q, %q", status, code, out, errs)
		}
	}
	if code, _, errs := w.run("run", "-d", "--no-ports", "-e", "end=7", "--direct", "app"); code != 0 && code != 7 {
		t.Errorf("in the background: %d, %q", code, errs)
	}
}

// --wait returns when the guest takes connections, and says where it cannot.
func TestRunWaits(t *testing.T) {
	w := newWorld(t)
	w.ok("import", "app", w.kernel(1000))
	w.ok("run", "-d", "--wait", "-f", fmt.Sprintf("%d:80", freePort(t)), "app")
	w.ok("stop", "app")
	w.fails(1, "qemu: no TCP port leads into the guest", "run", "-d", "--wait", "--no-ports", "app")
	w.ok("stop", "app")
	w.fails(2, "--wait: for qemu in the background only", "run", "--wait", "app")
}
