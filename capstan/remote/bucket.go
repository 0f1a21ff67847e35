package remote

import (
	"compress/gzip"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v3"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"osv/capstan/repo"
)

// The original Capstan's repository: a bucket whose XML listing names
// NAMESPACE/NAME/index.yaml, with the disk beside it as NAME.qemu.gz. There are no sums
// and no signatures.

type bucketListing struct {
	XMLName     xml.Name `xml:"ListBucketResult"`
	IsTruncated bool
	NextMarker  string
	Contents    []struct{ Key string }
}

// bucketImage is index.yaml.
type bucketImage struct {
	Namespace   string `yaml:"namespace"`
	Name        string `yaml:"name"`
	Description string `yaml:"description"`
	Version     string `yaml:"version"`
	Created     string `yaml:"created"`
	Platform    string `yaml:"platform"`
}

const (
	maxPages    = 100
	maxUnpacked = 64 << 30 // bytes of a disk
)

// bucketNames lists the images of a bucket.
func (t *tree) bucketNames(ctx context.Context) (names []string, err error) {
	if _, ok := t.files.(*web); !ok {
		return nil, errors.New("no bucket")
	}
	marker := ""
	for range maxPages {
		name := ""
		if marker != "" {
			name = "?marker=" + url.QueryEscape(marker)
		}
		b, err := t.small(ctx, name)
		if err != nil {
			return nil, err
		}
		var l bucketListing
		if err := xml.Unmarshal(b, &l); err != nil {
			return nil, fmt.Errorf("no bucket: %w", err)
		}
		for _, c := range l.Contents {
			if dir, ok := strings.CutSuffix(c.Key, "/index.yaml"); ok && strings.Contains(dir, "/") && !strings.HasPrefix(dir, "packages/") {
				names = append(names, dir)
			}
			marker = c.Key
		}
		if !l.IsTruncated || len(l.Contents) == 0 {
			return names, nil
		}
		if l.NextMarker != "" {
			marker = l.NextMarker
		}
	}
	return names, nil
}

func (t *tree) bucketIndex(ctx context.Context, name string) (x bucketImage, err error) {
	b, err := t.small(ctx, name+"/index.yaml")
	if err == nil {
		err = yaml.Unmarshal(b, &x)
	}
	if err != nil {
		err = fmt.Errorf("repository %s: %s/index.yaml: %w", t.base, name, err)
	}
	return x, err
}

func (t *tree) listBucket(ctx context.Context) (out []Entry, err error) {
	names, err := t.bucketNames(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		x, err := t.bucketIndex(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, Entry{Name: n, Formats: []string{"qcow2"}, About: x.Description})
	}
	return out, nil
}

// findInBucket finds NAMESPACE/NAME; there is one version of each.
func (t *tree) findInBucket(ctx context.Context, ref repo.Ref) (*Found, error) {
	names, err := t.bucketNames(ctx)
	if err != nil {
		return nil, err
	}
	found := false
	for _, n := range names {
		found = found || n == ref.Name
	}
	if !found {
		return nil, fmt.Errorf("image %s: %w in %s (it has %s)", ref, ErrNotFound, t.base, strings.Join(names, ", "))
	}
	x, err := t.bucketIndex(ctx, ref.Name)
	if err != nil {
		return nil, err
	}
	f := &Found{Source: t.base, Config: repo.Config{Architecture: "amd64", OS: "osv", Name: ref.Base(), Title: x.Description,
		Version: x.Version, Platform: x.Platform, MemMiB: 1024, CPUs: 2}}
	f.Config.Created.UnmarshalText([]byte(x.Created)) //nolint:errcheck // not all have a date that can be read
	file := ref.Name + "/" + ref.Base() + ".qemu.gz"
	f.Blobs = []Blob{{Descriptor: v1.Descriptor{MediaType: repo.LayerPrefix + "qcow2"}, Format: "qcow2", Fetch: func(ctx context.Context) repo.Fetch {
		return func(int64) (io.ReadCloser, int64, error) {
			r, _, err := t.files.open(ctx, file, 0)
			if err != nil {
				return nil, 0, err
			}
			z, err := gzip.NewReader(r)
			if err != nil {
				r.Close()
				return nil, 0, fmt.Errorf("%s: %w", file, err)
			}
			return &unpacked{z, r, maxUnpacked, file}, 0, nil
		}
	}}}
	return f, nil
}

// unpacked reads a gzip stream up to a bound.
type unpacked struct {
	z    *gzip.Reader
	r    io.Closer
	left int64
	name string
}

func (u *unpacked) Read(p []byte) (int, error) {
	if u.left <= 0 {
		return 0, fmt.Errorf("%s: unpacks to more than %d bytes", u.name, int64(maxUnpacked))
	}
	n, err := u.z.Read(p[:min(int64(len(p)), u.left)])
	u.left -= int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%s: %w", u.name, repo.ErrCutOff)
	}
	return n, err
}

func (u *unpacked) Close() error { return errors.Join(u.z.Close(), u.r.Close()) }
