// Package repo is Capstan's local store of images: an OCI image layout.
//
// Spec: OCI Image Format Specification 1.1.1 (2025-03), image-layout.md,
// manifest.md and annotations.md. Who may use it: capstan. It may not know
// registries (capstan/remote does), hypervisors, or how images are made.
//
//	oci/oci-layout             the version of the layout
//	oci/index.json             one entry an image, named by its annotation ref.name
//	oci/blobs/sha256/HEX       manifests, configurations, disks and kernels
//	oci/partial/HEX            downloads that are not finished, and no part of it
//
// A blob appears under its digest only after all of it has been hashed, written
// through to the disk and renamed; the index is replaced as a whole, under a lock
// between processes. What is in the store may therefore be used without a check,
// unless the disk lies: Verify reads all of it again.
//
// Start reading at Store, then image.go (what an image is), blob.go (how bytes come
// in), archive.go (Save and Load).
package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Store is an OCI image layout in a folder. Methods may be called from several
// goroutines and processes.
type Store struct{ dir string }

// Open opens the store in dir, and makes it if there is none.
func Open(dir string) (*Store, error) {
	s := &Store{dir}
	for _, d := range []string{s.blobDir(), s.partialDir()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	layout := filepath.Join(dir, v1.ImageLayoutFile)
	b, err := os.ReadFile(layout)
	switch {
	case errors.Is(err, os.ErrNotExist):
		b, err = json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
		if err == nil {
			err = writeFile(layout, b)
		}
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("store: %w", err)
	}
	var l v1.ImageLayout
	if err := json.Unmarshal(b, &l); err != nil || l.Version != v1.ImageLayoutVersion {
		return nil, fmt.Errorf("store: %s: version %q: want %q", layout, l.Version, v1.ImageLayoutVersion)
	}
	return s, nil
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

func (s *Store) blobDir() string    { return filepath.Join(s.dir, "blobs", "sha256") }
func (s *Store) partialDir() string { return filepath.Join(s.dir, "partial") }
func (s *Store) indexPath() string  { return filepath.Join(s.dir, v1.ImageIndexFile) }

// index reads index.json; none is an empty one.
func (s *Store) index() (x v1.Index, err error) {
	x.SchemaVersion, x.MediaType = 2, v1.MediaTypeImageIndex
	b, err := os.ReadFile(s.indexPath())
	if errors.Is(err, os.ErrNotExist) {
		return x, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &x)
	}
	if err != nil {
		return x, fmt.Errorf("store: %s: %w", s.indexPath(), err)
	}
	return x, nil
}

// update changes the index under the lock.
func (s *Store) update(change func(x *v1.Index) error) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	x, err := s.index()
	if err != nil {
		return err
	}
	if err := change(&x); err != nil {
		return err
	}
	b, err := json.MarshalIndent(x, "", "  ")
	if err == nil {
		err = writeFile(s.indexPath(), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// Images lists the images by name.
func (s *Store) Images() ([]Image, error) {
	x, err := s.index()
	if err != nil {
		return nil, err
	}
	var list []Image
	for _, d := range x.Manifests {
		ref, err := ParseRef(d.Annotations[v1.AnnotationRefName])
		if err != nil {
			continue // made by another tool
		}
		i, err := s.read(ref, d)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b Image) int { return strings.Compare(a.Ref.String(), b.Ref.String()) })
	return list, nil
}

// NotFound is the error for an image that is not in the store.
type NotFound struct {
	Ref  Ref
	Have []string // what is there
}

func (e *NotFound) Error() string {
	have := "the store is empty"
	if len(e.Have) > 0 {
		have = "there are " + strings.Join(e.Have, ", ")
	}
	return fmt.Sprintf("image %s: not in the store (%s)", e.Ref, have)
}

// Get returns an image.
func (s *Store) Get(ref Ref) (Image, error) {
	x, err := s.index()
	if err != nil {
		return Image{}, err
	}
	for _, d := range x.Manifests {
		if have, err := ParseRef(d.Annotations[v1.AnnotationRefName]); err == nil && have.matches(ref, string(d.Digest)) {
			return s.read(have, d)
		}
	}
	e := &NotFound{Ref: ref}
	for _, d := range x.Manifests {
		e.Have = append(e.Have, d.Annotations[v1.AnnotationRefName])
	}
	slices.Sort(e.Have)
	return Image{}, e
}

// Tag names a manifest, all of whose blobs must be in the store.
func (s *Store) Tag(ref Ref, manifest []byte, annotations map[string]string) (Image, error) {
	m, err := parseManifest(manifest)
	if err != nil {
		return Image{}, fmt.Errorf("store: %s: %w", ref, err)
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		st, err := os.Stat(s.Path(d))
		if err == nil && st.Size() != d.Size {
			err = fmt.Errorf("%d bytes, want %d", st.Size(), d.Size)
		}
		if err != nil {
			return Image{}, fmt.Errorf("store: %s: blob %s: %w", ref, d.Digest, err)
		}
	}
	d, err := s.Add(m.MediaType, bytes.NewReader(manifest))
	if err != nil {
		return Image{}, err
	}
	d.ArtifactType = m.ArtifactType
	d.Annotations = map[string]string{v1.AnnotationRefName: ref.name()}
	for k, v := range annotations {
		d.Annotations[k] = v
	}
	err = s.update(func(x *v1.Index) error {
		x.Manifests = slices.DeleteFunc(x.Manifests, func(o v1.Descriptor) bool {
			return o.Annotations[v1.AnnotationRefName] == ref.name()
		})
		x.Manifests = append(x.Manifests, d)
		return nil
	})
	if err != nil {
		return Image{}, err
	}
	return s.read(ref, d)
}

// Remove forgets an image, and deletes what no other image uses: the number of bytes
// is returned.
func (s *Store) Remove(ref Ref) (freed int64, err error) {
	i, err := s.Get(ref)
	if err != nil {
		return 0, err
	}
	err = s.update(func(x *v1.Index) error {
		x.Manifests = slices.DeleteFunc(x.Manifests, func(d v1.Descriptor) bool {
			return d.Annotations[v1.AnnotationRefName] == i.Ref.name()
		})
		return nil
	})
	if err != nil {
		return 0, err
	}
	mine := map[string]bool{i.Digest.Encoded(): true}
	for _, d := range append([]v1.Descriptor{i.Manifest.Config}, i.Manifest.Layers...) {
		mine[d.Digest.Encoded()] = true
	}
	return s.collect(mine)
}

// orphanAge is when a blob without a name is not one that another process is about to
// name any more.
const orphanAge = time.Hour

// collect deletes blobs that no image reaches: those in mine, and others that have been
// there for orphanAge. A process that was about to name one of mine finds it missing,
// and says so; there is never a broken image.
func (s *Store) collect(mine map[string]bool) (freed int64, err error) {
	unlock, err := s.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	x, err := s.index()
	if err != nil {
		return 0, err
	}
	keep := map[string]bool{}
	for _, d := range x.Manifests {
		keep[d.Digest.Encoded()] = true
		b, err := os.ReadFile(s.Path(d))
		if err != nil {
			return 0, fmt.Errorf("store: %w", err)
		}
		var m v1.Manifest
		if err := json.Unmarshal(b, &m); err != nil {
			return 0, fmt.Errorf("store: manifest %s: %w", d.Digest, err)
		}
		for _, l := range append([]v1.Descriptor{m.Config}, m.Layers...) {
			keep[l.Digest.Encoded()] = true
		}
	}
	blobs, err := os.ReadDir(s.blobDir())
	if err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	for _, e := range blobs {
		st, err := e.Info()
		if err != nil || keep[e.Name()] || !mine[e.Name()] && time.Since(st.ModTime()) < orphanAge {
			continue
		}
		freed += st.Size()
		if err := os.Remove(filepath.Join(s.blobDir(), e.Name())); err != nil {
			return freed, fmt.Errorf("store: %w", err)
		}
	}
	return freed, nil
}
