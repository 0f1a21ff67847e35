// Package cloudinit configures a guest from what its cloud says of it: who it is,
// whose keys may log in, and the user's own data.
//
// Spec: the NoCloud, EC2 and GCE data sources of cloud-init 24.x
// (docs/reference/datasources), the EC2 Instance Metadata Service version 2
// (session tokens), GCE's metadata server v1; cloud-config's hostname, fqdn,
// ssh_authorized_keys, users, write_files, runcmd, bootcmd and mounts; the YAML of
// OSv's cloud-init module: run, include, files, hostname, mounts, httpserver.
//
// Who may use it: kernel/platform, which hands it disks and a way to the network, so
// that it runs hosted. It trusts nobody: sizes, times and counts are bounded, and
// what it does not know is told as a warning and left alone.
//
// Start reading at Search, then Parse, then Apply.
package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"osv/kernel/trace"
)

var log = trace.For("cloud-init")

// Limits of what is taken from a source.
const (
	MaxUserData = 1 << 20  // bytes, unpacked
	maxMetaData = 64 << 10 // bytes of one answer
	maxKeys     = 64
)

// Data is what a source says.
type Data struct {
	Source     string // "NoCloud", "EC2", "GCE"
	InstanceID string
	Hostname   string
	Keys       []string // lines of an authorized_keys file
	UserData   []byte   // as given
}

// ErrNone says that there is no source.
var ErrNone = errors.New("no source of metadata")

// Source is one place that may know this guest.
type Source interface {
	Name() string
	// Probe says quickly whether the source is there at all; Fetch reads all of it.
	Probe(ctx context.Context) error
	Fetch(ctx context.Context) (*Data, error)
}

// Options are what a search has to work with.
type Options struct {
	Disks  []Disk       // looked through for a NoCloud disk; nil: none
	Client *http.Client // nil: no network
	// Clouds are the metadata servers that are asked, "GCE" and "EC2"; nil: both. Who
	// can answer at their address can put keys on this guest, so that they are to be
	// asked only where the machine is known to be of that cloud.
	Clouds []string
	// Base is the address of metadata servers, DefaultBase if empty.
	Base string
	// Probe bounds the time until some source has shown that it is there, Fetch that
	// of reading it. 0: ProbeTime, FetchTime.
	Probe, Fetch time.Duration
}

// Defaults. ProbeTime is what a guest without metadata waits at most.
const (
	DefaultBase = "http://169.254.169.254"
	ProbeTime   = 900 * time.Millisecond
	FetchTime   = 20 * time.Second
)

// Disk is a disk that may be a NoCloud one.
type Disk interface {
	Name() string
	Size() int64
	io.ReaderAt
}

// Search asks all sources at once and reads the first, in the order NoCloud, GCE,
// EC2, that is there. It returns ErrNone where none is, after at most Probe.
func Search(ctx context.Context, o Options) (*Data, error) {
	var sources []Source
	if len(o.Disks) > 0 {
		sources = append(sources, &NoCloud{Disks: o.Disks})
	}
	if o.Client != nil {
		base := strings.TrimSuffix(o.Base, "/")
		if base == "" {
			base = DefaultBase
		}
		for _, s := range []Source{&GCE{Client: o.Client, Base: base}, &EC2{Client: o.Client, Base: base}} {
			if o.Clouds == nil || slices.Contains(o.Clouds, s.Name()) {
				sources = append(sources, s)
			}
		}
	}
	return search(ctx, sources, orDefault(o.Probe, ProbeTime), orDefault(o.Fetch, FetchTime))
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

func search(ctx context.Context, sources []Source, probe, fetch time.Duration) (*Data, error) {
	pctx, cancel := context.WithTimeout(ctx, probe)
	defer cancel()
	found := make([]chan error, len(sources))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i, s := range sources {
		found[i] = make(chan error, 1)
		wg.Go(func() { found[i] <- s.Probe(pctx) })
	}
	var why error
	for i, s := range sources {
		var err error
		select {
		case err = <-found[i]:
		case <-pctx.Done():
			err = pctx.Err()
		}
		if err != nil {
			log.Debugf("%s: %v", s.Name(), err)
			continue
		}
		fctx, done := context.WithTimeout(ctx, fetch)
		d, err := s.Fetch(fctx)
		done()
		if err == nil {
			d.Source = s.Name()
			return d, nil
		}
		why = errors.Join(why, fmt.Errorf("%s: %w", s.Name(), err))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if why != nil {
		return nil, why
	}
	return nil, ErrNone
}

// keyLines takes public keys out of a text: one a line, empty lines and comments
// left out.
func keyLines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || len(out) == maxKeys {
			continue
		}
		out = append(out, line)
	}
	return out
}
