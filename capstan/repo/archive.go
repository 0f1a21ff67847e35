package repo

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Save writes images as a tar archive of an OCI image layout, the same for the same
// images.
func (s *Store) Save(w io.Writer, images ...Image) error {
	t := tar.NewWriter(w)
	put := func(name string, size int64, r io.Reader) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err := io.Copy(t, r)
		return err
	}
	layout, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return err
	}
	x := v1.Index{MediaType: v1.MediaTypeImageIndex}
	x.SchemaVersion = 2
	blobs := map[string]v1.Descriptor{}
	for _, i := range images {
		st, err := os.Stat(s.Path(v1.Descriptor{Digest: i.Digest}))
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, ArtifactType: i.Manifest.ArtifactType, Digest: i.Digest, Size: st.Size()}
		blobs[d.Digest.Encoded()] = d
		d.Annotations = map[string]string{v1.AnnotationRefName: i.Ref.name()}
		x.Manifests = append(x.Manifests, d)
		for _, l := range append([]v1.Descriptor{i.Manifest.Config}, i.Manifest.Layers...) {
			blobs[l.Digest.Encoded()] = l
		}
	}
	index, err := json.Marshal(x)
	if err != nil {
		return err
	}
	err = errors.Join(put(v1.ImageLayoutFile, int64(len(layout)), bytes.NewReader(layout)), put(v1.ImageIndexFile, int64(len(index)), bytes.NewReader(index)))
	if err != nil {
		return err
	}
	for _, name := range names(blobs) {
		f, err := os.Open(s.Path(blobs[name]))
		if err == nil {
			err = errors.Join(put("blobs/sha256/"+name, blobs[name].Size, f), f.Close())
		}
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	return t.Close()
}

// maxSmall bounds what is read into memory from an archive: indexes and manifests.
const maxSmall = 8 << 20

// Load reads an archive made by Save, or any OCI layout of OSv images in a tar. Each
// blob must have the digest that its name says. Images that are not complete are not
// named.
func (s *Store) Load(r io.Reader) ([]Image, error) {
	var x v1.Index
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		hex, isBlob := strings.CutPrefix(name, "blobs/sha256/")
		switch {
		case h.Typeflag != tar.TypeReg:
		case name == v1.ImageIndexFile:
			b, err := io.ReadAll(io.LimitReader(t, maxSmall))
			if err == nil {
				err = json.Unmarshal(b, &x)
			}
			if err != nil {
				return nil, fmt.Errorf("archive: %s: %w", name, err)
			}
		case isBlob:
			d := v1.Descriptor{Digest: digest.Digest("sha256:" + hex), Size: h.Size}
			if err := d.Digest.Validate(); err != nil {
				return nil, fmt.Errorf("archive: %s: %w", name, err)
			}
			if err := s.Download(d, func(int64) (io.ReadCloser, int64, error) { return io.NopCloser(t), 0, nil }, nil); err != nil {
				if errors.Is(err, ErrCutOff) {
					s.forget(d)
				}
				return nil, fmt.Errorf("archive: %w", err)
			}
		}
	}
	if len(x.Manifests) == 0 {
		return nil, errors.New("archive: no index.json that lists images")
	}
	var out []Image
	for _, d := range x.Manifests {
		ref, err := ParseRef(d.Annotations[v1.AnnotationRefName])
		if err != nil {
			return out, fmt.Errorf("archive: manifest %s: %w", d.Digest, err)
		}
		b, err := s.Bytes(d)
		if err != nil {
			return out, fmt.Errorf("archive: %s: manifest %s is missing", ref, d.Digest)
		}
		i, err := s.Tag(ref, b, nil)
		if err != nil {
			return out, err
		}
		out = append(out, i)
	}
	return out, nil
}

// forget drops a download that nobody can go on with.
func (s *Store) forget(d v1.Descriptor) {
	os.Remove(s.partialDir() + string(os.PathSeparator) + d.Digest.Encoded())
}
