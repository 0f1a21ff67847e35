package hypervisor

import (
	"context"

	"osv/harness/vm"
)

// haveKVM boots a guest of a few instructions: /dev/kvm may be there and not work.
func haveKVM(ctx context.Context, qemu string) bool { return vm.Probe(ctx, qemu) == vm.KVM }
