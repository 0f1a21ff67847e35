package ext4

import (
	"syscall"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

// FS is vfs.Node's.
func (i *inode) FS() vfs.FileSystem { return i.fs }

// Attr is vfs.Node's.
func (i *inode) Attr() (vfs.Attr, error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	a := vfs.Attr{
		Dev: i.fs.devNo, Ino: uint64(i.ino), Type: i.typ, Mode: i.mode, Nlink: i.links, UID: i.uid, GID: i.gid,
		Size: i.size, Blocks: i.sectors, BlockSize: cache.PageSize,
		Atime: time.Unix(0, i.atime.Load()), Mtime: time.Unix(0, i.mtime.Load()), Ctime: time.Unix(0, i.ctime.Load()), Btime: time.Unix(0, i.btime),
	}
	switch i.typ {
	case vfs.TypeFile:
		a.Size = i.pages.Size()
		if n := (*backing)(i).delayed(); n > 0 {
			a.Blocks += n << (i.fs.sb.blockShift - 9)
		}
	case vfs.TypeChar, vfs.TypeBlock:
		a.Rdev = i.rdev()
	}
	return a, nil
}

// rdev is a device file's number, in i_block: the old form of 16 bits, or the new one
// of 32.
func (i *inode) rdev() uint64 {
	if old := i.u32(inBlock); old != 0 {
		return makedev(uint64(old>>8&0xff), uint64(old&0xff))
	}
	d := uint64(i.u32(inBlock + 4))
	return makedev(d>>8&0xfff, d&0xff|d>>12&0xfff00)
}

func makedev(major, minor uint64) uint64 {
	return minor&0xff | (major&0xfff)<<8 | (minor&^0xff)<<12 | (major&^0xfff)<<32
}

func (i *inode) putRdev(dev uint64) {
	major := dev>>8&0xfff | dev>>32&^0xfff
	minor := dev&0xff | dev>>12&0xffffff00
	if major < 256 && minor < 256 {
		le.PutUint32(i.raw[inBlock:], uint32(major<<8|minor))
		return
	}
	le.PutUint32(i.raw[inBlock+4:], uint32(minor&0xff|major<<8|(minor&^0xff)<<12))
}

// ReadLink is vfs.Node's.
func (i *inode) ReadLink() (string, error) {
	if i.typ != vfs.TypeLink {
		return "", syscall.EINVAL
	}
	i.touchAtime()
	return i.readLink()
}
