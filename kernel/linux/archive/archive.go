// Package archive fills a file tree from a tar archive: how a program's files get into
// a guest that has no file system on a disk.
//
// Spec: POSIX.1-2017 ustar and pax, by archive/tar. Who may use it: kernel/platform.
// Owners, rights, times, links and device files are kept. Start reading at Unpack.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"

	"osv/kernel/vfs"
)

// Is says whether the first 512 bytes of a medium are the header of a tar archive.
func Is(b []byte) bool { return len(b) >= 512 && string(b[257:262]) == "ustar" }

// Unpack makes all that is in the archive, from ctx's root on. It ends at the
// archive's end, however long the medium is.
func Unpack(ctx *vfs.Context, r io.Reader) (files int, err error) {
	u := unpacker{ctx: ctx, buf: make([]byte, 256<<10)}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return files, fmt.Errorf("archive: entry %d: %w", files, err)
		}
		if err := u.entry(h, tr); err != nil {
			return files, fmt.Errorf("archive: %s: %w", h.Name, err)
		}
		files++
	}
}

type unpacker struct {
	ctx *vfs.Context
	buf []byte
}

// clean is an entry's path from the root on; it cannot lead out of it.
func clean(name string) string { return path.Clean("/" + name) }

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name := clean(h.Name)
	if name == "/" {
		return nil
	}
	if err := u.parents(name); err != nil {
		return err
	}
	mode := uint32(h.Mode & 0o7777)
	var err error
	at := vfs.Path{}
	switch h.Typeflag {
	case tar.TypeDir:
		if err = vfs.MkdirAt(u.ctx, at, name, mode); errors.Is(err, syscall.EEXIST) {
			err = nil
		}
	case tar.TypeReg:
		err = u.file(name, mode, r)
	case tar.TypeSymlink:
		err = u.again(name, func() error { return vfs.SymlinkAt(u.ctx, h.Linkname, at, name) })
		if err == nil {
			return u.own(name, h, false)
		}
	case tar.TypeLink:
		return u.again(name, func() error { return vfs.LinkAt(u.ctx, at, clean(h.Linkname), at, name, 0) })
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		typ := map[byte]vfs.Type{tar.TypeChar: vfs.TypeChar, tar.TypeBlock: vfs.TypeBlock, tar.TypeFifo: vfs.TypePipe}[h.Typeflag]
		err = u.again(name, func() error {
			_, err := vfs.MknodAt(u.ctx, at, name, typ, mode, vfs.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
			return err
		})
	default:
		return nil // extensions that carry no file
	}
	if err != nil {
		return err
	}
	return u.own(name, h, true)
}

// again does make, after taking away what is in its place.
func (u *unpacker) again(name string, make func() error) error {
	err := make()
	if !errors.Is(err, syscall.EEXIST) {
		return err
	}
	if err := vfs.UnlinkAt(u.ctx, vfs.Path{}, name, false); err != nil {
		return err
	}
	return make()
}

// parents makes the directories that an entry is in, where the archive has not.
func (u *unpacker) parents(name string) error {
	dir := path.Dir(name)
	if _, err := vfs.Walk(u.ctx, vfs.Path{}, dir, vfs.Follow); !errors.Is(err, syscall.ENOENT) {
		return err
	}
	for i := 1; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		if err := vfs.MkdirAt(u.ctx, vfs.Path{}, dir[:i], 0o755); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	return nil
}

func (u *unpacker) file(name string, mode uint32, r io.Reader) error {
	flags := syscall.O_WRONLY | syscall.O_CREAT | syscall.O_TRUNC
	o, err := vfs.OpenAt(u.ctx, vfs.Path{}, name, flags, mode, 0)
	if err != nil {
		return err
	}
	defer o.Close()
	for off := int64(0); ; {
		n, err := r.Read(u.buf)
		for p := u.buf[:n]; len(p) > 0; {
			w, _, err := o.File.Write(&vfs.Bytes{B: p}, off, false)
			if err != nil {
				return err
			}
			p, off = p[w:], off+int64(w)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// own sets owner, rights and time.
func (u *unpacker) own(name string, h *tar.Header, follow bool) error {
	flags := vfs.Flags(0)
	if follow {
		flags = vfs.Follow
	}
	p, err := vfs.Walk(u.ctx, vfs.Path{}, strings.TrimSuffix(name, "/"), flags)
	if err != nil {
		return err
	}
	if err := vfs.Chown(u.ctx, p, uint32(h.Uid), uint32(h.Gid)); err != nil {
		return err
	}
	if follow {
		if err := vfs.Chmod(u.ctx, p, uint32(h.Mode&0o7777)); err != nil {
			return err
		}
	}
	t := h.ModTime
	return vfs.Utimes(u.ctx, p, &t, &t, false)
}
