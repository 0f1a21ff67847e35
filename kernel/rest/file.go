package rest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"osv/kernel/rest/machine"
)

// multipartSlack is what a form may have around a file.
const multipartSlack = 64 << 10

// fileStatus is the document's model FileStatusProperties.
type fileStatus struct {
	PathSuffix       string `json:"pathSuffix"`
	Type             string `json:"type"`
	Length           int64  `json:"length"`
	Owner            string `json:"owner"`
	Group            string `json:"group"`
	Permission       string `json:"permission"`
	AccessTime       int64  `json:"accessTime"`
	ModificationTime int64  `json:"modificationTime"`
	BlockSize        int64  `json:"blockSize"`
	Replication      int64  `json:"replication"`
	Symlink          string `json:"symlink,omitempty"`
}

func statusOf(i machine.FileInfo) fileStatus {
	t := "FILE"
	switch {
	case i.Mode.IsDir():
		t = "DIRECTORY"
	case i.Mode&fs.ModeSymlink != 0:
		t = "SYMLINK"
	}
	return fileStatus{
		PathSuffix: i.Name, Type: t, Length: i.Size, Owner: i.Owner, Group: i.Group,
		Permission: strconv.FormatUint(uint64(unixMode(i.Mode)), 8), AccessTime: i.Accessed.Unix(), ModificationTime: i.Modified.Unix(),
		BlockSize: i.BlockSize, Replication: i.Links, Symlink: i.Target,
	}
}

// unixMode is the permissions with set-ID and sticky bits as chmod(1) writes them.
func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	for bit, v := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			u |= v
		}
	}
	return u
}

func files(c *call) (machine.Files, error) {
	if c.s.m.Files == nil {
		return nil, machine.Unavailable("this machine has no files to show")
	}
	return c.s.m.Files, nil
}

// cleanName turns a path of a request into a name of machine.Files. It resolves
// nothing: a path with ".." is refused, whoever wrote it.
func cleanName(p string) (string, error) {
	if len(p) > maxPath {
		return "", errorf(414, "the path has %d bytes, %d at most are taken", len(p), maxPath)
	}
	var parts []string
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return "", errorf(400, "path %q: .. is not possible", p)
		case strings.IndexByte(part, 0) >= 0:
			return "", errorf(400, "path %q has a NUL", p)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return ".", nil
	}
	name := strings.Join(parts, "/")
	if !fs.ValidPath(name) {
		return "", errorf(400, "path %q is not possible", p)
	}
	return name, nil
}

// named is what all operations of /file begin with.
func named(c *call) (machine.Files, string, error) {
	f, err := files(c)
	if err != nil {
		return nil, "", err
	}
	name, err := cleanName(c.arg("path-par"))
	return f, name, err
}

func getFile(c *call) error {
	f, name, err := named(c)
	if err != nil {
		return err
	}
	switch c.arg("op") {
	case "GETFILESTATUS":
		i, err := f.Stat(name)
		if err != nil {
			return err
		}
		return c.json(statusOf(i))
	case "LISTSTATUS":
		return listFiles(c, f, name)
	}
	return sendFile(c, f, name)
}

// maxListed is how many files one answer tells of.
const maxListed = 10000

func listFiles(c *call, f machine.Files, name string) error {
	found := []fileStatus{}
	add := func(i machine.FileInfo) error {
		if len(found) >= maxListed {
			return errorf(507, "more than %d files", maxListed)
		}
		found = append(found, statusOf(i))
		return nil
	}
	if !strings.ContainsAny(name, "*?") {
		l, err := f.List(name)
		if err != nil {
			return err
		}
		for _, i := range l {
			if err := add(i); err != nil {
				return err
			}
		}
		return c.json(found)
	}
	if err := match(f, ".", strings.Split(name, "/"), add); err != nil {
		return err
	}
	return c.json(found)
}

