package vfs

import (
	"strings"
	"syscall"
)

// fsPath is d's path within its file system.
func (d *Dentry) fsPath() string {
	var parts []string
	for {
		w := d.where.Load()
		if w.parent == nil {
			break
		}
		parts = append(parts, w.name)
		d = w.parent
	}
	return join(parts)
}

// join makes a path of components, last one first.
func join(parts []string) string {
	if len(parts) == 0 {
		return "/"
	}
	n := 0
	for _, p := range parts {
		n += 1 + len(p)
	}
	var b strings.Builder
	b.Grow(n)
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(parts[i])
	}
	return b.String()
}

// pathIn is p's path seen from root; false where p is not below root, with the path
// from wherever the way up ended.
func (t *Tree) pathIn(root, p Path) (string, bool) {
	var buf [32]string
	parts := buf[:0]
	for {
		if p == root {
			return join(parts), true
		}
		if p.D == p.M.root {
			up := p.M.point()
			if up.M == nil {
				return join(parts), false
			}
			p = up
			continue
		}
		w := p.D.where.Load()
		if w.parent == nil {
			return join(parts), false
		}
		parts = append(parts, w.name)
		p.D = w.parent
	}
}

// PathString is p as /proc/PID/fd, exe and maps show it to someone whose root
// directory is root: " (deleted)" behind a name that is gone, "(unreachable)" in
// front of a place outside root.
func (t *Tree) PathString(root, p Path) string {
	if p.M.anon {
		return p.D.Name()
	}
	s, ok := t.pathIn(root, p)
	if !ok && root != t.Root() {
		s = "(unreachable)" + s
	}
	if p.D.dead.Load() {
		s += " (deleted)"
	}
	return s
}

// Getcwd is getcwd(2): ENOENT in a removed directory.
func (c *Context) Getcwd() (string, error) {
	d := c.Dirs.state.Load()
	if d.cwd.D.dead.Load() {
		return "", syscall.ENOENT
	}
	s, ok := c.Tree.pathIn(d.root, d.cwd)
	if !ok {
		s = "(unreachable)" + s
	}
	return s, nil
}
