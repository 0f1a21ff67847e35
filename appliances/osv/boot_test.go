//go:build boot

package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"osv/harness/diskimage"
	"osv/harness/image"
	"osv/harness/vm"
	"osv/harness/wire"
	"osv/kernel/ktest/restcheck"
)

// The tests of this file boot the base image in QEMU, on a TAP device in a network
// namespace of its own, and call its API from there:
//
//	go test -tags boot -run TestBoot ./appliances/osv

var elf = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "osv-base-")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "osv.elf")
	return out, image.Build(".", out)
})

const token = "correct-horse"

// booted is a guest that runs, and answers.
type booted struct {
	*vm.VM
	t      *testing.T
	wire   *wire.Wire
	url    string
	client *http.Client
}

func boot(t *testing.T, spec vm.Spec, args string) *booted {
	t.Helper()
	if len(spec.Disks) == 0 && spec.Kernel == "" {
		var err error
		if spec.Kernel, err = elf(); err != nil {
			t.Fatal(err)
		}
		spec.Append = ipOption() + args
	}
	return bootBeside(t, spec, func(*wire.Wire, vm.NIC) {})
}

// bootBeside boots a guest once what is on the wire with it is there.
func bootBeside(t *testing.T, spec vm.Spec, peer func(*wire.Wire, vm.NIC)) *booted {
	t.Helper()
	w, err := wire.Open(wire.Options{Kind: wire.TAP})
	if errors.Is(err, wire.ErrPrivilege) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	spec.NICs, spec.RNG = []vm.NIC{w.NIC(0)}, true
	peer(w, spec.NICs[0])
	v, err := vm.Start(t.Context(), spec, vm.Options{Enter: w.Enter})
	if err != nil {
		w.Close()
		t.Fatal(err)
	}
	g := &booted{VM: v, t: t, wire: w}
	t.Cleanup(func() {
		v.Kill()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s%s", spec.Line(), v.Tail(60))
		}
	})
	l, err := v.WaitLine(regexp.MustCompile(`osv: https?://[0-9]`), 60*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	g.url = strings.TrimSuffix(l.Text[strings.Index(l.Text, "http"):], "/")
	g.client = &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{DialContext: w.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(g.client.CloseIdleConnections)
	return g
}

// ipOption is the option that gives a guest its address.
func ipOption() string {
	ip := wire.GuestIP(0)
	return fmt.Sprintf("--ip=eth0,%v,%d ", ip.Addr(), ip.Bits())
}

// get is a GET with the token.
func (g *booted) get(path string) (int, []byte) {
	g.t.Helper()
	return g.call("GET", path, nil)
}

func (g *booted) call(method, path string, body io.Reader) (int, []byte) {
	g.t.Helper()
	r, err := http.NewRequest(method, g.url+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := g.client.Do(r)
	if err != nil {
		g.t.Errorf("%s %s: %v", method, path, err)
		return 0, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Errorf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, b
}

// TestBootAPI calls every method of every path.
func TestBootAPI(t *testing.T) {
	for _, cpus := range []int{1, 2} {
		t.Run(fmt.Sprintf("%dcpu", cpus), func(t *testing.T) {
			target := func(g *booted) restcheck.Target {
				return restcheck.Target{URL: g.url, Token: token, Client: g.client, Guest: true, Ended: func(t *testing.T, op string) {
					e, late := g.WaitTimeout(30 * time.Second)
					ok := e.OK()
					if op == "os_reboot" {
						ok = e.Kind == vm.ExitReset
					}
					if late || !ok {
						t.Errorf("%s: %v, late %v", op, e, late)
					}
				}}
			}
			spec := vm.Spec{CPUs: cpus, MemMiB: 128}
			var fresh func(*testing.T) restcheck.Target
			if cpus == 1 {
				fresh = func(t *testing.T) restcheck.Target { return target(boot(t, spec, "--rest-token="+token)) }
			}
			restcheck.Run(t, target(boot(t, spec, "--rest-token="+token)), fresh)
		})
	}
}

// TestBootSmall is a guest of 64 MiB under what strangers may send.
func TestBootSmall(t *testing.T) {
	g := boot(t, vm.Spec{CPUs: 1, MemMiB: 64}, "--rest-token="+token)
	host, _, _ := strings.Cut(strings.TrimPrefix(g.url, "http://"), "/")
	var conns []net.Conn
	for range 500 {
		c, err := g.wire.DialContext(t.Context(), "tcp", host)
		if err != nil {
			break // refused: as good as closed
		}
		defer c.Close()
		io.WriteString(c, "GET /os/version HTTP/1.1\r\nHost: loc")
		conns = append(conns, c)
	}
	t.Logf("%d connections of 500 were made", len(conns))
	if len(conns) < 100 {
		t.Errorf("%d connections", len(conns))
	}
	for _, c := range conns { // half of those that one client may have are this one's
		c.Close()
	}
	if code, b := g.get("/os/version"); code != 200 {
		t.Errorf("after half requests: %d %s", code, b)
	}
	c, err := g.wire.DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "POST /file/big HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 2147483648\r\n\r\n", host, token)
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "HTTP/1.1 413" {
		t.Errorf("2 GiB announced: %q, %v", b, err)
	}
	c.Close()
	// The same without saying so: the file system takes an eighth of the memory.
	r, _ := http.NewRequest("POST", g.url+"/file/big", io.LimitReader(zeros{}, 2<<30))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/octet-stream")
	if resp, err := g.client.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode != 413 && resp.StatusCode != 507 {
			t.Errorf("2 GiB: %d", resp.StatusCode)
		}
	}
	if code, _ := g.call("POST", "/file/small", strings.NewReader("small")); code != 200 {
		t.Errorf("a small file afterwards: %d", code)
	}
	var m struct {
		Total, Free uint64
		LeastFree   uint64 `json:"least_free"`
	}
	_, body := g.get("/os/memory")
	if err := json.Unmarshal(body, &m); err != nil || m.LeastFree < 4<<20 {
		t.Errorf("memory: %s, %v", body, err)
	}
	t.Logf("memory afterwards: %s", body)
	for _, l := range g.Lines() {
		if regexp.MustCompile(`panic|fatal error|^goroutine `).MatchString(l.Text) {
			t.Errorf("console: %s", l.Text)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBootProfile has go tool pprof show the guest's functions by name, and go tool
// trace read its trace.
func TestBootProfile(t *testing.T) {
	g := boot(t, vm.Spec{CPUs: 1, MemMiB: 128}, "--rest-token="+token)
	if code, b := g.call("PUT", "/app?command=spin+30", nil); code != 200 {
		t.Fatalf("%d %s", code, b)
	}
	for name, want := range map[string]string{"profile?seconds=2": `main\.spin`, "goroutine": `osv/kernel/net/netchan\.\(\*Chan\)\.Wait`, "heap": `osv/|net/http`} {
		code, b := g.get("/debug/pprof/" + name)
		if code != 200 {
			t.Fatalf("%s: %d %s", name, code, b)
		}
		file := filepath.Join(t.TempDir(), "p.pb.gz")
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("go", "tool", "pprof", "-top", "-symbolize=none", file).CombinedOutput()
		if err != nil || !regexp.MustCompile(want).Match(out) {
			t.Errorf("%s: %v, no %s in\n%s", name, err, want, out)
		}
	}
	code, b := g.get("/debug/pprof/trace?seconds=1")
	if code != 200 || !strings.HasPrefix(string(b), "go 1.") || len(b) < 1000 {
		t.Errorf("trace: %d, %d bytes", code, len(b))
	}
	var l []struct {
		BusyMS int64 `json:"busy_ms"`
		IdleMS int64 `json:"idle_ms"`
	}
	_, b = g.get("/hardware/processors")
	if err := json.Unmarshal(b, &l); err != nil || len(l) != 1 || l[0].BusyMS < 2000 {
		t.Errorf("a processor that spins: %s", b)
	}
}

// TestBootTLS answers by TLS with a certificate of its own, and without a token lets
// nobody change anything.
func TestBootTLS(t *testing.T) {
	g := boot(t, vm.Spec{CPUs: 1, MemMiB: 128}, "--rest-tls")
	if !strings.HasPrefix(g.url, "https://") {
		t.Errorf("says %s", g.url)
	}
	if code, b := g.get("/os/version"); code != 200 {
		t.Errorf("%d %s", code, b)
	}
	if code, b := g.call("POST", "/os/poweroff", nil); code != 403 || !strings.Contains(string(b), "--rest-token") {
		t.Errorf("power off without a token: %d %s", code, b)
	}
	if code, b := g.get("/os/dmesg"); code != 200 || !strings.Contains(string(b), "SHA-256") {
		t.Errorf("the log does not tell the certificate: %d %.300s", code, b)
	}
}

// maxImage is the largest that the base image may be, in bytes: the kernel that is
// booted directly, and the disk image that is downloaded.
const maxImage = 15_000_000

// counter counts what is written.
type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// TestBootCommandLine boots a disk image with 64 MiB, stores another command line on
// it by the API, and boots it again.
func TestBootCommandLine(t *testing.T) {
	dir := t.TempDir()
	stripped := filepath.Join(dir, "osv.elf")
	if err := image.BuildWith(".", stripped, image.Options{Strip: true}); err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(stripped)
	if err != nil {
		t.Fatal(err)
	}
	d, err := diskimage.Build(kernel, diskimage.Options{CommandLine: ipOption() + "--rest-token=" + token})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "osv.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.WriteTo(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	var packed counter
	if err := d.WriteQCOW2(&packed); err != nil {
		t.Fatal(err)
	}
	t.Logf("kernel %d bytes, QCOW2 %d bytes", len(kernel), packed)
	if packed > maxImage || len(kernel) > maxImage {
		t.Errorf("kernel %d bytes, QCOW2 %d, want %d at most", len(kernel), packed, maxImage)
	}
	spec := vm.Spec{CPUs: 1, MemMiB: 64, Disks: []vm.Disk{{Path: path}}}
	g := boot(t, spec, "")
	if code, b := g.get("/hardware/disks"); code != 200 || !strings.Contains(string(b), `"name":"blk0"`) {
		t.Errorf("disks: %d %s", code, b)
	}
	line := ipOption() + "--rest-token=" + token + " --verbose"
	code, b := g.call("POST", "/os/cmdline?cmdline="+url.QueryEscape(line), nil)
	if want := strings.ReplaceAll(line, token, "***"); code != 200 || string(b) != `"`+want+`"` {
		t.Errorf("%d %s", code, b)
	}
	if code, b := g.call("POST", "/os/cmdline?cmdline="+strings.Repeat("x", 4097), nil); code != 400 {
		t.Errorf("a line that is too long: %d %s", code, b)
	}
	if code, _ := g.call("POST", "/os/poweroff", nil); code != 200 {
		t.Errorf("power off: %d", code)
	}
	if e, late := g.WaitTimeout(30 * time.Second); late || !e.OK() {
		t.Errorf("%v, late %v", e, late)
	}
	if got, err := diskimage.ReadCommandLine(path); err != nil || got != line {
		t.Errorf("on the disk: %q, %v", got, err)
	}
	again := boot(t, spec, "")
	if code, b := again.get("/os/cmdline"); code != 200 || !strings.HasSuffix(string(b), `--verbose"`) {
		t.Errorf("after the second boot: %d %s", code, b)
	}
}
