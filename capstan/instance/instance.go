// Package instance keeps machines made from images: each a folder with a copy-on-write
// disk, the machine's description and its console log.
//
// Spec: the folders below, which this package alone writes:
//
//	instances/HYPERVISOR/NAME/instance.json   what it is
//	instances/HYPERVISOR/NAME/base.*          the image, a link into the store
//	instances/HYPERVISOR/NAME/disk.qcow2      what the machine has written (qemu)
//	instances/HYPERVISOR/NAME/console.log     the console since the last start
//
// The link keeps the image alive where it is removed from the store. A folder appears
// complete or not at all. Who may use it: capstan's commands. It may not fetch or build
// images. Start reading at Manager and Create; overlay.go writes the disk.
package instance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"osv/capstan/build"
	"osv/capstan/hypervisor"
	"osv/capstan/repo"
	"osv/harness/diskimage"
)

// Instance is a machine made from an image.
type Instance struct {
	Name       string             `json:"name"`
	Hypervisor string             `json:"hypervisor"`
	Image      string             `json:"image"`  // its name when the instance was made
	Digest     string             `json:"digest"` // of its manifest
	Created    time.Time          `json:"created"`
	Persist    bool               `json:"persist"` // kept when another of this name is run
	Machine    hypervisor.Machine `json:"machine"`

	State hypervisor.State `json:"state"` // when it was listed
}

// Manager finds and makes instances.
type Manager struct {
	Dir  string // instances/
	Host *hypervisor.Host
}

var nameRE = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckName refuses what is no name: it is also a machine's name in the hypervisor and
// in the cloud.
func CheckName(name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("instance name %q: want 1 to 63 small letters, digits and -", name)
	}
	return nil
}

// NotFound is the error for an instance that is not there.
type NotFound struct {
	Name string
	Have []string
}

func (e *NotFound) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("instance %s: there is none (there are no instances)", e.Name)
	}
	return fmt.Sprintf("instance %s: there is none (there are %s)", e.Name, strings.Join(e.Have, ", "))
}

// List returns all instances with their states.
func (m *Manager) List(ctx context.Context) ([]Instance, error) {
	files, err := filepath.Glob(filepath.Join(m.Dir, "*", "*", "instance.json"))
	if err != nil {
		return nil, err
	}
	var out []Instance
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(filepath.Dir(f)), ".") {
			continue
		}
		i, err := m.read(ctx, f)
		if errors.Is(err, os.ErrNotExist) { // deleted meanwhile
			continue
		}
		if err != nil {
			return out, err
		}
		out = append(out, i)
	}
	return out, nil
}

func (m *Manager) read(ctx context.Context, file string) (Instance, error) {
	var i Instance
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &i)
	}
	if err != nil {
		return i, fmt.Errorf("instance: %s: %w", file, err)
	}
	i.Machine.Dir = filepath.Dir(file)
	h, err := hypervisor.Find(i.Hypervisor)
	if err != nil {
		return i, fmt.Errorf("instance %s: %w", i.Name, err)
	}
	i.State = h.State(ctx, m.Host, i.Machine)
	return i, nil
}

// Get returns an instance by name, whatever its hypervisor.
func (m *Manager) Get(ctx context.Context, name string) (Instance, error) {
	list, err := m.List(ctx)
	if err != nil {
		return Instance{}, err
	}
	e := &NotFound{Name: name}
	for _, i := range list {
		if i.Name == name {
			return i, nil
		}
		e.Have = append(e.Have, i.Name)
	}
	return Instance{}, e
}

// Options say what instance is wanted of an image.
type Options struct {
	Persist     bool
	CommandLine *string            // nil = the image's
	Machine     hypervisor.Machine // Name, CPUs, MemMiB, Net, Forwards, Volumes, …; zero = the image's
	Direct      bool               // qemu: boot the kernel without firmware and disk
}

