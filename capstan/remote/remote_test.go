package remote

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"osv/capstan/internal/fixture"
	"osv/capstan/repo"
	"osv/capstan/sign"
	"osv/harness/diskimage"
)

// keys makes a pair of keys, and trusts the public one if trusted is set.
func keys(t *testing.T, trusted bool) (*sign.Signer, sign.Trust) {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "test")
	if _, err := sign.Generate(name, ""); err != nil {
		t.Fatal(err)
	}
	s, err := sign.Open(name+".key", nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := sign.Trust{Dir: filepath.Join(dir, "trust.d")}
	if trusted {
		if _, err := trust.Add(name+".pub", ""); err != nil {
			t.Fatal(err)
		}
	}
	return s, trust
}

// server is a registry in this process; wrap, if not nil, sees its requests first.
func server(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return "oci+http://" + strings.TrimPrefix(s.URL, "http://") + "/osv"
}

func openRepo(t *testing.T, url string) Repository {
	t.Helper()
	r, err := Open(url, Options{Client: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// left is what lies in a store's folder beside finished blobs.
func left(t *testing.T, s *repo.Store) (out []string) {
	t.Helper()
	filepath.WalkDir(s.Dir(), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.Contains(p, "partial") || strings.HasPrefix(d.Name(), ".")) {
			out = append(out, p)
		}
		return err
	})
	return out
}

func TestRegistryPushPullSigned(t *testing.T) {
	signer, trust := keys(t, true)
	r := openRepo(t, server(t, nil))
	from, to := fixture.Store(t), fixture.Store(t)
	img := fixture.Image(t, from, "memcached:1.2", 300000)
	var last [2]int64
	seen := func(_ string, done, total int64) { last = [2]int64{done, total} }
	if err := r.Push(t.Context(), from, img, signer, seen); err != nil {
		t.Fatal(err)
	}
	if last[0] != last[1] || last[0] == 0 {
		t.Errorf("progress ended at %v", last)
	}
	list, err := r.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != "memcached:1.2" {
		t.Fatalf("list %v, %v", list, err)
	}
	got, err := Pull(t.Context(), r, to, img.Ref, PullOptions{Trust: trust, Progress: seen})
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != img.Digest || got.Signer != signer.ID() || !strings.HasSuffix(got.Source, "/osv/memcached") || got.Config.Ports[0] != "11211" {
		t.Errorf("%+v", got)
	}
	if err := to.Verify(got); err != nil {
		t.Error(err)
	}
	// By digest, whatever the tag is.
	byDigest := fixture.Ref(t, "memcached@"+string(img.Digest))
	if got, err := Pull(t.Context(), r, fixture.Store(t), byDigest, PullOptions{Trust: trust}); err != nil || got.Digest != img.Digest {
		t.Error(err)
	}
	_, err = Pull(t.Context(), r, to, fixture.Ref(t, "nothing"), PullOptions{Trust: trust})
	if !errors.Is(err, ErrNotFound) || !strings.HasPrefix(err.Error(), "image nothing:latest: not found in 127.0.0.1:") {
		t.Error(err)
	}
}

// Signatures: none, by a stranger, of something else.
func TestPullWantsASignature(t *testing.T) {
	mine, trust := keys(t, true)
	strange, _ := keys(t, false)
	r := openRepo(t, server(t, nil))
	s := fixture.Store(t)
	a, b := fixture.Image(t, s, "a", 1000), fixture.Image(t, s, "b", 2000)
	for img, signer := range map[*repo.Image]*sign.Signer{&a: nil, &b: strange} {
		if err := r.Push(t.Context(), s, *img, signer, nil); err != nil {
			t.Fatal(err)
		}
	}
	to := fixture.Store(t)
	refuse := func(ref, want string, o PullOptions) {
		t.Helper()
		o.Trust = trust
		_, err := Pull(t.Context(), r, to, fixture.Ref(t, ref), o)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want …%q", ref, err, want)
		}
		if list, _ := to.Images(); len(list) != 0 || len(left(t, to)) != 0 {
			t.Errorf("%s: left %v %v", ref, list, left(t, to))
		}
	}
	refuse("a", ": not signed: nothing was fetched (--insecure-unsigned takes it all the same)", PullOptions{})
	refuse("b", fmt.Sprintf(": signed with key %s, which is not trusted (capstan trust add FILE.pub, if it should be): nothing was fetched (--insecure-unsigned takes it all the same)", strange.ID()), PullOptions{})

	// Signed as a:latest and put under another name: a wrong signature, which no flag lets pass.
	if err := r.Push(t.Context(), s, a, mine, nil); err != nil {
		t.Fatal(err)
	}
	other := a
	other.Ref = fixture.Ref(t, "a:2")
	if err := r.Push(t.Context(), s, other, nil, nil); err != nil {
		t.Fatal(err)
	}
	refuse("a:2", `: wrong signature: it is for "a:latest", not for "a:2": nothing was fetched`, PullOptions{Unsigned: true})
	// The flag takes the others.
	for _, ref := range []string{"b"} {
		if got, err := Pull(t.Context(), r, fixture.Store(t), fixture.Ref(t, ref), PullOptions{Trust: trust, Unsigned: true}); err != nil || got.Signer != "" {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

// A registry that changes a byte of each blob on the way.
func TestPullBadDigest(t *testing.T) {
	signer, trust := keys(t, true)
	var bad atomic.Bool
	r := openRepo(t, server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if !bad.Load() || !strings.Contains(q.URL.Path, "/blobs/") || q.Method != http.MethodGet {
				h.ServeHTTP(w, q)
				return
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, q)
			b := rec.Body.Bytes()
			if len(b) > 10000 {
				b[len(b)/2] ^= 1
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b)
		})
	}))
	s, to := fixture.Store(t), fixture.Store(t)
	img := fixture.Image(t, s, "a", 200000)
	if err := r.Push(t.Context(), s, img, signer, nil); err != nil {
		t.Fatal(err)
	}
	bad.Store(true)
	_, err := Pull(t.Context(), r, to, img.Ref, PullOptions{Trust: trust})
	var e *repo.DigestError
	if !errors.As(err, &e) || !strings.Contains(err.Error(), ": bad digest: ") || !strings.HasSuffix(err.Error(), "damaged or changed on the way; nothing was kept") {
		t.Fatal(err)
	}
	if list, _ := to.Images(); len(list) != 0 || len(left(t, to)) != 0 {
		t.Errorf("left: %v %v", list, left(t, to))
	}
	bad.Store(false)
	if _, err := Pull(t.Context(), r, to, img.Ref, PullOptions{Trust: trust}); err != nil {
		t.Error(err)
	}
}

