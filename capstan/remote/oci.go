package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"osv/capstan/repo"
	"osv/capstan/sign"
)

// oci is a registry, or a path in one. An image's signature is a manifest of its own,
// under the tag sha256-HEX.minisig of the image's digest: every registry can hold that.
type oci struct {
	host, prefix string
	plain        bool
	client       remote.Client
}

// Media types of a signature.
const (
	signatureType  = "application/vnd.osv.signature.minisign.v1"
	signatureLayer = "application/vnd.osv.signature.minisign.v1+text"
)

func openOCI(at string, plain bool, c *http.Client) (*oci, error) {
	host, prefix, _ := strings.Cut(at, "/")
	if host == "" {
		return nil, errors.New("repository oci://: no registry")
	}
	if c == nil {
		c = retry.DefaultClient
	}
	a := &auth.Client{Client: c, Cache: auth.NewCache()}
	a.SetUserAgent("capstan")
	if st, err := credentials.NewStoreFromDocker(credentials.StoreOptions{}); err == nil {
		a.Credential = credentials.Credential(st)
	}
	return &oci{host, prefix, plain, a}, nil
}

// Registry returns the address of the registry in an image's own name
// (localhost:5000/osv/memcached), "" where the name has none.
func Registry(ref repo.Ref) (address string, rest repo.Ref) {
	host, name, ok := strings.Cut(ref.Name, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "", ref
	}
	rest = ref
	rest.Name = name
	scheme := "oci://"
	h := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		h = bare
	}
	if ip := net.ParseIP(h); h == "localhost" || ip != nil && ip.IsLoopback() {
		scheme = "oci+http://"
	}
	return scheme + host, rest
}

func (o *oci) source(name string) string {
	return strings.TrimSuffix(o.host+"/"+o.prefix, "/") + "/" + name
}

func (o *oci) repository(name string) (*remote.Repository, error) {
	r, err := remote.NewRepository(o.source(name))
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", o.source(name), err)
	}
	r.PlainHTTP, r.Client = o.plain, o.client
	return r, nil
}

// List walks the registry's catalogue, if it offers one.
func (o *oci) List(ctx context.Context) ([]Entry, error) {
	g, err := remote.NewRegistry(o.host)
	if err != nil {
		return nil, err
	}
	g.PlainHTTP, g.Client = o.plain, o.client
	var names []string
	err = g.Repositories(ctx, "", func(list []string) error { names = append(names, list...); return nil })
	if err != nil {
		return nil, fmt.Errorf("repository %s: the registry lists nothing (many do not): ask for an image by name: %w", o.host, err)
	}
	var out []Entry
	for _, n := range names {
		short, ok := n, true
		if o.prefix != "" {
			short, ok = strings.CutPrefix(n, o.prefix+"/")
		}
		if !ok {
			continue
		}
		r, err := o.repository(short)
		if err != nil {
			return nil, err
		}
		err = r.Tags(ctx, "", func(tags []string) error {
			for _, t := range tags {
				if !strings.HasSuffix(t, sigSuffix) {
					out = append(out, Entry{Name: short + ":" + t})
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("repository %s: tags: %w", o.source(short), err)
		}
	}
	return out, nil
}

// Find reads the manifest and the signature.
func (o *oci) Find(ctx context.Context, ref repo.Ref) (*Found, error) {
	r, err := o.repository(ref.Name)
	if err != nil {
		return nil, err
	}
	by := ref.Tag
	if ref.Digest != "" {
		by = ref.Digest
	}
	d, raw, err := fetchManifest(ctx, r, by)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("image %s: %w in %s", ref, ErrNotFound, o.source(ref.Name))
	}
	if err != nil {
		return nil, fmt.Errorf("image %s from %s: %w", ref, o.source(ref.Name), err)
	}
	m, err := repo.ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("image %s from %s: %w", ref, o.source(ref.Name), err)
	}
	f := &Found{Source: o.source(ref.Name), Manifest: raw, Signed: raw}
	if ref.Digest == "" {
		f.Comment = comment(ref)
	}
	for i, l := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		format := ""
		if i > 0 {
			format = strings.TrimPrefix(l.MediaType, repo.LayerPrefix)
		}
		f.Blobs = append(f.Blobs, Blob{Descriptor: l, Format: format, Fetch: func(ctx context.Context) repo.Fetch {
			return func(offset int64) (io.ReadCloser, int64, error) { return fetchBlob(ctx, r, l, offset) }
		}})
	}
	f.Signature, err = fetchSignature(ctx, r, d.Digest)
	if err != nil {
		return nil, fmt.Errorf("image %s from %s: signature: %w", ref, o.source(ref.Name), err)
	}
	return f, nil
}

