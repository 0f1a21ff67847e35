package rest

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxBody is the most a request's body may have, uploads aside.
const maxBody = 1 << 20

// call is one request on its way through a handler.
type call struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	op   *bound
	path map[string]string // parameters of the path
	args url.Values        // those of the query, and of a form
	in   bool              // called from a batch or from within, not over the wire

	// then is done once the answer is with the client and the server has ended.
	then func()
}

// arg returns the value of a parameter, "" where there is none.
func (c *call) arg(name string) string {
	if v, ok := c.path[name]; ok {
		return v
	}
	return c.args.Get(name)
}

// has says whether a parameter was given.
func (c *call) has(name string) bool { return c.args.Has(name) }

// flag returns a boolean parameter; prepare has checked it.
func (c *call) flag(name string) bool {
	v, _ := parseBool(c.args.Get(name))
	return v
}

// number returns an integer parameter, or what to take where there is none; prepare
// has checked it.
func (c *call) number(name string, otherwise int64) int64 {
	if v, err := strconv.ParseInt(c.args.Get(name), 10, 64); err == nil {
		return v
	}
	return otherwise
}

// parseBool takes what OSv's server took.
func parseBool(s string) (v, ok bool) {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on":
		return true, true
	case "false", "0", "no", "off":
		return false, true
	}
	return false, false
}

// prepare reads the parameters and holds them against the document.
func (c *call) prepare(values []string) error {
	c.path = make(map[string]string, len(values))
	for i, v := range values {
		if !utf8.ValidString(v) {
			return errorf(400, "parameter %s: not UTF-8", c.op.route.params[i])
		}
		c.path[c.op.route.params[i]] = v
	}
	var err error
	if c.args, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return errorf(400, "query: %v", err)
	}
	if err := c.readForm(); err != nil {
		return err
	}
	for _, p := range c.op.Parameters {
		if err := p.check(c); err != nil {
			return err
		}
	}
	return nil
}

// readForm adds the values of a form body to those of the query, for operations that
// take none of their own: OSv's clients send parameters either way.
func (c *call) readForm() error {
	t, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if c.op.RequestBody != nil {
		if c.r.ContentLength != 0 && err == nil && !slices.Contains(c.op.bodies, t) && !slices.Contains(c.op.bodies, "application/octet-stream") {
			return errorf(415, "body of type %s: want %s", t, strings.Join(c.op.bodies, ", "))
		}
		return nil
	}
	if t != "application/x-www-form-urlencoded" || c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return nil
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(b))
	if err != nil {
		return errorf(400, "form: %v", err)
	}
	for k, v := range form {
		if !c.args.Has(k) {
			c.args[k] = v
		}
	}
	return nil
}

// check holds one parameter against its schema.
func (p *parameter) check(c *call) error {
	v, given := "", true
	if p.In == "path" {
		v = c.path[p.Name]
	} else if given = c.args.Has(p.Name); given {
		v = c.args.Get(p.Name)
	}
	switch {
	case !given && p.Required:
		return errorf(400, "parameter %s is missing", p.Name)
	case !given:
		return nil
	case !utf8.ValidString(v):
		return errorf(400, "parameter %s: not UTF-8", p.Name)
	}
	s := p.Schema
	switch s.Type {
	case "boolean":
		if _, ok := parseBool(v); !ok {
			return errorf(400, "parameter %s: %q: want true or false", p.Name, v)
		}
	case "integer":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return errorf(400, "parameter %s: %q: want a number", p.Name, v)
		}
		if s.Minimum != nil && n < *s.Minimum || s.Maximum != nil && n > *s.Maximum {
			return errorf(400, "parameter %s: %d: want %s", p.Name, n, s.bounds())
		}
	case "string":
		switch {
		case len(s.Enum) > 0 && !slices.Contains(s.Enum, v):
			return errorf(400, "parameter %s: %q: want %s", p.Name, v, strings.Join(s.Enum, ", "))
		case len(v) < s.MinLength:
			return errorf(400, "parameter %s is empty", p.Name)
		case s.MaxLength > 0 && len(v) > s.MaxLength:
			return errorf(400, "parameter %s has %d bytes, %d at most are taken", p.Name, len(v), s.MaxLength)
		case p.pattern != nil && !p.pattern.MatchString(v):
			return errorf(400, "parameter %s: %q does not match %s", p.Name, v, s.Pattern)
		}
	}
	return nil
}

func (s *schema) bounds() string {
	switch {
	case s.Minimum == nil:
		return "at most " + strconv.FormatInt(*s.Maximum, 10)
	case s.Maximum == nil:
		return "at least " + strconv.FormatInt(*s.Minimum, 10)
	}
	return strconv.FormatInt(*s.Minimum, 10) + " to " + strconv.FormatInt(*s.Maximum, 10)
}

// json answers with a value.
func (c *call) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.bytes("application/json", b)
}

// done answers an operation that has no value: OSv's server sends an empty string.
func (c *call) done() error { return c.bytes("application/json", []byte(`""`)) }

// bytes answers with a body of a type.
func (c *call) bytes(ctype string, b []byte) error {
	h := c.w.Header()
	h.Set("Content-Type", ctype)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	_, err := c.w.Write(b)
	if err != nil {
		return errGone
	}
	return nil
}

// errGone says that the client does not take the answer, whose status is out.
var errGone = errorf(499, "the client is gone")
