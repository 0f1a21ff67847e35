package diskimage

import (
	"archive/zip"
	"fmt"
	"io"
)

// WriteVMwareZip writes what VMware Workstation, Fusion and Player open: a folder with
// a .vmx (hardware version 13: Workstation 12, Fusion 8) and a sparse VMDK, zipped.
func (d *Disk) WriteVMwareZip(w io.Writer, m Machine) error {
	m, err := m.withDefaults()
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	vmx, err := z.Create(m.Name + "/" + m.Name + ".vmx") // no time: 0
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(vmx, vmxText, m.Name, m.CPUs, m.MemMiB, m.Name); err != nil {
		return err
	}
	disk, err := z.Create(m.Name + "/" + m.Name + ".vmdk")
	if err != nil {
		return err
	}
	if err := d.WriteVMDKSparse(disk, m.Name+".vmdk", "pvscsi"); err != nil {
		return err
	}
	return z.Close()
}

// The bridges are what Workstation itself writes: VMXNET3 and PVSCSI hang on them.
const vmxText = `.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "13"
displayName = "%s"
guestOS = "other-64"
firmware = "bios"
numvcpus = "%d"
memsize = "%d"
pciBridge0.present = "TRUE"
pciBridge4.present = "TRUE"
pciBridge4.virtualDev = "pcieRootPort"
pciBridge4.functions = "8"
pciBridge5.present = "TRUE"
pciBridge5.virtualDev = "pcieRootPort"
pciBridge5.functions = "8"
scsi0.present = "TRUE"
scsi0.virtualDev = "pvscsi"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "%s.vmdk"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.connectionType = "nat"
ethernet0.addressType = "generated"
serial0.present = "TRUE"
serial0.fileType = "file"
serial0.fileName = "serial.log"
floppy0.present = "FALSE"
sound.present = "FALSE"
`
