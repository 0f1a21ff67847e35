package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxBatch  = 100     // calls of a batch
	maxAnswer = 1 << 20 // bytes of the answer to one of them
	maxTotal  = 8 << 20 // bytes of all answers
)

// batchCall and batchResult are the document's models.
type batchCall struct {
	Method string `json:"method"`
	URL    string `json:"relative_url"`
}

type batchResult struct {
	Code int             `json:"code"`
	Body json.RawMessage `json:"body"`
}

// apiBatch reads the whole list before it makes the first call, so that a batch with
// a mistake changes nothing.
func apiBatch(c *call) error {
	b, err := batchBody(c)
	if err != nil {
		return err
	}
	var calls []batchCall
	if err := json.Unmarshal(b, &calls); err != nil {
		return errorf(400, "batch: %v", err)
	}
	if len(calls) > maxBatch {
		return errorf(400, "batch: %d calls, %d at most are taken", len(calls), maxBatch)
	}
	results, total := []batchResult{}, 0
	for _, k := range calls {
		target := "/" + strings.TrimPrefix(k.URL, "/")
		code, answer := c.s.inner(c.r.Context(), k.Method, target, "", nil)
		if total += len(answer); total > maxTotal {
			e := errorf(507, "the answers of this batch have more than %d bytes", maxTotal)
			code = e.Code
			answer, _ = json.Marshal(e)
		}
		if !json.Valid(answer) {
			answer, _ = json.Marshal(strings.ToValidUTF8(string(answer), "\uFFFD"))
		}
		results = append(results, batchResult{code, answer})
	}
	return c.json(results)
}

// batchBody finds the list: the body itself, a field of a form, or, as OSv's clients
// send it, whatever comes in a multipart body.
func batchBody(c *call) ([]byte, error) {
	t, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	switch t {
	case "application/x-www-form-urlencoded":
		b, err := c.body()
		if err != nil {
			return nil, err
		}
		form, err := url.ParseQuery(string(b))
		if err != nil {
			return nil, errorf(400, "form: %v", err)
		}
		return []byte(form.Get("batch")), nil
	case "multipart/form-data":
		p, err := multipart.NewReader(c.r.Body, params["boundary"]).NextPart()
		if err != nil {
			return nil, errorf(400, "form: %v", err)
		}
		return io.ReadAll(p)
	}
	return c.body()
}

// body reads the body, of which maxBody bytes at most are taken.
func (c *call) body() ([]byte, error) {
	b, err := io.ReadAll(c.r.Body)
	if err != nil {
		e := asError(err)
		if e.Code == 500 {
			e = errorf(400, "body: %v", err)
		}
		return nil, e
	}
	return b, nil
}

// inner makes a call without a client. It refuses what streams or calls others.
func (s *Server) inner(ctx context.Context, method, target, ctype string, body io.Reader) (int, []byte) {
	fail := func(e *Error) (int, []byte) {
		b, _ := json.Marshal(e)
		return e.Code, b
	}
	if len(target) > 2*maxPath {
		return fail(errorf(414, "the URL has %d bytes, %d at most are taken", len(target), 2*maxPath))
	}
	if body == nil {
		body = http.NoBody
	}
	r, err := http.NewRequestWithContext(ctx, strings.ToUpper(method), target, body)
	if err != nil || r.URL.Host != "" || r.URL.Scheme != "" {
		return fail(errorf(400, "%q %q is not a call", method, target))
	}
	if ctype != "" {
		r.Header.Set("Content-Type", ctype)
	}
	rt, values, err := s.router.find(r.URL.EscapedPath())
	if err != nil {
		return fail(asError(err))
	}
	if rt == nil {
		return fail(errorf(404, "there is no %s", r.URL.Path))
	}
	op := rt.methods[r.Method]
	if op == nil {
		return fail(errorf(405, "%s takes %s, not %s", rt.path, rt.allow, r.Method))
	}
	switch op.OperationID {
	case "api_batch", "pprof_profile":
		return fail(errorf(400, "%s is not possible within a batch", op.OperationID))
	}
	w := &memoryWriter{h: http.Header{}}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	c := &call{s: s, w: w, r: r, op: op, in: true}
	if err = c.prepare(values); err == nil {
		err = s.run(c)
	}
	if w.over {
		err = errorf(507, "the answer has more than %d bytes", maxAnswer)
	}
	if err != nil {
		return fail(asError(err))
	}
	if c.then != nil {
		go s.end(c.then)
	}
	return max(w.code, 200), w.b.Bytes()
}

// memoryWriter keeps an answer, up to maxAnswer bytes.
type memoryWriter struct {
	h    http.Header
	code int
	b    bytes.Buffer
	over bool
}

func (w *memoryWriter) Header() http.Header  { return w.h }
func (w *memoryWriter) WriteHeader(code int) { w.code = code }
func (w *memoryWriter) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxAnswer {
		w.over = true
		return 0, fmt.Errorf("answer of more than %d bytes", maxAnswer)
	}
	return w.b.Write(p)
}

// stopAPI ends the server; Serve returns once the answer is out.
func stopAPI(c *call) error {
	c.w.Header().Set("Connection", "close")
	c.then = func() {}
	return c.done()
}
