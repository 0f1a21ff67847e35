package machine_test

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"osv/kernel/rest/machine"
	"osv/kernel/rest/vfsfiles"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

// steps writes down what is done to files, and fails at one of them.
type steps struct {
	*vfsfiles.Tree
	done []string
	fail string
}

var errFail = errors.New("failed")

func (s *steps) step(name string) error {
	s.done = append(s.done, name)
	if name == s.fail {
		return errFail
	}
	return nil
}

func (s *steps) Create(name string, perm fs.FileMode, appending bool) (io.WriteCloser, error) {
	if err := s.step("create " + name); err != nil {
		return nil, err
	}
	return s.Tree.Create(name, perm, appending)
}

func (s *steps) Rename(old, new string) error {
	return errors.Join(s.step("rename to "+new), s.Tree.Rename(old, new))
}
func (s *steps) Sync() error { return s.step("sync") }

// A kept file has its name only after its contents are on the disk, and whoever is
// told that it is kept knows that the name is, too.
func TestKeep(t *testing.T) {
	newSteps := func(fail string) *steps {
		return &steps{Tree: vfsfiles.New(vfs.NewTree(tmpfs.New(tmpfs.Options{Mode: 0o755}))), fail: fail}
	}
	s := newSteps("")
	for range 2 { // anew and over an old one
		s.done = nil
		if err := machine.Keep(s, "a/b/key", []byte("secret")); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.done, ", "); got != "create a/b/key.new, sync, rename to a/b/key, sync" {
			t.Error(got)
		}
	}
	if b, err := machine.ReadKept(s, "a/b/key"); err != nil || string(b) != "secret" {
		t.Errorf("%q, %v", b, err)
	}
	if i, err := s.Stat("a/b/key"); err != nil || i.Mode.Perm() != 0o600 {
		t.Errorf("%v, %v", i.Mode, err)
	}
	for _, fail := range []string{"create key.new", "sync"} {
		s := newSteps(fail)
		if err := machine.Keep(s, "key", []byte("secret")); !errors.Is(err, errFail) {
			t.Errorf("%s: %v", fail, err)
		}
		if l, err := s.List("."); err != nil || len(l) != 0 {
			t.Errorf("%s: leaves %v, %v", fail, l, err)
		}
	}
	if _, err := machine.ReadKept(s, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
