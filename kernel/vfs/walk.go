package vfs

import (
	"strings"
	"syscall"
)

// Flags say how a path is walked.
type Flags uint32

const (
	// Follow follows a symbolic link in the last place too.
	Follow Flags = 1 << iota
	// Directory wants a directory: ENOTDIR.
	Directory
	// EmptyPath lets "" stand for the starting place itself (AT_EMPTY_PATH).
	EmptyPath
	// The RESOLVE_* restrictions of openat2(2).
	NoXDev      // EXDEV at the border of a mount
	NoMagic     // ELOOP at a magic link of /proc
	NoSymlinks  // ELOOP at any symbolic link
	Beneath     // EXDEV where the way leads out of the starting directory
	InRoot      // the starting directory is the root
	Cached      // EAGAIN where a file system would have to be asked
	effectiveID // AccessAt: file system IDs instead of the real ones
)

// EffectiveIDs has AccessAt ask for the effective user (AT_EACCESS).
const EffectiveIDs = effectiveID

// Limits of a walk, path_resolution(7).
const (
	PathMax  = 4096 // bytes with the final zero: ENAMETOOLONG
	NameMax  = 255
	maxLinks = 40 // ELOOP
)

// Magic is a symbolic link that is more than its text: those of /proc.
type Magic interface {
	// Follow is where it leads for the caller: a place, or where p is zero a text that
	// is walked like that of any link.
	Follow(c *Context) (p Path, text string, err error)
	// Text is what readlink shows the caller.
	Text(c *Context) (string, error)
}

// kind is what sort of last component a path has.
type kind uint8

const (
	kindName kind = iota
	kindDot
	kindDotDot
	kindRoot // none: "/"
)

// walker is one walk. It lives on the caller's stack.
type walker struct {
	t     *Tree
	ctx   *Context
	creds *Creds
	root  Path
	at    Path // where we are
	flags Flags
	links int
	// rooted says that Linux would have looked at the root by now: with NoXDev it
	// refuses absolute links until then.
	rooted bool

	// What is left to walk after each symbolic link that we are in.
	rest  [maxLinks]string
	depth int

	// The last component, once all before it is done.
	last     string
	kind     kind
	trailing bool // slashes follow it
}

// start sets the walk off at the root or at dir.
func (w *walker) start(c *Context, dir Path, path string, flags Flags) error {
	if len(path) >= PathMax {
		return syscall.ENAMETOOLONG
	}
	dirs := c.Dirs.state.Load()
	w.t, w.ctx, w.flags = c.Tree, c, flags
	if w.creds == nil {
		w.creds = c.Creds
	}
	w.root = dirs.root
	if path == "" {
		if flags&EmptyPath == 0 {
			return syscall.ENOENT
		}
		if dir.IsZero() {
			dir = dirs.cwd
		}
		w.at, w.kind = dir, kindRoot
		return nil
	}
	if path[0] == '/' && flags&(Beneath|InRoot) == 0 {
		w.at, w.rooted = dirs.root, true
		return nil
	}
	if dir.IsZero() {
		dir = dirs.cwd
	}
	if path[0] == '/' && flags&Beneath != 0 {
		return syscall.EXDEV
	}
	if dir.D.typ != TypeDir {
		return syscall.ENOTDIR
	}
	w.at = dir
	if flags&(Beneath|InRoot) != 0 {
		w.root, w.rooted = dir, true
	}
	return nil
}

// walk goes along path up to its last component, which it leaves in w.last.
func (w *walker) walk(path string) error {
	for {
		for len(path) > 0 && path[0] == '/' {
			path = path[1:]
		}
		if path == "" {
			if w.depth == 0 {
				w.last, w.kind, w.trailing = "", kindRoot, false
				return nil
			}
			w.depth--
			path = w.rest[w.depth]
			continue
		}
		if w.at.D.typ != TypeDir {
			return syscall.ENOTDIR
		}
		if err := access(w.creds, w.at.D.node, TypeDir, MayExec); err != nil {
			return err
		}
		name, rest := path, ""
		if i := strings.IndexByte(path, '/'); i >= 0 {
			name, rest = path[:i], path[i:]
		}
		trailing := rest != ""
		for len(rest) > 0 && rest[0] == '/' {
			rest = rest[1:]
		}
		k := kindName
		switch name {
		case ".":
			k = kindDot
		case "..":
			k = kindDotDot
		}
		if rest == "" && w.depth == 0 {
			w.last, w.kind, w.trailing = name, k, trailing
			return nil
		}
		text, err := w.step(name, k, true)
		if err != nil {
			return err
		}
		if text == "" {
			path = rest
			continue
		}
		if rest != "" {
			w.rest[w.depth] = rest
			w.depth++
		}
		path = text
	}
}

// step goes to one component; the place may be missing only in the last. Where it is
// a symbolic link that is followed, the result is the text to walk next.
func (w *walker) step(name string, k kind, follow bool) (string, error) {
	switch k {
	case kindDot, kindRoot:
		return "", nil
	case kindDotDot:
		return "", w.dotdot()
	}
	d, err := w.child(w.at.D, name)
	if err != nil {
		return "", err
	}
	if d.node == nil {
		return "", syscall.ENOENT
	}
	if d.typ == TypeLink && follow {
		return w.followLink(d)
	}
	p := Path{w.at.M, d}
	if d.mounts.Load() != 0 {
		if p = w.t.cross(p); p.M != w.at.M && w.flags&NoXDev != 0 {
			return "", syscall.EXDEV
		}
	}
	w.at = p
	return "", nil
}

