package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// raw sends bytes over a connection and returns the status line of the answer.
func raw(t *testing.T, s *served, request string) (status int, rest string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, request)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

// No path leads out of the folder, in any spelling, by any operation.
func TestTraversal(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("the secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for link, to := range map[string]string{"abs": outside, "up": "../" + filepath.Base(outside), "file": secret, "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "inside"), []byte("inside"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("inside", filepath.Join(root, "good")); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	cfg.Machine.Files = mustFiles(t, root)
	s := serve(t, cfg)
	dots := strings.Repeat("../", 12) + strings.TrimPrefix(secret, "/")
	for _, p := range []string{
		"/file/" + dots, "/file/" + strings.ReplaceAll(dots, "..", "%2e%2e"), "/file/" + strings.ReplaceAll(dots, "../", "%2e%2e%2f"),
		"/file/" + strings.ReplaceAll(dots, "../", "..%5c"), "/file/" + strings.ReplaceAll(dots, "..", "%252e%252e"), "/file/x/../" + dots,
		"/file/abs/secret", "/file/up/secret", "/file/file", "/file/loop", "/file/" + secret, "/file/%2F" + secret, "/file/abs/../abs/secret", "/file/....//secret",
		"/file/%c0%ae%c0%ae/secret", "/file/a%00/../secret", "/file/\x7f..", "/" + dots,
	} {
		for _, call := range []string{"GET ?op=GET", "GET ?op=LISTSTATUS", "PUT ?op=WRITE&content=x&overwrite=true", "PUT ?op=WRITE&content=x", "PUT ?op=RENAME&destination=stolen", "PUT ?op=COPY&destination=stolen",
			"PUT ?op=MKDIRS", "DELETE ?op=DELETE", "DELETE ?op=DELETE&recursive=true", "POST "} {
			method, query, _ := strings.Cut(call, " ")
			if (p == "/file/file" || p == "/file/loop" || p == "/file/abs/secret" || p == "/file/up/secret") && method == "DELETE" ||
				strings.Contains(call, "RENAME") && (p == "/file/file" || p == "/file/loop") {
				continue // a link itself may be removed or moved
			}
			status, body := raw(t, s, fmt.Sprintf("%s %s%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", method, p, query, bearer))
			if strings.Contains(body, "the secret") {
				t.Fatalf("%s %s%s: status %d, tells %q", method, p, query, status, body)
			}
			if b, err := os.ReadFile(secret); err != nil || string(b) != "the secret" {
				t.Fatalf("%s %s%s: status %d; the file outside is %q, %v", method, p, query, status, b, err)
			}
			if status >= 500 {
				t.Errorf("%s %s%s: status %d: %s", method, p, query, status, body)
			}
		}
		os.RemoveAll(filepath.Join(root, "stolen"))
	}
	if l, err := os.ReadDir(outside); err != nil || len(l) != 1 {
		t.Errorf("outside is now %v, %v", l, err)
	}
	// What stays within works, links too; a destination is held to the same rules.
	if w := send(s, "GET", "/file/good?op=GET", map[string]string{"Authorization": bearer}); w.Code != 200 || w.Body.String() != "inside" {
		t.Errorf("a link within: %d %s", w.Code, w.Body)
	}
	for _, to := range []string{"../x", "/../x", "a/../../x", "abs/x", "up/x"} {
		for _, op := range []string{"COPY", "RENAME"} {
			w := send(s, "PUT", "/file/inside?op="+op+"&destination="+to, map[string]string{"Authorization": bearer})
			if w.Code < 400 || w.Code >= 500 {
				t.Errorf("%s to %s: %d %s", op, to, w.Code, w.Body)
			}
		}
	}
}

// Headers of more than 8 KiB are refused, and so is a line that never ends.
func TestLargeHeaders(t *testing.T) {
	s := serve(t, testConfig(t))
	for name, size := range map[string]int{"8 KiB": 8 << 10, "1 MiB": 1 << 20} {
		status, _ := raw(t, s, "GET /os/version HTTP/1.1\r\nHost: localhost\r\nX-Large: "+strings.Repeat("a", size)+"\r\n\r\n")
		if status != 431 {
			t.Errorf("a header of %s: %d", name, status)
		}
	}
	if status, _ := raw(t, s, "GET /os/version HTTP/1.1\r\nHost: localhost\r\nX-Large: "+strings.Repeat("a", 3<<10)+"\r\nConnection: close\r\n\r\n"); status != 200 {
		t.Errorf("a header of 3 KiB: %d", status)
	}
	if status, _ := raw(t, s, "GET /"+strings.Repeat("a", 5000)+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); status != 414 {
		t.Errorf("a path of 5000 bytes: %d", status)
	}
	if status, _ := raw(t, s, "nonsense\r\n\r\n"); status != 400 {
		t.Errorf("nonsense: %d", status)
	}
}

// 500 connections that say half a request keep nobody else out, and memory bounded.
func TestSlowloris(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxConns, cfg.MaxClientConns = 64, 48
	s := serve(t, cfg)
	addr := strings.TrimPrefix(s.url, "http://")
	// They come from another address of the loopback network than the one that works.
	slow := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 10 * time.Second}
	before := heap()
	var conns []net.Conn
	for range 500 {
		c, err := slow.Dial("tcp", addr)
		if err != nil {
			t.Skipf("127.0.0.2: %v", err)
		}
		defer c.Close()
		io.WriteString(c, "GET /os/version HTTP/1.1\r\nHost: loc")
		conns = append(conns, c)
	}
	// All but 48 are closed by the server.
	closed := 0
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			closed++
		}
		if closed == 500-48 {
			break
		}
	}
	if closed != 500-48 {
		t.Errorf("%d of 500 were closed, want %d", closed, 500-48)
	}
	for range 20 {
		r, err := http.Get(s.url + "/os/version")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != 200 {
			t.Errorf("somebody else: %d", r.StatusCode)
		}
	}
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("the heap has grown by %d KiB", grown>>10)
	}
	if n := s.refused.clientConns.Load(); n != 500-48 {
		t.Errorf("%d are counted", n)
	}
	if s.http.ReadHeaderTimeout != headerTimeout || s.http.IdleTimeout == 0 || s.http.ReadTimeout == 0 || s.http.WriteTimeout == 0 {
		t.Error("a timeout is not set")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A slow client's connection ends after the time for headers.
func TestHeaderTimeout(t *testing.T) {
	cfg := testConfig(t)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.http.ReadHeaderTimeout = 50 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Shutdown(context.Background())
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost:")
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("not closed by the server: %v", err)
	}
}

