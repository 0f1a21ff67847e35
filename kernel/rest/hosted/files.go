package hosted

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"osv/kernel/rest/machine"
)

// Files is the files below a folder of the host. os.Root keeps every name within,
// whatever symbolic links there are.
type Files struct {
	root *os.Root

	mu    sync.Mutex
	names map[string]string // of users and groups, by "u0" and "g0"
}

// OpenFiles returns the files below dir.
func OpenFiles(dir string) (*Files, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Files{root: r, names: map[string]string{}}, nil
}

// Close ends it.
func (f *Files) Close() error { return f.root.Close() }

// confined turns an attempt to leave the folder into a permission error: os has no
// name for it.
func confined(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		var errno syscall.Errno
		if !errors.As(p.Err, &errno) && !errors.Is(p.Err, fs.ErrClosed) {
			return errors.Join(fs.ErrPermission, err)
		}
	}
	return err
}

func (f *Files) Stat(name string) (machine.FileInfo, error) {
	i, err := f.root.Lstat(name)
	if err != nil {
		return machine.FileInfo{}, confined(err)
	}
	return f.info(name, i), nil
}

func (f *Files) info(name string, i fs.FileInfo) machine.FileInfo {
	out := machine.FileInfo{Name: path.Base(name), Mode: i.Mode(), Size: i.Size(), Modified: i.ModTime(), Accessed: i.ModTime(), BlockSize: 4096, Links: 1}
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		out.BlockSize, out.Links = int64(st.Blksize), int64(st.Nlink)
		out.Accessed = time.Unix(st.Atim.Unix())
		out.Owner = f.nameOf("u", st.Uid, func(id string) (string, error) {
			u, err := user.LookupId(id)
			if err != nil {
				return "", err
			}
			return u.Username, nil
		})
		out.Group = f.nameOf("g", st.Gid, func(id string) (string, error) {
			g, err := user.LookupGroupId(id)
			if err != nil {
				return "", err
			}
			return g.Name, nil
		})
	}
	if i.Mode()&fs.ModeSymlink != 0 {
		out.Target, _ = f.root.Readlink(name)
	}
	return out
}

// nameOf is the name of a user or group, its number where it has none.
func (f *Files) nameOf(kind string, id uint32, lookup func(string) (string, error)) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := strconv.FormatUint(uint64(id), 10)
	if name, ok := f.names[kind+n]; ok {
		return name
	}
	name, err := lookup(n)
	if err != nil {
		name = n
	}
	f.names[kind+n] = name
	return name
}

func (f *Files) List(name string) ([]machine.FileInfo, error) {
	d, err := f.root.Open(name)
	if err != nil {
		return nil, confined(err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, confined(err)
	}
	var out []machine.FileInfo
	for _, e := range entries {
		if i, err := f.Stat(path.Join(name, e.Name())); err == nil { // else it is gone
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b machine.FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Open opens without waiting: a named pipe without a writer would wait for good.
func (f *Files) Open(name string) (machine.File, error) {
	h, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, confined(err)
	}
	i, err := h.Stat()
	if err == nil && i.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	} else if err == nil && !i.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: syscall.EINVAL}
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return &file{h, f, name}, nil
}

type file struct {
	*os.File
	f    *Files
	name string
}

func (h *file) Stat() (machine.FileInfo, error) {
	i, err := h.File.Stat()
	if err != nil {
		return machine.FileInfo{}, err
	}
	return h.f.info(h.name, i), nil
}

func (f *Files) Create(name string, perm fs.FileMode, appending bool) (io.WriteCloser, error) {
	flags := os.O_WRONLY | os.O_CREATE | syscall.O_NONBLOCK | os.O_TRUNC
	if appending {
		flags ^= os.O_TRUNC | os.O_APPEND
	}
	h, err := f.root.OpenFile(name, flags, perm.Perm())
	if err != nil {
		return nil, confined(err)
	}
	return h, nil
}

func (f *Files) Mkdir(name string, perm fs.FileMode) error {
	return confined(f.root.Mkdir(name, perm.Perm()))
}

func (f *Files) Chmod(name string, perm fs.FileMode) error {
	return confined(f.root.Chmod(name, perm.Perm()))
}

func (f *Files) Rename(old, new string) error {
	err := f.root.Rename(old, new)
	var l *os.LinkError
	if errors.As(err, &l) {
		err = &fs.PathError{Op: "rename", Path: old + " to " + new, Err: l.Err}
	}
	return confined(err)
}

func (f *Files) Remove(name string) error { return confined(f.root.Remove(name)) }
