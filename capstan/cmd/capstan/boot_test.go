//go:build boot

package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"osv/capstan/hypervisor"
)

// asMemcached stores a value and reads it back, until the guest is up.
func asMemcached(t *testing.T, port int, within time.Duration) {
	t.Helper()
	// QEMU takes a connection before the guest is there and tries again after seconds:
	// so does this, sooner, with a new one.
	try := func() error {
		c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", port), time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		io.WriteString(c, "set k 7 0 5\r\nhello\r\nget k\r\nquit\r\n")
		got, err := io.ReadAll(c)
		if want := "STORED\r\nVALUE k 7 5\r\nhello\r\nEND\r\n"; string(got) != want {
			return fmt.Errorf("reply %q: %w", got, errors.Join(err, io.ErrUnexpectedEOF))
		}
		return nil
	}
	for end := time.Now().Add(within); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// The same way as TestFromPushToDelete, with memcached and a real QEMU; then from the
// firmware's side, with its own command line, and without firmware.
//
//	go test -tags boot -run TestBoot -v ./capstan/cmd/capstan
func TestBootMemcached(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed (Debian: apt-get install qemu-system-x86)")
	}
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	url := "oci+http://" + strings.TrimPrefix(srv.URL, "http://") + "/osv"
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	maker := newWorld(t)
	maker.ok("build", filepath.Join(root, "appliances", "memcached"))
	maker.ok("-u", url, "push", "memcached")

	user := newWorld(t)
	user.host = hypervisor.Local()
	user.ok("-u", url, "pull", "--insecure-unsigned", "memcached")
	for _, args := range [][]string{{"-v"}, {"--direct", "-e", "-m 32"}, {"--direct", "-c", "2", "-m", "128M"}} {
		port := freePort(t)
		start := time.Now()
		user.ok(append(append([]string{"run", "-d", "--wait", "-f", fmt.Sprintf("%d:11211", port)}, args...), "memcached")...)
		asMemcached(t, port, 0) // at once
		t.Logf("%v: first reply after %v", args, time.Since(start))
		user.ok("stop", "memcached")
		console, err := os.ReadFile(filepath.Join(user.root, "instances", "qemu", "memcached", hypervisor.ConsoleLog))
		if err != nil {
			t.Error(err)
		}
		if verbose := strings.Contains(string(console), "eth0: pci"); verbose != (args[0] == "-v") {
			t.Errorf("%v: console of another command line:\n%s", args, console)
		}
		if got := user.ok("instances"); !strings.Contains(got, "stopped") {
			t.Error(got)
		}
	}
	user.ok("delete", "memcached")
}

// From nothing to the first reply: an empty store, the appliance linked here.
func TestBootFromAColdStore(t *testing.T) {
	w := newWorld(t)
	w.host = hypervisor.Local()
	t.Chdir(filepath.Join("..", "..", ".."))
	port := freePort(t)
	start := time.Now()
	w.ok("run", "-d", "-f", fmt.Sprintf("%d:11211", port), "memcached")
	up := time.Since(start)
	asMemcached(t, port, time.Minute)
	t.Logf("run returned after %v, first reply after %v", up, time.Since(start))
	w.ok("stop", "memcached")
}
