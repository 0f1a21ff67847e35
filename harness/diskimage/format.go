package diskimage

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Format is one way to ship an image.
type Format struct {
	Name   string // "qcow2"
	Suffix string // of the file's name
	For    string // where it boots
	write  func(s *Source, w io.Writer) error
}

// Formats lists every format, in the order that `images` builds them.
var Formats = []Format{
	{"qcow2", ".qcow2", "KVM, QEMU, OpenStack, Proxmox", func(s *Source, w io.Writer) error { return s.with(mib, func(d *Disk) error { return d.WriteQCOW2(w) }) }},
	{"virtualbox", "-virtualbox.ova", "VirtualBox", func(s *Source, w io.Writer) error {
		return s.with(mib, func(d *Disk) error { return d.WriteOVA(w, s.Machine, VirtualBox) })
	}},
	{"vmware", "-vmware.zip", "VMware Workstation, Fusion, Player", func(s *Source, w io.Writer) error {
		return s.with(mib, func(d *Disk) error { return d.WriteVMwareZip(w, s.Machine) })
	}},
	{"esxi", "-esxi.ova", "VMware ESXi, vSphere", func(s *Source, w io.Writer) error {
		return s.with(mib, func(d *Disk) error { return d.WriteOVA(w, s.Machine, ESXi) })
	}},
	{"gce", "-gce.tar.gz", "Google Compute Engine", func(s *Source, w io.Writer) error {
		return s.with(GCEAlign, func(d *Disk) error { return d.WriteGCE(w) })
	}},
	{"vhd", ".vhd", "EC2 import, Azure upload (fixed size)", func(s *Source, w io.Writer) error {
		return s.with(mib, func(d *Disk) error { return d.WriteVHDFixed(w) })
	}},
	{"vhd-dynamic", "-dynamic.vhd", "EC2 import, Hyper-V (grows)", func(s *Source, w io.Writer) error { return s.with(mib, func(d *Disk) error { return d.WriteVHD(w) }) }},
	{"raw", ".raw", "EC2 import, dd to a disk", func(s *Source, w io.Writer) error {
		return s.with(mib, func(d *Disk) error { _, err := d.WriteTo(w); return err })
	}},
	{"elf", ".elf", "QEMU -kernel, microvm, Firecracker", func(s *Source, w io.Writer) error { _, err := w.Write(s.Kernel); return err }},
}

// Find returns a format by name.
func Find(name string) (Format, error) {
	var names []string
	for _, f := range Formats {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Format{}, fmt.Errorf("diskimage: format %q: want %s", name, strings.Join(names, ", "))
}

// Source is what every format is made from.
type Source struct {
	Kernel  []byte // ELF by harness/image
	Machine Machine
	Options Options // AlignBytes is chosen by the format

	disks map[int64]*Disk
}

func (s *Source) with(align int64, do func(*Disk) error) error {
	if s.disks == nil {
		s.disks = map[int64]*Disk{}
	}
	if s.disks[align] == nil {
		o := s.Options
		o.AlignBytes = align
		d, err := Build(s.Kernel, o)
		if err != nil {
			return err
		}
		s.disks[align] = d
	}
	return do(s.disks[align])
}

// File is an entry of an index: what a build left.
type File struct {
	Name    string `json:"name"` // of the appliance
	Format  string `json:"format"`
	File    string `json:"file"` // beside the index
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`
	For     string `json:"for"`
	MemMiB  int    `json:"memory_mib"`
	CPUs    int    `json:"cpus"`
	CmdLine string `json:"cmdline,omitempty"`
}

// Write makes one format as a file in dir, complete or not at all.
func (s *Source) Write(f Format, dir string) (File, error) {
	m, err := s.Machine.withDefaults()
	if err != nil {
		return File{}, err
	}
	name := m.Name + f.Suffix
	sum := sha256.New()
	var n counter
	err = atomically(filepath.Join(dir, name), func(file *os.File) error {
		if f.Name == "raw" { // with holes, where the file system can
			return s.with(mib, func(d *Disk) error {
				if err := d.writeSparse(file); err != nil {
					return err
				}
				_, err := d.WriteTo(io.MultiWriter(sum, &n))
				return err
			})
		}
		b := bufio.NewWriterSize(io.MultiWriter(file, sum, &n), mib)
		if err := f.write(s, b); err != nil {
			return err
		}
		return b.Flush()
	})
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	return File{
		Name: m.Name, Format: f.Name, File: name, Bytes: int64(n), SHA256: hex.EncodeToString(sum.Sum(nil)),
		For: f.For, MemMiB: m.MemMiB, CPUs: m.CPUs, CmdLine: s.Options.CommandLine,
	}, nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// index is index.json.
type index struct {
	Schema int    `json:"schema"` // 1
	Images []File `json:"images"`
}

// ReadIndex reads index.json in dir; none is an empty one.
func ReadIndex(dir string) ([]File, error) {
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var x index
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("diskimage: %s: %w", filepath.Join(dir, "index.json"), err)
	}
	if x.Schema != 1 {
		return nil, fmt.Errorf("diskimage: %s: schema %d: want 1", filepath.Join(dir, "index.json"), x.Schema)
	}
	return x.Images, nil
}

// WriteIndex merges files into index.json and SHA256SUMS in dir. An entry of the same
// file is replaced, one whose file is gone dropped.
func WriteIndex(dir string, files []File) error {
	old, err := ReadIndex(dir)
	if err != nil {
		return err
	}
	for _, o := range old {
		if _, err := os.Stat(filepath.Join(dir, filepath.Base(o.File))); err == nil && !slices.ContainsFunc(files, func(f File) bool { return f.File == o.File }) {
			files = append(files, o)
		}
	}
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.File, b.File) })
	b, err := json.MarshalIndent(index{1, files}, "", "  ")
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, f := range files {
		fmt.Fprintf(&sums, "%s  %s\n", f.SHA256, f.File)
	}
	for name, data := range map[string]string{"index.json": string(b) + "\n", "SHA256SUMS": sums.String()} {
		err = errors.Join(err, atomically(filepath.Join(dir, name), func(f *os.File) error { _, err := f.WriteString(data); return err }))
	}
	return err
}

// atomically writes a file that appears complete or not at all.
func atomically(name string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
