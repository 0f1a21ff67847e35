package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Path is where a blob lies. Nobody may write there.
func (s *Store) Path(d v1.Descriptor) string { return filepath.Join(s.blobDir(), d.Digest.Encoded()) }

// Has reports whether a blob is in the store.
func (s *Store) Has(d v1.Descriptor) bool {
	st, err := os.Stat(s.Path(d))
	return err == nil && st.Size() == d.Size
}

// Bytes reads a small blob.
func (s *Store) Bytes(d v1.Descriptor) ([]byte, error) { return os.ReadFile(s.Path(d)) }

// Add stores what r gives, under its digest.
func (s *Store) Add(mediaType string, r io.Reader) (v1.Descriptor, error) {
	return s.AddFunc(mediaType, func(w io.Writer) error { _, err := io.Copy(w, r); return err })
}

// AddFunc stores what write writes, under its digest.
func (s *Store) AddFunc(mediaType string, write func(io.Writer) error) (v1.Descriptor, error) {
	f, err := os.CreateTemp(s.blobDir(), ".tmp-")
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("store: %w", err)
	}
	sum := sha256.New()
	var n counter
	err = write(io.MultiWriter(f, sum, &n))
	d := v1.Descriptor{MediaType: mediaType, Digest: sumOf(sum), Size: int64(n)}
	if err = s.commit(f, d, err); err != nil {
		return v1.Descriptor{}, err
	}
	return d, nil
}

// commit finishes a file that holds blob d, or removes it.
func (s *Store) commit(f *os.File, d v1.Descriptor, err error) error {
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o444)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.Path(d))
		if err != nil && s.Has(d) { // Windows does not replace a file in use; it is the same
			err = nil
			os.Remove(f.Name())
		}
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// A Fetch opens a blob's bytes from offset on; a source that cannot start there
// returns those from 0, and says so by at.
type Fetch func(offset int64) (r io.ReadCloser, at int64, err error)

// ErrCutOff says that a download ended early. What has come is kept: the next try
// goes on from there.
var ErrCutOff = errors.New("the download was cut off")

// Digest is the error for bytes that are not what their name says.
type DigestError struct {
	Want v1.Descriptor
	Have digest.Digest
	Size int64
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("blob %s: bad digest: %d bytes with %s came: damaged or changed on the way; nothing was kept", e.Want.Digest, e.Size, e.Have)
}

// Download stores blob d, which has a digest and a size, unless it is there. It goes
// on where an earlier try ended, and checks all of it before it is a blob. progress,
// if not nil, is told how many bytes have come.
func (s *Store) Download(d v1.Descriptor, fetch Fetch, progress func(done int64)) error {
	if s.Has(d) {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(s.partialDir(), d.Digest.Encoded()), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	unlock, err := lockFile(f, false)
	if err != nil {
		f.Close()
		return fmt.Errorf("store: blob %s: another process is downloading it: %w", d.Digest, err)
	}
	sum := sha256.New()
	done, err := s.fill(f, sum, d, fetch, progress)
	if err != nil {
		unlock()
		if st, serr := f.Stat(); !errors.Is(err, ErrCutOff) || serr != nil || st.Size() == 0 {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
			return err
		}
		return errors.Join(err, f.Close())
	}
	if have := sumOf(sum); have != d.Digest || done != d.Size {
		unlock()
		return errors.Join(&DigestError{d, have, done}, f.Close(), os.Remove(f.Name()))
	}
	unlock()
	return s.commit(f, d, nil)
}

// fill brings the partial file to its end and sum over all of it.
func (s *Store) fill(f *os.File, sum hash.Hash, d v1.Descriptor, fetch Fetch, progress func(int64)) (int64, error) {
	done, err := io.Copy(sum, f) // what an earlier try left
	if err != nil {
		return done, fmt.Errorf("store: %w", err)
	}
	if done > d.Size {
		done = d.Size // not what was asked for: the fetch below starts anew
	}
	if done == d.Size && sumOf(sum) == d.Digest {
		return done, nil
	}
	if done == d.Size {
		done = 0
	}
	r, at, err := fetch(done)
	if err != nil {
		if done > 0 {
			err = errors.Join(fmt.Errorf("blob %s: %w after %d of %d bytes", d.Digest, ErrCutOff, done, d.Size), err)
		}
		return done, err
	}
	defer r.Close()
	if at != done || done == 0 {
		sum.Reset()
		done = 0
		if err := f.Truncate(0); err != nil {
			return 0, fmt.Errorf("store: %w", err)
		}
	}
	if _, err := f.Seek(done, io.SeekStart); err != nil {
		return done, fmt.Errorf("store: %w", err)
	}
	buf := make([]byte, 256<<10)
	for done <= d.Size {
		n, rerr := r.Read(buf)
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				return done, fmt.Errorf("store: %w", err)
			}
			sum.Write(buf[:n])
			done += int64(n)
			if progress != nil {
				progress(done)
			}
		}
		if errors.Is(rerr, io.EOF) && done >= d.Size {
			return done, nil
		}
		if rerr != nil {
			return done, fmt.Errorf("blob %s: %w after %d of %d bytes (%v)", d.Digest, ErrCutOff, done, d.Size, rerr)
		}
	}
	return done, nil // longer than promised: the digest will not fit
}

// Verify reads all blobs of an image again.
func (s *Store) Verify(i Image) error {
	for _, d := range append([]v1.Descriptor{i.Manifest.Config}, i.Manifest.Layers...) {
		f, err := os.Open(s.Path(d))
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		if have := sumOf(sum); have != d.Digest {
			return &DigestError{d, have, n}
		}
	}
	return nil
}

func sumOf(h hash.Hash) digest.Digest {
	return digest.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// writeFile replaces a file by one that is complete and on the disk.
func writeFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// lock takes the store's lock, waiting for other processes.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	un, err := lockFile(f, true)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("store: lock: %w", err)
	}
	return func() { un(); f.Close() }, nil
}
