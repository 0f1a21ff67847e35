package rest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

// send makes one request of a server, without a network.
func send(s http.Handler, method, target string, h map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "10.0.0.2:8000"
	for k, v := range h {
		if k == "Host" {
			r.Host = v
			continue
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func newServer(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	cfg := testConfig(t)
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const bearer = "Bearer " + testToken

// A page of another name that resolves to this address gets nothing, whatever it asks.
func TestHostHeader(t *testing.T) {
	s := newServer(t, func(c *Config) { c.Hosts = []string{"Guest.Example"} })
	if err := s.m.System.SetHostname("web1"); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"10.0.0.2": 200, "10.0.0.2:8000": 200, "127.0.0.1:1": 200, "[::1]:8000": 200, "[fe80::1%25eth0]": 200, "localhost": 200, "localhost:8000": 200,
		"LOCALHOST.": 200, "a.localhost": 200, "web1:8000": 200, "WEB1": 200, "guest.example": 200, "guest.example:8000": 200, "": 200,
		"evil.example": 421, "evil.example:8000": 421, "10.0.0.2.evil.example": 421, "localhost.evil.example": 421, "notlocalhost": 421, "web1.evil.example": 421,
	} {
		for _, method := range []string{"GET", "POST"} {
			w := send(s, method, "/os/version", map[string]string{"Host": host, "Authorization": bearer})
			if want == 200 && method == "POST" {
				continue
			}
			if w.Code != want {
				t.Errorf("%s with host %q: %d, want %d", method, host, w.Code, want)
			}
		}
	}
}

// Cross-site requests: what a browser says of where they come from decides.
func TestCrossSite(t *testing.T) {
	s := newServer(t, func(c *Config) { c.Origins = []string{"https://console.example"} })
	for _, test := range []struct {
		method, target string
		h              map[string]string
		want           int
	}{
		{"POST", "/trace/status?enabled=false", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
		{"POST", "/trace/status?enabled=false", map[string]string{"Sec-Fetch-Site": "none"}, 200},
		{"POST", "/trace/status?enabled=false", map[string]string{"Origin": "http://10.0.0.2:8000"}, 200},
		{"POST", "/trace/status?enabled=false", nil, 200},
		{"POST", "/trace/status?enabled=false", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"POST", "/trace/status?enabled=false", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"POST", "/trace/status?enabled=false", map[string]string{"Origin": "http://evil.example"}, 403},
		{"POST", "/trace/status?enabled=false", map[string]string{"Origin": "null"}, 403},
		{"POST", "/trace/status?enabled=false", map[string]string{"Origin": "https://console.example", "Sec-Fetch-Site": "cross-site"}, 200},
		{"DELETE", "/trace/count", map[string]string{"Origin": "http://evil.example"}, 403},
		{"PUT", "/file/x?op=MKDIRS", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"GET", "/env", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"GET", "/env", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://console.example"}, 200},
		{"GET", "/env", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
		{"GET", "/os/version", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}, 200}, // the browser keeps the answer
	} {
		h := map[string]string{"Authorization": bearer}
		for k, v := range test.h {
			h[k] = v
		}
		w := send(s, test.method, test.target, h)
		if w.Code != test.want {
			t.Errorf("%s %s %v: %d, want %d: %s", test.method, test.target, test.h, w.Code, test.want, w.Body)
		}
		if allow := w.Header().Get("Access-Control-Allow-Origin"); (allow != "") != (test.h["Origin"] == "https://console.example") {
			t.Errorf("%v: allows %q", test.h, allow)
		}
	}
	w := send(s, "OPTIONS", "/trace/status", map[string]string{"Origin": "https://console.example", "Access-Control-Request-Method": "POST"})
	if w.Code != 204 || w.Header().Get("Access-Control-Allow-Methods") != "GET, HEAD, OPTIONS, POST" || w.Header().Get("Allow") == "" {
		t.Errorf("OPTIONS: %d %v", w.Code, w.Header())
	}
	if w := send(s, "OPTIONS", "/trace/status", map[string]string{"Origin": "http://evil.example"}); w.Header().Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("OPTIONS of another page: %v", w.Header())
	}
}

func TestRates(t *testing.T) {
	now := time.Unix(0, 0)
	l := newRates(2, 4)
	l.now = func() time.Time { return now }
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")
	for i := range 4 {
		if ok, _ := l.take(a); !ok {
			t.Fatalf("request %d of a burst of 4", i+1)
		}
	}
	ok, wait := l.take(a)
	if ok || wait != 500*time.Millisecond {
		t.Errorf("a fifth: %v, wait %v", ok, wait)
	}
	if ok, _ := l.take(b); !ok {
		t.Error("another client waits too")
	}
	now = now.Add(500 * time.Millisecond)
	if ok, _ := l.take(a); !ok {
		t.Error("half a second later")
	}
	if none, _ := l.empty(a); !none {
		t.Error("one too many")
	}
	now = now.Add(time.Hour)
	if none, _ := l.empty(a); none {
		t.Error("an hour later")
	}
	// Many clients: memory is bounded, and those that are active stay.
	for i := range 5 * maxClients {
		now = now.Add(time.Millisecond)
		l.take(netip.AddrFrom4([4]byte{1, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(l.clients) > maxClients {
		t.Errorf("%d clients are remembered", len(l.clients))
	}
	off := newRates(0, 0)
	for range 1000 {
		if ok, _ := off.take(a); !ok {
			t.Fatal("no limit limits")
		}
	}
}

func TestRateOfRequests(t *testing.T) {
	s := newServer(t, func(c *Config) { c.Rate, c.ChangeRate = 5, 1 })
	codes := map[int]int{}
	for range 50 {
		w := send(s, "GET", "/os/version", nil)
		codes[w.Code]++
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if codes[200] < 10 || codes[200] > 12 || codes[200]+codes[429] != 50 {
		t.Errorf("of 50 requests with a burst of 10: %v", codes)
	}
	if s.refused.rate.Load() == 0 {
		t.Error("not counted")
	}
}

func TestClientOf(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1:5": "10.0.0.1", "[::ffff:10.0.0.1]:5": "10.0.0.1", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::", "[fe80::1%eth0]:9": "fe80::", "pipe": "invalid IP",
	} {
		if got := clientOf(addr).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// Who may do what: no token known, token, wrong token, open, read-only.
func TestAuthorization(t *testing.T) {
	const public, private, changes = "GET /os/version", "GET /env", "POST /trace/status?enabled=false"
	type row struct {
		auth string
		want map[string]int
	}
	for name, test := range map[string]struct {
		change func(*Config)
		rows   []row
	}{
		"token": {nil, []row{
			{"", map[string]int{public: 200, private: 401, changes: 401}},
			{bearer, map[string]int{public: 200, private: 200, changes: 200}},
			{"bearer  " + testToken, map[string]int{private: 200, changes: 200}},
			{"Basic eDpjb3JyZWN0LWhvcnNl", map[string]int{private: 200, changes: 200}}, // x:correct-horse
			{"Bearer correct-hors", map[string]int{private: 401, changes: 401}},
			{"Bearer correct-horsee", map[string]int{changes: 401}},
			{"Bearer ", map[string]int{changes: 401}},
			{testToken, map[string]int{changes: 401}},
			{"Basic !!!", map[string]int{changes: 401}},
		}},
		"no token": {func(c *Config) { c.Token = "" }, []row{
			{"", map[string]int{public: 200, private: 403, changes: 403}},
			{"Bearer ", map[string]int{private: 403, changes: 403}},
		}},
		"open":      {func(c *Config) { c.Token, c.Open = "", true }, []row{{"", map[string]int{public: 200, private: 200, changes: 200}}}},
		"read-only": {func(c *Config) { c.ReadOnly = true }, []row{{bearer, map[string]int{public: 200, private: 200, changes: 403}}, {"", map[string]int{changes: 401}}}},
	} {
		s := newServer(t, test.change)
		for _, r := range test.rows {
			for call, want := range r.want {
				var method, target string
				fmt.Sscan(call, &method, &target)
				h := map[string]string{}
				if r.auth != "" {
					h["Authorization"] = r.auth
				}
				w := send(s, method, target, h)
				if w.Code != want {
					t.Errorf("%s: %s with %q: %d, want %d: %s", name, call, r.auth, w.Code, want, w.Body)
				}
				if (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
					t.Errorf("%s: %s: WWW-Authenticate %q with %d", name, call, w.Header().Get("WWW-Authenticate"), w.Code)
				}
			}
		}
	}
}

// Guessing is slow: after some wrong tokens even the right one has to wait.
func TestWrongTokens(t *testing.T) {
	s := newServer(t, nil)
	codes := map[int]int{}
	for i := range 40 {
		codes[send(s, "GET", "/env", map[string]string{"Authorization": fmt.Sprintf("Bearer guess-%d", i)}).Code]++
	}
	if codes[401] < 10 || codes[401] > 12 || codes[429] < 28 {
		t.Errorf("40 guesses: %v", codes)
	}
	if w := send(s, "GET", "/env", map[string]string{"Authorization": bearer}); w.Code != 429 {
		t.Errorf("the right one right after: %d", w.Code)
	}
	if w := send(s, "GET", "/os/version", nil); w.Code != 200 {
		t.Errorf("what is public: %d", w.Code)
	}
}
