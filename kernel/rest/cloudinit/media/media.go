// Package media reads small files from the root folder of the two kinds of disk that
// carry NoCloud data: ISO 9660 and FAT.
//
// Spec: ECMA-119 (4th edition) with Joliet's supplementary descriptor and Rock
// Ridge's NM entries (IEEE P1282); Microsoft's FAT specification (fatgen103), all
// three widths, with long names. Names are compared without regard to case. Nothing
// below the root is read. Who may use it: cloudinit. A medium that lies ends in an
// error: no read is larger than what is asked for, no chain longer than the medium.
//
// Start reading at Open.
package media

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Medium is a disk that was recognised.
type Medium struct {
	Label string // of the volume, spaces at the end cut off
	Kind  string // "iso9660", "fat12", "fat16", "fat32"
	root  []entry
	read  func(e entry, p []byte) error
}

// entry is a file of the root folder.
type entry struct {
	name  string
	start uint32 // first block or cluster
	size  uint32
}

// Limits of the root folder: a NoCloud disk has a handful of files.
const (
	maxEntries = 1024
	maxFolder  = 256 << 10 // bytes
)

// ErrUnknown says that a disk is neither kind.
var ErrUnknown = errors.New("neither ISO 9660 nor FAT")

// Open looks at a disk of size bytes.
func Open(r io.ReaderAt, size int64) (*Medium, error) {
	m, err := openISO(r, size)
	if errors.Is(err, ErrUnknown) {
		m, err = openFAT(r, size)
	}
	return m, err
}

// Names lists the files.
func (m *Medium) Names() []string {
	out := make([]string, len(m.root))
	for i, e := range m.root {
		out[i] = e.name
	}
	return out
}

// ReadFile returns a file of at most limit bytes. The error wraps ErrNotExist where
// there is none of that name.
func (m *Medium) ReadFile(name string, limit int) ([]byte, error) {
	for _, e := range m.root {
		if !strings.EqualFold(e.name, name) {
			continue
		}
		if int64(e.size) > int64(limit) {
			return nil, fmt.Errorf("%s: %d bytes, more than %d", name, e.size, limit)
		}
		p := make([]byte, e.size)
		if err := m.read(e, p); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("%s: %w", name, ErrNotExist)
}

// ErrNotExist is a file that a medium does not have.
var ErrNotExist = errors.New("no such file")

// readAt fills p, or fails: a short medium is an error.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
