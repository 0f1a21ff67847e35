// Package linux makes and describes the Linux guest that ours is compared with:
// Debian's cloud kernel and a root file system of a few megabytes, taken from
// Debian packages by digest, with an init of one page that sets the network and
// starts one service. No step is manual, none needs root.
//
// Profiles say how it is run: stock, tuned, tuned-busypoll, and xdp, which is tuned
// with a cache of memcached's replies in the kernel (xdp.go, package xdpcache).
//
// Spec: initramfs buffer format and newc cpio (Linux Documentation/driver-api/
// early-userspace/buffer-format.rst, 6.1); the init environment (unknown
// "key=value" words of the kernel command line, Documentation/admin-guide/
// kernel-parameters.rst).
//
// Who may use it: the bench, boot-bench and tests. May not: run QEMU or touch the
// network beyond apt-get.
//
// What the guest prints, each line beginning with "OSV-GUEST ":
//
//	init                 first line of user space
//	ready SERVICE        the service's ports are open
//	fact NAME VALUE      how the guest sees itself, for the parity ledger
//	exit SERVICE CODE    the service has ended
//	fail TEXT            what init could not do; the guest powers off
//
// Start reading at Ensure (packages to image), then profile.go (image to
// vm.Spec), then init.sh, which is what runs in the guest.
package linux

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed init.sh
var initScript []byte

// buildVersion changes when the way an image is made changes; images of another
// version are not used again.
const buildVersion = "3"

// Suite is the Debian release that guests are made of, whatever the host runs,
// so that baselines of two hosts are the same software.
const Suite = "bookworm"

// kernelMeta depends on the current cloud kernel of the suite.
const kernelMeta = "linux-image-cloud-amd64"

// userPackages hold the programs and all libraries they may need; only the files
// that a program really links are taken.
var userPackages = []string{
	"busybox-static", "memcached", "iperf3",
	"libc6", "libevent-2.1-7", "libsasl2-2", "libssl3", "libiperf0", "libsctp1",
}

// programs are copied into the root together with their shared libraries.
var programs = []string{"usr/bin/memcached", "usr/bin/iperf3"}

// kernelModules are loaded by init in this order, each after what it depends on.
var kernelModules = []string{"virtio_pci", "virtio_mmio", "virtio_net", "virtio-rng"}

// Package is one Debian package, as it was resolved.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	File    string `json:"file"` // name in the archive
	SHA256  string `json:"sha256"`
}

// Image is a Linux guest ready to boot.
type Image struct {
	Kernel        string    `json:"-"` // bzImage, as Debian ships it
	Unpacked      string    `json:"-"` // the ELF in it, "" where it could not be unpacked
	Initrd        string    `json:"-"` // full root: modules, programs, init.sh
	BareInitrd    string    `json:"-"` // busybox and an init of one line, for boot and memory cells
	KernelVersion string    `json:"kernel_version"`
	Modules       []string  `json:"modules"` // in load order
	Packages      []Package `json:"packages"`
	Digest        string    `json:"digest"` // of everything that went in
	Note          string    `json:"note,omitempty"`
	xdp           bool      // made by WithXDP
}

// Config says where images are kept.
type Config struct {
	CacheDir string           // "" = DefaultCache()
	Refresh  bool             // ask the archive for newer packages
	Log      func(msg string) // progress, one line a call; nil = silent
	archive  archive          // tests; nil = apt
}

// archive is where packages come from.
type archive interface {
	// resolve finds the candidate version of each name.
	resolve(ctx context.Context, names []string) ([]Package, error)
	// kernelPackage is the package that the kernel metapackage depends on.
	kernelPackage(ctx context.Context, meta string) (string, error)
	// download puts p into folder dir under p.File.
	download(ctx context.Context, p Package, dir string) error
}

// DefaultCache is $OSV_CACHE, else osv in the user's cache directory.
func DefaultCache() (string, error) {
	if d := os.Getenv("OSV_CACHE"); d != "" {
		return d, nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w (set OSV_CACHE)", err)
	}
	return filepath.Join(d, "osv"), nil
}

