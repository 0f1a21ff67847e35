package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"osv/capstan/repo"
	"osv/capstan/sign"
	"osv/harness/diskimage"
)

// tree is a folder of image files with an index.json, as `images build` and Push write
// it. Each tag but "latest" is a folder below, with an index of its own. The signature
// of the index, index.json.minisig, holds for all that the index has a sum of.
type tree struct {
	base  string
	files files
}

const (
	indexName    = "index.json"
	sigSuffix    = ".minisig"
	configFormat = "config" // the entry that holds a repo.Config
)

// files is how a tree is read.
type files interface {
	// open opens a file from offset on, or from the start if it must (at = 0).
	open(ctx context.Context, name string, offset int64) (r io.ReadCloser, at int64, err error)
}

// folder is a tree on a file system.
type folder string

func (f folder) open(_ context.Context, name string, offset int64) (io.ReadCloser, int64, error) {
	file, err := os.Open(filepath.Join(string(f), filepath.FromSlash(name)))
	if err != nil {
		return nil, 0, err
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, offset, nil
}

// web is a tree behind a web server.
type web struct {
	base   string // ends with /
	client *http.Client
}

func (w *web) open(ctx context.Context, name string, offset int64) (io.ReadCloser, int64, error) {
	u := w.base
	if name != "" && !strings.HasPrefix(name, "?") {
		u += (&url.URL{Path: name}).EscapedPath()
	} else {
		u = strings.TrimRight(u, "/") + "/" + name
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, 0, err
	}
	if offset > 0 {
		r.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	res, err := w.client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	switch res.StatusCode {
	case http.StatusOK:
		return res.Body, 0, nil
	case http.StatusPartialContent:
		if strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)) {
			return res.Body, offset, nil
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if offset > 0 {
			res.Body.Close()
			return w.open(ctx, name, 0)
		}
	}
	res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return nil, 0, fmt.Errorf("%s: %w", u, os.ErrNotExist)
	}
	return nil, 0, fmt.Errorf("%s: HTTP status %s", u, res.Status)
}

