package rest

import (
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"osv/kernel/rest/machine"
)

// The list as OSv's clients send it, in a form of either kind, and as JSON.
func TestBatchBodies(t *testing.T) {
	s := newServer(t, nil)
	const list = `[{"method":"GET","relative_url":"os/name"},{"method":"get","relative_url":"/trace/status?match=^rest.refused$"},{"method":"POST","relative_url":"/env/B?val=x"},` +
		`{"method":"GET","relative_url":"/metrics"},{"method":"POST","relative_url":"/api/batch"},{"method":"GET","relative_url":"/debug/pprof/profile?seconds=9"},` +
		`{"method":"PATCH","relative_url":"/os/name"},{"method":"GET","relative_url":"//evil.example/os/name"},{"method":"G T","relative_url":"/x"},{"method":"GET","relative_url":"/trace/event/none"}]`
	var form strings.Builder
	m := multipart.NewWriter(&form)
	w, _ := m.CreateFormField("batch")
	w.Write([]byte(list))
	m.Close()
	for ctype, body := range map[string]string{"application/json": list, "application/x-www-form-urlencoded": url.Values{"batch": {list}}.Encode(), m.FormDataContentType(): form.String()} {
		r := httptest.NewRequest("POST", "/api/batch", strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", bearer)
		r.Header.Set("Content-Type", ctype)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var got []batchResult
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Errorf("%s: %d, %v: %s", ctype, w.Code, err, w.Body)
			continue
		}
		want := []int{200, 200, 200, 200, 400, 400, 405, 400, 400, 404}
		for i := range want {
			if i >= len(got) || got[i].Code != want[i] {
				t.Errorf("%s: call %d: %+v, want %d", ctype, i, got[i], want[i])
			}
		}
		if string(got[0].Body) != `"OSv"` || !strings.HasPrefix(string(got[3].Body), `"# HELP`) {
			t.Errorf("%s: %s, %.20s", ctype, got[0].Body, got[3].Body)
		}
	}
}

// A batch has its caller's rights and no more: read-only stays read-only.
func TestBatchRights(t *testing.T) {
	s := newServer(t, func(c *Config) { c.ReadOnly = true })
	if code, _ := s.Call(t.Context(), "POST", "/os/hostname?name=x", "", nil); code != 403 {
		t.Errorf("read-only: %d", code)
	}
	if w := send(s, "POST", "/api/batch", nil); w.Code != 401 {
		t.Errorf("without a token: %d", w.Code)
	}
}

// Calls from within: with a body, bounded, and such that end the machine.
func TestCall(t *testing.T) {
	cfg := testConfig(t)
	s := serve(t, cfg)
	code, b := s.Call(t.Context(), "POST", "/os/hostname", "application/x-www-form-urlencoded", strings.NewReader("name=cloud"))
	if code != 200 || string(b) != `""` || s.m.System.Hostname() != "cloud" {
		t.Errorf("%d %s, host name %s", code, b, s.m.System.Hostname())
	}
	if code, _ := s.Call(t.Context(), "GET", "/"+strings.Repeat("x", 3*maxPath), "", nil); code != 414 {
		t.Errorf("a long URL: %d", code)
	}
	if code, _ := s.Call(t.Context(), "GET", "/ui/swagger-ui-bundle.js", "", nil); code != 507 {
		t.Errorf("a large answer: %d", code)
	}
	if code, _ := s.Call(t.Context(), "POST", "/os/poweroff", "", nil); code != 200 {
		t.Errorf("power off: %d", code)
	}
	select {
	case a := <-s.ended:
		if a != machine.PowerOff {
			t.Errorf("action %d", a)
		}
	case <-time.After(20 * time.Second):
		t.Error("not ended")
	}
	<-s.Done()
}

// A machine that has little answers what it lacks with 503 and a reason.
func TestMissingParts(t *testing.T) {
	s := newServer(t, func(c *Config) { m := c.Machine; c.Machine = machine.Machine{System: m.System, Hardware: m.Hardware} })
	for _, call := range []string{"GET /network/ifconfig", "GET /network/ifconfig/eth0", "GET /network/route", "GET /fs/df", "GET /fs/df/x", "GET /file/x?op=GET", "POST /file/x", "PUT /file/x?op=MKDIRS",
		"DELETE /file/x?op=DELETE", "GET /env", "GET /env/A", "POST /env/A?val=1", "DELETE /env/A", "PUT /app?command=x", "GET /app/finished?tid=1"} {
		method, target, _ := strings.Cut(call, " ")
		w := send(s, method, target, map[string]string{"Authorization": bearer})
		var e Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); w.Code != 503 || err != nil || len(e.Message) < 10 {
			t.Errorf("%s: %d %s", call, w.Code, w.Body)
		}
	}
	if w := send(s, "GET", "/metrics", nil); w.Code != 200 {
		t.Errorf("metrics: %d", w.Code)
	}
}

func BenchmarkVersion(b *testing.B) {
	cfg := testConfig(b)
	s := serve(b, cfg)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := client.Get(s.url + "/os/version")
			if err != nil {
				b.Error(err)
				return
			}
			r.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

// loose is a system whose command line has a secret.
type loose struct{ machine.System }

func (loose) CommandLine() string { return "--rest --rest-token=" + testToken + " -x" }

// The command line is told without the token, to those who have it too.
func TestCommandLineIsRedacted(t *testing.T) {
	s := newServer(t, func(c *Config) { c.Machine.System = loose{c.Machine.System} })
	w := send(s, "GET", "/os/cmdline", map[string]string{"Authorization": bearer})
	if w.Code != 200 || w.Body.String() != `"--rest --rest-token=*** -x"` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
