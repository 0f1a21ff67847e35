package repo_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"osv/capstan/internal/fixture"
	"osv/capstan/repo"
)

func TestParseRef(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for in, want := range map[string]repo.Ref{
		"memcached":                        {Name: "memcached", Tag: "latest"},
		"a/b:1.2":                          {Name: "a/b", Tag: "1.2"},
		"localhost:5000/a":                 {Name: "localhost:5000/a", Tag: "latest"},
		"localhost:5000/a:x@sha256:" + hex: {Name: "localhost:5000/a", Tag: "x", Digest: "sha256:" + hex},
	} {
		got, err := repo.ParseRef(in)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
		if again, err := repo.ParseRef(got.String()); err != nil || again != got {
			t.Errorf("%s: %+v comes back as %+v", in, got, again)
		}
	}
	for in, want := range map[string]string{
		"":                      `image name "": want NAME[:TAG][@sha256:HEX] with small letters, digits, . _ - /`,
		"Upper":                 `image name "Upper": want NAME[:TAG][@sha256:HEX] with small letters, digits, . _ - /`,
		"../x":                  `image name "../x": want NAME[:TAG][@sha256:HEX] with small letters, digits, . _ - /`,
		"a:b c":                 `image name "a:b c": "b c" is no tag (letters, digits, _ . -)`,
		"a@sha256:12":           `image name "a@sha256:12": "sha256:12" is no digest (sha256:64 hex digits)`,
		"a@sha512:" + hex + hex: `image name "a@sha512:` + hex + hex + `": "sha512:` + hex + hex + `" is no digest (sha256:64 hex digits)`,
	} {
		if _, err := repo.ParseRef(in); err == nil || err.Error() != want {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("localhost:5000/a/b:c@sha256:" + strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, s string) {
		r, err := repo.ParseRef(s)
		if err != nil {
			return
		}
		if again, err := repo.ParseRef(r.String()); err != nil || again != r {
			t.Errorf("%q: %+v, again %+v, %v", s, r, again, err)
		}
		if strings.Contains(r.Name, "..") && strings.Contains(r.Name, "/../") {
			t.Errorf("%q: a way out", s)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	s := fixture.Store(f)
	c, err := s.Compose(repo.Config{Name: "a"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c)
	f.Add([]byte(`{"schemaVersion":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := repo.ParseManifest(b)
		if err != nil {
			return
		}
		for _, l := range append(m.Layers, m.Config) {
			if p := s.Path(l); filepath.Dir(p) != filepath.Join(s.Dir(), "blobs", "sha256") {
				t.Errorf("blob at %s", p)
			}
		}
	})
}

func TestStoreNamesAndForgets(t *testing.T) {
	s := fixture.Store(t)
	a := fixture.Image(t, s, "a", 1000)
	b := fixture.Image(t, s, "b:2", 1000) // the same kernel
	list, err := s.Images()
	if err != nil || len(list) != 2 || list[0].Ref.String() != "a:latest" || list[1].Ref.String() != "b:2" {
		t.Fatalf("%v, %v", list, err)
	}
	if got, err := s.Get(fixture.Ref(t, "b@"+string(b.Digest))); err != nil || got.Ref.Tag != "2" {
		t.Errorf("%v, %v", got.Ref, err)
	}
	_, err = s.Get(fixture.Ref(t, "c"))
	var none *repo.NotFound
	if !errors.As(err, &none) || err.Error() != "image c:latest: not in the store (there are a:latest, b:2)" {
		t.Error(err)
	}
	if _, err := a.Layer("gce"); err == nil || err.Error() != "image a:latest has no gce (it has qcow2, elf)" {
		t.Error(err)
	}
	elf, err := a.Layer("elf")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(a.Ref); err != nil {
		t.Fatal(err)
	}
	if !s.Has(elf) {
		t.Error("the kernel that b has too is gone")
	}
	if freed, err := s.Remove(b.Ref); err != nil || freed < 1000 || s.Has(elf) {
		t.Errorf("freed %d, %v", freed, err)
	}
	// What nobody named is another's in the making, until it is old.
	orphan, err := s.Add("x", strings.NewReader("orphan"))
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range []bool{false, true} {
		if old {
			past := time.Now().Add(-2 * time.Hour)
			if err := os.Chtimes(s.Path(orphan), past, past); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Remove(fixture.Image(t, s, "c", 10).Ref); err != nil {
			t.Fatal(err)
		}
		if s.Has(orphan) == old {
			t.Errorf("old %v: there %v", old, !old)
		}
	}
	if _, err := s.Get(a.Ref); err == nil || !strings.HasSuffix(err.Error(), "(the store is empty)") {
		t.Error(err)
	}
}

// Several processes' worth of writers: no name is lost.
func TestTagsAtTheSameTime(t *testing.T) {
	s := fixture.Store(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			other, err := repo.Open(s.Dir())
			if err != nil {
				t.Error(err)
				return
			}
			m, err := other.Compose(repo.Config{Name: fmt.Sprint("n", i)}, nil)
			if err == nil {
				_, err = other.Tag(repo.Ref{Name: fmt.Sprint("n", i), Tag: "latest"}, m, nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list, err := s.Images(); err != nil || len(list) != 8 {
		t.Errorf("%d images, %v", len(list), err)
	}
}

func TestTagWantsAllBlobs(t *testing.T) {
	s := fixture.Store(t)
	d := v1.Descriptor{MediaType: repo.LayerPrefix + "elf", Digest: digest.FromString("x"), Size: 1}
	m, err := s.Compose(repo.Config{Name: "a"}, []v1.Descriptor{d})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tag(fixture.Ref(t, "a"), m, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := s.Tag(fixture.Ref(t, "a"), []byte(`{"schemaVersion":2}`), nil); err == nil || !strings.HasSuffix(err.Error(), "this is not an OSv image") {
		t.Error(err)
	}
	if list, _ := s.Images(); len(list) != 0 {
		t.Error("named all the same")
	}
}

// A writer that fails as a full disk does.
type full struct{ left int }

var errFull = errors.New("no space left on device")

func (f *full) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, errFull
	}
	n := min(len(p), f.left)
	f.left -= n
	return n, nil
}

func TestAddThatFailsLeavesNothing(t *testing.T) {
	s := fixture.Store(t)
	if _, err := s.Add("x", &full{100000}); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if l, _ := os.ReadDir(filepath.Join(s.Dir(), "blobs", "sha256")); len(l) != 0 {
		t.Errorf("left %v", l)
	}
}

func fetchOf(b []byte) repo.Fetch {
	return func(int64) (io.ReadCloser, int64, error) { return io.NopCloser(bytes.NewReader(b)), 0, nil }
}

func TestDownloadLongerThanPromised(t *testing.T) {
	s := fixture.Store(t)
	d := v1.Descriptor{Digest: digest.FromString("abc"), Size: 3}
	var e *repo.DigestError
	if err := s.Download(d, fetchOf([]byte("abcd")), nil); !errors.As(err, &e) {
		t.Error(err)
	}
	if err := s.Download(d, fetchOf([]byte("abc")), nil); err != nil || !s.Has(d) {
		t.Error(err)
	}
	called := false
	if err := s.Download(d, func(int64) (io.ReadCloser, int64, error) { called = true; return nil, 0, io.EOF }, nil); err != nil || called {
		t.Error("fetched what is there:", err)
	}
	gone := v1.Descriptor{Digest: digest.FromString("y"), Size: 3}
	if err := s.Download(gone, func(int64) (io.ReadCloser, int64, error) { return nil, 0, io.ErrClosedPipe }, nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

func TestSaveLoad(t *testing.T) {
	s, to := fixture.Store(t), fixture.Store(t)
	a, b := fixture.Image(t, s, "a", 1000), fixture.Image(t, s, "b", 2000)
	var one, two bytes.Buffer
	if err := errors.Join(s.Save(&one, a, b), s.Save(&two, a, b)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two archives differ")
	}
	got, err := to.Load(bytes.NewReader(one.Bytes()))
	if err != nil || len(got) != 2 || got[0].Digest != a.Digest || got[1].Digest != b.Digest {
		t.Fatalf("%v, %v", got, err)
	}
	if err := to.Verify(got[1]); err != nil {
		t.Error(err)
	}
	for n, want := range map[int]string{one.Len() / 2: "cut off", 100: "archive: ", 0: "archive: no index.json that lists images"} {
		to := fixture.Store(t)
		if _, err := to.Load(bytes.NewReader(one.Bytes()[:n])); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %s", n, err, want)
		}
		if list, _ := to.Images(); len(list) != 0 {
			t.Errorf("%d bytes: named %v", n, list)
		}
		if l, _ := os.ReadDir(filepath.Join(to.Dir(), "partial")); len(l) != 0 {
			t.Errorf("%d bytes: left %v", n, l)
		}
	}
	// A blob that is not what its name says.
	bad := bytes.Clone(one.Bytes())
	bad[len(bad)-4000] ^= 1
	_, err = fixture.Store(t).Load(bytes.NewReader(bad))
	var e *repo.DigestError
	if !errors.As(err, &e) {
		t.Error(err)
	}
	// An index that names a manifest which is not there.
	var x bytes.Buffer
	w := tar.NewWriter(&x)
	index := `{"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","annotations":{"org.opencontainers.image.ref.name":"a:1"}}]}`
	w.WriteHeader(&tar.Header{Name: "index.json", Size: int64(len(index)), Mode: 0o644})
	io.WriteString(w, index)
	w.Close()
	if _, err := to.Load(&x); err == nil || !strings.HasSuffix(err.Error(), "is missing") {
		t.Error(err)
	}
}

func TestVerifyFindsRot(t *testing.T) {
	s := fixture.Store(t)
	i := fixture.Image(t, s, "a", 1000)
	d, _ := i.Layer("elf")
	b, _ := s.Bytes(d)
	b[500] ^= 1
	if err := errors.Join(os.Chmod(s.Path(d), 0o644), os.WriteFile(s.Path(d), b, 0o644)); err != nil {
		t.Fatal(err)
	}
	var e *repo.DigestError
	if err := s.Verify(i); !errors.As(err, &e) {
		t.Error(err)
	}
}

func TestOpenRefusesWhatIsNoStore(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"9"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Open(dir); err == nil || !strings.HasSuffix(err.Error(), `version "9": want "1.0.0"`) {
		t.Error(err)
	}
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Open(file); err == nil {
		t.Error("a file is a store")
	}
}
