package diskimage

import (
	"errors"
	"fmt"
	"io"
	"os"

	"osv/kernel/imagefmt"
)

// ErrFormat says that a file holds no disk that can be read in place.
var ErrFormat = errors.New("neither a raw disk nor QCOW2 (convert it by qemu-img)")

// Image is an opened image file: the raw disk in it.
type Image struct {
	io.ReaderAt
	io.WriterAt
	Format string // "raw" (a fixed VHD too) or "qcow2"
	Size   int64  // of the disk, bytes
	file   *os.File
}

// Open opens an image file, for writing too if write is set. QCOW2 can only be
// written where WriteQCOW2 made room (the command line).
func Open(path string, write bool) (*Image, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	i, err := newImage(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return i, nil
}

func newImage(f *os.File) (*Image, error) {
	head := make([]byte, 2*sectorBytes)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, ErrFormat
	}
	switch {
	case string(head[:4]) == "QFI\xfb":
		q, err := OpenQCOW2(f)
		if err != nil {
			return nil, err
		}
		return &Image{q, q, "qcow2", q.Size(), f}, nil
	case string(head[sectorBytes:][:8]) == "EFI PART":
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return &Image{f, f, "raw", st.Size(), f}, nil
	}
	return nil, ErrFormat
}

// Close closes the file; after writing, once the data is on the disk.
func (i *Image) Close() error { return i.file.Close() }

// ReadCommandLine returns the command line in an image file.
func ReadCommandLine(path string) (string, error) {
	i, err := Open(path, false)
	if err != nil {
		return "", err
	}
	defer i.Close()
	line, err := imagefmt.ReadCommandLine(i)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return line, nil
}

// SetCommandLine changes the command line in an image file, which no machine may be
// using.
func SetCommandLine(path, line string) error {
	i, err := Open(path, true)
	if err != nil {
		return err
	}
	err = imagefmt.SetCommandLine(i, line)
	if err == nil {
		err = i.file.Sync()
	}
	if err = errors.Join(err, i.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
