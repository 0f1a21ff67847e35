package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"osv/harness/vm"
)

// XDP is Tuned with memcached's UDP GETs of cached keys answered in the kernel
// before its network stack (package xdpcache, after BMC, NSDI 2021): the best that
// Linux does with a program in its own receive path. Only one vCPU. Such a guest
// needs an Image.WithXDP.
var XDP = func() Profile {
	p := Tuned
	p.Name, p.xdp = "xdp", true
	return p
}()

// xdpModules are what a BPF program at an interface's egress needs.
var xdpModules = []string{"sch_ingress", "cls_bpf"}

// xdpLoader is the program that init starts; xdpOrder lists xdpModules and what
// they depend on.
const (
	xdpLoader = "bin/xdpload"
	xdpOrder  = "lib/modules/xdp"
)

// BuildXDP compiles the program that puts the cache into the guest's kernel.
// module is the folder of this module.
func BuildXDP(ctx context.Context, module, out string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("linux guest: %w", err)
	}
	tmp := fmt.Sprintf("%s.%d", out, os.Getpid())
	defer os.Remove(tmp)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", tmp, "./harness/guest/xdpcache/xdpload")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("linux guest: go build xdpload: %w\n%s", err, text)
	}
	if err := os.Rename(tmp, out); err != nil {
		return fmt.Errorf("linux guest: %w", err)
	}
	return nil
}

// WithXDP is the image with the loader in it and the modules that it needs, for
// profile XDP.
func (img Image) WithXDP(loader string) (Image, error) {
	prog, err := os.ReadFile(loader)
	if err != nil {
		return img, fmt.Errorf("linux guest: XDP loader: %w", err)
	}
	modules, err := os.ReadFile(filepath.Join(filepath.Dir(img.Initrd), "xdp.cpio"))
	if err != nil {
		return img, fmt.Errorf("linux guest: XDP: %w", err)
	}
	extra := &root{nodes: map[string]node{}}
	extra.file(xdpLoader, prog, 0o755)
	var last bytes.Buffer
	if err := extra.write(&last); err != nil {
		return img, err
	}
	img.xdp = true
	return img.followedBy("xdp", modules, last.Bytes())
}

// xdpRoot is the archive of the modules that XDP needs beside those of order.
func xdpRoot(kfiles tree, have []string) (*root, error) {
	modules, err := moduleOrder(kfiles, append(append([]string(nil), kernelModules...), xdpModules...))
	if err != nil {
		return nil, err
	}
	r := &root{nodes: map[string]node{}}
	var order strings.Builder
	for _, m := range modules[len(have):] {
		base := filepath.Base(m)
		r.file("lib/modules/"+base, kfiles[m].data, 0o644)
		fmt.Fprintln(&order, base)
	}
	r.file(xdpOrder, []byte(order.String()), 0o644)
	return r, nil
}

// checkXDP reports why the guest cannot run its profile's cache.
func (g Guest) checkXDP(vcpus int) error {
	switch {
	case !g.Profile.xdp:
		return nil
	case !g.Image.xdp:
		return errors.New("linux guest: profile xdp needs an image with its loader (WithXDP)")
	case !g.IP.IsValid():
		return errors.New("linux guest: profile xdp needs a network")
	case vcpus != 1:
		return fmt.Errorf("linux guest: profile xdp runs on 1 vCPU, not %d", vcpus)
	}
	return nil
}

// XDPMode is where the guest's kernel runs the cache, "native" or "generic" with
// the reason, as its console says; "" where it has none.
func XDPMode(lines []vm.Line) string {
	for _, f := range ParseFacts(lines) {
		if f.Name == "xdp" {
			return f.Value
		}
	}
	return ""
}
