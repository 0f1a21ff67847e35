package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"osv/kernel/rest/machine"
)

// guest is a Target that remembers.
type guest struct {
	machine.System // of which SetHostname alone is used
	host           string
	files          map[string]string
	modes          map[string]fs.FileMode
	dirs           map[string]bool
	keys           []string
	calls, apps    []string
	mounts         []Mount
	options        map[string]string
	full           bool // no room for files
}

func newGuest() *guest {
	return &guest{files: map[string]string{}, modes: map[string]fs.FileMode{}, dirs: map[string]bool{}}
}

func (g *guest) SetHostname(s string) error { g.host = s; return nil }

// memFiles is the part of machine.Files that Apply uses.
type memFiles struct {
	machine.Files
	g *guest
}

func (m memFiles) Mkdir(name string, _ fs.FileMode) error {
	if m.g.dirs[name] {
		return fs.ErrExist
	}
	m.g.dirs[name] = true
	return nil
}

func (m memFiles) Chmod(name string, mode fs.FileMode) error { m.g.modes[name] = mode; return nil }

type memFile struct {
	g    *guest
	name string
}

func (f memFile) Write(p []byte) (int, error) { f.g.files[f.name] += string(p); return len(p), nil }
func (f memFile) Close() error                { return nil }

func (m memFiles) Create(name string, _ fs.FileMode, appending bool) (io.WriteCloser, error) {
	if m.g.full {
		return nil, errors.New("no space left")
	}
	if !appending {
		m.g.files[name] = ""
	}
	return memFile{m.g, name}, nil
}

type readFile struct {
	machine.File
	*strings.Reader
}

func (readFile) Close() error                                { return nil }
func (f readFile) Read(p []byte) (int, error)                { return f.Reader.Read(p) }
func (f readFile) Seek(off int64, whence int) (int64, error) { return f.Reader.Seek(off, whence) }

func (m memFiles) Open(name string) (machine.File, error) {
	s, ok := m.g.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return readFile{Reader: strings.NewReader(s)}, nil
}

type memApps struct{ g *guest }

func (a memApps) Run(_ context.Context, c string) (string, error) {
	a.g.apps = append(a.g.apps, c)
	if c == "fail" {
		return "", errors.New("exit 1")
	}
	return "1", nil
}
func (memApps) Finished(string) bool { return true }

func (g *guest) target() Target {
	return Target{
		Machine: &machine.Machine{System: g, Files: memFiles{g: g}, Apps: memApps{g}},
		API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.calls = append(g.calls, r.Method+" "+r.URL.String())
			if r.URL.Path == "/bad" {
				http.Error(w, "no such thing", 404)
			}
		}),
		Keys:   func(l []string) { g.keys = append(g.keys, l...) },
		Server: func(m map[string]string) error { g.options = m; return nil },
		Mount:  func(m Mount) error { g.mounts = append(g.mounts, m); return nil },
	}
}

func TestApply(t *testing.T) {
	g := newGuest()
	g.dirs["etc"] = true
	err := Apply(t.Context(), &Data{Hostname: "meta.example.org", Keys: []string{keyOne}, UserData: []byte(`#cloud-config
hostname: cache.example.org
ssh_authorized_keys: [` + keyTwo + `]
write_files:
  - {path: ../../etc/x/y, content: one, permissions: '0640'}
  - {path: /top, content: two}
mounts: [[blk1, /data]]
httpserver: {port: "1"}
run:
  - POST: /os/hostname?name=a
    other: "b c"
  - GET: /open-rest-api
runcmd: [echo hi]
`)}, g.target())
	if err != nil {
		t.Fatal(err)
	}
	if g.host != "cache" || !reflect.DeepEqual(g.keys, []string{keyOne, keyTwo}) || !reflect.DeepEqual(g.files, map[string]string{"etc/x/y": "one", "top": "two"}) ||
		g.modes["etc/x/y"] != 0o640 || !g.dirs["etc/x"] || len(g.mounts) != 1 || g.options["port"] != "1" ||
		!reflect.DeepEqual(g.calls, []string{"POST /os/hostname?name=a&other=b+c"}) || !reflect.DeepEqual(g.apps, []string{"echo hi"}) {
		t.Errorf("%+v", g)
	}
}

// What fails is told and does not keep the rest from being done.
func TestApplyGoesOn(t *testing.T) {
	g := newGuest()
	g.full = true
	err := Apply(t.Context(), &Data{Hostname: "-bad-", UserData: []byte(`
hostname: "no host"
files: {/a: x}
run:
  - GET: /bad
  - GET: "bad path"
runcmd: [fail, fine]
`)}, g.target())
	for _, want := range []string{`"-bad-" is no host name`, `hostname: "no host"`, "files: /a: no space left", "run: GET /bad: 404 no such thing", `run: GET "bad path"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if g.host != "" {
		t.Errorf("hostname %q", g.host)
	}
	err = ApplyConfig(t.Context(), &Config{Commands: [][]string{{"fail"}, {"fine"}}}, g.target())
	if err == nil || err.Error() != "runcmd: fail: exit 1" || len(g.apps) < 2 || g.apps[len(g.apps)-1] != "fine" {
		t.Errorf("%v, %q", err, g.apps)
	}
}

// A guest that lacks a part says so for what asks for it.
func TestApplyCannot(t *testing.T) {
	err := Apply(t.Context(), &Data{Keys: []string{keyOne}, UserData: []byte("files: {/a: x}\nmounts: [[a, /b]]\nhttpserver: {a: b}\nrun: [{GET: /x}]\ninclude: [load-from-cloud, {file: /f}, {remote: {server: s, path: p}}]\n")},
		Target{Machine: &machine.Machine{System: newGuest()}})
	if err == nil {
		t.Fatal("no error")
	}
	if n := strings.Count(err.Error(), errCannot.Error()); n != 8 {
		t.Errorf("%d of 8: %v", n, err)
	}
}

func TestIncludes(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/more.yaml" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "files: {/remote: r}\ninclude: [{file: /local.yaml}]\n")
	}))
	defer s.Close()
	host, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	g := newGuest()
	g.files["local.yaml"] = "files: {/local: l}\ninclude: [{file: /local.yaml}, load-from-cloud]\n" // a circle
	target := g.target()
	target.Client = s.Client()
	searched := 0
	target.Search = func(context.Context) (*Data, error) {
		searched++
		return &Data{Hostname: "fromcloud", UserData: []byte("include: [load-from-cloud]\n")}, nil
	}
	err := Apply(t.Context(), &Data{UserData: []byte("include:\n- remote: {server: " + host + ", port: " + port + ", path: more.yaml}\n- load-from-cloud\n")}, target)
	if err != nil || g.files["remote"] != "r" || g.files["local"] != "l" || g.host != "fromcloud" || searched != 1 {
		t.Errorf("%v, %+v, searched %d times", err, g, searched)
	}
	target.Search = func(context.Context) (*Data, error) { return nil, ErrNone }
	if err := Apply(t.Context(), &Data{UserData: []byte("include: [{load-from-cloud: {ignore-missing-source: true}}]\n")}, target); err != nil {
		t.Error(err)
	}
	for _, in := range []string{"load-from-cloud", "{file: /none}", "{remote: {server: " + host + ", port: " + port + ", path: none}}"} {
		if err := Apply(t.Context(), &Data{UserData: []byte("include: [" + in + "]\n")}, target); err == nil {
			t.Errorf("%s: no error", in)
		}
	}
}
