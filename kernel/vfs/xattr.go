package vfs

import (
	"strings"
	"syscall"
)

// Limits of xattr(7).
const (
	XAttrNameMax = 255
	XAttrSizeMax = 65536
)

// xattrOf checks who may do what with an attribute and finds the node's.
func xattrOf(c *Context, p Path, name string, write bool) (XAttr, error) {
	if name == "" || len(name) > XAttrNameMax {
		return nil, syscall.ERANGE
	}
	if write && p.M.readOnly() {
		return nil, syscall.EROFS
	}
	no := syscall.Errno(syscall.ENODATA)
	if write {
		no = syscall.EPERM
	}
	want := MayRead
	if write {
		want = MayWrite
	}
	switch {
	case strings.HasPrefix(name, "user."):
		if p.D.typ != TypeFile && p.D.typ != TypeDir {
			return nil, no
		}
		if p.D.typ == TypeDir && write {
			a, err := p.D.node.Attr()
			if err != nil {
				return nil, err
			}
			if a.Mode&syscall.S_ISVTX != 0 && a.UID != c.Creds.FSUID && !c.Creds.Has(CapFOwner) {
				return nil, syscall.EPERM
			}
		}
		if err := access(c.Creds, p.D.node, p.D.typ, want); err != nil {
			return nil, err
		}
	case strings.HasPrefix(name, "trusted."):
		if !c.Creds.Has(CapSysAdmin) {
			return nil, no
		}
	case strings.HasPrefix(name, "security."):
		if write && !c.Creds.Has(CapSysAdmin) {
			return nil, syscall.EPERM
		}
	default:
		return nil, syscall.EOPNOTSUPP
	}
	if x := p.D.node.XAttr(); x != nil {
		return x, nil
	}
	return nil, syscall.EOPNOTSUPP
}

// GetXAttr is getxattr(2).
func GetXAttr(c *Context, p Path, name string) ([]byte, error) {
	x, err := xattrOf(c, p, name, false)
	if err != nil {
		return nil, err
	}
	return x.Get(name)
}

// SetXAttr is setxattr(2); flags are XATTR_CREATE (1) and XATTR_REPLACE (2).
func SetXAttr(c *Context, p Path, name string, value []byte, flags int) error {
	switch {
	case flags&^3 != 0:
		return syscall.EINVAL
	case len(value) > XAttrSizeMax:
		return syscall.E2BIG
	}
	x, err := xattrOf(c, p, name, true)
	if err != nil {
		return err
	}
	if err := x.Set(strings.Clone(name), value, flags); err != nil {
		return err
	}
	c.Tree.Emit(p, syscall.IN_ATTRIB|isDir(p.D.typ))
	return nil
}

// RemoveXAttr is removexattr(2).
func RemoveXAttr(c *Context, p Path, name string) error {
	x, err := xattrOf(c, p, name, true)
	if err != nil {
		return err
	}
	if err := x.Remove(name); err != nil {
		return err
	}
	c.Tree.Emit(p, syscall.IN_ATTRIB|isDir(p.D.typ))
	return nil
}

// ListXAttr is listxattr(2): names of trusted.* only for those who may read them.
func ListXAttr(c *Context, p Path) ([]string, error) {
	x := p.D.node.XAttr()
	if x == nil {
		return nil, nil
	}
	all, err := x.List()
	if err != nil || c.Creds.Has(CapSysAdmin) {
		return all, err
	}
	out := all[:0:0]
	for _, n := range all {
		if !strings.HasPrefix(n, "trusted.") {
			out = append(out, n)
		}
	}
	return out, nil
}