// An upload that is larger than what is taken: refused by its announced length at
// once, by its contents as soon as they are too many; nothing is left behind.
func TestLargeUpload(t *testing.T) {
	root := t.TempDir()
	cfg := testConfig(t)
	cfg.MaxUpload = 1 << 20
	cfg.Machine.Files = mustFiles(t, root)
	s := serve(t, cfg)
	status, _ := raw(t, s, "POST /file/big HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+bearer+"\r\nContent-Type: application/octet-stream\r\nContent-Length: 2147483648\r\n\r\n")
	if status != 413 {
		t.Errorf("2 GiB announced: %d", status)
	}
	before := heap()
	for name, body := range map[string]io.Reader{"bytes": zeros(8 << 20), "form": form(zeros(8 << 20))} {
		r, err := http.NewRequest("POST", s.url+"/file/big", struct{ io.Reader }{body}) // no length
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", bearer)
		r.Header.Set("Content-Type", "application/octet-stream")
		if name == "form" {
			r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			continue // the server closed while we still sent
		}
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("8 MiB as %s: %d", name, resp.StatusCode)
		}
	}
	waitEmpty(t, root)
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the heap has grown by %d KiB", grown>>10)
	}
	// The largest that is taken, both ways.
	for _, ctype := range []string{"application/octet-stream", "multipart/form-data; boundary=b"} {
		var body io.Reader = zeros(1 << 20)
		if ctype[0] == 'm' {
			body = form(body)
		}
		r, _ := http.NewRequest("POST", s.url+"/file/fits", body)
		r.Header.Set("Authorization", bearer)
		r.Header.Set("Content-Type", ctype)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if i, err := os.Stat(filepath.Join(root, "fits")); resp.StatusCode != 200 || err != nil || i.Size() != 1<<20 {
			t.Errorf("1 MiB as %s: %d %s, %v", ctype, resp.StatusCode, b, err)
		}
	}
	// An unauthorised upload is refused before its body is read.
	if status, _ := raw(t, s, "POST /file/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"); status != 401 {
		t.Errorf("without a token: %d", status)
	}
}

