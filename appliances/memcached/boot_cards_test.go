//go:build boot

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/image"
	"osv/harness/vm"
)

// TestBootOnCards boots the appliance with each network card that is not virtio,
// and runs libmemcached's conformance test against the guest.
//
//	go test -tags boot -run TestBootOnCards ./appliances/memcached
func TestBootOnCards(t *testing.T) {
	capable, err := exec.LookPath("memccapable")
	if err != nil {
		t.Fatal("memccapable is not installed (Debian: apt-get install libmemcached-tools)")
	}
	elf := filepath.Join(t.TempDir(), "memcached.elf")
	if err := image.Build(".", elf); err != nil {
		t.Fatal(err)
	}
	for _, model := range []string{"e1000", "e1000-82545em", "e1000e", "vmxnet3"} {
		for _, machine := range []vm.Machine{vm.Q35, vm.PC} {
			t.Run(fmt.Sprintf("%s/%s", model, machine), func(t *testing.T) {
				port := freePort(t)
				nic, err := vm.ParseNIC(fmt.Sprintf("user,model=%s,fwd=tcp:127.0.0.1:%d-:11211", model, port))
				if err != nil {
					t.Fatal(err)
				}
				v, err := vm.Start(t.Context(), vm.Spec{Machine: machine, CPUs: 2, Kernel: elf, RNG: true, NICs: []vm.NIC{nic},
					Append: "-- -A"}, vm.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer v.Kill()
				say(t, fmt.Sprintf("127.0.0.1:%d", port), "version\r\n", "VERSION")
				out, err := exec.Command(capable, "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-t", "30", "-a").CombinedOutput()
				if err != nil || !strings.Contains(string(out), "All tests passed") {
					t.Errorf("%v:\n%s\n%s", err, out, v.Tail(20))
				}
			})
		}
	}
}
