package programs

import (
	"osv/kernel/blk"
	"osv/kernel/linux"
	"osv/kernel/platform"
	"osv/kernel/vfs"
)

// mountDisk mounts the file system on a disk, whose first 4096 bytes are head. Nil
// without an error: there is none that is known.
func mountDisk(s *platform.System, cfg *linux.Config, d blk.Disk, head []byte) (vfs.FileSystem, error) {
	if !platform.IsExt4(head) {
		return nil, nil
	}
	return s.MountExt4(d, linux.Frames(cfg.Machine))
}
