package sysbench

import (
	"bytes"
	"fmt"
	"os"
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
	w := bytes.NewBuffer(b)
	ino := 0x10000 // apart from those of the first archive: equal numbers are hard links
	member := func(name string, mode uint32, data []byte) {
		ino++
		// newc: magic, ino, mode, uid, gid, nlink, mtime, filesize, maj, min, rmaj, rmin,
		// namesize, check; name and data each padded to four bytes.
		h := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
			ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		w.WriteString(h)
		w.Write(make([]byte, -len(h)&3))
		w.Write(data)
		w.Write(make([]byte, -len(data)&3))
	}
	const dir, file = 0o040755, 0o100755
	member("usr", dir, nil)
	member("var", dir, nil)
	member("var/tmp", dir, nil)
	member("sysbench", file, prog)
	member(initPath[1:], file, fmt.Appendf(nil, initScript, rounds))
	member("TRAILER!!!", 0, nil)
	if err := os.WriteFile(out, w.Bytes(), 0o644); err != nil {
		return fmt.Errorf("sysbench: initrd: %w", err)
	}
	return nil
}
