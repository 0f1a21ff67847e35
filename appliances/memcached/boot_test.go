//go:build boot

package main

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"osv/harness/image"
	"osv/harness/vm"
)

// TestBoot boots the appliance on each engine with one and two vCPUs, and runs
// libmemcached's conformance test against the guest; then it ends it with the
// shutdown command.
//
//	go test -tags boot -run TestBoot ./appliances/memcached
func TestBoot(t *testing.T) {
	capable, err := exec.LookPath("memccapable")
	if err != nil {
		t.Fatal("memccapable is not installed (Debian: apt-get install libmemcached-tools)")
	}
	elf := filepath.Join(t.TempDir(), "memcached.elf")
	if err := image.Build(".", elf); err != nil {
		t.Fatal(err)
	}
	for _, engine := range []string{"channel", "batch", "socket"} {
		for _, cpus := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%dcpu", engine, cpus), func(t *testing.T) {
				port := freePort(t)
				nic, err := vm.ParseNIC(fmt.Sprintf("user,fwd=tcp:127.0.0.1:%d-:11211", port))
				if err != nil {
					t.Fatal(err)
				}
				v, err := vm.Start(t.Context(), vm.Spec{CPUs: cpus, Kernel: elf, RNG: true, NICs: []vm.NIC{nic},
					Append: "-- -A -U 11211 -engine=" + engine}, vm.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer v.Kill()
				addr := fmt.Sprintf("127.0.0.1:%d", port)
				say(t, addr, "stats\r\n", "STAT engine "+engine+"\r\n")
				out, err := exec.Command(capable, "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-t", "30").CombinedOutput()
				if pass := strings.Count(string(out), "[pass]"); err != nil || pass != 54 {
					t.Errorf("%d of 54 pass, %v:\n%s\n%s", pass, err, out, v.Tail(20))
				}
				if nc, err := net.Dial("tcp", addr); err == nil {
					io.WriteString(nc, "shutdown\r\n")
					io.ReadAll(nc)
					nc.Close()
				}
				if e, late := v.WaitTimeout(60 * time.Second); late || e.Code != 0 {
					t.Errorf("after shutdown: %v, late %v\n%s", e, late, v.Tail(20))
				}
			})
		}
	}
}

// say sends req until the guest is up and its reply has want in it.
func say(t *testing.T, addr, req, want string) {
	t.Helper()
	var got []byte
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(nc, req+"quit\r\n")
		got, _ = io.ReadAll(nc)
		nc.Close()
		if strings.Contains(string(got), want) {
			return
		}
	}
	t.Fatalf("never %q; the last reply was %q", want, got)
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
