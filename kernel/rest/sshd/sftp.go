package sshd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pkg/sftp"

	"osv/kernel/rest/machine"
	"osv/kernel/rest/shell"
)

// sftp serves the subsystem of that name over the guest's files.
func (n *session) sftp(ctx context.Context) int {
	h := &tree{n.s.cfg.Machine.Files}
	srv := sftp.NewRequestServer(n.ch, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h})
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(); err != nil && !errors.Is(err, io.EOF) {
		log.Debugf("sftp: %v", err)
		return shell.Failed
	}
	return shell.OK
}

// tree is machine.Files as the library wants files.
type tree struct{ files machine.Files }

// Fileread opens a file for reading.
func (t *tree) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	f, err := t.files.Open(machine.NameOf(r.Filepath))
	if err != nil {
		return nil, err
	}
	return &reader{f: f}, nil
}

// reader reads at offsets from a file that has a position.
type reader struct {
	mu  sync.Mutex
	f   machine.File
	pos int64
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off != r.pos {
		if _, err := r.f.Seek(off, io.SeekStart); err != nil {
			return 0, err
		}
		r.pos = off
	}
	n, err := io.ReadFull(r.f, p)
	r.pos += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

func (r *reader) Close() error { return r.f.Close() }

// Filewrite makes a file, or opens one for appending. Changing the middle of a file is
// refused: machine.Files writes from one end to the other.
func (t *tree) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	flags := r.Pflags()
	name := machine.NameOf(r.Filepath)
	if flags.Excl {
		if _, err := t.files.Stat(name); err == nil {
			return nil, fs.ErrExist
		}
	}
	if !flags.Creat {
		info, err := t.files.Stat(name)
		if err != nil {
			return nil, err
		}
		if !flags.Append && !flags.Trunc && info.Size > 0 {
			return nil, sftp.ErrSSHFxOpUnsupported
		}
	}
	perm := fs.FileMode(0o644)
	if a := r.Attributes(); r.AttrFlags().Permissions {
		perm = a.FileMode().Perm()
	}
	w, err := t.files.Create(name, perm, flags.Append)
	if err != nil {
		return nil, err
	}
	return &writer{w: w, anywhere: flags.Append}, nil
}

// writer puts pieces that come out of order, as a client with several requests under
// way sends them, into order.
type writer struct {
	mu       sync.Mutex
	w        io.WriteCloser
	anywhere bool // appending: offsets do not count
	next     int64
	waiting  map[int64][]byte
	held     int
	err      error
}

// maxHeld is how much a client may be ahead of a gap, in bytes: 64 requests of 256 KiB.
const maxHeld = 16 << 20

var errOutOfOrder = errors.New("sftp: written too far out of order")

func (w *writer) WriteAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.anywhere || off == w.next {
		if !w.put(p) {
			return 0, w.err
		}
		for {
			q, ok := w.waiting[w.next]
			if !ok {
				return len(p), nil
			}
			delete(w.waiting, w.next)
			w.held -= len(q)
			if !w.put(q) {
				return 0, w.err
			}
		}
	}
	if off < w.next || w.held+len(p) > maxHeld {
		w.err = errOutOfOrder
		return 0, w.err
	}
	if w.waiting == nil {
		w.waiting = map[int64][]byte{}
	}
	w.held += len(p) - len(w.waiting[off])
	w.waiting[off] = append([]byte(nil), p...)
	return len(p), nil
}

func (w *writer) put(p []byte) bool {
	n, err := w.w.Write(p)
	w.next += int64(n)
	w.err = err
	return err == nil
}

func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.w.Close()
	if w.err == nil && len(w.waiting) > 0 {
		return errOutOfOrder
	}
	return errors.Join(w.err, err)
}

// Filecmd changes the tree.
func (t *tree) Filecmd(r *sftp.Request) error {
	name := machine.NameOf(r.Filepath)
	switch r.Method {
	case "Mkdir":
		return t.files.Mkdir(name, 0o755)
	case "Remove", "Rmdir":
		info, err := t.files.Stat(name)
		switch {
		case err != nil:
			return err
		case r.Method == "Remove" && info.Mode.IsDir():
			return syscall.EISDIR
		case r.Method == "Rmdir" && !info.Mode.IsDir():
			return syscall.ENOTDIR
		}
		return t.files.Remove(name)
	case "Rename", "PosixRename":
		if r.Method == "Rename" { // SFTP 3 does not replace
			if _, err := t.files.Stat(machine.NameOf(r.Target)); err == nil {
				return fs.ErrExist
			}
		}
		return t.files.Rename(name, machine.NameOf(r.Target))
	case "Setstat":
		a := r.AttrFlags()
		if a.Permissions {
			if err := t.files.Chmod(name, r.Attributes().FileMode().Perm()); err != nil {
				return err
			}
		}
		if a.Size {
			return sftp.ErrSSHFxOpUnsupported
		}
		return nil // times and owners are not kept; scp -p and rsync go on
	}
	return sftp.ErrSSHFxOpUnsupported
}

// PosixRename is OpenSSH's extension: it replaces.
func (t *tree) PosixRename(r *sftp.Request) error {
	return t.files.Rename(machine.NameOf(r.Filepath), machine.NameOf(r.Target))
}

// Filelist lists a directory, or tells of one file.
func (t *tree) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	name := machine.NameOf(r.Filepath)
	switch r.Method {
	case "List":
		list, err := t.files.List(name)
		if err != nil {
			return nil, err
		}
		return infos(list), nil
	case "Stat", "Lstat":
		info, err := t.files.Stat(name)
		if err != nil {
			return nil, err
		}
		if r.Method == "Stat" && info.Target != "" {
			if info, err = t.follow(name, info); err != nil {
				return nil, err
			}
		}
		return infos{info}, nil
	case "Readlink":
		info, err := t.files.Stat(name)
		if err == nil && info.Target == "" {
			err = syscall.EINVAL
		}
		if err != nil {
			return nil, err
		}
		info.Name = info.Target
		return infos{info}, nil
	}
	return nil, sftp.ErrSSHFxOpUnsupported
}

// follow finds what a symbolic link leads to, within the tree.
func (t *tree) follow(name string, info machine.FileInfo) (machine.FileInfo, error) {
	for range 40 {
		target := info.Target
		if !strings.HasPrefix(target, "/") {
			target = path.Join("/", path.Dir(name), target)
		}
		name = machine.NameOf(target)
		var err error
		if info, err = t.files.Stat(name); err != nil || info.Target == "" {
			return info, err
		}
	}
	return info, syscall.ELOOP
}

// infos is a list of files in the library's form.
type infos []machine.FileInfo

func (l infos) ListAt(out []os.FileInfo, off int64) (int, error) {
	if off >= int64(len(l)) {
		return 0, io.EOF
	}
	n := 0
	for ; n < len(out) && off+int64(n) < int64(len(l)); n++ {
		out[n] = info{l[off+int64(n)]}
	}
	if n < len(out) {
		return n, io.EOF
	}
	return n, nil
}

type info struct{ f machine.FileInfo }

func (i info) Name() string       { return i.f.Name }
func (i info) Size() int64        { return i.f.Size }
func (i info) Mode() fs.FileMode  { return i.f.Mode }
func (i info) ModTime() time.Time { return i.f.Modified }
func (i info) IsDir() bool        { return i.f.Mode.IsDir() }
func (i info) Sys() any           { return nil }
