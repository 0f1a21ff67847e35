// Package restcheck calls every method of every path that a management server's own
// OpenAPI document has, and holds the answers against it: status, type, shape, and at
// least one value that must be real. It knows the server by HTTP only, so that one
// table serves a server in this process and one in a booted guest.
//
// Spec: OpenAPI 3.0.3, as far as the document uses it. Who may use it: tests. Start
// reading at Run; the values are in values.go.
package restcheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// Target is a server under test.
type Target struct {
	URL    string // "http://127.0.0.1:8000"
	Token  string
	Client *http.Client
	Guest  bool // booted: what only a guest knows must be there
	// Ended waits until the machine or server has ended by an operation, nil where the
	// caller cannot tell.
	Ended func(t *testing.T, operation string)
}

// document is what is read of the OpenAPI document.
type document struct {
	Paths      map[string]map[string]*operation
	Components struct{ Schemas map[string]*schema }
}

type operation struct {
	OperationID string
	Security    *[]any
	Parameters  []parameter
	RequestBody *struct {
		Content map[string]struct{ Schema *schema }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema *schema }
	}
	method, path string
}

type parameter struct {
	Name, In string
	Required bool
	Schema   *schema
}

// ends are the operations after which there is no server.
var ends = []string{"os_shutdown", "os_poweroff", "os_reboot", "stop_api"}

// checker is one run against one target.
type checker struct {
	Target
	doc *document
	ops []*operation
}

// Run calls everything. fresh makes a target like the first one, for each operation
// that ends it; nil leaves those out.
func Run(t *testing.T, target Target, fresh func(t *testing.T) Target) {
	k := open(t, target)
	for _, o := range k.ops {
		t.Run(o.OperationID, func(t *testing.T) {
			v, ok := values[o.OperationID]
			if !ok {
				t.Fatalf("%s %s: no value is known that shows that it works", o.method, o.path)
			}
			if !slices.Contains(ends, o.OperationID) {
				k.call(t, o, v)
				k.refusals(t, o, v)
				return
			}
			k.refusals(t, o, v)
			if fresh == nil {
				return
			}
			f := open(t, fresh(t))
			f.call(t, f.find(o.OperationID), v)
			if f.Ended != nil {
				f.Ended(t, o.OperationID)
			}
		})
	}
	for name := range values {
		if k.find(name) == nil {
			t.Errorf("a value is known for %s, which the document lacks", name)
		}
	}
}

func open(t *testing.T, target Target) *checker {
	t.Helper()
	k := &checker{Target: target, doc: new(document)}
	if k.Client == nil {
		k.Client = &http.Client{Timeout: 30 * time.Second}
	}
	a := k.get(t, "/openapi.json")
	if err := json.Unmarshal(a.body, k.doc); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	for path, methods := range k.doc.Paths {
		for m, o := range methods {
			o.method, o.path = strings.ToUpper(m), path
			k.ops = append(k.ops, o)
		}
	}
	// What reads comes before what changes, so that a failure shows where it is.
	slices.SortFunc(k.ops, func(a, b *operation) int {
		if a.method != b.method {
			return strings.Index("GET PUT POST DELETE", a.method) - strings.Index("GET PUT POST DELETE", b.method)
		}
		return strings.Compare(a.path, b.path)
	})
	return k
}