// child is the dentry of name in dir, perhaps a negative one.
func (w *walker) child(dir *Dentry, name string) (*Dentry, error) {
	if d := w.t.cache.get(dir, name); d != nil {
		return d, nil
	}
	if w.flags&Cached != 0 {
		return nil, syscall.EAGAIN
	}
	return w.t.lookup(dir, name)
}

// lookup asks the file system for a name that the cache does not have.
func (t *Tree) lookup(dir *Dentry, name string) (*Dentry, error) {
	if dir.vola {
		return t.ask(dir, name)
	}
	dir.mu.Lock()
	defer dir.mu.Unlock()
	return t.lookupLocked(dir, name)
}

// lookupLocked is lookup with dir.mu held.
func (t *Tree) lookupLocked(dir *Dentry, name string) (*Dentry, error) {
	if dir.vola {
		return t.ask(dir, name)
	}
	if d := t.cache.get(dir, name); d != nil {
		return d, nil
	}
	if dir.dead.Load() {
		return nil, syscall.ENOENT
	}
	d, err := t.ask(dir, name)
	if err == nil {
		t.cache.add(dir, d.Name(), d)
	}
	return d, err
}

// ask makes a dentry of what the file system says, a negative one for ENOENT.
func (t *Tree) ask(dir *Dentry, name string) (*Dentry, error) {
	if len(name) > NameMax {
		return nil, syscall.ENAMETOOLONG
	}
	t.cache.misses.Add(1)
	n, err := dir.node.Lookup(name)
	if err == syscall.ENOENT {
		return t.newDentry(dir, strings.Clone(name), nil, 0), nil
	}
	if err != nil {
		return nil, err
	}
	typ, err := typeOf(n)
	if err != nil {
		return nil, err
	}
	return t.newDentry(dir, strings.Clone(name), n, typ), nil
}

// followLink is the text of the link d, with w.at at the root if it is absolute; or
// for a magic link w.at at its end.
func (w *walker) followLink(d *Dentry) (string, error) {
	if w.links++; w.links > maxLinks || w.flags&NoSymlinks != 0 {
		return "", syscall.ELOOP
	}
	text, err := "", error(nil)
	if d.magic {
		var p Path
		if p, text, err = d.node.(Magic).Follow(w.ctx); err != nil {
			return "", err
		}
		if p.D != nil {
			switch {
			case w.flags&NoMagic != 0:
				return "", syscall.ELOOP
			case w.flags&(Beneath|InRoot) != 0, w.flags&NoXDev != 0 && p.M != w.at.M:
				return "", syscall.EXDEV
			}
			w.at = p
			return "", nil
		}
	} else if text, err = d.readLink(); err != nil {
		return "", err
	}
	if text == "" {
		return "", syscall.ENOENT
	}
	if text[0] == '/' {
		if w.flags&Beneath != 0 || w.flags&NoXDev != 0 && (!w.rooted || w.root.M != w.at.M) {
			return "", syscall.EXDEV
		}
		w.at, w.rooted = w.root, true
	}
	return text, nil
}

// readLink is the text of a symbolic link, which never changes.
func (d *Dentry) readLink() (string, error) {
	if s := d.link.Load(); s != nil {
		return *s, nil
	}
	s, err := d.node.ReadLink()
	if err == nil {
		d.link.Store(&s)
	}
	return s, err
}

// dotdot goes up, at most to the root.
func (w *walker) dotdot() error {
	at := w.at
	w.rooted = true
	for {
		if at == w.root {
			if w.flags&Beneath != 0 {
				return syscall.EXDEV
			}
			break
		}
		if at.D != at.M.root {
			if p := at.D.Parent(); p != nil {
				at.D = p
			}
			break
		}
		up := at.M.point()
		if up.M == nil {
			break
		}
		if w.flags&NoXDev != 0 {
			return syscall.EXDEV
		}
		at = up
	}
	w.at = w.t.cross(at)
	return nil
}

// finish resolves the last component.
func (w *walker) finish() error {
	for {
		if w.trailing {
			w.flags |= Follow | Directory
		}
		text, err := w.step(w.last, w.kind, w.flags&Follow != 0)
		if err != nil {
			return err
		}
		if text == "" {
			break
		}
		if err := w.walk(text); err != nil {
			return err
		}
	}
	if w.flags&Directory != 0 && w.at.D.typ != TypeDir {
		return syscall.ENOTDIR
	}
	return nil
}

// Walk finds what path stands for, from dir on (zero: the working directory). The
// path may lie in memory that is used for something else after the call.
func Walk(c *Context, dir Path, path string, flags Flags) (Path, error) {
	var w walker
	if err := w.start(c, dir, path, flags); err != nil {
		return Path{}, err
	}
	if path != "" {
		if err := w.walk(path); err != nil {
			return Path{}, err
		}
		if err := w.finish(); err != nil {
			return Path{}, err
		}
	}
	return w.at, nil
}

// parent walks to the directory that path's last component is in.
func (w *walker) parent(c *Context, dir Path, path string) error {
	if err := w.start(c, dir, path, 0); err != nil {
		return err
	}
	return w.walk(path)
}
