// Package remote fetches images from repositories and puts them there: OCI registries,
// trees of files with an index.json (a folder or over HTTP), and, to read only, the
// buckets of the original Capstan.
//
// Spec: OCI Distribution Specification 1.1.1 (2025-03), by oras-go; index.json of
// harness/diskimage; RFC 9110 §14 (range requests); the XML listing of Amazon S3
// (ListObjects). Who may use it: capstan. It decides nothing about trust: sign does.
//
// Nothing is used before it is checked: the signature over the manifest (OCI) or the
// index (tree), then each blob's SHA-256 (repo.Download). Start reading at Pull.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"osv/capstan/repo"
	"osv/capstan/sign"
)

// Repository is a place with images.
type Repository interface {
	// List is what there is.
	List(ctx context.Context) ([]Entry, error)
	// Find looks an image up; an error that is ErrNotFound says that it is not there.
	Find(ctx context.Context, ref repo.Ref) (*Found, error)
	// Push puts an image there, with a signature if signer is not nil.
	Push(ctx context.Context, s *repo.Store, img repo.Image, signer *sign.Signer, p Progress) error
}

// Entry is an image in a listing.
type Entry struct {
	Name    string   `json:"name"` // with tag, where the repository has tags
	Formats []string `json:"formats,omitempty"`
	Bytes   int64    `json:"bytes,omitempty"`
	About   string   `json:"about,omitempty"`
}

// Found is an image in a repository, before anything of it is believed.
type Found struct {
	Source   string // where it is
	Manifest []byte // nil in a tree, whose images get theirs here
	Config   repo.Config
	Blobs    []Blob

	Signed    []byte // what the signature is over
	Signature []byte // nil = none
	Comment   string // what the signed comment must be; "" = anything
}

// Blob is a part of an image in a repository.
type Blob struct {
	v1.Descriptor        // digest and size are empty where the repository knows none
	Format        string // "" = the configuration
	Fetch         func(ctx context.Context) repo.Fetch
}

// Progress is told how much of something has come or gone; nil is nobody.
type Progress func(what string, done, total int64)

// ErrNotFound says that a repository has no such image.
var ErrNotFound = errors.New("not found")

// Options for Open.
type Options struct {
	Offline bool
	Client  *http.Client // nil = one that retries
}

// ErrOffline says that the network would be needed.
var ErrOffline = errors.New("offline: the network may not be used")

// Open returns the repository at an address: oci://REGISTRY/PATH, oci+http://… (a
// registry without TLS), http(s)://…, file:///…, or the path of a folder.
func Open(address string, o Options) (Repository, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return &tree{base: address, files: folder(address)}, nil
	}
	if scheme != "file" && o.Offline {
		return nil, fmt.Errorf("repository %s: %w", address, ErrOffline)
	}
	switch scheme {
	case "oci", "oci+http":
		return openOCI(strings.Trim(rest, "/"), scheme == "oci+http", o.Client)
	case "http", "https":
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("repository %q: not a URL", address)
		}
		c := o.Client
		if c == nil {
			c = http.DefaultClient
		}
		return &tree{base: address, files: &web{strings.TrimRight(address, "/") + "/", c}}, nil
	case "file":
		u, err := url.Parse(address)
		if err != nil {
			return nil, fmt.Errorf("repository %q: %w", address, err)
		}
		return &tree{base: address, files: folder(filepath.FromSlash(u.Path))}, nil
	}
	return nil, fmt.Errorf("repository %q: want oci://, oci+http://, http://, https://, file:// or a folder", address)
}

// PullOptions for Pull.
type PullOptions struct {
	Trust    sign.Trust
	Unsigned bool     // take what is not signed, or by a key that is not trusted; never a wrong signature
	Formats  []string // of those that a tree has; a registry's images come whole
	Progress Progress
}

