package restcheck

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// schema is a Schema Object, as far as the document uses it.
type schema struct {
	Ref                  string `json:"$ref"`
	Type, Format         string
	Enum                 []string
	Minimum, Maximum     *int64
	MinLength, MaxLength int
	Pattern              string
	Items                *schema
	Required             []string
	Properties           map[string]*schema
	OneOf                []*schema
	AdditionalProperties *schema
}

// validate holds a JSON value against a schema. Unknown properties are an error: the
// document's models are complete.
func (d *document) validate(s *schema, v any, at string) error {
	if s == nil {
		return nil
	}
	if s.Ref != "" {
		name := s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
		t := d.Components.Schemas[name]
		if t == nil {
			return fmt.Errorf("%s: no schema %s", at, name)
		}
		return d.validate(t, v, at)
	}
	if len(s.OneOf) > 0 {
		n := 0
		var last error
		for _, o := range s.OneOf {
			if err := d.validate(o, v, at); err == nil {
				n++
			} else {
				last = err
			}
		}
		if n == 0 {
			return fmt.Errorf("%s: none of %d alternatives fits: %w", at, len(s.OneOf), last)
		}
		return nil
	}
	ok := true
	switch s.Type {
	case "string":
		var x string
		x, ok = v.(string)
		ok = ok && (len(s.Enum) == 0 || slices.Contains(s.Enum, x))
	case "integer":
		var x float64
		x, ok = v.(float64)
		ok = ok && x == math.Trunc(x)
	case "number":
		_, ok = v.(float64)
	case "boolean":
		_, ok = v.(bool)
	case "array":
		var x []any
		x, ok = v.([]any)
		for i, e := range x {
			if err := d.validate(s.Items, e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "object":
		var x map[string]any
		x, ok = v.(map[string]any)
		if !ok {
			break
		}
		for _, k := range s.Required {
			if _, ok := x[k]; !ok {
				return fmt.Errorf("%s: no %s", at, k)
			}
		}
		for k, e := range x {
			p := s.Properties[k]
			if p == nil {
				p = s.AdditionalProperties
			}
			if p == nil && s.Properties != nil {
				return fmt.Errorf("%s: %s is not in the schema", at, k)
			}
			if err := d.validate(p, e, at+"."+k); err != nil {
				return err
			}
		}
	}
	if !ok {
		return fmt.Errorf("%s: %.80v is no %s", at, v, s.Type)
	}
	return nil
}

func (d *document) validateJSON(s *schema, b []byte, at string) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("%s: %w: %.100q", at, err, b)
	}
	return d.validate(s, v, at)
}

// sample is a value that fits.
func sample(s *schema) string {
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Type == "boolean":
		return "false"
	case s.Type == "integer" && s.Minimum != nil:
		return strconv.FormatInt(*s.Minimum, 10)
	case s.Type == "integer":
		return "1"
	case s.Pattern != "":
		return "644" // the only one that the document has: permissions
	}
	return "x"
}

// wrong are values that do not fit.
func (s *schema) wrong() []string {
	var out []string
	switch s.Type {
	case "boolean":
		out = append(out, "maybe", "")
	case "integer":
		out = append(out, "ten", "", "1.5", "99999999999999999999")
		if s.Minimum != nil {
			out = append(out, strconv.FormatInt(*s.Minimum-1, 10))
		}
		if s.Maximum != nil {
			out = append(out, strconv.FormatInt(*s.Maximum+1, 10))
		}
	case "string":
		if len(s.Enum) > 0 {
			out = append(out, "NOTHING", "")
		}
		if s.MinLength > 0 {
			out = append(out, "")
		}
		if s.MaxLength > 0 {
			out = append(out, strings.Repeat("x", s.MaxLength+1))
		}
		if s.Pattern != "" {
			out = append(out, "rwx", "99999")
		}
		out = append(out, "\xff\xfe")
	}
	return out
}
