package rest

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The pages refer to what this server has, and to nothing else.
func TestPagesAreWhole(t *testing.T) {
	s := newServer(t, nil)
	refs := regexp.MustCompile(`(?:src|href)="([^"]+)"`)
	for _, page := range []string{"/", "/dashboard"} {
		w := send(s, "GET", page, nil)
		if w.Code != 200 || !strings.Contains(w.Header().Get("Content-Security-Policy"), "script-src 'self'") {
			t.Fatalf("%s: %d %v", page, w.Code, w.Header())
		}
		body := w.Body.String()
		if strings.Contains(body, "<script>") || strings.Contains(body, "style=") || strings.Contains(body, "onclick") {
			t.Errorf("%s has script or style in place", page)
		}
		for _, m := range refs.FindAllStringSubmatch(body, -1) {
			if !strings.HasPrefix(m[1], "/") || strings.HasPrefix(m[1], "//") {
				t.Errorf("%s refers to %s", page, m[1])
				continue
			}
			if r := send(s, "GET", m[1], nil); r.Code != 200 || r.Body.Len() == 0 {
				t.Errorf("%s refers to %s: %d", page, m[1], r.Code)
			}
		}
	}
	for _, name := range []string{"dashboard.js", "swagger.js", "page.css"} {
		if b := assets()[name].b; regexp.MustCompile(`https?://(?:[^w]|w[^w])`).Match(b) { // w3.org names a namespace
			t.Errorf("%s refers to another server", name)
		}
	}
	want := []string{"dashboard.html", "dashboard.js", "favicon-32x32.png", "page.css", "swagger-ui-bundle.js", "swagger-ui.css", "swagger.html", "swagger.js"}
	var got []string
	total := 0
	for name, a := range assets() {
		got = append(got, name)
		total += len(a.b)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("assets %v, want %v", got, want)
	}
	if total > 600<<10 {
		t.Errorf("assets have %d KiB", total>>10)
	}
}

func TestAssetEncodings(t *testing.T) {
	s := newServer(t, nil)
	const name = "/ui/swagger-ui-bundle.js"
	plain := send(s, "GET", name, nil)
	packed := send(s, "GET", name, map[string]string{"Accept-Encoding": "br, gzip"})
	if packed.Header().Get("Content-Encoding") != "gzip" || packed.Header().Get("Vary") != "Accept-Encoding" || packed.Header().Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("%v", packed.Header())
	}
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil || string(b) != plain.Body.String() || len(b) < 1<<20 {
		t.Errorf("%d bytes unpacked, %d plain, %v", len(b), plain.Body.Len(), err)
	}
	again := send(s, "GET", name, map[string]string{"If-None-Match": plain.Header().Get("ETag")})
	if again.Code != 304 || again.Body.Len() != 0 {
		t.Errorf("unchanged: %d, %d bytes", again.Code, again.Body.Len())
	}
	if head := send(s, "HEAD", name, nil); head.Code != 200 {
		t.Errorf("HEAD: %d", head.Code)
	}
}

// Every Swagger 1.2 declaration is whole: nicknames are the operations', models that
// are named are there.
func TestSwaggerDeclarations(t *testing.T) {
	s := newServer(t, nil)
	var l swaggerListing
	if err := json.Unmarshal(send(s, "GET", "/api", nil).Body.Bytes(), &l); err != nil || len(l.APIs) != len(listed) {
		t.Fatalf("%+v, %v", l, err)
	}
	ops := 0
	for _, r := range l.APIs {
		for _, suffix := range []string{"", ".json"} {
			w := send(s, "GET", "/api"+r.Path+suffix, nil)
			var d swaggerDecl
			if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 {
				t.Fatalf("%s: %d, %v", r.Path, w.Code, err)
			}
			if d.SwaggerVersion != "1.2" || d.ResourcePath != r.Path || d.BasePath != "http://10.0.0.2:8000" || len(d.APIs) == 0 || r.Description == "" {
				t.Errorf("%s: %+v", r.Path, d)
			}
			for _, a := range d.APIs {
				for _, o := range a.Operations {
					ops++
					b := s.router.ops[o.Nickname]
					if b == nil || b.path != a.Path || b.method != o.Method || len(o.Parameters) < len(b.Parameters) {
						t.Errorf("%s %s %s is not the document's", o.Method, a.Path, o.Nickname)
					}
					if !slices.Contains([]string{"string", "integer", "boolean", "array"}, o.Type) && d.Models[o.Type] == nil {
						t.Errorf("%s: type %q is no model", o.Nickname, o.Type)
					}
					if o.Type == "array" && o.Items == nil {
						t.Errorf("%s: a list of nothing", o.Nickname)
					}
				}
			}
			for name, m := range d.Models {
				for k, p := range m.Properties {
					if p.Ref != "" && d.Models[p.Ref] == nil || p.Items != nil && p.Items.Ref != "" && d.Models[p.Items.Ref] == nil {
						t.Errorf("%s.%s refers to a model that is not there", name, k)
					}
				}
			}
		}
	}
	if ops < 2*55 {
		t.Errorf("%d operations", ops/2)
	}
	var d swaggerDecl
	json.Unmarshal(send(s, "GET", "/api/os.json", nil).Body.Bytes(), &d)
	if m := d.Models["Thread"]; m == nil || m.Properties["cpu_ms"].Type != "integer" {
		t.Errorf("model Thread: %+v", m)
	}
}
