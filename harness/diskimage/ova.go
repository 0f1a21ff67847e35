package diskimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
)

// WriteOVA writes an OVF package in one file (DSP0243 1.1.0 §5.3): a ustar archive of
// the descriptor, the manifest and the disk as streamOptimized VMDK, in this order.
func (d *Disk) WriteOVA(w io.Writer, m Machine, h Hypervisor) error {
	m, err := m.withDefaults()
	if err != nil {
		return err
	}
	vmdk := m.Name + "-disk1.vmdk"
	var disk bytes.Buffer
	if err := d.WriteVMDKStream(&disk, vmdk); err != nil {
		return err
	}
	descriptor, err := ovf(m, h, d, vmdk, int64(disk.Len()))
	if err != nil {
		return err
	}
	// No space before the bracket: ovftool refuses the manifest otherwise.
	manifest := fmt.Appendf(nil, "SHA256(%s.ovf)= %x\nSHA256(%s)= %x\n",
		m.Name, sha256.Sum256(descriptor), vmdk, sha256.Sum256(disk.Bytes()))
	t := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		data []byte
	}{{m.Name + ".ovf", descriptor}, {m.Name + ".mf", manifest}, {vmdk, disk.Bytes()}} {
		if err := t.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Format: tar.FormatUSTAR}); err != nil {
			return fmt.Errorf("diskimage: ova: %s: %w", f.name, err)
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return t.Close()
}
