package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	return BuildProgram(ctx, module, "harness/guest/xdpcache/xdpload", out, "-ldflags=-s -w")
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
	extra, err := Overlay(map[string][]byte{xdpLoader: prog})
	if err != nil {
		return img, err
	}
	img.xdp = true
	return img.followedBy("xdp", modules, extra)
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
