//go:build boot

package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/crypto/ssh"

	"osv/harness/image"
	"osv/harness/vm"
	"osv/harness/wire"
	"osv/kernel/ktest/fakecloud"
)

func TestMain(m *testing.M) {
	wire.Become()
	os.Exit(m.Run())
}

// metadata serves h where clouds have their metadata, inside the wire's namespace.
func metadata(t *testing.T, w *wire.Wire, h http.Handler) {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends in that namespace
		l, err := func() (net.Listener, error) {
			if err := w.Enter(); err != nil {
				return nil, err
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return nil, err
			}
			a, err := netlink.ParseAddr("169.254.169.254/32")
			if err != nil {
				return nil, err
			}
			if err := netlink.AddrAdd(lo, a); err != nil {
				return nil, err
			}
			return net.Listen("tcp", "169.254.169.254:80")
		}()
		got <- result{l, err}
	}()
	r := <-got
	if r.err != nil {
		t.Skip("needs a network namespace: ", r.err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(r.l)
	t.Cleanup(func() { s.Close() })
}

// A guest of EC2 or GCE comes up with its owner's key, its name and its files; where
// the metadata is missing, slow or garbage it comes up all the same, and nobody asks
// at all where the firmware names no cloud.
func TestBootInClouds(t *testing.T) {
	elf := filepath.Join(t.TempDir(), "osv.elf")
	if err := image.Build(".", elf); err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	in := fakecloud.Instance{ID: "i-1", Hostname: "from-meta.internal", Keys: []string{line}, UserData: "#cloud-config\nwrite_files:\n- {path: /etc/motd, content: 'by the cloud'}\n"}
	var asked atomic.Int32
	count := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); h.ServeHTTP(w, r) })
	}
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	junk := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		fmt.Fprint(w, "\x00\xffinstance-id", strings.Repeat("{", 1<<16))
	})
	const google, amazon = "type=1,manufacturer=Google,product=Google Compute Engine", "type=1,manufacturer=Amazon EC2"
	for _, c := range []struct {
		name, smbios string
		h            http.Handler
		login        bool
		silent       bool // nobody asks
	}{
		{"EC2", amazon, fakecloud.EC2(in, true, new(atomic.Int32)), true, false},
		{"EC2 version 1", amazon, fakecloud.EC2(in, false, nil), true, false},
		{"GCE", google, fakecloud.GCE(in, true), true, false},
		{"no cloud", "type=1,manufacturer=QEMU", fakecloud.GCE(in, true), false, true},
		{"missing", google, http.NotFoundHandler(), false, false},
		{"slow", amazon, slow, false, false},
		{"garbage", google, junk, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked.Store(0)
			w, err := wire.Open(wire.Options{Kind: wire.TAP})
			if err != nil {
				t.Skip(err)
			}
			defer w.Close()
			metadata(t, w, count(c.h))
			ip := wire.GuestIP(0)
			v, err := vm.Start(t.Context(), vm.Spec{Kernel: elf, RNG: true, MemMiB: 64, NICs: []vm.NIC{w.NIC(0)}, Extra: []string{"-smbios", c.smbios},
				Append: fmt.Sprintf("--ip=eth0,%s,%d --defaultgw=%s", ip.Addr(), ip.Bits(), wire.Host.Addr())}, vm.Options{Enter: w.Enter})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			get := func(path string) string { return fetch(t, v, w, path) }
			if got := get("/os/version"); !strings.Contains(got, "v0.06") {
				t.Errorf("/os/version: %q", got)
			}
			if c.login {
				out := login(t, v, w, signer, "hostname; cat /etc/motd")
				if out != "from-meta\nby the cloud" {
					t.Errorf("by ssh: %q", out)
				}
				if got := get("/os/hostname"); !strings.Contains(got, "from-meta") {
					t.Errorf("/os/hostname: %q", got)
				}
				return
			}
			time.Sleep(2 * time.Second) // longer than a probe may take
			if nc, err := w.DialContext(t.Context(), "tcp", ip.Addr().String()+":22"); err == nil {
				nc.Close()
				t.Error("somebody may log in")
			}
			if got := get("/os/version"); !strings.Contains(got, "v0.06") {
				t.Errorf("later, /os/version: %q", got)
			}
			if (asked.Load() == 0) != c.silent {
				t.Errorf("%d requests", asked.Load())
			}
		})
	}
}

// fetch gets a path of the guest's API, waiting for the guest.
func fetch(t *testing.T, v *vm.VM, w *wire.Wire, path string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: w.DialContext, DisableKeepAlives: true}, Timeout: 20 * time.Second}
	var last error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		r, err := c.Get("http://" + wire.GuestIP(0).Addr().String() + ":8000" + path)
		if err != nil {
			last = err
			continue
		}
		defer r.Body.Close()
		b := make([]byte, 4096)
		n, _ := r.Body.Read(b)
		return string(b[:n])
	}
	t.Fatalf("%s: %v\n%s", path, last, v.Tail(20))
	return ""
}

// login runs a command over SSH, waiting for the key to be there.
func login(t *testing.T, v *vm.VM, w *wire.Wire, key ssh.Signer, command string) string {
	t.Helper()
	addr := wire.GuestIP(0).Addr().String() + ":22"
	var last error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		nc, err := w.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			last = err
			continue
		}
		conn, chans, reqs, err := ssh.NewClientConn(nc, addr, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err != nil {
			nc.Close()
			last = err
			continue
		}
		client := ssh.NewClient(conn, chans, reqs)
		defer client.Close()
		s, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Output(command)
		if err != nil {
			last = err // the files of user-data may come after the key
			continue
		}
		return string(out)
	}
	t.Fatalf("%s: %v\n%s", command, last, v.Tail(20))
	return ""
}
