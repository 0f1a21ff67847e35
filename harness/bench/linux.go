package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"osv/harness/design"
	"osv/harness/guest/linux"
	"osv/harness/tcg"
	"osv/harness/wire"
)

// symbolsTimeout bounds the listing of a kernel's symbols on its console.
const symbolsTimeout = 60 * time.Second

// Linux is the kind "linux": Debian's kernel and server, made by package linux.
type Linux struct {
	*QEMU
	Module string // this module's folder, for the programs that are not Debian's
	// Images is a folder with those programs where they were built elsewhere.
	Images string
	mu     sync.Mutex
	img    *linux.Image
	xdp    *linux.Image // img with the XDP cache's loader
	http   *linux.Image // img with the HTTP server
}

// program is the file of a program that is not Debian's.
func (k *Linux) program(name string) string {
	dir := k.Images
	if dir == "" {
		dir = k.Cache
	}
	return filepath.Join(dir, name)
}

// have reports why a program that was to be built elsewhere is not there.
func (k *Linux) have(name, what string) error {
	if k.Images == "" {
		return nil
	}
	if _, err := os.Stat(k.program(name)); err != nil {
		return fmt.Errorf("no %s: %w", what, err)
	}
	return nil
}

// Can reports whether the image has the service and the profile exists.
func (k *Linux) Can(s design.System, service string) error {
	if _, ok := linuxService(service); !ok {
		return fmt.Errorf("the Linux guest has no %s", service)
	}
	if _, ok := linux.Profiles[s.Profile]; !ok {
		return fmt.Errorf("the Linux guest has no profile %q", s.Profile)
	}
	switch {
	case isXDP(s):
		return k.canXDP(s, service)
	case service == httpService.Name:
		return k.canHTTP()
	}
	return nil
}

// Prepare makes the image, or finds it.
func (k *Linux) Prepare(ctx context.Context, s design.System, service string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.img == nil {
		img, err := linux.Ensure(ctx, linux.Config{Log: func(s string) { k.log("%s", s) }})
		if err != nil {
			return fmt.Errorf("bench: Linux guest: %w", err)
		}
		k.img = &img
	}
	switch {
	case isXDP(s):
		return k.prepareXDP(ctx, s)
	case service == httpService.Name:
		return k.prepareHTTP(ctx)
	}
	return nil
}

// Boot boots Linux with one service.
func (k *Linux) Boot(ctx context.Context, cfg Config) (Guest, error) {
	if err := k.Can(cfg.System, cfg.Service); err != nil {
		return nil, err
	}
	if err := k.Prepare(ctx, cfg.System, cfg.Service); err != nil {
		return nil, err
	}
	img := k.imageFor(cfg.System, cfg.Service)
	service, _ := linuxService(cfg.Service)
	lg := linux.Guest{Image: img, Profile: linux.Profiles[cfg.System.Profile], Service: service, IP: wire.GuestIP(0), Gateway: wire.Host.Addr(), Symbols: cfg.Profile}
	g, err := k.start(ctx, cfg, lg.Spec)
	if err != nil {
		return nil, err
	}
	g.symbols = func(context.Context) (*tcg.Symbols, string, error) {
		if _, err := linux.Measured(g.v, symbolsTimeout); err != nil {
			return nil, "", err
		}
		syms, err := tcg.ParseKallsyms(strings.NewReader(linux.KernelSymbols(g.v.Lines())))
		return syms, "programs in user mode", err
	}
	g.facts.Kernel = "Linux " + img.KernelVersion
	g.facts.Image = img.Digest
	g.facts.ImageBytes = fileBytes(img.Kernel) + fileBytes(img.Initrd)
	g.facts.Parity["kernel"] = g.facts.Kernel
	for _, f := range lg.Ledger(cfg.CPUs) {
		switch f.Name {
		case "profile", "service", "mitigations":
			g.facts.Parity[f.Name] = f.Value
		case "XDP cache":
			g.facts.Parity[f.Name] = "XDP " + linux.XDPMode(g.v.Lines()) + "; " + f.Value
		}
	}
	return g.guest(), nil
}
