//go:build boot

package diskimage

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"osv/harness/image"
	"osv/harness/vm"
	"osv/kernel/imagefmt"
)

// row is a boot of an artefact in a QEMU dressed as its target.
type row struct {
	format  string
	machine vm.Machine
	uefi    bool
	disk    []string // QEMU's arguments for the disk "d0"
	nic     string   // device and properties
	driver  string   // kernel package without which the card is not seen
	smbios  string   // type 1
	memMiB  int      // 0 = 256
	cpus    int      // 0 = 1
}

func (r row) name() string {
	firmware := "seabios"
	if r.uefi {
		firmware = "ovmf"
	}
	disk := "kernel"
	if len(r.disk) > 0 {
		disk, _, _ = strings.Cut(r.disk[len(r.disk)-1], ",")
	}
	card, _, _ := strings.Cut(r.nic, ",")
	name := fmt.Sprintf("%s/%s/%s/%s/%s", r.format, r.machine, firmware, disk, card)
	if r.memMiB != 0 {
		name += fmt.Sprintf("/%dMiB", r.memMiB)
	}
	if r.cpus != 0 {
		name += fmt.Sprintf("/%dcpu", r.cpus)
	}
	return name
}

var (
	virtioBlk = []string{"-device", "virtio-blk-pci,drive=d0"}
	ahci      = []string{"-device", "ich9-ahci,id=sata", "-device", "ide-hd,bus=sata.0,drive=d0"}
	pvscsi    = []string{"-device", "pvscsi,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=d0"}
	// Debian's OVMF has no PVSCSI driver: it boots from AHCI, with a PVSCSI disk beside.
	ahciAndPVSCSI = append([]string{"-device", "pvscsi,id=scsi", "-drive", "if=none,id=d1,driver=null-co,size=64M,read-zeroes=on", "-device", "scsi-hd,bus=scsi.0,drive=d1"}, ahci...)
	virtioSCSI    = []string{"-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=d0"}
	nvme          = []string{"-device", "nvme,drive=d0,serial=osv"}
)

const (
	virtioNet     = "virtio-net-pci"
	legacyNet     = "virtio-net-pci,disable-modern=on"
	innotek       = "manufacturer=innotek GmbH,product=VirtualBox"
	vmwareInc     = "manufacturer=VMware\\, Inc.,product=VMware Virtual Platform"
	google        = "manufacturer=Google,product=Google Compute Engine"
	amazon        = "manufacturer=Amazon EC2,product=t3.micro"
	driverVirtio  = "osv/kernel/drivers/virtionet"
	driverE1000   = "osv/kernel/drivers/e1000"
	driverVMXNET3 = "osv/kernel/drivers/vmxnet3"
)

// matrix is the whole of it. A row whose card has no driver in the kernel yet boots to
// its first line and is then skipped; it lights up once memcached links the driver.
var matrix = []row{
	{format: "qcow2", machine: vm.PC, disk: virtioBlk, nic: virtioNet, driver: driverVirtio},
	{format: "qcow2", machine: vm.Q35, disk: virtioBlk, nic: virtioNet, driver: driverVirtio},
	{format: "qcow2", machine: vm.Q35, disk: virtioBlk, nic: virtioNet, driver: driverVirtio, memMiB: 64},
	{format: "qcow2", machine: vm.PC, uefi: true, disk: virtioBlk, nic: virtioNet, driver: driverVirtio},
	{format: "qcow2", machine: vm.Q35, uefi: true, disk: virtioBlk, nic: virtioNet, driver: driverVirtio},
	{format: "qcow2", machine: vm.Q35, uefi: true, disk: virtioBlk, nic: virtioNet, driver: driverVirtio, memMiB: 5120, cpus: 4},

	{format: "virtualbox", machine: vm.PC, disk: ahci, nic: "e1000", driver: driverE1000, smbios: innotek},
	{format: "virtualbox", machine: vm.PC, disk: ahci, nic: virtioNet, driver: driverVirtio, smbios: innotek},
	{format: "virtualbox", machine: vm.Q35, uefi: true, disk: ahci, nic: "e1000", driver: driverE1000, smbios: innotek},

	{format: "vmware", machine: vm.PC, disk: pvscsi, nic: "vmxnet3", driver: driverVMXNET3, smbios: vmwareInc},
	{format: "vmware", machine: vm.Q35, uefi: true, disk: ahciAndPVSCSI, nic: "vmxnet3", driver: driverVMXNET3, smbios: vmwareInc},
	{format: "esxi", machine: vm.PC, disk: pvscsi, nic: "vmxnet3", driver: driverVMXNET3, smbios: vmwareInc},
	{format: "esxi", machine: vm.Q35, uefi: true, disk: ahciAndPVSCSI, nic: "vmxnet3", driver: driverVMXNET3, smbios: vmwareInc},

	{format: "gce", machine: vm.PC, disk: virtioSCSI, nic: legacyNet, driver: driverVirtio, smbios: google},
	{format: "gce", machine: vm.Q35, uefi: true, disk: virtioSCSI, nic: legacyNet, driver: driverVirtio, smbios: google},

	{format: "raw", machine: vm.Q35, disk: nvme, nic: "e1000e", driver: driverE1000, smbios: amazon},
	{format: "raw", machine: vm.Q35, uefi: true, disk: nvme, nic: "e1000e", driver: driverE1000, smbios: amazon},
	{format: "raw", machine: vm.Q35, disk: nvme, nic: virtioNet, driver: driverVirtio, smbios: amazon},

	{format: "vhd", machine: vm.PC, disk: ahci, nic: "e1000", driver: driverE1000},
	{format: "vhd-dynamic", machine: vm.PC, disk: ahci, nic: virtioNet, driver: driverVirtio},

	{format: "elf", machine: vm.Q35, nic: virtioNet, driver: driverVirtio},
	{format: "elf", machine: vm.MicroVM, nic: "virtio-net-device", driver: driverVirtio},
}

