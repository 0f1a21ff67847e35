package volumes

import (
	"fmt"
	"strings"

	"osv/kernel/platform"
	"osv/kernel/vfs"
)

// entry is a mount in the words of fstab(5).
type entry struct{ Source, Target, Type, Options string }

// options are what the command line says.
type options struct {
	mounts []entry
	off    bool // nothing at DataDir without being asked for
}

const usage = `  --mount-fs=TYPE,DISK,DIRECTORY[,OPTION...]
                            mount an ext4 file system; may repeat. DISK: blk0,
                            blk0p4, /dev/vda, /dev/vda4, LABEL=, UUID=, PARTLABEL=
                            or PARTUUID=; OPTION: ro, nosuid, nodev, noexec,
                            noatime, relatime
  --nomount                 do not mount the data partition, else the first disk
                            with ext4, at /data
`

var given options

func init() { platform.Extend(platform.Extension{Usage: usage, Set: given.set}) }

// set takes one word of the command line.
func (o *options) set(word string) (known bool, err error) {
	name, value, has := strings.Cut(word, "=")
	switch name {
	case "--mount-fs":
		f := strings.SplitN(value, ",", 4)
		if len(f) < 3 || f[0] == "" || f[1] == "" || !strings.HasPrefix(f[2], "/") {
			return true, fmt.Errorf("option %s: %q: want TYPE,DISK,/DIRECTORY", name, value)
		}
		m := entry{Source: f[1], Target: f[2], Type: f[0]}
		if len(f) == 4 {
			m.Options = f[3]
		}
		if _, err := parseOptions(m.Type, m.Options); err != nil {
			return true, fmt.Errorf("option %s: %q: %w", name, value, err)
		}
		o.mounts = append(o.mounts, m)
	case "--nomount":
		if has {
			return true, fmt.Errorf("option %s: takes no value", name)
		}
		o.off = true
	default:
		return false, nil
	}
	return true, nil
}

// flags are the options of a mount that count. Those of ignored say how others look
// after it, not what it is.
var (
	flagOf = map[string]vfs.MountFlags{
		"ro": vfs.MountReadOnly, "nosuid": vfs.MountNoSuid, "nodev": vfs.MountNoDev, "noexec": vfs.MountNoExec,
		"noatime": vfs.MountNoAtime, "relatime": vfs.MountRelatime,
	}
	ignored = map[string]bool{"": true, "defaults": true, "rw": true, "auto": true, "nofail": true, "_netdev": true, "user": true, "nouser": true, "async": true, "suid": true, "dev": true, "exec": true, "errors=remount-ro": true}
)

// parseOptions reads the third and fourth field of fstab(5).
func parseOptions(kind, opts string) (vfs.MountFlags, error) {
	switch kind {
	case "", "auto", "ext4", "ext3", "ext2":
	default:
		return 0, fmt.Errorf("type %s: only ext4 is known", kind)
	}
	var flags vfs.MountFlags
	for w := range strings.SplitSeq(opts, ",") {
		f, ok := flagOf[w]
		switch {
		case ok:
			flags |= f
		case ignored[w] || strings.HasPrefix(w, "x-") || strings.HasPrefix(w, "comment="):
		default:
			return 0, fmt.Errorf("option %q is not known", w)
		}
	}
	return flags, nil
}
