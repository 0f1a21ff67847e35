package file

import (
	"syscall"

	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// attrName reads an attribute's name: ERANGE where it is empty or too long.
func attrName(t *task.Task, addr uint64) (string, error) {
	s, err := t.Mem().String(addr, vfs.XAttrNameMax+1)
	if err == syscall.ENAMETOOLONG || err == nil && s == "" {
		err = syscall.ERANGE
	}
	return s, err
}

// xattrFunc is one of the four operations on what is at p.
type xattrFunc func(t *task.Task, p vfs.Path, a *sys.Args) (uint64, error)

// byPath, byLink and byFD apply it to the first argument.
func byPath(f xattrFunc, flags uint64) sys.Fn {
	return func(t *task.Task, a *sys.Args) (r uint64, err error) {
		_, err = change(t, atFdcwdArg, a[0], flags, func(p vfs.Path) error {
			r, err = f(t, p, a)
			return err
		})
		return r, err
	}
}

func byFD(f xattrFunc) sys.Fn {
	return func(t *task.Task, a *sys.Args) (uint64, error) {
		o, err := t.Files().Get(int(int32(a[0])))
		if err != nil {
			return 0, err
		}
		defer o.Release()
		if o.Where().IsZero() {
			return 0, syscall.EOPNOTSUPP
		}
		return f(t, o.Where(), a)
	}
}

func setXattr(t *task.Task, p vfs.Path, a *sys.Args) (uint64, error) {
	if a[4]&^3 != 0 {
		return 0, syscall.EINVAL
	}
	name, err := attrName(t, a[1])
	if err != nil {
		return 0, err
	}
	if a[3] > vfs.XAttrSizeMax {
		return 0, syscall.E2BIG
	}
	value := make([]byte, a[3])
	if err := t.Mem().CopyIn(value, a[2]); err != nil {
		return 0, err
	}
	return 0, vfs.SetXAttr(t.FS(), p, name, value, int(a[4]))
}

func getXattr(t *task.Task, p vfs.Path, a *sys.Args) (uint64, error) {
	name, err := attrName(t, a[1])
	if err != nil {
		return 0, err
	}
	v, err := vfs.GetXAttr(t.FS(), p, name)
	if err != nil {
		return 0, err
	}
	return putAttr(t, a[2], a[3], v)
}

func listXattr(t *task.Task, p vfs.Path, a *sys.Args) (uint64, error) {
	names, err := vfs.ListXAttr(t.FS(), p)
	if err != nil {
		return 0, err
	}
	var b []byte
	for _, n := range names {
		b = append(append(b, n...), 0)
	}
	return putAttr(t, a[1], a[2], b)
}

// putAttr writes v where there is room for it; a size of 0 only asks how much.
func putAttr(t *task.Task, addr, size uint64, v []byte) (uint64, error) {
	if size == 0 {
		return uint64(len(v)), nil
	}
	if uint64(len(v)) > size {
		return 0, syscall.ERANGE
	}
	if err := t.Mem().CopyOut(addr, v); err != nil {
		return 0, err
	}
	return uint64(len(v)), nil
}

func removeXattr(t *task.Task, p vfs.Path, a *sys.Args) (uint64, error) {
	name, err := attrName(t, a[1])
	if err != nil {
		return 0, err
	}
	return 0, vfs.RemoveXAttr(t.FS(), p, name)
}
