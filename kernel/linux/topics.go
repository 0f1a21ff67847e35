package linux

import (
	"osv/kernel/linux/sys"
	"osv/kernel/linux/sys/file"
	"osv/kernel/linux/sys/memory"
	"osv/kernel/linux/sys/proc"
)

// topics are the lists of system calls that need nothing from outside.
func topics() [][]sys.Entry {
	return [][]sys.Entry{proc.Calls, memory.Calls, file.Calls}
}
