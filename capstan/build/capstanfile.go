// Package build makes images: a Go main package linked with the kernel, or a new image
// on the kernel of another, as a Capstanfile says.
//
// Spec: Capstanfile as this file describes it, YAML 1.2; keys of the original Capstan
// (base, cmdline, build, files, rootfs) mean what they meant there, as far as an image
// without a file system allows. Who may use it: capstan. It may not run hypervisors.
//
// A guest has no file system of its own yet: files and rootfs go into the program, by
// "//go:embed all:rootfs" in the main package, where they appear under rootfs/ without
// lying there.
//
// Start reading at File, then build.go.
package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FileName is what the description of an image is called.
const FileName = "Capstanfile"

// DefaultRootFS is the folder that goes into the program if the Capstanfile names none
// and there is one.
const DefaultRootFS = "ROOTFS"

// File is a Capstanfile. Paths are relative to its folder.
type File struct {
	Base    string            `yaml:"base,omitempty"`    // image in the store whose kernel is used; "" = package
	Package string            `yaml:"package,omitempty"` // Go main package; "" = "."
	Name    string            `yaml:"name,omitempty"`    // "" = the folder's
	Title   string            `yaml:"title,omitempty"`   // one line
	Version string            `yaml:"version,omitempty"` // of what is in the image
	CmdLine string            `yaml:"cmdline,omitempty"` // kernel options, "--", the program's arguments
	Build   string            `yaml:"build,omitempty"`   // shell command that is run first
	Files   map[string]string `yaml:"files,omitempty"`   // path in the guest: path here, or & for the same name
	RootFS  string            `yaml:"rootfs,omitempty"`  // folder whose files are at / in the guest
	Tags    string            `yaml:"tags,omitempty"`    // Go build tags
	Memory  string            `yaml:"memory,omitempty"`  // of the machine: "256M"
	CPUs    int               `yaml:"cpus,omitempty"`    // of the machine
	Data    string            `yaml:"data,omitempty"`    // size of a data partition: "1G"
	Ports   []string          `yaml:"ports,omitempty"`   // "11211", "5201/udp"

	RPMBase string `yaml:"rpm-base,omitempty"` // of the original; refused
}

var portRE = regexp.MustCompile(`^([0-9]{1,5})(?:/(tcp|udp))?$`)

// Parse reads a Capstanfile. An unknown key is an error, with its line.
func Parse(r io.Reader) (File, error) {
	var f File
	d := yaml.NewDecoder(r)
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("%s: %w", FileName, err)
	}
	return f, f.check()
}

func (f File) check() error {
	bad := func(key, value, why string) error { return fmt.Errorf("%s: %s: %q: %s", FileName, key, value, why) }
	switch {
	case f.RPMBase != "":
		return bad("rpm-base", f.RPMBase, "RPM packages hold no Go programs; use package or base")
	case f.Base != "" && f.Package != "":
		return bad("base", f.Base, "with package: an image has one kernel")
	case f.Base != "" && (len(f.Files) > 0 || f.RootFS != ""):
		return bad("base", f.Base, "with files or rootfs: they go into the program when it is linked, and this one is; use package")
	case f.CPUs < 0 || f.CPUs > 255:
		return bad("cpus", strconv.Itoa(f.CPUs), "want 1 to 255")
	}
	for key, v := range map[string]string{"memory": f.Memory, "data": f.Data} {
		if v != "" {
			if _, err := ParseSize(v); err != nil {
				return bad(key, v, err.Error())
			}
		}
	}
	for _, p := range f.Ports {
		m := portRE.FindStringSubmatch(p)
		if m == nil {
			return bad("ports", p, "want NUMBER or NUMBER/udp")
		}
		if n, _ := strconv.Atoi(m[1]); n < 1 || n > 65535 {
			return bad("ports", p, "want 1 to 65535")
		}
	}
	for guest, host := range f.Files {
		if clean := path.Clean("/" + guest); clean == "/" || strings.Contains(guest, "..") {
			return bad("files", guest, "is no path of a file in the guest")
		}
		if host == "" {
			return bad("files", guest, "has no source (& for the file of the same name here)")
		}
	}
	return nil
}

// Read reads the Capstanfile in dir; none is the zero File.
func Read(dir string) (File, error) {
	b, err := os.ReadFile(filepath.Join(dir, FileName))
	if errors.Is(err, os.ErrNotExist) {
		return File{}, nil
	}
	if err != nil {
		return File{}, err
	}
	f, err := Parse(bytes.NewReader(b))
	if err != nil {
		return f, fmt.Errorf("%s: %w", dir, err)
	}
	return f, nil
}

// ParseSize reads a size in bytes: 512M, 1G, 64K, 1048576; MiB and MB are the same.
func ParseSize(s string) (int64, error) {
	text := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	shift := 0
	if n := len(text); n > 0 {
		switch text[n-1] {
		case 'K':
			shift = 10
		case 'M':
			shift = 20
		case 'G':
			shift = 30
		case 'T':
			shift = 40
		}
		if shift > 0 {
			text = text[:n-1]
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("size %q: want a number with K, M, G or T (512M)", s)
	}
	return n << shift, nil
}

// ParseMem reads a memory size as MiB.
func ParseMem(s string) (int, error) {
	n, err := ParseSize(s)
	if err != nil {
		return 0, err
	}
	if n < 1<<20 || n%(1<<20) != 0 || n > 1<<46 {
		return 0, fmt.Errorf("memory %q: want whole MiB (512M, 1G)", s)
	}
	return int(n >> 20), nil
}

// rootFiles lists what goes into the guest: path below rootfs/ to path on the host.
func (f File) rootFiles(dir string) (map[string]string, error) {
	out := map[string]string{}
	root := f.RootFS
	if root == "" {
		if st, err := os.Stat(filepath.Join(dir, DefaultRootFS)); err == nil && st.IsDir() {
			root = DefaultRootFS
		}
	}
	if root != "" {
		if err := addTree(out, "/", filepath.Join(dir, root)); err != nil {
			return nil, fmt.Errorf("%s: rootfs: %w", FileName, err)
		}
	}
	for guest, host := range f.Files {
		if host == "&" {
			host = path.Base(guest)
		}
		src := filepath.Join(dir, filepath.FromSlash(host))
		st, err := os.Stat(src)
		switch {
		case err != nil:
		case st.IsDir():
			err = addTree(out, guest, src)
		default:
			err = addFile(out, guest, src)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: files: %w", FileName, err)
		}
	}
	return out, nil
}

func addTree(out map[string]string, at, dir string) error {
	return filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return addFile(out, path.Join(at, filepath.ToSlash(rel)), p)
	})
}

func addFile(out map[string]string, guest, src string) error {
	real, err := filepath.EvalSymlinks(src)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return err
	}
	if st, err := os.Stat(real); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s is not a plain file", src))
	}
	out[strings.TrimPrefix(path.Clean("/"+guest), "/")] = real
	return nil
}
