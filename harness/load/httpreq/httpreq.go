// Package httpreq is the load.Codec of HTTP/1.1 GET on a kept-alive connection.
//
// Spec: RFC 9112 §2 (message), §4 (status line), §6 (message body length), §7.1
// (chunked). Covered: status 200 with Content-Length or chunked coding. Not
// covered: other codings, trailers with meaning, upgrades, pipelining limits of
// the server (a server that cannot pipeline is loaded with Outstanding 1).
//
// Every body is compared with the one that a first, ordinary request fetched, so
// a server that answers with an error page or a cut-off body is found out.
//
// Who may use it: drive. Check never reads past its buffer (fuzzed).
package httpreq

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"osv/harness/load"
	"osv/harness/load/dist"
)

// maxHead bounds the status line and the header fields, in bytes.
const maxHead = 8 << 10

// Get is the codec of one URL.
type Get struct {
	request []byte
	body    []byte
}

var _ load.Codec = (*Get)(nil)

// New makes a codec for a path on a host with the body it must give.
func New(host, path string, body []byte) *Get {
	return &Get{request: []byte("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"), body: body}
}

// Fetch asks once, with net/http, for the body that the load will expect. It
// waits up to patience for the server to come up.
func Fetch(ctx context.Context, host, path string, patience time.Duration) ([]byte, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	for end := time.Now().Add(patience); ; {
		body, err := fetch(ctx, client, "http://"+host+path)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return body, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("httpreq: GET %s: %s", url, resp.Status)
	}
	return body, err
}

// Next always asks for the same thing.
func (g *Get) Next(dist.Rand) (load.Req, bool) { return load.Req{}, true }

// Append writes the request.
func (g *Get) Append(dst []byte, _ load.Req) []byte { return append(dst, g.request...) }

// MaxRequest is the request's size.
func (g *Get) MaxRequest() int { return len(g.request) }

// MaxReply leaves room for the head and for chunked framing of small chunks.
func (g *Get) MaxReply() int { return maxHead + 2*len(g.body) + 1024 }

// Check reads one response.
func (g *Get) Check(buf []byte, _ load.Req) (int, load.Verdict) {
	const ok = "HTTP/1.1 200"
	if n := min(len(buf), len(ok)); string(buf[:n]) != ok[:n] {
		return 0, load.Wrong
	}
	head := bytes.Index(buf, crlf2)
	if head < 0 {
		if len(buf) > maxHead {
			return 0, load.Wrong
		}
		return 0, load.More
	}
	length, chunked := -1, false
	for fields := buf[:head+2]; len(fields) > 0; {
		eol := bytes.Index(fields, crlf)
		line := fields[:eol]
		fields = fields[eol+2:]
		switch name, value := field(line); {
		case equalFold(name, "content-length"):
			n, ok := number(value, 10)
			if !ok || length >= 0 && length != n { // RFC 9112 §6.3: differing lengths are an error
				return 0, load.Wrong
			}
			length = n
		case equalFold(name, "transfer-encoding"):
			if !equalFold(value, "chunked") {
				return 0, load.Wrong
			}
			chunked = true
		}
	}
	at := head + 4
	if chunked {
		return g.chunks(buf, at)
	}
	if length != len(g.body) {
		return 0, load.Wrong
	}
	if len(buf)-at < length {
		return 0, load.More
	}
	if !bytes.Equal(buf[at:at+length], g.body) {
		return 0, load.Wrong
	}
	return at + length, load.Hit
}

var (
	crlf  = []byte("\r\n")
	crlf2 = []byte("\r\n\r\n")
)

// chunks reads a chunked body, RFC 9112 §7.1, comparing as it goes.
func (g *Get) chunks(buf []byte, at int) (int, load.Verdict) {
	seen := 0
	for {
		eol := bytes.Index(buf[at:], crlf)
		if eol < 0 {
			return 0, more(len(buf)-at < 64)
		}
		line := buf[at : at+eol]
		if i := bytes.IndexByte(line, ';'); i >= 0 { // chunk extension
			line = line[:i]
		}
		n, ok := number(bytes.TrimSpace(line), 16)
		if !ok {
			return 0, load.Wrong
		}
		at += eol + 2
		if n == 0 {
			return g.trailer(buf, at, seen)
		}
		if n > len(g.body)-seen {
			return 0, load.Wrong
		}
		if len(buf)-at < n+2 {
			return 0, load.More
		}
		if !bytes.Equal(buf[at:at+n], g.body[seen:seen+n]) || buf[at+n] != '\r' || buf[at+n+1] != '\n' {
			return 0, load.Wrong
		}
		at += n + 2
		seen += n
	}
}

// trailer skips the fields after the last chunk.
func (g *Get) trailer(buf []byte, at, seen int) (int, load.Verdict) {
	for {
		eol := bytes.Index(buf[at:], crlf)
		if eol < 0 {
			return 0, more(len(buf)-at < maxHead)
		}
		at += eol + 2
		if eol == 0 {
			break
		}
	}
	if seen != len(g.body) {
		return 0, load.Wrong
	}
	return at, load.Hit
}

func more(ok bool) load.Verdict {
	if ok {
		return load.More
	}
	return load.Wrong
}

func field(line []byte) (name, value []byte) {
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return nil, nil
	}
	return line[:i], bytes.TrimSpace(line[i+1:])
}

// equalFold compares ASCII without case; lower is lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// number reads digits in a base up to 16, at most 7 of them.
func number(b []byte, base int) (int, bool) {
	if len(b) == 0 || len(b) > 7 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		d := 99
		switch {
		case c >= '0' && c <= '9':
			d = int(c - '0')
		case c >= 'a' && c <= 'f':
			d = int(c-'a') + 10
		case c >= 'A' && c <= 'F':
			d = int(c-'A') + 10
		}
		if d >= base {
			return 0, false
		}
		n = n*base + d
	}
	return n, true
}
