package sysbench

import (
	"fmt"
	"os"

	"osv/harness/guest/linux"
)

// initPath is process 1 of the Linux guest, named by rdinit=.
const initPath = "/sysbench.init"

// initScript mounts what the program needs, writes the profile's settings (harness/
// guest/linux passes them as words of the command line, which are in the environment
// of init) and runs the program with nothing beside it.
const initScript = `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
IFS=,
for s in $osv_sysctl; do sysctl -q -w "$s"; done
for f in $osv_files; do echo "${f#*=}" >"${f%%%%=*}"; done
unset IFS
/sysbench %d
echo "sysbench: exit $?"
poweroff -f
`

// writeInitrd writes the bare root, followed by an archive with the program; Linux
// unpacks one after the other.
func writeInitrd(out, bare string, prog []byte, rounds int) error {
	b, err := os.ReadFile(bare)
	if err != nil {
		return fmt.Errorf("sysbench: the bare Linux root: %w", err)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	more, err := linux.Overlay(map[string][]byte{"sysbench": prog, initPath[1:]: fmt.Appendf(nil, initScript, rounds)}, "usr", "var/tmp")
	if err != nil {
		return fmt.Errorf("sysbench: initrd: %w", err)
	}
	if err := os.WriteFile(out, append(b, more...), 0o644); err != nil {
		return fmt.Errorf("sysbench: initrd: %w", err)
	}
	return nil
}