// Ensure returns the Linux guest, making it when it is not in the cache. The
// first time takes 40 MB of download; after that it needs no network, and gives
// the same image until Refresh.
func Ensure(ctx context.Context, c Config) (Image, error) {
	if c.Log == nil {
		c.Log = func(string) {}
	}
	if c.CacheDir == "" {
		d, err := DefaultCache()
		if err != nil {
			return Image{}, fmt.Errorf("linux guest: %w", err)
		}
		c.CacheDir = d
	}
	dir := filepath.Join(c.CacheDir, "linux-"+Suite)
	if err := os.MkdirAll(filepath.Join(dir, "debs"), 0o755); err != nil {
		return Image{}, fmt.Errorf("linux guest: %w", err)
	}
	if c.archive == nil {
		c.archive = &apt{dir: filepath.Join(dir, "apt"), log: c.Log}
	}
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return Image{}, fmt.Errorf("linux guest: %w", err)
	}
	defer unlock()
	img, err := c.ensure(ctx, dir)
	if err != nil {
		return Image{}, fmt.Errorf("linux guest: %w", err)
	}
	return img, nil
}

func (c Config) ensure(ctx context.Context, dir string) (Image, error) {
	lockPath := filepath.Join(dir, "packages.json")
	var pkgs []Package
	b, err := os.ReadFile(lockPath)
	if err == nil {
		err = json.Unmarshal(b, &pkgs)
	}
	if err != nil || c.Refresh || len(pkgs) == 0 {
		if pkgs, err = c.resolveAll(ctx); err != nil {
			return Image{}, err
		}
		if err := writeJSON(lockPath, pkgs); err != nil {
			return Image{}, err
		}
	}
	digest := imageDigest(pkgs)
	out := filepath.Join(dir, "images", digest[:16])
	if img, err := loadImage(out); err == nil {
		return img, nil
	}
	debs := make([]string, len(pkgs))
	for i, p := range pkgs {
		if debs[i], err = c.fetch(ctx, p, filepath.Join(dir, "debs")); err != nil {
			return Image{}, err
		}
	}
	c.Log("making the Linux guest's root file system")
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return Image{}, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(out), ".new-")
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(tmp)
	if err := build(ctx, tmp, pkgs, debs, digest); err != nil {
		return Image{}, err
	}
	os.RemoveAll(out) // a broken one; its load failed
	if err := os.Rename(tmp, out); err != nil {
		return Image{}, err
	}
	return loadImage(out)
}

func (c Config) resolveAll(ctx context.Context) ([]Package, error) {
	c.Log("asking the Debian archive for packages of " + Suite)
	kernel, err := c.archive.kernelPackage(ctx, kernelMeta)
	if err != nil {
		return nil, err
	}
	return c.archive.resolve(ctx, append([]string{kernel}, userPackages...))
}

// fetch returns the path of p's file in the store, downloading it when it is not
// there. The name in the store is the digest, and the content is checked on the
// way in.
func (c Config) fetch(ctx context.Context, p Package, store string) (string, error) {
	dst := filepath.Join(store, p.SHA256+".deb")
	if _, err := os.Stat(dst); err == nil {
		return dst, nil
	}
	c.Log("downloading " + p.File)
	tmp, err := os.MkdirTemp(store, ".get-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := c.archive.download(ctx, p, tmp); err != nil {
		return "", err
	}
	src := filepath.Join(tmp, p.File)
	sum, err := fileDigest(src)
	if err != nil {
		return "", err
	}
	if sum != p.SHA256 {
		return "", fmt.Errorf("%s: SHA-256 is %s, the archive's index says %s", p.File, sum, p.SHA256)
	}
	return dst, os.Rename(src, dst)
}

// imageDigest names an image by all that goes into it.
func imageDigest(pkgs []Package) string {
	h := sha256.New()
	fmt.Fprintln(h, buildVersion, programs, kernelModules, xdpModules)
	for _, p := range pkgs {
		fmt.Fprintln(h, p.Name, p.SHA256)
	}
	h.Write(initScript)
	h.Write([]byte(bareInit))
	return hex.EncodeToString(h.Sum(nil))
}

