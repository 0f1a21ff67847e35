// Package manage joins the management server with the booted machine: what of the
// guest its REST API tells, and how the guest ends by it. An image that does not
// import it has no server, and none of its size.
//
// Who may use it: appliances, after platform.Start:
//
//	sys := platform.Start()
//	m, err := manage.Start(sys, manage.Config{Addr: ":8000"})
//
// It is part of the composition root: it may import everything and has no logic.
// Start reading at Start.
package manage

import (
	"context"
	"fmt"
	"time"

	"osv/kernel/platform"
	"osv/kernel/rest"
	"osv/kernel/rest/machine"
	"osv/kernel/rest/vfsfiles"
	"osv/kernel/trace"
	"osv/kernel/vfs"
)

var log = trace.For("rest")

// given is what the command line says.
var given = func() *rest.Options {
	o := rest.Defaults()
	o.Addr = unset
	return &o
}()

// unset tells a command line without --rest from one with --rest=off.
const unset = "unset"

func init() { platform.Extend(platform.Extension{Usage: rest.Usage, Set: given.Set}) }

// Config is what an image adds.
type Config struct {
	// Addr is where the server answers if the command line does not say; "": nowhere.
	Addr string
	Apps machine.Apps // nil: PUT /app runs nothing
	Tree *vfs.Tree    // nil: there are no files
	// Volumes are the disks mounted in Tree; nil: none are.
	Volumes Volumes
	// Options changes what the command line says, before the server is made: for the
	// guest's configuration from a cloud.
	Options func(*rest.Options) error
}

// Volumes are disks with file systems: kernel/platform/volumes has them.
type Volumes interface {
	// Mount mounts a disk, in the words of fstab(5).
	Mount(source, target, kind, options string) error
	// KeyDir is the directory for keys that outlast the guest, a name of
	// machine.Files; "": there is none.
	KeyDir() string
	// Close unmounts all.
	Close() error
}

// Services are what runs. The machine is there in any case, for other ways to manage
// the guest.
type Services struct {
	Machine machine.Machine
	Options rest.Options
	Volumes Volumes      // as configured
	REST    *rest.Server // nil where none was asked for
	Served  <-chan error // what Serve returned
}

// Start makes the machine's description, and starts the server where one is asked for.
func Start(sys *platform.System, cfg Config) (*Services, error) {
	v := &Services{Options: *given, Volumes: cfg.Volumes}
	if v.Options.Addr == unset {
		v.Options.Addr = cfg.Addr
	}
	if cfg.Options != nil {
		if err := cfg.Options(&v.Options); err != nil {
			return nil, err
		}
	}
	v.Machine = describe(sys, cfg)
	if v.Options.Addr == "" {
		return v, nil
	}
	rc := rest.Config{Options: v.Options, Machine: v.Machine, CertFile: v.KeyFile(certName)}
	if cfg.Tree != nil {
		rc.ReadFile = vfsfiles.New(cfg.Tree).ReadFile
	}
	s, err := rest.New(rc)
	if err != nil {
		return nil, err
	}
	l, err := sys.Listen("tcp", v.Options.Addr)
	if err != nil {
		return nil, fmt.Errorf("option --rest: %w", err)
	}
	served := make(chan error, 1)
	v.REST, v.Served = s, served
	go func() { served <- s.Serve(l) }()
	return v, nil
}

// certName is what the server's own certificate is called among kept keys.
const certName = "rest_tls.pem"

// KeyFile is where a key of that name is kept from boot to boot, a name of
// machine.Files; "" where it cannot be.
func (v *Services) KeyFile(name string) string {
	if v.Volumes == nil {
		return ""
	}
	dir := v.Volumes.KeyDir()
	if dir == "" {
		return ""
	}
	return dir + "/" + name
}

// Close ends the server, and returns once requests that ran have their answers.
func (v *Services) Close() {
	if v.REST == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := v.REST.Shutdown(ctx); err != nil {
		log.Warnf("end of the server: %v", err)
	}
}
