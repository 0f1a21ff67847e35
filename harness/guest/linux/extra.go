package linux

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// WithProgram is the image with one more program in its root, bin/NAME, statically
// linked: for services that Debian has no package of.
func (img Image) WithProgram(name string, prog []byte) (Image, error) {
	extra := &root{nodes: map[string]node{}}
	extra.file("bin/"+name, prog, 0o755)
	var b bytes.Buffer
	if err := extra.write(&b); err != nil {
		return img, err
	}
	return img.followedBy(name, b.Bytes())
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
