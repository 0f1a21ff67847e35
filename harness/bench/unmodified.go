package bench

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"osv/harness/design"
	"osv/harness/guest/linux"
	"osv/harness/rootfs"
)

// An OSv guest of the system option program=unmodified runs Debian's own server, the
// binary that the Linux guest runs, with the same arguments, from an ext4 disk.

// programOption is the name of the option, unmodified its value.
const (
	programOption = "program"
	unmodified    = "unmodified"

	unmodifiedImage = "linux" // the appliance that runs programs
)

// imageOf names the appliance that serves a service on a system.
func imageOf(s design.System, service string) string {
	if isUnmodified(s) {
		return unmodifiedImage
	}
	return service
}

func isUnmodified(s design.System) bool { return s.Options[programOption] == unmodified }

// programs are the packages of the servers that can be run so, and their files.
var programs = map[string]struct{ pkg, file string }{
	"memcached": {"memcached", "/usr/bin/memcached"},
	"iperf3":    {"iperf3", "/usr/bin/iperf3"},
}

// canUnmodified is Can for such a system.
func (k *OSv) canUnmodified(service string) error {
	if _, ok := programs[service]; !ok {
		return fmt.Errorf("no Debian package serves %s", service)
	}
	if k.Images != "" {
		return fmt.Errorf("unmodified programs are not among images that were built elsewhere")
	}
	return nil
}

// root makes the disk of a service once a run, and returns its file.
func (k *OSv) root(ctx context.Context, service string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	file := filepath.Join(k.Cache, "root-"+service+".img")
	if k.built[file] {
		return file, nil
	}
	k.log("making the root file system of %s", service)
	spec := rootfs.Spec{Name: service, Packages: []string{programs[service].pkg}, Free: "16M"}
	if _, err := rootfs.Build(ctx, spec, file, rootfs.Config{Log: io.Discard}); err != nil {
		return "", fmt.Errorf("bench: root file system of %s: %w", service, err)
	}
	if k.built == nil {
		k.built = map[string]bool{}
	}
	k.built[file] = true
	return file, nil
}

// argv is the command line of a service: that of the stock Linux guest.
func argv(service string, cpus int) []string {
	a := linux.Services[service].Argv(linux.Stock.Threads(cpus))
	return append([]string{programs[service].file}, a[1:]...)
}