// comment is what a signature says that it is for: a signed image under another name is
// not what was asked for.
func comment(ref repo.Ref) string { return ref.Base() + ":" + ref.Tag }

// fetchManifest reads a manifest, and checks that it is what its digest says.
func fetchManifest(ctx context.Context, r *remote.Repository, by string) (v1.Descriptor, []byte, error) {
	d, rc, err := r.FetchReference(ctx, by)
	if err != nil {
		return d, nil, err
	}
	b, err := readSmall(rc)
	if err != nil {
		return d, nil, err
	}
	if have := digest.FromBytes(b); have != d.Digest || strings.HasPrefix(by, "sha256:") && have.String() != by {
		return d, nil, &repo.DigestError{Want: d, Have: have, Size: int64(len(b))}
	}
	return d, b, nil
}

// fetchBlob opens a blob, from offset on where the registry can.
func fetchBlob(ctx context.Context, r *remote.Repository, d v1.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	rc, err := r.Blobs().Fetch(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	if s, ok := rc.(io.Seeker); ok && offset > 0 {
		if _, err := s.Seek(offset, io.SeekStart); err == nil {
			return rc, offset, nil
		}
	}
	return rc, 0, nil
}

func signatureTag(d digest.Digest) string {
	return strings.ReplaceAll(d.String(), ":", "-") + sigSuffix
}

// fetchSignature returns nil where there is none.
func fetchSignature(ctx context.Context, r *remote.Repository, of digest.Digest) ([]byte, error) {
	_, raw, err := fetchManifest(ctx, r, signatureTag(of))
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) != 1 || m.Layers[0].MediaType != signatureLayer || m.Layers[0].Size > maxSmall {
		return nil, errors.New("not a signature's manifest")
	}
	rc, err := r.Blobs().Fetch(ctx, m.Layers[0])
	if err != nil {
		return nil, err
	}
	return readSmall(rc)
}

// Push uploads what the registry lacks, the signature first: there is no moment at
// which the image is there without it.
func (o *oci) Push(ctx context.Context, s *repo.Store, img repo.Image, signer *sign.Signer, p Progress) error {
	ref := img.Ref
	if _, rest := Registry(ref); rest.Name != ref.Name {
		ref = rest
	}
	r, err := o.repository(ref.Name)
	if err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("push %s to %s: %w", ref, o.source(ref.Name), err) }
	for i, d := range append([]v1.Descriptor{img.Manifest.Config}, img.Manifest.Layers...) {
		what := ref.Base() + " configuration"
		if i > 0 {
			what = ref.Base() + " " + img.Formats()[i-1]
		}
		if ok, err := r.Blobs().Exists(ctx, d); err == nil && ok {
			continue
		}
		f, err := os.Open(s.Path(d))
		if err != nil {
			return fail(err)
		}
		err = r.Blobs().Push(ctx, d, counted(f, what, d.Size, p))
		f.Close()
		if err != nil {
			return fail(err)
		}
	}
	md := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: img.Digest}
	raw, err := s.Bytes(md)
	if err != nil {
		return fail(err)
	}
	md.Size = int64(len(raw))
	if signer != nil {
		if err := pushSignature(ctx, r, md.Digest, signer.Sign(raw, comment(ref))); err != nil {
			return fail(err)
		}
	}
	if err := r.PushReference(ctx, md, newReader(raw), ref.Tag); err != nil {
		return fail(err)
	}
	return nil
}

func pushSignature(ctx context.Context, r *remote.Repository, of digest.Digest, sig []byte) error {
	empty := v1.DescriptorEmptyJSON
	layer := v1.Descriptor{MediaType: signatureLayer, Digest: digest.FromBytes(sig), Size: int64(len(sig))}
	if err := r.Blobs().Push(ctx, v1.Descriptor{MediaType: empty.MediaType, Digest: empty.Digest, Size: empty.Size}, newReader(empty.Data)); err != nil {
		return err
	}
	if err := r.Blobs().Push(ctx, layer, newReader(sig)); err != nil {
		return err
	}
	b, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: signatureType,
		Config: v1.Descriptor{MediaType: empty.MediaType, Digest: empty.Digest, Size: empty.Size}, Layers: []v1.Descriptor{layer},
	})
	if err != nil {
		return err
	}
	d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return r.PushReference(ctx, d, newReader(b), signatureTag(of))
}