func (t *tree) small(ctx context.Context, name string) ([]byte, error) {
	r, _, err := t.files.open(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	return readSmall(r)
}

type treeIndex struct {
	Schema int              `json:"schema"`
	Images []diskimage.File `json:"images"`
}

// index reads the index in folder dir ("" or "TAG/"). A tree without one may be a
// bucket of the original.
func (t *tree) index(ctx context.Context, dir string) (raw []byte, x treeIndex, err error) {
	raw, err = t.small(ctx, dir+indexName)
	if err != nil {
		return nil, x, fmt.Errorf("repository %s: %w", t.base, err)
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		return nil, x, fmt.Errorf("repository %s: %s: %w", t.base, dir+indexName, err)
	}
	if x.Schema != 1 {
		return nil, x, fmt.Errorf("repository %s: %s: schema %d: want 1", t.base, dir+indexName, x.Schema)
	}
	return raw, x, nil
}

// List reads the index, or the listing of a bucket.
func (t *tree) List(ctx context.Context) ([]Entry, error) {
	_, x, err := t.index(ctx, "")
	if errors.Is(err, os.ErrNotExist) {
		if list, s3err := t.listBucket(ctx); s3err == nil {
			return list, nil
		}
	}
	if err != nil {
		return nil, err
	}
	byName := map[string]*Entry{}
	for _, f := range x.Images {
		e := byName[f.Name]
		if e == nil {
			e = &Entry{Name: f.Name}
			byName[f.Name] = e
		}
		if f.Format != configFormat {
			e.Formats = append(e.Formats, f.Format)
			e.Bytes += f.Bytes
		}
	}
	var out []Entry
	for _, e := range byName {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Find looks an image up in the index.
func (t *tree) Find(ctx context.Context, ref repo.Ref) (*Found, error) {
	if ref.Digest != "" {
		return nil, fmt.Errorf("image %s: a tree of files has no manifests: ask by tag", ref)
	}
	dir := ""
	if ref.Tag != "latest" {
		dir = ref.Tag + "/"
	}
	raw, x, err := t.index(ctx, dir)
	if errors.Is(err, os.ErrNotExist) {
		if f, s3err := t.findInBucket(ctx, ref); s3err == nil || errors.Is(s3err, ErrNotFound) {
			return f, s3err
		}
	}
	if err != nil {
		return nil, err
	}
	f := &Found{Source: t.base, Signed: raw}
	var names []string
	for _, e := range x.Images {
		if !slices.Contains(names, e.Name) {
			names = append(names, e.Name)
		}
		if e.Name != ref.Name && e.Name != ref.Base() {
			continue
		}
		d := v1.Descriptor{MediaType: repo.LayerPrefix + e.Format, Digest: digest.Digest("sha256:" + e.SHA256), Size: e.Bytes,
			Annotations: map[string]string{v1.AnnotationTitle: e.File}}
		if err := d.Digest.Validate(); err != nil || e.Bytes < 0 || e.File != path.Base(e.File) || strings.ContainsAny(e.File, `\:`) || e.File == ".." {
			return nil, fmt.Errorf("repository %s: %s: entry %q: bad name, size or sum", t.base, dir+indexName, e.File)
		}
		b := Blob{Descriptor: d, Format: e.Format, Fetch: func(ctx context.Context) repo.Fetch {
			return func(offset int64) (io.ReadCloser, int64, error) { return t.files.open(ctx, dir+e.File, offset) }
		}}
		if e.Format == configFormat {
			b.Format = ""
			f.Blobs = append([]Blob{b}, f.Blobs...)
			continue
		}
		f.Blobs = append(f.Blobs, b)
		if f.Config.Name == "" {
			f.Config = repo.Config{Architecture: "amd64", OS: "osv", Name: e.Name, MemMiB: e.MemMiB, CPUs: e.CPUs, CommandLine: e.CmdLine}
		}
	}
	if len(f.Blobs) == 0 {
		return nil, fmt.Errorf("image %s: %w in %s (it has %s)", ref, ErrNotFound, t.base, strings.Join(names, ", "))
	}
	f.Signature, err = t.small(ctx, dir+indexName+sigSuffix)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("repository %s: %w", t.base, err)
	}
	return f, nil
}

// Push writes an image's files into the folder, then its index, then the index's
// signature.
func (t *tree) Push(ctx context.Context, s *repo.Store, img repo.Image, signer *sign.Signer, p Progress) error {
	dir, ok := t.files.(folder)
	if !ok {
		return fmt.Errorf("repository %s: a web server takes no images: push to a folder that it serves, or to a registry (oci://…)", t.base)
	}
	at := string(dir)
	if img.Ref.Tag != "latest" {
		at = filepath.Join(at, img.Ref.Tag)
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	var list []diskimage.File
	base := img.Ref.Base()
	put := func(d v1.Descriptor, format, name, boots string) error {
		src, err := os.Open(s.Path(d))
		if err != nil {
			return err
		}
		defer src.Close()
		if err := writeFile(ctx, filepath.Join(at, name), counted(src, base+" "+format, d.Size, p)); err != nil {
			return fmt.Errorf("repository %s: %w", t.base, err)
		}
		list = append(list, diskimage.File{Name: base, Format: format, File: name, Bytes: d.Size, SHA256: d.Digest.Encoded(),
			For: boots, MemMiB: img.Config.MemMiB, CPUs: img.Config.CPUs, CmdLine: img.Config.CommandLine})
		return nil
	}
	for i, d := range img.Manifest.Layers {
		f, err := diskimage.Find(img.Formats()[i])
		if err != nil {
			return err
		}
		if err := put(d, f.Name, base+f.Suffix, f.For); err != nil {
			return err
		}
	}
	if err := put(img.Manifest.Config, configFormat, base+".config.json", "capstan"); err != nil {
		return err
	}
	sig := filepath.Join(at, indexName+sigSuffix)
	if err := os.Remove(sig); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // it would be of the index before
	}
	if err := diskimage.WriteIndex(at, list); err != nil {
		return err
	}
	return SignTree(at, signer)
}

// SignTree signs the index in a folder; without a signer it does nothing.
func SignTree(dir string, signer *sign.Signer) error {
	if signer == nil {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, indexName))
	if err != nil {
		return err
	}
	return writeFile(context.Background(), filepath.Join(dir, indexName+sigSuffix), newReader(signer.Sign(b, "file:"+indexName)))
}

// writeFile makes a file that appears complete or not at all.
func writeFile(ctx context.Context, name string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = errors.Join(ctx.Err(), f.Sync(), f.Chmod(0o644))
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