// pushTree makes a signed tree and serves it; cut, if positive, ends each answer after
// so many bytes.
func pushTree(t *testing.T, signer *sign.Signer, name string, n int) (dir string, img repo.Image) {
	t.Helper()
	s := fixture.Store(t)
	img = fixture.Image(t, s, name, n)
	dir = t.TempDir()
	if err := openRepo(t, dir).Push(t.Context(), s, img, signer, nil); err != nil {
		t.Fatal(err)
	}
	return dir, img
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestTreePullOverHTTPAndFromAFolder(t *testing.T) {
	signer, trust := keys(t, true)
	dir, img := pushTree(t, signer, "memcached", 100000)
	for _, url := range []string{dir, "file://" + dir, serve(t, http.FileServer(http.Dir(dir)))} {
		r := openRepo(t, url)
		to := fixture.Store(t)
		got, err := Pull(t.Context(), r, to, img.Ref, PullOptions{Trust: trust})
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		if got.Digest == "" || got.Signer != signer.ID() || len(got.Config.Ports) != 1 || got.Config.CommandLine != "--verbose" {
			t.Errorf("%s: %+v", url, got)
		}
		list, err := r.List(t.Context())
		if err != nil || len(list) != 1 || list[0].Name != "memcached" || len(list[0].Formats) != 2 {
			t.Errorf("%s: %v, %v", url, list, err)
		}
		if _, err := Pull(t.Context(), r, to, fixture.Ref(t, "nothing"), PullOptions{Trust: trust}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if _, err := Pull(t.Context(), r, to, img.Ref, PullOptions{Trust: trust, Formats: []string{"gce"}}); err == nil || !strings.HasSuffix(err.Error(), "it has no gce, but qcow2, elf") && !strings.HasSuffix(err.Error(), "it has no gce, but elf, qcow2") {
			t.Error(err)
		}
	}
	// One byte of the index: the signature does not fit.
	x := filepath.Join(dir, indexName)
	b, _ := os.ReadFile(x)
	if err := os.WriteFile(x, bytes.Replace(b, []byte(`"memory_mib": 128`), []byte(`"memory_mib": 129`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Pull(t.Context(), openRepo(t, dir), fixture.Store(t), img.Ref, PullOptions{Trust: trust, Unsigned: true})
	if !errors.Is(err, sign.ErrWrong) || !strings.HasSuffix(err.Error(), fmt.Sprintf("wrong signature: key %s (test) did not sign this: nothing was fetched", signer.ID())) {
		t.Error(err)
	}
}

// What `images build` leaves is a repository too; another tag is a folder below.
func TestTreeByImagesBuild(t *testing.T) {
	signer, trust := keys(t, true)
	dir := t.TempDir()
	at := filepath.Join(dir, "v2")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	src := diskimage.Source{Kernel: fixture.Kernel(5000), Machine: diskimage.Machine{Name: "iperf", MemMiB: 64}}
	f, err := diskimage.Find("elf")
	if err != nil {
		t.Fatal(err)
	}
	out, err := src.Write(f, at)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(diskimage.WriteIndex(at, []diskimage.File{out}), SignTree(at, signer)); err != nil {
		t.Fatal(err)
	}
	got, err := Pull(t.Context(), openRepo(t, dir), fixture.Store(t), fixture.Ref(t, "iperf:v2"), PullOptions{Trust: trust})
	if err != nil || got.Config.MemMiB != 64 || got.Formats()[0] != "elf" {
		t.Errorf("%+v, %v", got, err)
	}
}

// cutter serves a folder, and ends the answer for each .elf after n bytes.
type cutter struct {
	dir    string
	n      int
	ranges bool
	asked  []string // Range headers
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, ".elf") {
		http.FileServer(http.Dir(c.dir)).ServeHTTP(w, r)
		return
	}
	c.asked = append(c.asked, r.Header.Get("Range"))
	b, err := os.ReadFile(filepath.Join(c.dir, filepath.Base(r.URL.Path)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	at := 0
	if c.ranges {
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(b)-at))
	if at > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(b)-1, len(b)))
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(b[at:min(len(b), at+c.n)])
}

func TestPullGoesOnWhereItWasCutOff(t *testing.T) {
	signer, trust := keys(t, true)
	dir, img := pushTree(t, signer, "a", 100000)
	c := &cutter{dir: dir, n: 40000, ranges: true}
	to := fixture.Store(t)
	got, err := Pull(t.Context(), openRepo(t, serve(t, c)), to, img.Ref, PullOptions{Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	if want := "[ bytes=40000- bytes=80000-]"; fmt.Sprint(c.asked) != want {
		t.Errorf("ranges %v, want %s", c.asked, want)
	}
	if err := to.Verify(got); err != nil || len(left(t, to)) != 0 {
		t.Errorf("%v, left %v", err, left(t, to))
	}
}

// The same at a registry that offers ranges.
func TestRegistryPullGoesOn(t *testing.T) {
	signer, trust := keys(t, true)
	var asked []string
	cut := false
	r := openRepo(t, server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if !cut || !strings.Contains(q.URL.Path, "/blobs/") || q.Method != http.MethodGet {
				h.ServeHTTP(w, q)
				return
			}
			from := q.Header.Get("Range")
			q.Header.Del("Range")
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, q)
			b := rec.Body.Bytes()
			w.Header().Set("Accept-Ranges", "bytes")
			at, status := 0, http.StatusOK
			if from != "" {
				asked = append(asked, from)
				fmt.Sscanf(from, "bytes=%d-", &at)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(b)-1, len(b)))
				status = http.StatusPartialContent
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(b)-at))
			w.WriteHeader(status)
			w.Write(b[at:min(len(b), at+150000)])
		})
	}))
	s, to := fixture.Store(t), fixture.Store(t)
	img := fixture.Image(t, s, "a", 100000)
	if err := r.Push(t.Context(), s, img, signer, nil); err != nil {
		t.Fatal(err)
	}
	cut = true
	got, err := Pull(t.Context(), r, to, img.Ref, PullOptions{Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Verify(got); err != nil || len(asked) == 0 || !strings.HasPrefix(asked[0], "bytes=150000-") || len(left(t, to)) != 0 {
		t.Errorf("%v, ranges %v, left %v", err, asked, left(t, to))
	}
}

// Without ranges each try begins anew; the command says what to do, and the image is
// not there.
func TestPullCutOffForGood(t *testing.T) {
	signer, trust := keys(t, true)
	dir, img := pushTree(t, signer, "a", 100000)
	to := fixture.Store(t)
	_, err := Pull(t.Context(), openRepo(t, serve(t, &cutter{dir: dir, n: 40000})), to, img.Ref, PullOptions{Trust: trust})
	if !errors.Is(err, repo.ErrCutOff) || !strings.Contains(err.Error(), "the download was cut off after 40000 of ") || !strings.HasSuffix(err.Error(), "; run the command again to go on") {
		t.Fatal(err)
	}
	if list, _ := to.Images(); len(list) != 0 {
		t.Errorf("named %v", list)
	}
	if l := left(t, to); len(l) != 1 {
		t.Errorf("left %v, want the part", l)
	}
	// Another run, at a server that can: it goes on.
	c := &cutter{dir: dir, n: 1 << 30, ranges: true}
	if _, err := Pull(t.Context(), openRepo(t, serve(t, c)), to, img.Ref, PullOptions{Trust: trust}); err != nil || fmt.Sprint(c.asked) != "[bytes=40000-]" {
		t.Errorf("%v, ranges %v", err, c.asked)
	}
}

// The original's bucket: an XML listing in two pages, index.yaml, gzip.
func TestBucketOfTheOriginal(t *testing.T) {
	disk := bytes.Repeat([]byte("QFI\xfbdisk"), 10000)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(disk)
	z.Close()
	cut := false
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			if r.URL.Query().Get("marker") == "" {
				fmt.Fprint(w, `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated><Contents><Key>cloudius/osv/index.yaml</Key></Contents><Contents><Key>cloudius/osv/osv.qemu.gz</Key></Contents></ListBucketResult>`)
				return
			}
			fmt.Fprint(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>packages/index.yaml</Key></Contents></ListBucketResult>`)
		case "/cloudius/osv/index.yaml":
			fmt.Fprint(w, "format_version: 1\nnamespace: cloudius\nname: osv\ndescription: The base\nversion: v0.06\ncreated: 2014-04-01T00:00:00Z\n")
		case "/cloudius/osv/osv.qemu.gz":
			b := packed.Bytes()
			if cut {
				b = b[:len(b)/2]
			}
			w.Write(b)
		default:
			http.NotFound(w, r)
		}
	}))
	r := openRepo(t, url)
	list, err := r.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != "cloudius/osv" || list[0].About != "The base" {
		t.Fatalf("%v, %v", list, err)
	}
	to := fixture.Store(t)
	ref := fixture.Ref(t, "cloudius/osv")
	if _, err := Pull(t.Context(), r, to, ref, PullOptions{}); !errors.Is(err, sign.ErrUnsigned) {
		t.Error(err)
	}
	got, err := Pull(t.Context(), r, to, ref, PullOptions{Unsigned: true, Formats: []string{"qcow2"}})
	if err != nil || got.Config.Version != "v0.06" || got.Config.Created.Year() != 2014 {
		t.Fatalf("%+v, %v", got, err)
	}
	d, _ := got.Layer("qcow2")
	if sum := sha256.Sum256(disk); d.Digest.Encoded() != hex.EncodeToString(sum[:]) {
		t.Error("another disk")
	}
	if _, err := Pull(t.Context(), r, to, fixture.Ref(t, "no/such"), PullOptions{Unsigned: true}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "it has cloudius/osv") {
		t.Error(err)
	}
	cut = true
	to = fixture.Store(t)
	if _, err := Pull(t.Context(), r, to, ref, PullOptions{Unsigned: true}); !errors.Is(err, repo.ErrCutOff) || len(left(t, to)) != 0 {
		t.Errorf("%v, left %v", err, left(t, to))
	}
}

func TestOpenRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"ftp://x":   `repository "ftp://x": want oci://, oci+http://, http://, https://, file:// or a folder`,
		"oci://":    "repository oci://: no registry",
		"http://":   `repository "http://": not a URL`,
		"http://%z": `repository "http://%z": not a URL`,
	} {
		if _, err := Open(url, Options{}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
	if _, err := Open("oci://x/y", Options{Offline: true}); !errors.Is(err, ErrOffline) {
		t.Error(err)
	}
	if _, err := Open(t.TempDir(), Options{Offline: true}); err != nil {
		t.Error("a folder is no network:", err)
	}
	s := fixture.Store(t)
	img := fixture.Image(t, s, "a", 100)
	err := openRepo(t, "http://127.0.0.1:1").Push(t.Context(), s, img, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "a web server takes no images") {
		t.Error(err)
	}
	if _, err := openRepo(t, t.TempDir()).Find(t.Context(), fixture.Ref(t, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Entries of an index that would lead out of the tree.
func TestTreeIndexIsNotBelieved(t *testing.T) {
	for _, bad := range []string{
		`{"schema":1,"images":[{"name":"a","format":"elf","file":"../x","bytes":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`,
		`{"schema":1,"images":[{"name":"a","format":"elf","file":"x","bytes":-1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`,
		`{"schema":1,"images":[{"name":"a","format":"elf","file":"x","bytes":1,"sha256":"zz"}]}`,
		`{"schema":2}`, `{`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, indexName), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := openRepo(t, dir).Find(context.Background(), fixture.Ref(t, "a")); err == nil {
			t.Errorf("%s: believed", bad)
		}
	}
}

func TestRegistryInAName(t *testing.T) {
	for name, want := range map[string]string{
		"memcached": "", "osv/memcached": "", "localhost:5000/osv/memcached:1": "oci+http://localhost:5000", "ghcr.io/osv/memcached": "oci://ghcr.io", "127.0.0.1:80/x": "oci+http://127.0.0.1:80",
	} {
		got, rest := Registry(fixture.Ref(t, name))
		if got != want || want != "" && strings.Contains(rest.Name, ":") {
			t.Errorf("%s: %q %v, want %q", name, got, rest, want)
		}
	}
}

// Whatever an index says, what is found of it has sound names and sums.
func FuzzTreeIndex(f *testing.F) {
	f.Add([]byte(`{"schema":1,"images":[{"name":"a","format":"elf","file":"a.elf","bytes":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`))
	f.Add([]byte(`<ListBucketResult><Contents><Key>a/b/index.yaml</Key></Contents></ListBucketResult>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &tree{base: "x", files: oneFile(b)}
		found, err := r.Find(t.Context(), repo.Ref{Name: "a", Tag: "latest"})
		if err != nil {
			return
		}
		for _, b := range found.Blobs {
			if b.Digest.Validate() != nil || b.Size < 0 {
				t.Errorf("%+v", b.Descriptor)
			}
			if _, _, err := b.Fetch(t.Context())(0); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	})
}

// oneFile is a tree of an index and nothing else.
type oneFile []byte

func (o oneFile) open(_ context.Context, name string, _ int64) (io.ReadCloser, int64, error) {
	if name == indexName {
		return io.NopCloser(bytes.NewReader(o)), 0, nil
	}
	if strings.ContainsAny(name, `/\`) || name == ".." {
		return nil, 0, fmt.Errorf("a way out: %q", name)
	}
	return nil, 0, os.ErrNotExist
}
