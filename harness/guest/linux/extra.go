package linux

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// BuildProgram compiles a Go program of this module for the guest, statically linked.
// module is the module's folder, pkg the program's below it; flags are go build's.
func BuildProgram(ctx context.Context, module, pkg, out string, flags ...string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("linux guest: %w", err)
	}
	tmp := fmt.Sprintf("%s.%d", out, os.Getpid())
	defer os.Remove(tmp)
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-trimpath", "-buildvcs=false"}, flags...), "-o", tmp, "./"+pkg)...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("linux guest: go build %s: %w\n%s", path.Base(pkg), err, text)
	}
	if err := os.Rename(tmp, out); err != nil {
		return fmt.Errorf("linux guest: %w", err)
	}
	return nil
}

// Overlay is an archive of executable files, by path, and of directories, that may
// follow the one of an Image.
func Overlay(files map[string][]byte, dirs ...string) ([]byte, error) {
	r := &root{nodes: map[string]node{}}
	for _, d := range dirs {
		r.dir(d)
	}
	for name, data := range files {
		r.file(name, data, 0o755)
	}
	var b bytes.Buffer
	err := r.write(&b)
	return b.Bytes(), err
}

// WithProgram is the image with one more program in its root, bin/NAME, statically
// linked: for services that Debian has no package of.
func (img Image) WithProgram(name string, prog []byte) (Image, error) {
	extra, err := Overlay(map[string][]byte{"bin/" + name: prog})
	if err != nil {
		return img, err
	}
	return img.followedBy(name, extra)
}

// followedBy is the image whose root is followed by further archives, of which the
// kernel makes one root (buffer-format.rst: archives may follow one another). It is
// kept beside the image's own under the name and a digest, so that guests without
// them ship and unpack nothing of them.
func (img Image) followedBy(name string, archives ...[]byte) (Image, error) {
	own, err := os.ReadFile(img.Initrd)
	if err != nil {
		return img, fmt.Errorf("linux guest: %w", err)
	}
	more := bytes.Join(archives, nil)
	sum := sha256.Sum256(append([]byte(img.Digest), more...))
	img.Digest = hex.EncodeToString(sum[:])
	img.Initrd = filepath.Join(filepath.Dir(img.Initrd), name+"-"+img.Digest[:16]+".cpio")
	if _, err := os.Stat(img.Initrd); err == nil {
		return img, nil
	}
	tmp := fmt.Sprintf("%s.%d", img.Initrd, os.Getpid())
	defer os.Remove(tmp)
	err = writeFile(tmp, func(w io.Writer) error { _, err := w.Write(append(own, more...)); return err })
	if err == nil {
		err = os.Rename(tmp, img.Initrd)
	}
	if err != nil {
		return img, fmt.Errorf("linux guest: with %s: %w", name, err)
	}
	return img, nil
}
