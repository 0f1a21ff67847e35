package diskimage

import (
	"archive/tar"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// GCEAlign is the unit of disk sizes on Compute Engine: give it to Build as
// Options.AlignBytes.
const GCEAlign = 1 << 30

// WriteGCE writes an image for Google Compute Engine ("Requirements for manual
// import"): a gzipped tar of GNU format with the raw disk as disk.raw.
func (d *Disk) WriteGCE(w io.Writer) error {
	if d.size%GCEAlign != 0 {
		return fmt.Errorf("diskimage: gce: disk of %d bytes: want whole GiB (Options.AlignBytes)", d.size)
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	if err := t.WriteHeader(&tar.Header{Name: "disk.raw", Mode: 0o644, Size: d.size, Format: tar.FormatGNU}); err != nil {
		return err
	}
	if _, err := d.WriteTo(t); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}