// Pull fetches an image into the store and names it. Until all of it is there and
// checked, the store names what it named before.
func Pull(ctx context.Context, r Repository, s *repo.Store, ref repo.Ref, o PullOptions) (repo.Image, error) {
	f, err := r.Find(ctx, ref)
	if err != nil {
		return repo.Image{}, err
	}
	signer, err := verify(f, ref, o)
	if err != nil {
		return repo.Image{}, fmt.Errorf("image %s from %s: %w", ref, f.Source, err)
	}
	notes := map[string]string{repo.AnnotationSource: f.Source}
	if signer != "" {
		notes[repo.AnnotationSigner] = signer
	}
	layers, err := f.fetch(ctx, s, ref, o)
	if err != nil {
		return repo.Image{}, fmt.Errorf("image %s from %s: %w", ref, f.Source, err)
	}
	manifest := f.Manifest
	if manifest == nil {
		if manifest, err = s.Compose(f.Config, layers); err != nil {
			return repo.Image{}, err
		}
	}
	return s.Tag(ref, manifest, notes)
}

// verify checks the signature; the answer is the id of the key, "" where none is asked
// for.
func verify(f *Found, ref repo.Ref, o PullOptions) (string, error) {
	key, comment, err := o.Trust.Verify(f.Signed, f.Signature)
	var untrusted *sign.Untrusted
	switch {
	case err == nil && f.Comment != "" && comment != f.Comment:
		return "", fmt.Errorf("%w: it is for %q, not for %q: nothing was fetched", sign.ErrWrong, comment, f.Comment)
	case err == nil:
		return key.ID, nil
	case errors.Is(err, sign.ErrUnsigned), errors.As(err, &untrusted):
		if o.Unsigned {
			return "", nil
		}
		return "", fmt.Errorf("%w: nothing was fetched (--insecure-unsigned takes it all the same)", err)
	}
	return "", fmt.Errorf("%w: nothing was fetched", err)
}

// fetch gets the blobs, and for a tree the configuration.
func (f *Found) fetch(ctx context.Context, s *repo.Store, ref repo.Ref, o PullOptions) (layers []v1.Descriptor, err error) {
	var have []string
	for _, b := range f.Blobs {
		if b.Format != "" {
			have = append(have, b.Format)
		}
		if f.Manifest == nil && b.Format != "" && len(o.Formats) > 0 && !slices.Contains(o.Formats, b.Format) {
			continue
		}
		d, err := b.get(ctx, s, ref, o.Progress)
		if err != nil {
			return nil, err
		}
		if b.Format == "" && f.Manifest == nil {
			raw, err := s.Bytes(d)
			if err == nil {
				err = json.Unmarshal(raw, &f.Config)
			}
			if err != nil {
				return nil, fmt.Errorf("configuration: %w", err)
			}
			continue
		}
		layers = append(layers, d)
	}
	if len(layers) == 0 {
		return nil, fmt.Errorf("it has no %s, but %s", strings.Join(o.Formats, " or "), strings.Join(have, ", "))
	}
	return layers, nil
}

// get downloads one blob; where the line is cut and something had come, it goes on.
func (b Blob) get(ctx context.Context, s *repo.Store, ref repo.Ref, p Progress) (v1.Descriptor, error) {
	what := ref.Base() + " " + b.Format
	if b.Format == "" {
		what = ref.Base() + " configuration"
	}
	if b.Digest == "" { // the original's: nothing to check it against
		r, _, err := b.Fetch(ctx)(0)
		if err != nil {
			return v1.Descriptor{}, err
		}
		defer r.Close()
		return s.Add(b.MediaType, r)
	}
	var last, best int64
	for {
		err := s.Download(b.Descriptor, b.Fetch(ctx), func(done int64) {
			last = done
			if p != nil {
				p(what, done, b.Size)
			}
		})
		if !errors.Is(err, repo.ErrCutOff) || last <= best || ctx.Err() != nil {
			if errors.Is(err, repo.ErrCutOff) {
				err = fmt.Errorf("%w; run the command again to go on", err)
			}
			return b.Descriptor, err
		}
		best = last
	}
}

// maxSmall bounds what is read into memory: indexes, manifests, signatures.
const maxSmall = 8 << 20

func readSmall(r io.ReadCloser) ([]byte, error) {
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("more than %d bytes", maxSmall)
	}
	return b, err
}

// counted tells progress what is read.
func counted(r io.Reader, what string, total int64, p Progress) io.Reader {
	if p == nil {
		return r
	}
	return &countReader{r, what, 0, total, p}
}

type countReader struct {
	r           io.Reader
	what        string
	done, total int64
	p           Progress
}

func (c *countReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.p(c.what, c.done, c.total)
	return n, err
}

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }
