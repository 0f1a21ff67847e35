//go:build !linux

package hypervisor

import "context"

// haveKVM: other systems have no KVM; QEMU translates there.
func haveKVM(context.Context, string) bool { return false }
