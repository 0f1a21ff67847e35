package machine

import (
	"errors"
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
