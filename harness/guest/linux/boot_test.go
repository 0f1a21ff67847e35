//go:build boot

package linux

import (
	"net/netip"
	"testing"
	"time"

	"osv/harness/vm"
)

// The guest boots on every board the bench may use, with each profile and
// service, and says how it sees itself. The first run fetches packages.
func TestGuestBoots(t *testing.T) {
	img, err := Ensure(t.Context(), Config{Log: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		machine vm.Machine
		cpus    int
		prof    Profile
		svc     Service
	}{
		{vm.Q35, 1, Stock, Memcached},
		{vm.Q35, 2, Tuned, Memcached},
		{vm.Q35, 1, BusyPoll, IPerf3},
		{vm.PC, 1, Tuned, None},
	} {
		name := string(c.machine) + "/" + c.prof.Name + "/" + c.svc.Name
		t.Run(name, func(t *testing.T) {
			g := Guest{Image: img, Profile: c.prof, Service: c.svc, IP: netip.MustParsePrefix("10.0.2.15/24"), PowerOff: true}
			s, err := g.Spec(vm.Spec{Machine: c.machine, CPUs: c.cpus, NICs: []vm.NIC{{Kind: vm.NetUser, Restrict: true}}})
			if err != nil {
				t.Fatal(err)
			}
			v, err := vm.Start(t.Context(), s, vm.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			init, err := v.WaitLine(InitLine, 60*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			ready, err := WaitReady(v, 60*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			facts, err := Measured(v, 60*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("init after %v, ready after %v", init.At.Sub(v.Started), ready.At.Sub(v.Started))
			seen := map[string]string{}
			for _, f := range facts {
				seen[f.Name] = f.Value
				t.Logf("%s = %s", f.Name, f.Value)
			}
			if seen["kernel"] != img.KernelVersion {
				t.Errorf("kernel %q, want %q", seen["kernel"], img.KernelVersion)
			}
			if e, late := v.WaitTimeout(20 * time.Second); late || e.Kind != vm.ExitShutdown {
				t.Errorf("end: %v%s", e, v.Tail(5))
			}
		})
	}
}