// Create makes an instance. One of the same name that is stopped and not kept is
// replaced.
func (m *Manager) Create(ctx context.Context, s *repo.Store, img repo.Image, h hypervisor.Hypervisor, o Options) (Instance, error) {
	i := Instance{
		Name: o.Machine.Name, Hypervisor: h.Name(), Image: img.Ref.String(), Digest: string(img.Digest),
		Created: time.Now().UTC().Truncate(time.Second), Persist: o.Persist, Machine: o.Machine,
	}
	if err := CheckName(i.Name); err != nil {
		return i, err
	}
	old, err := m.Get(ctx, i.Name)
	var none *NotFound
	switch {
	case err == nil && old.State != hypervisor.Stopped:
		return i, fmt.Errorf("instance %s is %s: stop it (capstan stop %s) or choose another name (-i NAME)", i.Name, old.State, i.Name)
	case err == nil && old.Persist:
		return i, fmt.Errorf("instance %s is kept (--persist): start it (capstan run -i %s), delete it (capstan delete %s), or choose another name (-i NAME)", i.Name, i.Name, i.Name)
	case err != nil && !errors.As(err, &none):
		return i, err
	}
	c := &i.Machine
	if c.CPUs == 0 {
		c.CPUs = img.Config.CPUs
	}
	if c.MemMiB == 0 {
		c.MemMiB = img.Config.MemMiB
	}
	if c.Net == "" {
		c.Net = hypervisor.NAT
	}
	if c.MAC == "" && (h.Name() == "qemu" || h.Name() == "firecracker") {
		c.MAC = macOf(filepath.Join(m.Dir, h.Name(), i.Name)) // QEMU gives every machine the same
	}
	c.CommandLine = img.Config.CommandLine
	if o.CommandLine != nil {
		c.CommandLine = *o.CommandLine
	}
	if err := h.Check(*c); err != nil {
		return i, err
	}
	if err := h.Installed(m.Host); err != nil {
		return i, err
	}
	dir := filepath.Join(m.Dir, h.Name(), i.Name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return i, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return i, err
	}
	defer os.RemoveAll(tmp)
	if c.Control, err = controlAddress(dir); err != nil {
		return i, err
	}
	if err := i.files(s, img, h, tmp, o); err != nil {
		return i, fmt.Errorf("instance %s: %w", i.Name, err)
	}
	b, err := json.MarshalIndent(i, "", "  ")
	if err == nil {
		err = writeFile(filepath.Join(tmp, "instance.json"), append(b, '\n'))
	}
	if err != nil {
		return i, err
	}
	if none == nil {
		if err := m.Delete(ctx, old); err != nil {
			return i, err
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		return i, err
	}
	c.Dir = dir
	return i, nil
}

// files puts what the hypervisor boots into dir.
func (i *Instance) files(s *repo.Store, img repo.Image, h hypervisor.Hypervisor, dir string, o Options) error {
	c := &i.Machine
	link := func(format, as string) (string, error) {
		d, err := img.Layer(format)
		if err != nil {
			return "", err
		}
		return as, linkOrCopy(s.Path(d), filepath.Join(dir, as))
	}
	if h.Format() == "elf" || o.Direct {
		var err error
		c.Kernel, err = link("elf", "base.elf")
		return err
	}
	if h.Format() == "qcow2" {
		base, err := link("qcow2", "base.qcow2")
		if err != nil {
			if _, raw := img.Layer("raw"); raw == nil {
				base, err = link("raw", "base.raw")
			} else if _, elf := img.Layer("elf"); elf == nil {
				base, err = "base.qcow2", i.make(s, img, "qcow2", filepath.Join(dir, "base.qcow2"))
			}
		}
		if err != nil {
			return err
		}
		c.Disk = "disk.qcow2"
		return writeOverlay(filepath.Join(dir, c.Disk), filepath.Join(dir, base), base, o.CommandLine)
	}
	f, err := diskimage.Find(h.Format())
	if err != nil {
		return err
	}
	c.Disk = "base" + filepath.Ext(f.Suffix)
	if _, err := img.Layer("elf"); err == nil { // with the command line and size asked for
		return i.make(s, img, f.Name, filepath.Join(dir, c.Disk))
	}
	if o.CommandLine != nil {
		return fmt.Errorf("%s: the command line can be changed only where the image has its kernel (elf)", f.Name)
	}
	_, err = link(f.Name, c.Disk)
	return err
}

// make makes a disk of the image's kernel for this machine.
func (i *Instance) make(s *repo.Store, img repo.Image, format, path string) error {
	var d v1.Descriptor
	d, err := img.Layer("elf")
	if err != nil {
		return err
	}
	kernel, err := s.Bytes(d)
	if err != nil {
		return err
	}
	f, err := diskimage.Find(format)
	if err != nil {
		return err
	}
	c := img.Config
	c.Name, c.CPUs, c.MemMiB, c.CommandLine = i.Name, i.Machine.CPUs, i.Machine.MemMiB, i.Machine.CommandLine
	out, err := build.Source(c, kernel).Write(f, filepath.Dir(path))
	if err != nil {
		return err
	}
	return os.Rename(filepath.Join(filepath.Dir(path), out.File), path)
}

// Start starts an instance; see hypervisor.Hypervisor.
func (m *Manager) Start(ctx context.Context, i Instance, fg *hypervisor.IO) (wait func() error, err error) {
	h, err := hypervisor.Find(i.Hypervisor)
	if err != nil {
		return nil, err
	}
	if i.State == hypervisor.Running {
		return nil, fmt.Errorf("instance %s runs already", i.Name)
	}
	if err := h.Check(i.Machine); err != nil {
		return nil, err
	}
	return h.Start(ctx, m.Host, i.Machine, fg)
}

// Stop stops an instance, and is content with one that does not run.
func (m *Manager) Stop(ctx context.Context, i Instance, force bool) error {
	h, err := hypervisor.Find(i.Hypervisor)
	if err != nil {
		return err
	}
	return h.Stop(ctx, m.Host, i.Machine, force)
}

// Delete removes a stopped instance with its disk.
func (m *Manager) Delete(ctx context.Context, i Instance) error {
	h, err := hypervisor.Find(i.Hypervisor)
	if err != nil {
		return err
	}
	if i.State == hypervisor.Running {
		return fmt.Errorf("instance %s runs: stop it first (capstan stop %s)", i.Name, i.Name)
	}
	if err := h.Delete(ctx, m.Host, i.Machine); err != nil {
		return err
	}
	gone := filepath.Join(filepath.Dir(i.Machine.Dir), ".deleted-"+i.Name)
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(i.Machine.Dir, gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// controlAddress is where a machine's control socket is: in its folder, or where that
// path is too long for a socket, under a name made from it.
func controlAddress(dir string) (string, error) {
	if runtime.GOOS == "windows" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		defer l.Close()
		return "tcp:" + l.Addr().String(), nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(abs, "control.sock")
	if len(path) > 100 {
		run := os.Getenv("XDG_RUNTIME_DIR")
		if run == "" {
			run = os.TempDir()
		}
		sum := sha256.Sum256([]byte(abs))
		path = filepath.Join(run, "capstan-"+hex.EncodeToString(sum[:8])+".sock")
	}
	return "unix:" + path, nil
}

// macOf is a locally administered address of an instance's own, the same at each start.
func macOf(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}

// linkOrCopy makes a second name of a file, or a copy on another file system.
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
