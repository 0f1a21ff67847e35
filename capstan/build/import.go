package build

import (
	"fmt"
	"io"
	"os"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"osv/capstan/repo"
	"osv/harness/diskimage"
)

// Import puts an image file into the store: a kernel ELF, from which the formats are
// made, or a disk (QCOW2 or raw) as it is. c says what is known of it.
func Import(s *repo.Store, ref repo.Ref, file string, c repo.Config) (repo.Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return repo.Image{}, err
	}
	defer f.Close()
	head := make([]byte, 520)
	n, err := io.ReadFull(f, head)
	if err != nil && n < 8 {
		return repo.Image{}, fmt.Errorf("%s: not an image: %d bytes", file, n)
	}
	head = head[:n]
	format := ""
	switch {
	case string(head[:4]) == "\x7fELF":
		format = "elf"
	case string(head[:4]) == "QFI\xfb":
		format = "qcow2"
	case n >= 512 && head[510] == 0x55 && head[511] == 0xaa:
		format = "raw"
	default:
		return repo.Image{}, fmt.Errorf("%s: not an image: want a kernel ELF, QCOW2 or a raw disk with a boot sector", file)
	}
	c.Architecture, c.OS = "amd64", "osv"
	if c.Name == "" {
		c.Name = ref.Base()
	}
	if c.MemMiB == 0 {
		c.MemMiB = defaultMem
	}
	if c.CPUs == 0 {
		c.CPUs = defaultCPUs
	}
	if format != "elf" && c.CommandLine == "" {
		c.CommandLine, _ = diskimage.ReadCommandLine(file) // images of others have none that we can read
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return repo.Image{}, err
	}
	d, err := s.Add(repo.LayerPrefix+format, f)
	if err != nil {
		return repo.Image{}, err
	}
	layers := []v1.Descriptor{d}
	if format == "elf" {
		b, err := s.Bytes(d)
		if err != nil {
			return repo.Image{}, err
		}
		q, err := diskimage.Find("qcow2")
		if err != nil {
			return repo.Image{}, err
		}
		disk, err := AddFormat(s, Source(c, b), q)
		if err != nil {
			return repo.Image{}, fmt.Errorf("%s: %w", file, err)
		}
		layers = append(layers, disk)
	}
	m, err := s.Compose(c, layers)
	if err != nil {
		return repo.Image{}, err
	}
	return s.Tag(ref, m, nil)
}
