package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"osv/kernel/ktest/fakecloud"
	"osv/kernel/rest/cloudinit/media"
)

const (
	keyOne = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGx7rGpkz1fHkWn8o5cZ0K0aU3nVZ9rX1JxC2v7mXg1p one@example"
	keyTwo = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGx7rGpkz1fHkWn8o5cZ0K0aU3nVZ9rX1JxC2v7mXg1q two@example"
)

func ec2(v2 bool, tokens *atomic.Int32) http.Handler {
	return fakecloud.EC2(fakecloud.Instance{ID: "i-0123", Hostname: "ip-10-0-0-1.ec2.internal", Keys: []string{keyOne, keyTwo}, UserData: "#cloud-config\nhostname: web\n"}, v2, tokens)
}

func gce(flavor bool) http.Handler {
	return fakecloud.GCE(fakecloud.Instance{ID: "4711", Hostname: "mem.c.project.internal", Keys: []string{keyOne, keyTwo}, UserData: "files:\n  /etc/motd: hi\n"}, flavor)
}

func searchAt(t *testing.T, h http.Handler, disks ...Disk) (*Data, error) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return Search(t.Context(), Options{Client: s.Client(), Base: s.URL + "/", Disks: disks, Probe: 5 * time.Second, Fetch: 5 * time.Second})
}

func TestEC2(t *testing.T) {
	for _, v2 := range []bool{true, false} {
		var tokens atomic.Int32
		d, err := searchAt(t, ec2(v2, &tokens))
		if err != nil {
			t.Fatal(err)
		}
		want := &Data{Source: "EC2", InstanceID: "i-0123", Hostname: "ip-10-0-0-1.ec2.internal", Keys: []string{keyOne, keyTwo}, UserData: []byte("#cloud-config\nhostname: web\n")}
		if !reflect.DeepEqual(d, want) {
			t.Errorf("v2 %v: %+v", v2, d)
		}
		if v2 != (tokens.Load() > 0) {
			t.Errorf("v2 %v: %d tokens", v2, tokens.Load())
		}
	}
}

func TestGCE(t *testing.T) {
	d, err := searchAt(t, gce(true))
	if err != nil {
		t.Fatal(err)
	}
	want := &Data{Source: "GCE", InstanceID: "4711", Hostname: "mem.c.project.internal", Keys: []string{keyOne, keyTwo}, UserData: []byte("files:\n  /etc/motd: hi\n")}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("%+v", d)
	}
	// A server that does not say that it is Google's is not taken for it.
	if d, err := searchAt(t, gce(false)); !errors.Is(err, ErrNone) {
		t.Errorf("%+v, %v", d, err)
	}
}

// Servers that send garbage, too much, redirects or nothing do no harm, and cost no
// more than their time.
func TestBadServers(t *testing.T) {
	big := strings.Repeat("x", maxMetaData+1)
	for name, h := range map[string]http.HandlerFunc{
		"404":      http.NotFound,
		"500":      func(w http.ResponseWriter, r *http.Request) { http.Error(w, "broken", 500) },
		"garbage":  func(w http.ResponseWriter, r *http.Request) { w.Write([]byte{0, 1, 2, 0xff}) },
		"endless":  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, big) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/instance-id", 302) },
		"cut": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Header().Set("Metadata-Flavor", "Google")
			w.Write([]byte("abc"))
		},
	} {
		if d, err := searchAt(t, h); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
	// One that is there but breaks later is an error, not silence.
	m := http.NewServeMux()
	m.Handle("/", ec2(false, new(atomic.Int32)))
	m.HandleFunc("GET /latest/user-data", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "later", 503) })
	if _, err := searchAt(t, m); err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "EC2: GET /latest/user-data: 503") {
		t.Errorf("%v", err)
	}
}

