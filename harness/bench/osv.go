package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"osv/harness/design"
	"osv/harness/guestapi"
	"osv/harness/image"
	"osv/harness/tcg"
	"osv/harness/vm"
	"osv/harness/wire"
)

// appliances are the folders of our services.
var appliances = map[string]string{"memcached": "appliances/memcached", "iperf3": "appliances/iperf", "reflector": "kernel/ktest/progs/reflector", unmodifiedImage: "appliances/linux", "http": "kernel/ktest/progs/httpd"}

// managed are those that serve the REST API when they are built with -tags rest.
var managed = map[string]bool{"memcached": true}

// serviceArgs are what each appliance is told, as the Linux guest's server is.
var serviceArgs = map[string]string{"memcached": "-p 11211 -U 11211 -m 64 -c 4096", "iperf3": "-s"}

// OSv is the kind "osv": our appliances, built from the module they are in.
type OSv struct {
	*QEMU
	Module string // the module's folder
	// Images is a folder of ELFs that were built elsewhere; nothing is built then.
	Images string
	mu     sync.Mutex
	built  map[string]bool // ELFs of this run
}

// Can reports whether there is an appliance for the service.
func (k *OSv) Can(s design.System, service string) error {
	if isUnmodified(s) {
		return k.canUnmodified(service)
	}
	dir, ok := appliances[service]
	if !ok {
		return fmt.Errorf("no appliance serves %s", service)
	}
	if k.Images != "" {
		if _, err := os.Stat(k.elf(service, false)); err != nil {
			return fmt.Errorf("no image serves %s: %w", service, err)
		}
		return nil
	}
	if src, err := filepath.Glob(filepath.Join(k.Module, dir, "*.go")); err != nil || len(src) == 0 {
		return fmt.Errorf("no appliance serves %s: %s holds no program", service, dir)
	}
	return nil
}

// elf is the file of an appliance's image.
func (k *OSv) elf(service string, symbols bool) string {
	name, dir := "osv-"+service, k.Images
	if symbols {
		name += "-symbols"
	}
	if dir == "" {
		dir = k.Cache
	}
	return filepath.Join(dir, name+".elf")
}

// Build makes the images of the plan's appliances and lists their files.
func (k *OSv) Build(p design.Plan) ([]string, error) {
	var out []string
	for _, svc := range p.Services() {
		for _, s := range p.Systems {
			if s.Guest != "osv" || k.Can(s, svc) != nil {
				continue
			}
			for _, symbols := range []bool{false, true} {
				if symbols && len(p.Profiles) == 0 {
					continue
				}
				elf, err := k.build(imageOf(s, svc), symbols)
				if err != nil {
					return nil, err
				}
				if !slices.Contains(out, elf) {
					out = append(out, elf)
				}
			}
		}
	}
	return out, nil
}

// build makes an appliance's ELF once a run, with its symbols or without.
func (k *OSv) build(service string, symbols bool) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	elf := k.elf(service, symbols)
	if k.built[elf] || k.Images != "" {
		return elf, nil
	}
	k.log("building %s", appliances[service])
	tags := ""
	if symbols && managed[service] { // for profiles: what is compared has no such server
		tags = "rest"
	}
	if err := image.BuildWith("./"+appliances[service], elf, image.Options{Dir: k.Module, Strip: !symbols, Tags: tags}); err != nil {
		return "", fmt.Errorf("bench: %s: %w", appliances[service], err)
	}
	if k.built == nil {
		k.built = map[string]bool{}
	}
	k.built[elf] = true
	return elf, nil
}

// Prepare builds the appliance.
func (k *OSv) Prepare(ctx context.Context, s design.System, service string) error {
	if isUnmodified(s) {
		if _, err := k.root(ctx, service); err != nil {
			return err
		}
	}
	_, err := k.build(imageOf(s, service), false)
	return err
}

// Boot boots an appliance. The system's option "args" is appended to what it is
// told (an engine, say).
func (k *OSv) Boot(ctx context.Context, cfg Config) (Guest, error) {
	if err := k.Can(cfg.System, cfg.Service); err != nil {
		return nil, err
	}
	elf, err := k.build(imageOf(cfg.System, cfg.Service), cfg.Profile)
	if err != nil {
		return nil, err
	}
	args := strings.TrimSpace(serviceArgs[cfg.Service] + " " + cfg.System.Options["args"])
	ip := wire.GuestIP(0)
	api, root, runs, other := "", "", appliances[cfg.Service]+" ", "code without a symbol"
	switch {
	case isUnmodified(cfg.System):
		if root, err = k.root(ctx, cfg.Service); err != nil {
			return nil, err
		}
		runs, args, other = "Debian's ", strings.Join(argv(cfg.Service, cfg.CPUs), " "), "programs in user mode"
	case cfg.Profile && managed[cfg.Service]:
		api = fmt.Sprintf(" --rest=:%d", guestapi.Port)
	}
	g, err := k.start(ctx, cfg, func(base vm.Spec) (vm.Spec, error) {
		base.Kernel, base.RNG = elf, true
		if root != "" { // guests of a group share the file, so that each writes beside it
			base.Disks = append(base.Disks, vm.Disk{Path: root, Snapshot: true})
		}
		base.Append = fmt.Sprintf("--ip=eth0,%s,%d --defaultgw=%s%s -- %s", ip.Addr(), ip.Bits(), wire.Host.Addr(), api, args)
		return base, nil
	})
	if err != nil {
		return nil, err
	}
	g.symbols = func(context.Context) (*tcg.Symbols, string, error) {
		syms, err := tcg.ELFSymbols(elf)
		return syms, other, err
	}
	if api != "" && g.w != nil {
		g.api = &guestapi.Client{Base: fmt.Sprintf("http://%s:%d", ip.Addr(), guestapi.Port), Transport: &http.Transport{DialContext: g.w.DialContext, DisableKeepAlives: true}}
	}
	digest, err := fileDigest(elf)
	if err != nil {
		_ = g.Stop()
		return nil, err
	}
	g.facts.Kernel, g.facts.Image, g.facts.ImageBytes = "OSv", digest, fileBytes(elf)
	if root != "" {
		g.facts.ImageBytes += fileBytes(root)
	}
	g.facts.Parity["kernel"], g.facts.Parity["service"] = "OSv", runs+args
	g.facts.Parity["mitigations"], g.facts.Parity["profile"] = "none needed: one address space, no user mode", firstWord(cfg.System.Profile)
	return g.guest(), nil
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("bench: %w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
