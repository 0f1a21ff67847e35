package httpreq

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
	"osv/harness/load/dist"
	"osv/harness/load/stream"
)

var body = []byte("Hello, World!")

func TestRightReplies(t *testing.T) {
	g := New("h", "/p", body)
	for _, r := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!",
		"HTTP/1.1 200\r\nServer: x\r\nCONTENT-LENGTH:13\r\nBad line\r\n\r\nHello, World!",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n8;x=y\r\n, World!\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nD\r\nHello, World!\r\n0\r\nDigest: z\r\n\r\n",
	} {
		for n := range len(r) {
			if _, v := g.Check([]byte(r[:n]), load.Req{}); v != load.More {
				t.Fatalf("%q cut at %d: verdict %d", r, n, v)
			}
		}
		if n, v := g.Check([]byte(r+"HTTP/1.1 "), load.Req{}); v != load.Hit || n != len(r) {
			t.Errorf("%q: %d bytes, verdict %d", r, n, v)
		}
	}
}

func TestWrongReplies(t *testing.T) {
	g := New("h", "/p", body)
	for _, r := range []string{
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nHello, World",
		"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!",
		"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Length: 14\r\n\r\nHello, World!",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello, World\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("0", 80),
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", maxHead),
	} {
		if _, v := g.Check([]byte(r), load.Req{}); v != load.Wrong {
			t.Errorf("%.80q: verdict %d", r, v)
		}
	}
}

func TestLoadOnARealServer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/plain" {
			http.NotFound(w, r)
			return
		}
		if f, ok := w.(http.Flusher); ok && r.Host != "" && len(r.Header) == 0 {
			fmt.Fprint(w, "Hello")
			f.Flush() // now it is chunked
			fmt.Fprint(w, ", World!")
			return
		}
		fmt.Fprint(w, "Hello, World!")
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	want, err := Fetch(context.Background(), host, "/plain", time.Second)
	if err != nil || !bytes.Equal(want, body) {
		t.Fatalf("%q %v", want, err)
	}
	if _, err := Fetch(context.Background(), host, "/other", 0); err == nil || !strings.Contains(err.Error(), "404") {
		t.Error(err)
	}
	sp := load.Spec{Kind: load.HTTP, Conns: 4, Duration: load.Duration(150 * time.Millisecond)}.WithDefaults()
	e, err := stream.Run(context.Background(), sp, New(host, "/plain", want), netip.MustParseAddrPort(host), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := e.Result(); r.Completed < 50 || r.Wrong+r.Errors+r.Lost != 0 {
		t.Errorf("%+v", r)
	}
}

func TestNoAllocations(t *testing.T) {
	g := New("h", "/p", body)
	reply := []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n8\r\n, World!\r\n0\r\n\r\n")
	buf := make([]byte, 0, g.MaxRequest())
	r := dist.NewRand(1)
	if n := testing.AllocsPerRun(100, func() { q, _ := g.Next(r); g.Append(buf, q); g.Check(reply, q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzCheck(f *testing.F) {
	g := New("h", "/p", body)
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n8\r\n, World!\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, v := g.Check(b[:len(b):len(b)], load.Req{})
		if n > len(b) || v != load.Hit && n != 0 {
			t.Fatalf("%d bytes of %d, verdict %d", n, len(b), v)
		}
	})
}
