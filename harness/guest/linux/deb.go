package linux

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
)

// entry is a file or a symbolic link out of a package.
type entry struct {
	data []byte
	link string // target, for a symbolic link
}

// tree is files by path without leading slash.
type tree map[string]entry

// readDeb reads the files of a package that keep selects. dpkg-deb unpacks; its
// tar stream is read here, nothing is written.
func readDeb(ctx context.Context, deb string, keep func(name string) bool) (tree, error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("dpkg-deb: %w", err)
	}
	t, readErr := readTar(out, keep)
	io.Copy(io.Discard, out) //nolint:errcheck // so that dpkg-deb can end
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("dpkg-deb %s: %w: %s", path.Base(deb), err, lastLines(errs.String(), 2))
	}
	if readErr != nil {
		return nil, fmt.Errorf("%s: %w", path.Base(deb), readErr)
	}
	return t, nil
}

func readTar(r io.Reader, keep func(string) bool) (tree, error) {
	t := tree{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if !keep(name) {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
			b, err := io.ReadAll(tr)
			if err != nil {
				return nil, err
			}
			t[name] = entry{data: b}
		case tar.TypeSymlink:
			t[name] = entry{link: h.Linkname}
		}
	}
}

// follow resolves symbolic links inside the tree.
func (t tree) follow(name string) (entry, bool) {
	for range 8 {
		e, ok := t[name]
		if !ok || e.link == "" {
			return e, ok
		}
		if path.IsAbs(e.link) {
			name = strings.TrimPrefix(path.Clean(e.link), "/")
		} else {
			name = path.Join(path.Dir(name), e.link)
		}
	}
	return entry{}, false
}

// libDirs is where Debian keeps amd64 libraries, with and without merged /usr.
var libDirs = []string{"usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64"}

// linkClosure returns the programs, their interpreter and every shared library
// they link, directly or not, under the paths at which the loader looks.
func linkClosure(t tree, progs []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	type need struct{ lib, by string }
	var todo []need
	visit := func(name string, data []byte) error {
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		libs, err := f.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, l := range libs {
			todo = append(todo, need{l, name})
		}
		for _, p := range f.Progs {
			if p.Type != elf.PT_INTERP {
				continue
			}
			b, err := io.ReadAll(p.Open())
			if err != nil {
				return fmt.Errorf("%s: interpreter: %w", name, err)
			}
			todo = append(todo, need{strings.TrimRight(string(b), "\x00"), name})
		}
		return nil
	}
	for _, p := range progs {
		e, ok := t.follow(p)
		if !ok {
			return nil, fmt.Errorf("program %s is in none of the packages", p)
		}
		out["bin/"+path.Base(p)] = e.data
		if err := visit(p, e.data); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		if seen[n.lib] {
			continue
		}
		seen[n.lib] = true
		base := path.Base(n.lib)
		var e entry
		ok := false
		for _, d := range libDirs {
			if e, ok = t.follow(path.Join(d, base)); ok {
				break
			}
		}
		if !ok {
			return nil, fmt.Errorf("library %s, needed by %s, is in none of the packages", n.lib, n.by)
		}
		dst := "lib/x86_64-linux-gnu/" + base
		if path.IsAbs(n.lib) {
			dst = strings.TrimPrefix(n.lib, "/") // the interpreter, at its exact path
		}
		out[dst] = e.data
		if err := visit(base, e.data); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// moduleOrder returns the paths of the modules named and of all they depend on,
// in an order in which they can be loaded. Names use "-" and "_" as the kernel
// does: they are the same. Modules built into the kernel are left out.
func moduleOrder(t tree, names []string) ([]string, error) {
	canon := func(s string) string {
		return strings.ReplaceAll(strings.TrimSuffix(path.Base(s), ".ko"), "-", "_")
	}
	byName := map[string]string{}
	builtin := map[string]bool{}
	for p, e := range t {
		switch {
		case strings.HasSuffix(p, ".ko"):
			byName[canon(p)] = p
		case path.Base(p) == "modules.builtin":
			for _, l := range strings.Fields(string(e.data)) {
				builtin[canon(l)] = true
			}
		}
	}
	var out []string
	state := map[string]int{} // 1 = being visited, 2 = placed
	var place func(name, by string) error
	place = func(name, by string) error {
		name = canon(name)
		if state[name] == 2 || builtin[name] {
			return nil
		}
		if state[name] == 1 {
			return fmt.Errorf("kernel module %s depends on itself", name)
		}
		state[name] = 1
		p, ok := byName[name]
		if !ok {
			return fmt.Errorf("kernel module %s, needed by %s, is not in the kernel package", name, by)
		}
		deps, err := moduleDepends(t[p].data)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		for _, d := range deps {
			if err := place(d, name); err != nil {
				return err
			}
		}
		state[name] = 2
		out = append(out, p)
		return nil
	}
	for _, n := range names {
		if err := place(n, "init"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// moduleDepends reads "depends=" out of a module's .modinfo section, a list of
// NUL-terminated key=value strings.
func moduleDepends(ko []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no .modinfo section")
	}
	b, err := s.Data()
	if err != nil {
		return nil, err
	}
	for _, kv := range strings.Split(string(b), "\x00") {
		if v, ok := strings.CutPrefix(kv, "depends="); ok && v != "" {
			return strings.Split(v, ","), nil
		}
	}
	return nil, nil
}
