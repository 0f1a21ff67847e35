package machine

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
)

// NameOf makes a path a name of Files: absolute or relative to the root, "." for the
// root itself. Its ".." cannot lead out.
func NameOf(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "."
	}
	return p
}

// MkParents makes the directories above name that are not there.
func MkParents(f Files, name string, perm fs.FileMode) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		if err := f.Mkdir(name[:i], perm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// maxKept bounds what ReadKept reads, in bytes.
const maxKept = 64 << 10

// ReadKept reads a small file.
func ReadKept(f Files, name string) ([]byte, error) {
	r, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxKept))
}

// Syncer is Files that can be made to last.
type Syncer interface{ Sync() error }

// Keep writes a small secret so that it is there whole or not at all, whenever the
// power goes, and so that only its owner may read it.
func Keep(f Files, name string, text []byte) error {
	if err := MkParents(f, name, 0o755); err != nil {
		return err
	}
	sync := func() error {
		if s, ok := f.(Syncer); ok {
			return s.Sync()
		}
		return nil
	}
	tmp := name + ".new"
	w, err := f.Create(tmp, 0o600, false)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	if err = errors.Join(err, w.Close(), f.Chmod(tmp, 0o600)); err == nil {
		err = sync()
	}
	if err == nil {
		err = f.Rename(tmp, name)
	}
	if err != nil {
		f.Remove(tmp)
		return err
	}
	return sync()
}
