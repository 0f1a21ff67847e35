package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"osv/harness/design"
	"osv/harness/guest/linux"
)

// xdpload is the program that the guest loads the cache with.
const xdpload = "xdpload"

// isXDP reports whether a system is Linux with the cache in its kernel.
func isXDP(s design.System) bool { return s.Guest == "linux" && s.Profile == linux.XDP.Name }

// canXDP reports why a system cannot run a service with the cache, nil if it can.
func (k *Linux) canXDP(s design.System, service string) error {
	switch {
	case service != linux.Memcached.Name:
		return fmt.Errorf("the XDP cache is memcached's, not %s's", service)
	case s.CPUs > 1:
		return fmt.Errorf("the XDP cache runs on 1 vCPU, not %d", s.CPUs)
	case k.VHost:
		return errors.New("the XDP cache needs a network card of which it can turn off the offloads: not vhost-user's")
	}
	return k.have(xdpload, "loader of the XDP cache")
}

// Build makes what a plan's guests need beside Debian's packages, and lists the
// files.
func (k *Linux) Build(ctx context.Context, p design.Plan) ([]string, error) {
	out, err := k.buildXDP(ctx, p)
	if err != nil {
		return nil, err
	}
	linux := slices.ContainsFunc(p.Systems, func(s design.System) bool { return s.Guest == "linux" })
	if linux && slices.Contains(p.Services(), httpService.Name) {
		if err := k.buildHTTP(ctx); err != nil {
			return nil, err
		}
		out = append(out, k.program(httpd))
	}
	return out, nil
}

// buildXDP is Build of the loader.
func (k *Linux) buildXDP(ctx context.Context, p design.Plan) ([]string, error) {
	for _, s := range p.Systems {
		if !isXDP(s) || k.VHost {
			continue
		}
		if k.Images == "" {
			if err := linux.BuildXDP(ctx, k.Module, k.program(xdpload)); err != nil {
				return nil, fmt.Errorf("bench: %w", err)
			}
		}
		return []string{k.program(xdpload)}, nil
	}
	return nil, nil
}

// prepareXDP adds the loader to the image once a run; k.mu is held.
func (k *Linux) prepareXDP(ctx context.Context, s design.System) error {
	if k.xdp != nil {
		return nil
	}
	k.log("building the XDP cache's loader")
	if _, err := k.buildXDP(ctx, design.Plan{Systems: []design.System{s}}); err != nil {
		return err
	}
	img, err := k.img.WithXDP(k.program(xdpload))
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	k.xdp = &img
	return nil
}

// imageFor is the prepared image of a system and service.
func (k *Linux) imageFor(s design.System, service string) linux.Image {
	switch {
	case isXDP(s):
		return *k.xdp
	case service == httpService.Name:
		return *k.http
	}
	return *k.img
}