// TestBootMatrix boots each artefact of memcached, and asks it for a value as a client
// would: what ships is what boots, the disk is taken out of its package first.
//
//	go test -tags boot -run TestBootMatrix/qcow2/q35/ovmf ./harness/diskimage
func TestBootMatrix(t *testing.T) {
	for debian, path := range map[string]string{"ovmf": ovmfCode, "seabios": "/usr/share/seabios/bios-256k.bin"} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%s is missing (Debian: apt-get install %s)", path, debian)
		}
	}
	dir := t.TempDir()
	elf := filepath.Join(dir, "kernel.elf")
	const app = "osv/appliances/memcached"
	if err := image.BuildWith(app, elf, image.Options{Strip: true}); err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(elf)
	if err != nil {
		t.Fatal(err)
	}
	deps, err := exec.Command("go", "list", "-deps", app).Output()
	if err != nil {
		t.Fatal(err)
	}
	s := &Source{Kernel: kernel, Machine: Machine{Name: "memcached"}, Options: Options{CommandLine: "--verbose"}}
	made := map[string]string{}
	for _, r := range matrix {
		t.Run(r.name(), func(t *testing.T) {
			if made[r.format] == "" {
				f, err := Find(r.format)
				if err != nil {
					t.Fatal(err)
				}
				out, err := s.Write(f, dir)
				if err != nil {
					t.Fatal(err)
				}
				made[r.format] = unpack(t, filepath.Join(dir, out.File), dir)
			}
			boot(t, r, made[r.format], strings.Contains(string(deps), r.driver+"\n"))
		})
	}
}