// waitEmpty waits until a folder has no files: the server may still tidy up.
func waitEmpty(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		l, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(l) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left behind: %v", l)
		}
	}
}

func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// form is a multipart body with one file.
func form(file io.Reader) io.Reader {
	return io.MultiReader(strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n"), file, strings.NewReader("\r\n--b--\r\n"))
}

func TestBadBodies(t *testing.T) {
	s := serve(t, testConfig(t))
	deep := strings.Repeat("[", 100000)
	for _, test := range []struct {
		method, target, ctype, body string
		want                        int
	}{
		{"POST", "/api/batch", "application/json", `{`, 400},
		{"POST", "/api/batch", "application/json", `{"method":"GET"}`, 400},
		{"POST", "/api/batch", "application/json", `[1]`, 400},
		{"POST", "/api/batch", "application/json", ``, 400},
		{"POST", "/api/batch", "application/json", deep, 400},
		{"POST", "/api/batch", "text/plain", `[]`, 415},
		{"POST", "/api/batch", "application/json", strings.Repeat(" ", maxBody+1), 413},
		{"POST", "/api/batch", "application/json", `[` + strings.Repeat(`{},`, maxBatch) + `{}]`, 400},
		{"POST", "/api/batch", "application/x-www-form-urlencoded", `batch=%5B%5D&%zz`, 400},
		{"POST", "/api/batch", "multipart/form-data; boundary=b", `nothing`, 400},
		{"POST", "/api/batch", "multipart/form-data", `nothing`, 400},
		{"POST", "/file/x", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--\r\n", 400},
		{"POST", "/file/x", "multipart/form-data; boundary=b", "--b\r\n", 400},
		{"POST", "/file/", "application/octet-stream", "x", 400},
		{"POST", "/file/dir", "application/octet-stream", "x", 400},
		{"PUT", "/file/dir?op=WRITE&content=x", "", "", 400},
		{"PUT", "/file/dir?op=WRITE&content=x&overwrite=true", "", "", 400},
		{"PUT", "/file/none?op=RENAME", "", "", 400},
		{"PUT", "/file/none?op=RENAME&destination=x", "", "", 404},
		{"PUT", "/file/none?op=COPY&destination=x", "", "", 404},
		{"PUT", "/file/dir?op=COPY&destination=x", "", "", 400},
		{"DELETE", "/file/?op=DELETE&recursive=true", "", "", 400},
		{"DELETE", "/file/none?op=DELETE", "", "", 404},
		{"GET", "/file/dir?op=GET", "", "", 400},
		{"GET", "/file/none?op=GET", "", "", 404},
		{"GET", "/file/none?op=LISTSTATUS", "", "", 404},
		{"GET", "/file/%ff?op=GET", "", "", 400},
		{"POST", "/trace/status?match=(&enabled=true", "", "", 400},
		{"POST", "/trace/status?match=x&enabled=true&backtrace=true", "", "", 400},
		{"GET", "/trace/event/none", "", "", 404},
		{"POST", "/trace/count/none?enabled=true", "", "", 404},
		{"GET", "/trace/status?%zz", "", "", 400},
		{"POST", "/os/hostname", "application/x-www-form-urlencoded", "name=%zz", 400},
		{"POST", "/os/hostname", "application/x-www-form-urlencoded", "name=by-form", 200},
		{"POST", "/os/hostname?name=-x", "", "", 400},
		{"POST", "/os/hostname?name=a%0ab", "", "", 400},
		{"POST", "/os/hostname?name=a..b", "", "", 400},
		{"POST", "/env/a%3Db?val=x", "", "", 400},
		{"POST", "/env/a?val=x%00y", "", "", 400},
		{"POST", "/os/cmdline?cmdline=a%0ab", "", "", 400},
		{"PUT", "/app?command=none", "", "", 503},
		{"PUT", "/app?command=%22", "", "", 400},
		{"GET", "/debug/pprof/none", "", "", 404},
		{"GET", "/api/none", "", "", 404},
		{"GET", "/ui/none.js", "", "", 404},
		{"GET", "/ui/swagger.html", "", "", 404},
		{"GET", "/network/ifconfig/none0", "", "", 404},
		{"GET", "/fs/df/none", "", "", 404},
	} {
		if test.target == "/api/batch" || strings.HasPrefix(test.target, "/file/dir") {
			s.m.Files.Mkdir("dir", 0o755)
		}
		r, err := http.NewRequest(test.method, s.url+test.target, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", bearer)
		if test.ctype != "" {
			r.Header.Set("Content-Type", test.ctype)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Errorf("%s %s: %v", test.method, test.target, err)
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%s %s %s %.60q: %d, want %d: %.200s", test.method, test.target, test.ctype, test.body, resp.StatusCode, test.want, b)
		}
		var e Error
		if test.want >= 400 && (json.Unmarshal(b, &e) != nil || e.Code != test.want || e.Message == "") {
			t.Errorf("%s %s: %.200s is no error", test.method, test.target, b)
		}
	}
}

// Requests and shutdowns at the same time: each request has an answer or a closed
// connection, each shutdown returns, nothing panics.
func TestConcurrentShutdown(t *testing.T) {
	for range 5 {
		cfg := testConfig(t)
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		url := "http://" + l.Addr().String()
		ready := make(chan struct{})
		var once sync.Once
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for {
					r, err := client.Get(url + "/os/threads")
					if err != nil {
						return
					}
					if _, err := io.ReadAll(r.Body); err != nil {
						t.Errorf("half an answer: %v", err)
					}
					r.Body.Close()
					once.Do(func() { close(ready) })
				}
			})
		}
		<-ready
		for range 4 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				if err := s.Shutdown(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			r, _ := http.NewRequest("POST", url+"/api/stop", nil)
			r.Header.Set("Authorization", bearer)
			if resp, err := http.DefaultClient.Do(r); err == nil {
				resp.Body.Close()
			}
		})
		wg.Wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A profile that runs does not keep the server from ending.
func TestShutdownEndsProfiles(t *testing.T) {
	s := serve(t, testConfig(t))
	got := make(chan int, 1)
	go func() {
		for {
			r, _ := http.NewRequest("GET", s.url+"/debug/pprof/mutex?seconds=60", nil)
			r.Header.Set("Authorization", bearer)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				got <- 0
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusConflict { // it met the look at the lock below
				got <- resp.StatusCode
				return
			}
		}
	}()
	for s.profiling.TryLock() { // until it runs
		s.profiling.Unlock()
		runtime.Gosched()
	}
	if w := send(s, "GET", "/debug/pprof/profile?seconds=1", map[string]string{"Authorization": bearer}); w.Code != 409 {
		t.Errorf("a second profile: %d", w.Code)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if code := <-got; code != 503 || time.Since(began) > 15*time.Second {
		t.Errorf("status %d after %v", code, time.Since(began))
	}
}

// A failure of the machine costs one request.
func TestPanic(t *testing.T) {
	s := newServer(t, func(c *Config) { c.Machine.Network = panicking{} })
	if w := send(s, "GET", "/network/route", nil); w.Code != 500 || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := send(s, "GET", "/os/version", nil); w.Code != 200 {
		t.Errorf("the next: %d", w.Code)
	}
}

func TestAsError(t *testing.T) {
	for err, want := range map[error]int{fs.ErrNotExist: 404, fs.ErrPermission: 403, fs.ErrExist: 409, fs.ErrInvalid: 400, errors.New("x"): 500, &http.MaxBytesError{Limit: 5}: 413, errorf(418, "x"): 418} {
		if got := asError(fmt.Errorf("wrapped: %w", err)).Code; got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}
