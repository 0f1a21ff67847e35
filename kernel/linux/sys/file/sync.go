package file

import (
	"syscall"

	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

func syncFile(t *task.Task, n uint64, dataOnly bool) (uint64, error) {
	o, err := t.Files().Get(int(int32(n)))
	if err != nil {
		return 0, err
	}
	err = o.File().Sync(dataOnly)
	_ = o.Release()
	return 0, err
}

func fsync(t *task.Task, a *sys.Args) (uint64, error)     { return syncFile(t, a[0], false) }
func fdatasync(t *task.Task, a *sys.Args) (uint64, error) { return syncFile(t, a[0], true) }

func syncAll(t *task.Task, a *sys.Args) (uint64, error) {
	_ = t.FS().Tree.Sync() // sync(2) has no error to return
	return 0, nil
}

func syncfs(t *task.Task, a *sys.Args) (uint64, error) {
	return withPath(t, a[0], func(o *fd.Open, p vfs.Path) error {
		if o.IsPath() {
			return syscall.EBADF
		}
		if p.IsZero() || p.M.FS() == nil {
			return nil
		}
		return p.M.FS().Sync()
	})
}

func syncFileRange(t *task.Task, a *sys.Args) (uint64, error) {
	off, n := int64(a[1]), int64(a[2])
	if a[3]&^7 != 0 || off < 0 || n < 0 || off+n < off {
		return 0, syscall.EINVAL
	}
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	if o.Stream() {
		return 0, syscall.ESPIPE
	}
	if a[3] == 0 {
		return 0, nil
	}
	return no(o.File().Sync(true)) // the whole file: the caller asked for a part
}

// Advice of fadvise64.
const fadvLast = 5

func fadvise64(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	switch {
	case o.IsPipe():
		return 0, syscall.ESPIPE
	case int64(a[2]) < 0, a[3] > fadvLast:
		return 0, syscall.EINVAL
	}
	if f, ok := o.File().(Advised); ok {
		f.Advise(int64(a[1]), int64(a[2]), int(a[3]))
	}
	return 0, nil
}

// Advised is a file that makes use of posix_fadvise's advice, POSIX_FADV_*; n 0 is up
// to the end.
type Advised interface {
	Advise(off, n int64, advice int)
}

func readahead(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	if !o.CanRead() {
		return 0, syscall.EBADF
	}
	at, err := o.Attr()
	if err != nil || at.Type != vfs.TypeFile && at.Type != vfs.TypeBlock {
		return 0, syscall.EINVAL
	}
	if f, ok := o.File().(Advised); ok {
		const willNeed = 3
		f.Advise(int64(a[1]), int64(a[2]), willNeed)
	}
	return 0, nil
}
