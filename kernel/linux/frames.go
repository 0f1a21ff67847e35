package linux

import (
	"osv/kernel/linux/mm"
	"osv/kernel/vfs/tmpfs"
)

// Frames keeps file contents in the memory that programs have, so that they can be
// mapped.
func Frames(m mm.Machine) tmpfs.Frames { return mm.Frames{M: m} }