// match tells of the files below dir that the patterns name, one for each level: *
// stands for any characters of a name, ? for one.
func match(f machine.Files, dir string, patterns []string, add func(machine.FileInfo) error) error {
	p := patterns[0]
	if len(patterns) > 1 && !strings.ContainsAny(p, "*?") {
		return match(f, path.Join(dir, p), patterns[1:], add)
	}
	l, err := f.List(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	// Brackets have no meaning in OSv's patterns.
	p = strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(p)
	for _, i := range l {
		ok, err := path.Match(p, i.Name)
		switch {
		case err != nil:
			return errorf(400, "pattern %q: %v", p, err)
		case !ok:
		case len(patterns) == 1:
			if err := add(i); err != nil {
				return err
			}
		case i.Mode.IsDir():
			if err := match(f, path.Join(dir, i.Name), patterns[1:], add); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendFile sends contents as bytes that no browser may take for a page.
func sendFile(c *call, f machine.Files, name string) error {
	file, err := f.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	i, err := file.Stat()
	if err != nil {
		return err
	}
	offset := c.number("offset", 0)
	length := c.number("length", 1<<62)
	if i.Mode.IsRegular() && offset > i.Size {
		return errorf(400, "parameter offset: %d is beyond the end of %s, %d bytes", offset, name, i.Size)
	}
	if offset > 0 {
		if _, err := file.Seek(offset, io.SeekStart); err != nil {
			return err
		}
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(name)}))
	if i.Mode.IsRegular() && i.Size > 0 { // size 0: of procfs, whose files tell no size
		h.Set("Content-Length", strconv.FormatInt(min(length, i.Size-offset), 10))
	}
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err = copySlowly(c, c.w, io.LimitReader(file, length))
	return err
}

// copySlowly copies for as long as the client makes progress, and the server runs.
func copySlowly(c *call, w io.Writer, r io.Reader) (int64, error) {
	rc := http.NewResponseController(c.w)
	buf, total := make([]byte, 32<<10), int64(0)
	for {
		rc.SetReadDeadline(time.Now().Add(readTimeout)) // errors: an answer into memory
		rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
		select {
		case <-c.s.done:
			return total, errorf(503, "the server ends")
		default:
		}
	}
}

func delFile(c *call) error {
	f, name, err := named(c)
	if err != nil {
		return err
	}
	if name == "." {
		return errorf(400, "the root cannot be deleted")
	}
	if c.flag("recursive") {
		err = removeAll(f, name)
	} else {
		err = f.Remove(name)
	}
	if err != nil {
		return err
	}
	return c.done()
}

// removeAll removes a tree, and follows no link.
func removeAll(f machine.Files, name string) error {
	i, err := f.Stat(name)
	if err != nil {
		return err
	}
	if i.Mode.IsDir() {
		l, err := f.List(name)
		if err != nil {
			return err
		}
		for _, e := range l {
			if err := removeAll(f, path.Join(name, e.Name)); err != nil {
				return err
			}
		}
	}
	return f.Remove(name)
}

func putFile(c *call) error {
	f, name, err := named(c)
	if err != nil {
		return err
	}
	perm, given := fs.FileMode(0), c.has("permission")
	if given {
		n, err := strconv.ParseUint(c.arg("permission"), 8, 32)
		if err != nil {
			return errorf(400, "parameter permission: %v", err)
		}
		perm = fs.FileMode(n & 0o777)
	}
	target := name
	switch op := c.arg("op"); op {
	case "MKDIRS":
		err = mkdirs(f, name)
	case "RENAME", "COPY":
		if c.arg("destination") == "" {
			return errorf(400, "parameter destination is missing")
		}
		if target, err = cleanName(c.arg("destination")); err != nil {
			return err
		}
		if err = placeFor(c, f, target); err != nil {
			return err
		}
		if op == "RENAME" {
			err = f.Rename(name, target)
		} else {
			err = copyFile(c, f, name, target)
		}
	case "WRITE":
		if err = parents(c, f, name); err != nil {
			return err
		}
		err = write(c, f, name)
	}
	if err != nil {
		return err
	}
	if given {
		if err := f.Chmod(target, perm); err != nil {
			return err
		}
	}
	return c.done()
}

// placeFor makes sure that a file can be put at name, and replaces something only if
// it may.
func placeFor(c *call, f machine.Files, name string) error {
	if err := parents(c, f, name); err != nil {
		return err
	}
	if c.has("overwrite") && !c.flag("overwrite") {
		if _, err := f.Stat(name); err == nil {
			return fmt.Errorf("%s: %w", name, fs.ErrExist)
		}
	}
	return nil
}

// parents makes the directories above name where the caller wants that.
func parents(c *call, f machine.Files, name string) error {
	if !c.flag("createParent") || path.Dir(name) == "." {
		return nil
	}
	return mkdirs(f, path.Dir(name))
}

func mkdirs(f machine.Files, name string) error {
	if name == "." {
		return nil
	}
	i, err := f.Stat(name)
	switch {
	case err == nil && i.Mode.IsDir():
		return nil
	case err == nil && i.Mode&fs.ModeSymlink == 0:
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	if err := mkdirs(f, path.Dir(name)); err != nil {
		return err
	}
	err = f.Mkdir(name, 0o777)
	if errors.Is(err, fs.ErrExist) { // a link to one, or somebody was faster
		return nil
	}
	return err
}

func copyFile(c *call, f machine.Files, from, to string) error {
	src, err := f.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	i, err := src.Stat()
	if err != nil {
		return err
	}
	return replace(f, to, i.Mode.Perm(), func(w io.Writer) error {
		_, err := copySlowly(c, w, src)
		return err
	})
}

// write writes the parameter content, or the body.
func write(c *call, f machine.Files, name string) error {
	var r io.Reader = c.r.Body
	if c.has("content") {
		r = bytes.NewReader([]byte(c.arg("content")))
	}
	r = &quota{r, c.s.maxUpload}
	if c.flag("overwrite") {
		return replace(f, name, 0o666, func(w io.Writer) error {
			_, err := copySlowly(c, w, r)
			return err
		})
	}
	w, err := f.Create(name, 0o666, true)
	if err != nil {
		return err
	}
	_, err = copySlowly(c, w, r)
	return errors.Join(err, w.Close())
}

// replace writes a file under another name and gives it its own once it is whole.
func replace(f machine.Files, name string, perm fs.FileMode, fill func(io.Writer) error) error {
	if i, err := f.Stat(name); err == nil && i.Mode.IsDir() {
		return errorf(400, "%s is a directory", name)
	}
	var r [6]byte
	rand.Read(r[:])
	temp := path.Join(path.Dir(name), ".part-"+hex.EncodeToString(r[:]))
	w, err := f.Create(temp, perm, false)
	if err != nil {
		return err
	}
	err = fill(w)
	if e := w.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = f.Rename(temp, name)
	}
	if err != nil {
		if e := f.Remove(temp); e != nil {
			log.Warnf("%s: %v", temp, e)
		}
	}
	return err
}

// upload takes the first part of a form that is a file, as OSv does, or the body.
func upload(c *call) error {
	f, name, err := named(c)
	if err != nil {
		return err
	}
	if name == "." {
		return errorf(400, "the root is a directory")
	}
	var r io.Reader = c.r.Body
	if t, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type")); t == "multipart/form-data" {
		form := multipart.NewReader(c.r.Body, params["boundary"])
		for {
			p, err := form.NextPart()
			if errors.Is(err, io.EOF) {
				return errorf(400, "form: no part of it is a file")
			}
			if err != nil {
				return bodyError(err)
			}
			if p.FileName() != "" || p.FormName() == "file" {
				r = p
				break
			}
		}
	}
	err = replace(f, name, 0o666, func(w io.Writer) error {
		_, err := copySlowly(c, w, &quota{r, c.s.maxUpload})
		return err
	})
	if err != nil {
		return err
	}
	return c.done()
}

// bodyError is a body that cannot be read: too large, or malformed.
func bodyError(err error) error {
	if e := asError(err); e.Code != 500 {
		return e
	}
	return errorf(400, "body: %v", err)
}

// quota reads n bytes at most; one more is an error.
type quota struct {
	r io.Reader
	n int64
}

func (q *quota) Read(p []byte) (int, error) {
	if int64(len(p)) > q.n+1 {
		p = p[:q.n+1]
	}
	n, err := q.r.Read(p)
	if q.n -= int64(n); q.n < 0 {
		return 0, errorf(413, "the file is larger than what is taken (--rest-max-upload)")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = bodyError(err)
	}
	return n, err
}