// A server that never answers costs the probe's time and no more.
func TestSilentServer(t *testing.T) {
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	}))
	defer s.Close()
	defer close(stop)
	start := time.Now()
	_, err := Search(t.Context(), Options{Client: s.Client(), Base: s.URL, Probe: 50 * time.Millisecond})
	if !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Search(ctx, Options{Client: s.Client(), Base: s.URL}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	asked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/latest") {
			t.Errorf("%s is asked", r.URL)
		}
		http.NotFound(w, r)
	}))
	defer asked.Close()
	if _, err := Search(t.Context(), Options{Client: asked.Client(), Base: asked.URL, Clouds: []string{"GCE"}}); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	if _, err := Search(t.Context(), Options{}); !errors.Is(err, ErrNone) {
		t.Errorf("nothing to search: %v", err)
	}
}

// memDisk is an image in memory.
type memDisk struct {
	name string
	*strings.Reader
}

func (d memDisk) Name() string { return d.name }

// A disk comes before the network.
func TestNoCloud(t *testing.T) {
	good := memDisk{"blk1", strings.NewReader(isoImage(t, "cidata", map[string]string{
		"meta-data": "instance-id: i1\nlocal-hostname: mem1\npublic-keys:\n  mine: " + keyOne + "\n  list:\n    - " + keyTwo + "\n",
		"user-data": "#cloud-config\n"}))}
	empty := memDisk{"blk0", strings.NewReader(strings.Repeat("\x00", 1<<16))}
	other := memDisk{"blk2", strings.NewReader(isoImage(t, "data", map[string]string{"user-data": "x"}))}
	d, err := searchAt(t, ec2(true, new(atomic.Int32)), empty, other, good)
	if err != nil {
		t.Fatal(err)
	}
	want := &Data{Source: "NoCloud", InstanceID: "i1", Hostname: "mem1", Keys: []string{keyOne, keyTwo}, UserData: []byte("#cloud-config\n")}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("%+v", d)
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no meta-data":  {map[string]string{"user-data": ""}, "blk1: meta-data: no such file"},
		"no user-data":  {map[string]string{"meta-data": ""}, "blk1: user-data: no such file"},
		"bad meta-data": {map[string]string{"meta-data": "a: [", "user-data": ""}, "blk1: meta-data: yaml"},
	} {
		_, err := Search(t.Context(), Options{Disks: []Disk{memDisk{"blk1", strings.NewReader(isoImage(t, "CIDATA", c.files))}}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Search(t.Context(), Options{Disks: []Disk{empty}}); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// isoImage is the smallest ISO 9660 image with these files, and a check that media
// reads it.
func isoImage(t *testing.T, label string, files map[string]string) string {
	t.Helper()
	const sector = 2048
	b := make([]byte, 19*sector)
	le := func(p []byte, v uint32) { p[0], p[1], p[2], p[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24) }
	record := func(id string, at, n uint32, flags byte) []byte {
		r := make([]byte, (33+len(id)+1)&^1)
		r[0], r[25], r[32] = byte(len(r)), flags, byte(len(id))
		le(r[2:], at)
		le(r[10:], n)
		copy(r[33:], id)
		return r
	}
	p := b[16*sector:]
	p[0] = 1
	copy(p[1:], "CD001\x01")
	copy(p[40:72], label+strings.Repeat(" ", 32))
	p[128], p[129] = 0, 8
	copy(p[156:], record("\x00", 18, sector, 2))
	copy(b[17*sector:], "\xffCD001\x01")
	dir := append(record("\x00", 18, sector, 2), record("\x01", 18, sector, 2)...)
	for name, text := range files {
		dir = append(dir, record(strings.ToUpper(name)+".;1", uint32(len(b)/sector), uint32(len(text)), 0)...)
		b = append(b, text...)
		b = append(b, make([]byte, (sector-len(b)%sector)%sector)...)
	}
	copy(b[18*sector:], dir)
	if m, err := media.Open(strings.NewReader(string(b)), int64(len(b))); err != nil || len(m.Names()) != len(files) {
		t.Fatalf("%v %v", m, err)
	}
	return string(b)
}
