package rest

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func testRouter(t testing.TB) *router {
	t.Helper()
	_, ops, err := parseSpec(openapiJSON)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRouter(ops, new(Server).handlers())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFind(t *testing.T) {
	r := testRouter(t)
	for path, want := range map[string]struct {
		route  string
		values []string
	}{
		"/":                          {"/", nil},
		"/os/version":                {"/os/version", nil},
		"/os/version/":               {"/os/version", nil},
		"/os/memory":                 {"/os/memory", nil},
		"/os/memory/total":           {"/os/memory/total", nil},
		"/os":                        {"", nil},
		"//os/version":               {"", nil},
		"/os//version":               {"", nil},
		"/os/version//":              {"", nil},
		"/OS/version":                {"", nil},
		"/os/%76ersion":              {"/os/version", nil},
		"/os%2fversion":              {"", nil},
		"/network/ifconfig/":         {"/network/ifconfig", nil},
		"/network/ifconfig/eth0":     {"/network/ifconfig/{intf}", []string{"eth0"}},
		"/network/ifconfig/a%2fb":    {"/network/ifconfig/{intf}", []string{"a/b"}},
		"/network/ifconfig/a/b":      {"", nil},
		"/file":                      {"/file/{path-par}", []string{""}},
		"/file/":                     {"/file/{path-par}", []string{""}},
		"/file/etc/hosts":            {"/file/{path-par}", []string{"etc/hosts"}},
		"/file/%2Fetc%2Fhosts":       {"/file/{path-par}", []string{"/etc/hosts"}},
		"/file/../os/version":        {"/file/{path-par}", []string{"../os/version"}},
		"/file/%2e%2e/x":             {"/file/{path-par}", []string{"../x"}},
		"/file/%252e%252e":           {"/file/{path-par}", []string{"%2e%2e"}},
		"/fs/df/":                    {"/fs/df", nil},
		"/fs/df//":                   {"/fs/df/{mount}", []string{""}},
		"/fs/df/%2F":                 {"/fs/df/{mount}", []string{"/"}},
		"/fs/df/data/x":              {"/fs/df/{mount}", []string{"data/x"}},
		"/jvm/jmx/a:b=c/Verbose":     {"/jvm/jmx/{mbean}/{attribute}", []string{"a:b=c", "Verbose"}},
		"/jolokia":                   {"/jolokia", nil},
		"/jolokia/read/java.lang:*":  {"/jolokia/{query}", []string{"read/java.lang:*"}},
		"/api/os":                    {"/api/{resource}", []string{"os"}},
		"/api/batch":                 {"/api/batch", nil},
		"/debug/pprof/":              {"/debug/pprof", nil},
		"/trace/event/net.tcp%2Esyn": {"/trace/event/{eventid}", []string{"net.tcp.syn"}},
	} {
		rt, values, err := r.find(path)
		got := ""
		if rt != nil {
			got = rt.path
		}
		if err != nil || got != want.route || rt != nil && !slices.Equal(values, want.values) {
			t.Errorf("%s: route %q, values %q, %v; want %q, %q", path, got, values, err, want.route, want.values)
		}
	}
	for path, code := range map[string]int{"": 400, "os/version": 400, "*": 400, "/%zz": 400, "/file/a%00b": 400, "/" + strings.Repeat("a", maxPath): 414} {
		if _, _, err := r.find(path); err == nil || asError(err).Code != code {
			t.Errorf("%.40q: %v, want status %d", path, err, code)
		}
	}
}

// Whatever the path: no panic, and what is found is what the path says.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"/", "/os/version", "/file/a/../b", "/file/%2e%2e%2f", "/api/batch", "/jvm/jmx/a/b", "//", "/%", "/fs/df//"} {
		f.Add(s)
	}
	r := testRouter(f)
	f.Fuzz(func(t *testing.T, path string) {
		rt, values, err := r.find(path)
		if err != nil || rt == nil {
			return
		}
		if len(values) != len(rt.params) {
			t.Fatalf("%q: %d values for %v", path, len(values), rt.params)
		}
		// The template with the values put in is the path, decoded.
		got := rt.path
		for i, p := range rt.params {
			got = strings.Replace(got, "{"+p+"}", values[i], 1)
		}
		want, err := url.PathUnescape(path)
		if err != nil {
			t.Fatalf("%q is taken: %v", path, err)
		}
		if trim := func(s string) string { return strings.TrimSuffix(s, "/") }; trim(got) != trim(want) && trim(trim(want)) != trim(got) {
			t.Errorf("%q: %s with %q is %q", path, rt.path, values, got)
		}
	})
}

// Any request line: an answer with a status, no panic, nothing written by strangers.
func FuzzRequest(f *testing.F) {
	cfg := testConfig(f)
	cfg.Machine.Env = nil // it is this process's
	s, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("GET", "/file/../../etc/passwd?op=GET", "", "")
	f.Add("POST", "/api/batch", "application/json", `[{"method":"GET","relative_url":"/os/name"}]`)
	f.Add("PUT", "/file/x?op=WRITE&content=a", "", "")
	f.Add("POST", "/file/x", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\nhello\r\n--b--")
	f.Add("POST", "/trace/status?enabled=true&match=(", "application/x-www-form-urlencoded", "enabled=1&%zz")
	f.Fuzz(func(t *testing.T, method, target, ctype, body string) {
		r, err := http.NewRequest(method, "http://localhost"+target, strings.NewReader(body))
		if err != nil || r.Host != "localhost" {
			return
		}
		r.RequestURI = target
		r.RemoteAddr = "127.0.0.1:1"
		if ctype != "" {
			r.Header.Set("Content-Type", ctype)
		}
		w := &memoryWriter{h: http.Header{}}
		s.ServeHTTP(w, r)
		if w.code == 0 && w.b.Len() == 0 {
			t.Errorf("%s %s: no answer", method, target)
		}
		if r.Method != "GET" && r.Method != "HEAD" && r.Method != "OPTIONS" && w.code < 400 {
			t.Errorf("%s %s without a token: %d", r.Method, target, w.code)
		}
		// The same with a token, but for what ends the server or takes its time.
		if rt, _, err := s.router.find(r.URL.EscapedPath()); err != nil || rt == nil || strings.HasPrefix(rt.path, "/os/") || rt.path == "/api/stop" || rt.path == "/api/batch" || strings.HasPrefix(rt.path, "/debug") {
			return
		}
		r.Header.Set("Authorization", bearer)
		r.Body = io.NopCloser(strings.NewReader(body))
		w = &memoryWriter{h: http.Header{}}
		s.ServeHTTP(w, r)
		if w.code == 500 {
			t.Errorf("%s %s: %d %s", method, target, w.code, w.b.Bytes())
		}
	})
}
