package rest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// The OpenAPI document is the only source of routes, parameters and access rules.
//
//go:embed openapi.json
var openapiJSON []byte

// document is what this package reads of an OpenAPI 3.0.3 document.
type document struct {
	Info struct {
		Title, Version, Description string
	}
	Tags []struct {
		Name, Description string
	}
	Paths      map[string]map[string]*operation
	Components struct {
		Schemas map[string]*schema
	}
}

// operation is an OpenAPI Operation Object (§4.7.10).
type operation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Description string
	Tags        []string
	Deprecated  bool
	Security    *[]map[string][]string // nil: the document's, which asks for a token
	Parameters  []*parameter
	RequestBody *struct {
		Required bool
		Content  map[string]media
	}
	Responses map[string]struct {
		Description string
		Content     map[string]media
	}

	method string
	path   string
	access access
	route  *route
	bodies []string // media types that a request may have; nil: any, which is ignored
}

type media struct{ Schema *schema }

// parameter is a Parameter Object (§4.7.12).
type parameter struct {
	Name        string
	In          string // "path" or "query"
	Description string
	Required    bool
	Schema      *schema
	// Rest: the parameter takes all that is left of the path, slashes included.
	Rest bool `json:"x-osv-rest"`

	pattern *regexp.Regexp
}

// schema is a Schema Object (§4.7.24), as far as the document uses it.
type schema struct {
	Ref         string `json:"$ref"`
	Type        string
	Format      string
	Description string
	Enum        []string
	Minimum     *int64
	Maximum     *int64
	MinLength   int
	MaxLength   int
	Pattern     string
	Items       *schema
	Required    []string
	Properties  map[string]*schema
	OneOf       []*schema
	Additional  *schema `json:"additionalProperties"`
}

// access is what an operation asks of the caller.
type access int

const (
	public  access = iota // anybody
	private               // reads what not everybody should
	change                // changes something
)

// parseSpec reads the document and checks what the router relies on.
func parseSpec(b []byte) (*document, []*operation, error) {
	d := new(document)
	if err := json.Unmarshal(b, d); err != nil {
		return nil, nil, fmt.Errorf("openapi.json: %w", err)
	}
	var ops []*operation
	seen := map[string]bool{}
	for path, methods := range d.Paths {
		for method, o := range methods {
			o.method, o.path = strings.ToUpper(method), path
			if o.OperationID == "" || seen[o.OperationID] {
				return nil, nil, fmt.Errorf("openapi.json: %s %s: operationId %q is empty or not the only one", o.method, path, o.OperationID)
			}
			seen[o.OperationID] = true
			switch {
			case o.Security != nil && len(*o.Security) == 0:
				o.access = public
			case o.method == http.MethodGet:
				o.access = private
			default:
				o.access = change
			}
			if o.access == public && o.method != http.MethodGet {
				return nil, nil, fmt.Errorf("openapi.json: %s: a method that changes something must ask for a token", o.OperationID)
			}
			if err := o.checkParameters(); err != nil {
				return nil, nil, err
			}
			if o.RequestBody != nil {
				for t := range o.RequestBody.Content {
					o.bodies = append(o.bodies, t)
				}
				slices.Sort(o.bodies)
			}
			ops = append(ops, o)
		}
	}
	slices.SortFunc(ops, func(a, b *operation) int {
		if c := strings.Compare(a.path, b.path); c != 0 {
			return c
		}
		return strings.Compare(a.method, b.method)
	})
	return d, ops, nil
}

func (o *operation) checkParameters() error {
	var inPath []string
	for _, p := range o.Parameters {
		if p.Schema == nil || p.In != "path" && p.In != "query" {
			return fmt.Errorf("openapi.json: %s: parameter %s: want a schema, and a place in path or query", o.OperationID, p.Name)
		}
		if p.In == "path" {
			inPath = append(inPath, p.Name)
		}
		if p.Schema.Pattern != "" {
			re, err := regexp.Compile(p.Schema.Pattern)
			if err != nil {
				return fmt.Errorf("openapi.json: %s: parameter %s: %w", o.OperationID, p.Name, err)
			}
			p.pattern = re
		}
	}
	var inTemplate []string
	for seg := range strings.SplitSeq(o.path, "/") {
		if name, ok := template(seg); ok {
			inTemplate = append(inTemplate, name)
		}
	}
	if !slices.Equal(inPath, inTemplate) {
		return fmt.Errorf("openapi.json: %s: path parameters %v, path %s", o.OperationID, inPath, o.path)
	}
	return nil
}

// template returns the name in a segment like {name}.
func template(seg string) (string, bool) {
	if len(seg) > 2 && seg[0] == '{' && seg[len(seg)-1] == '}' {
		return seg[1 : len(seg)-1], true
	}
	return "", false
}

// param returns the parameter of that name.
func (o *operation) param(name string) *parameter {
	for _, p := range o.Parameters {
		if p.Name == name {
			return p
		}
	}
	return nil
}