func loadImage(dir string) (Image, error) {
	img := Image{
		Kernel:     filepath.Join(dir, "vmlinuz"),
		Initrd:     filepath.Join(dir, "guest.cpio"),
		BareInitrd: filepath.Join(dir, "bare.cpio"),
	}
	b, err := os.ReadFile(filepath.Join(dir, "image.json"))
	if err == nil {
		err = json.Unmarshal(b, &img)
	}
	if u := filepath.Join(dir, "vmlinux"); err == nil && img.Note == "" {
		_, err = os.Stat(u)
		img.Unpacked = u
	}
	for _, f := range []string{img.Kernel, img.Initrd, img.BareInitrd, filepath.Join(dir, "xdp.cpio")} {
		if err == nil {
			_, err = os.Stat(f)
		}
	}
	return img, err
}

// build makes vmlinuz, vmlinux, guest.cpio, bare.cpio, xdp.cpio and image.json in dir.
func build(ctx context.Context, dir string, pkgs []Package, debs []string, digest string) error {
	kfiles, err := readDeb(ctx, debs[0], func(name string) bool {
		return strings.HasPrefix(name, "boot/vmlinuz-") || strings.HasSuffix(name, ".ko") && wantedDir(name) ||
			strings.HasSuffix(name, "/modules.builtin")
	})
	if err != nil {
		return err
	}
	user := tree{}
	for _, d := range debs[1:] {
		fs, err := readDeb(ctx, d, func(name string) bool {
			return strings.HasPrefix(name, "usr/bin/") || strings.HasPrefix(name, "bin/") ||
				strings.Contains(name, "/x86_64-linux-gnu/") || strings.HasPrefix(name, "lib64/") || strings.HasPrefix(name, "lib/x86_64-linux-gnu/")
		})
		if err != nil {
			return err
		}
		for n, f := range fs {
			user[n] = f
		}
	}
	img := Image{Packages: pkgs, Digest: digest}
	var kernel []byte
	for n, f := range kfiles {
		if v, ok := strings.CutPrefix(n, "boot/vmlinuz-"); ok {
			kernel, img.KernelVersion = f.data, v
		}
	}
	if kernel == nil {
		return fmt.Errorf("%s: no boot/vmlinuz-* in it", pkgs[0].File)
	}
	modules, err := moduleOrder(kfiles, kernelModules)
	if err != nil {
		return err
	}
	bb, ok := user["bin/busybox"]
	if !ok {
		if bb, ok = user["usr/bin/busybox"]; !ok {
			return errors.New("busybox-static: no bin/busybox in it")
		}
	}

	root := newRoot(bb.data)
	root.file("init", initScript, 0o755)
	var order strings.Builder
	for _, m := range modules {
		base := path.Base(m)
		root.file("lib/modules/"+base, kfiles[m].data, 0o644)
		img.Modules = append(img.Modules, strings.TrimSuffix(base, ".ko"))
		fmt.Fprintln(&order, base)
	}
	root.file("lib/modules/order", []byte(order.String()), 0o644)
	files, err := linkClosure(user, programs)
	if err != nil {
		return err
	}
	for name, data := range files {
		root.file(name, data, 0o755)
	}
	xdp, err := xdpRoot(kfiles, modules)
	if err != nil {
		return err
	}
	bare := newRoot(bb.data)
	bare.file("init", []byte(bareInit), 0o755)

	bytesOf := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	if elf, err := unpackKernel(kernel); err != nil {
		img.Note = "no unpacked kernel: " + err.Error()
	} else if err := writeFile(filepath.Join(dir, "vmlinux"), bytesOf(elf)); err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer) error{
		"vmlinuz":    bytesOf(kernel),
		"guest.cpio": root.write,
		"bare.cpio":  bare.write,
		"xdp.cpio":   xdp.write,
	} {
		if err := writeFile(filepath.Join(dir, name), write); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(dir, "image.json"), img)
}

// wantedDir keeps the reader from holding all of the kernel's 90 MB of modules.
func wantedDir(name string) bool {
	for _, d := range []string{"/drivers/virtio/", "/drivers/net/", "/net/core/", "/net/sched/", "/drivers/char/hw_random/"} {
		if i := strings.Index(name, d); i >= 0 && !strings.Contains(name[i+len(d):], "/") {
			return true
		}
	}
	return false
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lockDir keeps two runs from making one image at a time; the lock ends with the
// process in any case.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { <-got; f.Close() }()
		return nil, fmt.Errorf("waiting for another run to make the guest: %w", context.Cause(ctx))
	}
}

// sortedKeys is for output that must not depend on map order.
func sortedKeys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}
