package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of an image. A layer's is LayerPrefix and the name of its format
// (harness/diskimage.Formats).
const (
	ArtifactType = "application/vnd.osv.image.v1"
	ConfigType   = "application/vnd.osv.image.config.v1+json"
	LayerPrefix  = "application/vnd.osv.image.layer.v1."
)

// AnnotationSigner, in the store's index, is the key that the image was verified with
// when it was pulled; AnnotationSource is where from.
const (
	AnnotationSigner = "org.osv.signed-by"
	AnnotationSource = "org.osv.source"
)

// Config is an image's configuration: how a machine is set up for it.
type Config struct {
	Architecture string    `json:"architecture"`       // "amd64"
	OS           string    `json:"os"`                 // "osv"
	Created      time.Time `json:"created,omitzero"`   // from SOURCE_DATE_EPOCH; zero where the build is not dated
	Name         string    `json:"name"`               // of the appliance
	Title        string    `json:"title,omitempty"`    // one line
	Version      string    `json:"version,omitempty"`  // of what is in it
	MemMiB       int       `json:"memory_mib"`         // of the machine
	CPUs         int       `json:"cpus"`               // of the machine
	CommandLine  string    `json:"cmdline,omitempty"`  // stored in the disk too
	DataBytes    int64     `json:"data_bytes"`         // of the data partition
	Ports        []string  `json:"ports,omitempty"`    // "11211", "5201/udp": forwarded to loopback unless -f says otherwise
	Platform     string    `json:"platform,omitempty"` // what an imported image was built on, as its maker says
}

// Image is an image in the store.
type Image struct {
	Ref    Ref
	Digest digest.Digest // of the manifest
	Size   int64         // of all that belongs to it, bytes
	Signer string        // key id that it was verified with; "" = built here or unsigned
	Source string        // where it was pulled from; "" = built here

	Config   Config
	Manifest v1.Manifest
}

// Layer returns the layer of a format.
func (i Image) Layer(format string) (v1.Descriptor, error) {
	for _, l := range i.Manifest.Layers {
		if l.MediaType == LayerPrefix+format {
			return l, nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("image %s has no %s (it has %s)", i.Ref, format, strings.Join(i.Formats(), ", "))
}

// Formats are the names of its layers' formats.
func (i Image) Formats() (names []string) {
	for _, l := range i.Manifest.Layers {
		names = append(names, strings.TrimPrefix(l.MediaType, LayerPrefix))
	}
	return names
}

// Ref names an image: NAME[:TAG][@sha256:HEX]. The name may have folders and a
// registry: "localhost:5000/osv/memcached:1.2".
type Ref struct {
	Name   string
	Tag    string // "latest" where none was given
	Digest string // "sha256:…", or ""
}

var (
	nameRE = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$`)
	tagRE  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// ParseRef reads a reference.
func ParseRef(s string) (Ref, error) {
	r := Ref{Name: s}
	if name, d, ok := strings.Cut(s, "@"); ok {
		if err := digest.Digest(d).Validate(); err != nil || !strings.HasPrefix(d, "sha256:") {
			return Ref{}, fmt.Errorf("image name %q: %q is no digest (sha256:64 hex digits)", s, d)
		}
		r.Name, r.Digest = name, d
	}
	if i := strings.LastIndexByte(r.Name, ':'); i > strings.LastIndexByte(r.Name, '/') {
		r.Name, r.Tag = r.Name[:i], r.Name[i+1:]
		if !tagRE.MatchString(r.Tag) {
			return Ref{}, fmt.Errorf("image name %q: %q is no tag (letters, digits, _ . -)", s, r.Tag)
		}
	}
	if !nameRE.MatchString(r.Name) || len(r.Name) > 255 {
		return Ref{}, fmt.Errorf("image name %q: want NAME[:TAG][@sha256:HEX] with small letters, digits, . _ - /", s)
	}
	if r.Tag == "" {
		r.Tag = "latest"
	}
	return r, nil
}

// name is the name and tag, under which the store keeps the image.
func (r Ref) name() string { return r.Name + ":" + r.Tag }

func (r Ref) String() string {
	if r.Digest != "" {
		return r.name() + "@" + r.Digest
	}
	return r.name()
}

// Base is the last element of the name.
func (r Ref) Base() string { return r.Name[strings.LastIndexByte(r.Name, '/')+1:] }

// matches: a digest names its manifest whatever the tag.
func (r Ref) matches(asked Ref, d string) bool {
	if asked.Digest != "" {
		return r.Name == asked.Name && d == asked.Digest
	}
	return r.name() == asked.name()
}

// parseManifest reads a manifest of ours.
func parseManifest(b []byte) (v1.Manifest, error) {
	var m v1.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	if m.SchemaVersion != 2 || m.MediaType != v1.MediaTypeImageManifest || m.Config.MediaType != ConfigType {
		return m, fmt.Errorf("manifest: config type %q: want %q: this is not an OSv image", m.Config.MediaType, ConfigType)
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 || d.Size < 0 {
			return m, fmt.Errorf("manifest: digest %q, %d bytes: want sha256 and a size", d.Digest, d.Size)
		}
	}
	return m, nil
}

// ParseManifest reads an image manifest, and refuses any that is not an OSv image's.
func ParseManifest(b []byte) (v1.Manifest, error) { return parseManifest(b) }

func (s *Store) read(ref Ref, d v1.Descriptor) (Image, error) {
	i := Image{Ref: ref, Digest: d.Digest, Signer: d.Annotations[AnnotationSigner], Source: d.Annotations[AnnotationSource]}
	b, err := os.ReadFile(s.Path(d))
	if err == nil {
		i.Manifest, err = parseManifest(b)
	}
	if err == nil {
		b, err = os.ReadFile(s.Path(i.Manifest.Config))
	}
	if err == nil {
		err = json.Unmarshal(b, &i.Config)
	}
	if err != nil {
		return i, fmt.Errorf("store: image %s: %w", ref, err)
	}
	i.Size = d.Size + i.Manifest.Config.Size
	for _, l := range i.Manifest.Layers {
		i.Size += l.Size
	}
	return i, nil
}

// Compose makes the manifest of an image from blobs that are in the store. Layers
// carry their format in the media type. The same parts give the same bytes.
func (s *Store) Compose(c Config, layers []v1.Descriptor) ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	conf, err := s.Add(ConfigType, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	notes := map[string]string{v1.AnnotationTitle: c.Name}
	if c.Version != "" {
		notes[v1.AnnotationVersion] = c.Version
	}
	if !c.Created.IsZero() {
		notes[v1.AnnotationCreated] = c.Created.UTC().Format(time.RFC3339)
	}
	return json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		ArtifactType: ArtifactType, Config: conf, Layers: layers, Annotations: notes,
	})
}

// Names lists the values of a set in order.
func names[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