func (k *checker) find(id string) *operation {
	for _, o := range k.ops {
		if o.OperationID == id {
			return o
		}
	}
	return nil
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request and reads the answer.
func (k *checker) do(t *testing.T, method, target string, h http.Header, body []byte) answer {
	t.Helper()
	r, err := http.NewRequest(method, k.URL+target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n, v := range h {
		r.Header[n] = v
	}
	resp, err := k.Client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

func (k *checker) auth() http.Header {
	if k.Token == "" {
		return http.Header{}
	}
	return http.Header{"Authorization": {"Bearer " + k.Token}}
}

// get is an authorised GET.
func (k *checker) get(t *testing.T, target string) answer {
	t.Helper()
	return k.do(t, "GET", target, k.auth(), nil)
}

// send is an authorised request without a body.
func (k *checker) send(t *testing.T, method, target string) answer {
	t.Helper()
	return k.do(t, method, target, k.auth(), nil)
}

// target builds the URL of an operation from the values of its parameters.
func (o *operation) target(args map[string]string) string {
	path, q := o.path, url.Values{}
	for _, p := range o.Parameters {
		v, ok := args[p.Name]
		switch {
		case p.In == "path":
			path = strings.Replace(path, "{"+p.Name+"}", url.PathEscape(v), 1)
		case ok:
			q.Set(p.Name, v)
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

// call calls an operation in the way that its value says.
func (k *checker) call(t *testing.T, o *operation, v value) {
	t.Helper()
	c := &call{k: k, t: t, op: o, args: map[string]string{}}
	for n, x := range v.args {
		c.args[n] = x
	}
	if v.before != nil {
		v.before(c)
	}
	for _, p := range o.Parameters {
		if _, ok := c.args[p.Name]; p.Required && !ok {
			t.Fatalf("%s: no value for parameter %s", o.OperationID, p.Name)
		}
	}
	h := k.auth()
	if v.ctype != "" {
		h.Set("Content-Type", v.ctype)
	}
	c.answer = k.do(t, o.method, o.target(c.args), h, v.body)
	want := v.status
	if want == 0 {
		want = 200
	}
	if k.Guest && v.guestStatus != 0 {
		want = v.guestStatus
	}
	if !k.Guest && v.hostedStatus != 0 {
		want = v.hostedStatus
	}
	if c.answer.status != want {
		t.Fatalf("%s %s: status %d, want %d: %.300s", o.method, o.target(c.args), c.answer.status, want, c.answer.body)
	}
	if err := k.shape(o, c.answer); err != nil {
		t.Fatalf("%s %s: %v", o.method, o.target(c.args), err)
	}
	if want == 200 && v.check != nil {
		v.check(c)
	} else if want >= 400 && len(c.message()) < 10 {
		t.Errorf("%s: an error without a reason: %s", o.OperationID, c.answer.body)
	}
}

// shape holds an answer against the document.
func (k *checker) shape(o *operation, a answer) error {
	if a.status >= 400 {
		return k.doc.validateJSON(&schema{Ref: "#/components/schemas/Error"}, a.body, "error")
	}
	r, ok := o.Responses[fmt.Sprint(a.status)]
	if !ok {
		return fmt.Errorf("status %d is not in the document", a.status)
	}
	if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Content-Security-Policy") == "" {
		return fmt.Errorf("security headers are missing: %v", a.header)
	}
	if len(r.Content) == 0 {
		if string(a.body) != `""` {
			return fmt.Errorf("body %.100q, want an empty JSON string", a.body)
		}
		return nil
	}
	ctype := a.header.Get("Content-Type")
	m, ok := r.Content[ctype]
	if !ok {
		if m, ok = r.Content["*/*"]; !ok {
			return fmt.Errorf("type %q is not in the document", ctype)
		}
	}
	if ctype == "application/json" {
		return k.doc.validateJSON(m.Schema, a.body, "answer")
	}
	return nil
}

// refusals checks what an operation must not take: another method, no token, a wrong
// token, a parameter too little, a value that is none.
func (k *checker) refusals(t *testing.T, o *operation, v value) {
	t.Helper()
	args := map[string]string{}
	for _, p := range o.Parameters {
		args[p.Name] = sample(p.Schema)
	}
	for n, x := range v.args {
		args[n] = x
	}
	path := o.target(args)
	expect := func(what string, a answer, status int) {
		t.Helper()
		if a.status != status {
			t.Errorf("%s %s with %s: status %d, want %d: %.200s", o.method, path, what, a.status, status, a.body)
		}
		if err := k.shape(o, a); err != nil {
			t.Errorf("%s %s with %s: %v", o.method, path, what, err)
		}
	}
	expect("method PATCH", k.send(t, "PATCH", path), 405)
	public := o.Security != nil && len(*o.Security) == 0
	if k.Token != "" && !public {
		expect("no token", k.do(t, o.method, path, nil, nil), 401)
		expect("a page of another server", k.do(t, o.method, path, http.Header{"Authorization": k.auth()["Authorization"], "Origin": {"http://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, nil), 403)
	}
	for _, p := range o.Parameters {
		if p.In != "query" {
			continue
		}
		if p.Required {
			less := mapWithout(args, p.Name)
			expect("no parameter "+p.Name, k.send(t, o.method, o.target(less)), 400)
		}
		for _, wrong := range p.Schema.wrong() {
			more := mapWithout(args, p.Name)
			more[p.Name] = wrong
			expect(fmt.Sprintf("%s=%.40q", p.Name, wrong), k.send(t, o.method, o.target(more)), 400)
		}
	}
}

func mapWithout(m map[string]string, name string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if k != name {
			out[k] = v
		}
	}
	return out
}