const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// ovmf is QEMU's arguments for the firmware, with variables of this boot's own.
func ovmf(t *testing.T) []string {
	vars := filepath.Join(t.TempDir(), "vars.fd")
	b, err := os.ReadFile(ovmfVars)
	if err == nil {
		err = os.WriteFile(vars, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + ovmfCode, "-drive", "if=pflash,format=raw,file=" + vars}
}

// A command line that was set in the image reaches the kernel; damage to each part
// that a loader reads is told by name, by both loaders, and the kernel does not start.
func TestBootDamage(t *testing.T) {
	elf := filepath.Join(t.TempDir(), "hello.elf")
	if err := image.BuildWith("osv/kernel/ktest/progs/hello", elf, image.Options{Strip: true}); err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(elf)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		edit func(path string) error
		want string
		uefi bool // only by UEFI
	}{
		{"none", func(path string) error { return SetCommandLine(path, "--verbose") }, `^osv: \d+ cpu`, false},
		{"command line", func(path string) error { return flip(path, (kernelFirst+imagefmt.CommandLineSector)*sectorBytes+17) },
			"osv: boot: the command line in the image is damaged: set it again", false},
		{"header", func(path string) error { return flip(path, kernelFirst*sectorBytes+30) }, "osv: boot: the header of the OSv partition is damaged", false},
		{"no header", func(path string) error { return flip(path, kernelFirst*sectorBytes) }, "osv: boot: no OSv partition", false},
		{"kernel", func(path string) error { return flip(path, (kernelFirst+imagefmt.PayloadSector)*sectorBytes+5000) }, "osv: boot: the kernel in the image is damaged", true},
	} {
		for _, uefi := range []bool{false, true} {
			if test.uefi && !uefi {
				continue
			}
			t.Run(fmt.Sprintf("%s/uefi=%v", test.name, uefi), func(t *testing.T) {
				d, err := Build(kernel, Options{CommandLine: "--bootchart"})
				if err != nil {
					t.Fatal(err)
				}
				path := file(t, "hello.raw", d.writeSparse)
				if err := test.edit(path); err != nil {
					t.Fatal(err)
				}
				s := vm.Spec{Extra: append([]string{"-drive", "if=none,id=d0,format=raw,file=" + path}, virtioBlk...)}
				if uefi {
					s.Extra = append(s.Extra, ovmf(t)...)
				}
				v, err := vm.Start(t.Context(), s, vm.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer v.Kill()
				if _, err := v.WaitLine(regexp.MustCompile(test.want), 3*time.Minute); err != nil {
					t.Errorf("%v\n%s", err, v.Tail(10))
				}
				for _, l := range v.Lines() {
					if test.name != "none" && l.Text == "hello" {
						t.Error("the kernel ran")
					}
				}
			})
		}
	}
}

// The BIOS loader does not overwrite what is no RAM, and ends QEMU with the kernel's
// status for a failed boot.
func TestBootTooLittleMemory(t *testing.T) {
	d, err := Build(kernel(0x400000, load{0x400000, 64 << 20, make([]byte, 100)}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, "big.raw", d.writeSparse)
	v, err := vm.Start(t.Context(), vm.Spec{MemMiB: 32, Extra: append([]string{"-drive", "if=none,id=d0,format=raw,file=" + path}, virtioBlk...)}, vm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Kill()
	if _, err := v.WaitLine(regexp.MustCompile("osv: boot: too little memory for the kernel"), time.Minute); err != nil {
		t.Errorf("%v\n%s", err, v.Tail(10))
	}
	if e, late := v.WaitTimeout(time.Minute); late || e.Code != 103 {
		t.Errorf("%v, late %v", e, late)
	}
}

// flip changes a byte of a file.
func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	b[0] ^= 0x10
	_, err2 := f.WriteAt(b, at)
	return errors.Join(err, err2, f.Close())
}

func boot(t *testing.T, r row, path string, haveDriver bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()

	s := vm.Spec{Machine: r.machine, MemMiB: r.memMiB, CPUs: r.cpus, RNG: true}
	s.Extra = append(s.Extra, "-netdev", "user,id=n0,hostfwd=tcp:"+addr+"-:11211", "-device", r.nic+",netdev=n0")
	if len(r.disk) == 0 {
		s.Kernel, s.Append = path, "--verbose"
	} else {
		s.Extra = append(append(s.Extra, "-drive", fmt.Sprintf("if=none,id=d0,snapshot=on,format=%s,file=%s", driverOf[filepath.Ext(path)], path)), r.disk...)
	}
	if r.uefi {
		s.Extra = append(s.Extra, ovmf(t)...)
	}
	if r.smbios != "" {
		s.Extra = append(s.Extra, "-smbios", "type=1,"+strings.ReplaceAll(r.smbios, "\\,", ",,"))
	}
	v, err := vm.Start(t.Context(), s, vm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Kill()
	first, err := v.WaitLine(regexp.MustCompile(`^osv: \d+ cpu`), 4*time.Minute)
	if err != nil {
		t.Fatalf("no first line: %v\n%s", err, v.Tail(20))
	}
	t.Logf("first line: %s", first.Text)
	if !haveDriver {
		t.Skipf("booted; no driver for %s yet (KNOWN-GAPS.md)", r.nic)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(250 * time.Millisecond) {
		err := ask(addr)
		if err == nil {
			return
		}
		select {
		case <-v.Done():
			t.Fatalf("the guest has ended: %v\n%s", v.Wait(), v.Tail(20))
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%v\n%s", err, v.Tail(20))
		}
	}
}

// ask stores a value and reads it back.
func ask(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.WriteString(c, "set k 7 0 5\r\nhello\r\nget k\r\nquit\r\n"); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if want := "STORED\r\nVALUE k 7 5\r\nhello\r\nEND\r\n"; string(got) != want {
		return fmt.Errorf("reply %q, want %q (%w)", got, want, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil
}

var driverOf = map[string]string{".qcow2": "qcow2", ".vmdk": "vmdk", ".raw": "raw", ".vhd": "vpc"}

// unpack takes the disk out of a package, and returns its path; others come back as
// they are.
func unpack(t *testing.T, path, dir string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	save := func(name string, r io.Reader) string {
		out := filepath.Join(dir, filepath.Base(path)+"-"+filepath.Base(name))
		f, err := os.Create(out)
		if err == nil {
			_, err = io.Copy(f, r)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var in io.Reader = bytes.NewReader(b)
	switch {
	case strings.HasSuffix(path, ".zip"):
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := z.File[1].Open()
		if err != nil {
			t.Fatal(err)
		}
		return save(z.File[1].Name, r)
	case strings.HasSuffix(path, ".gz"):
		if in, err = gzip.NewReader(in); err != nil {
			t.Fatal(err)
		}
	case !strings.HasSuffix(path, ".ova"):
		return path
	}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ext := filepath.Ext(h.Name); ext == ".vmdk" || ext == ".raw" {
			return save(h.Name, r)
		}
	}
}
