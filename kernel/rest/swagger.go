package rest

import (
	"net/http"
	"slices"
	"strings"
)

// Swagger 1.2 listings of the groups that OSv's own server lists, derived from the
// OpenAPI document: a resource listing (specification §5.1) at /api, an API
// declaration (§5.2) for each group below it.

// listed are the groups of OSv's API, in its order.
var listed = []string{"os", "hardware", "network", "fs", "file", "env", "trace", "app", "api", "jvm", "jolokia"}

const (
	swaggerVersion = "1.2"
	apiVersion     = "0.0.1"
)

type swaggerResource struct {
	Path        string `json:"path"`
	Description string `json:"description"`
}

type swaggerListing struct {
	APIVersion     string            `json:"apiVersion"`
	SwaggerVersion string            `json:"swaggerVersion"`
	APIs           []swaggerResource `json:"apis"`
	Info           swaggerInfo       `json:"info"`
}

type swaggerInfo struct {
	Title       string `json:"title"`
	Description string `json:"description"`
}

type swaggerDecl struct {
	APIVersion     string                   `json:"apiVersion"`
	SwaggerVersion string                   `json:"swaggerVersion"`
	BasePath       string                   `json:"basePath"`
	ResourcePath   string                   `json:"resourcePath"`
	Produces       []string                 `json:"produces"`
	APIs           []swaggerAPI             `json:"apis"`
	Models         map[string]*swaggerModel `json:"models"`
}

type swaggerAPI struct {
	Path       string             `json:"path"`
	Operations []swaggerOperation `json:"operations"`
}

type swaggerType struct {
	Type    string       `json:"type,omitempty"`
	Format  string       `json:"format,omitempty"`
	Ref     string       `json:"$ref,omitempty"`
	Items   *swaggerType `json:"items,omitempty"`
	Enum    []string     `json:"enum,omitempty"`
	Minimum *int64       `json:"minimum,omitempty"`
	Maximum *int64       `json:"maximum,omitempty"`
}

type swaggerOperation struct {
	Method   string `json:"method"`
	Summary  string `json:"summary"`
	Notes    string `json:"notes,omitempty"`
	Nickname string `json:"nickname"`
	swaggerType
	Produces   []string           `json:"produces"`
	Parameters []swaggerParameter `json:"parameters"`
	Responses  []swaggerResponse  `json:"responseMessages,omitempty"`
	Deprecated string             `json:"deprecated,omitempty"`
}

type swaggerParameter struct {
	Name          string `json:"name"`
	Description   string `json:"description"`
	Required      bool   `json:"required"`
	AllowMultiple bool   `json:"allowMultiple"`
	ParamType     string `json:"paramType"`
	swaggerType
}

type swaggerResponse struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type swaggerModel struct {
	ID          string                     `json:"id"`
	Description string                     `json:"description,omitempty"`
	Required    []string                   `json:"required,omitempty"`
	Properties  map[string]swaggerProperty `json:"properties"`
}

type swaggerProperty struct {
	Description string `json:"description,omitempty"`
	swaggerType
}

func swaggerResources(c *call) error {
	l := swaggerListing{APIVersion: apiVersion, SwaggerVersion: swaggerVersion, Info: swaggerInfo{c.s.doc.Info.Title, c.s.doc.Info.Description}}
	for _, name := range listed {
		l.APIs = append(l.APIs, swaggerResource{"/" + name, c.s.tag(name)})
	}
	return c.json(l)
}

func (s *Server) tag(name string) string {
	for _, t := range s.doc.Tags {
		if t.Name == name {
			return t.Description
		}
	}
	return ""
}

func swaggerDeclaration(c *call) error {
	name := strings.TrimSuffix(c.arg("resource"), ".json")
	if !slices.Contains(listed, name) {
		return errorf(404, "there is no group %s", name)
	}
	scheme := "http"
	if c.r.TLS != nil {
		scheme = "https"
	}
	d := swaggerDecl{APIVersion: apiVersion, SwaggerVersion: swaggerVersion, BasePath: scheme + "://" + c.r.Host, ResourcePath: "/" + name,
		Produces: []string{"application/json"}, Models: map[string]*swaggerModel{}}
	for _, path := range c.s.paths(name) {
		api := swaggerAPI{Path: path}
		for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			if o := c.s.doc.Paths[path][strings.ToLower(m)]; o != nil {
				api.Operations = append(api.Operations, c.s.swaggerOperation(o, d.Models))
			}
		}
		d.APIs = append(d.APIs, api)
	}
	return c.json(d)
}

// paths are the paths of a group, sorted.
func (s *Server) paths(tag string) []string {
	var out []string
	for path, methods := range s.doc.Paths {
		for _, o := range methods {
			if slices.Contains(o.Tags, tag) {
				out = append(out, path)
				break
			}
		}
	}
	slices.Sort(out)
	return out
}

func (s *Server) swaggerOperation(o *operation, models map[string]*swaggerModel) swaggerOperation {
	out := swaggerOperation{Method: o.method, Summary: o.Summary, Notes: o.Description, Nickname: o.OperationID, Produces: []string{"application/json"}, Parameters: []swaggerParameter{}}
	out.swaggerType = swaggerType{Type: "string"}
	if m, ok := o.Responses["200"].Content["application/json"]; ok && m.Schema != nil {
		if t := s.swaggerType(m.Schema, models, false); t.Type != "" {
			out.swaggerType = t
		}
	}
	if o.Deprecated {
		out.Deprecated = "true"
	}
	for _, p := range o.Parameters {
		out.Parameters = append(out.Parameters, swaggerParameter{p.Name, p.Description, p.Required, false, p.In, s.swaggerType(p.Schema, models, false)})
	}
	if o.RequestBody != nil {
		name, kind, t := "body", "body", "string"
		if _, ok := o.RequestBody.Content["multipart/form-data"]; ok {
			if name, kind = "file", "form"; o.OperationID == "api_batch" {
				name = "batch"
			} else {
				t = "File"
			}
		}
		out.Parameters = append(out.Parameters, swaggerParameter{name, "", o.RequestBody.Required, false, kind, swaggerType{Type: t}})
	}
	for code, r := range map[int]string{400: "Bad request", 404: "Not found", 409: "Conflict", 413: "Too large", 503: "Not available"} {
		if _, ok := o.Responses[itoa(code)]; ok {
			out.Responses = append(out.Responses, swaggerResponse{code, r})
		}
	}
	slices.SortFunc(out.Responses, func(a, b swaggerResponse) int { return a.Code - b.Code })
	return out
}

// swaggerType translates a schema, and collects the models that it names. Swagger 1.2
// refers to a model by $ref in lists and properties, by type elsewhere.
func (s *Server) swaggerType(sc *schema, models map[string]*swaggerModel, inner bool) swaggerType {
	if sc.Ref != "" {
		name := sc.Ref[strings.LastIndexByte(sc.Ref, '/')+1:]
		s.swaggerModel(name, models)
		if inner {
			return swaggerType{Ref: name}
		}
		return swaggerType{Type: name}
	}
	if len(sc.OneOf) > 0 {
		for _, o := range sc.OneOf {
			s.swaggerType(o, models, inner)
		}
		return swaggerType{Type: "string"}
	}
	t := swaggerType{Type: sc.Type, Format: sc.Format, Enum: sc.Enum, Minimum: sc.Minimum, Maximum: sc.Maximum}
	switch {
	case sc.Items != nil:
		i := s.swaggerType(sc.Items, models, true)
		t.Items = &i
	case sc.Type == "object" || sc.Type == "":
		t = swaggerType{Type: "string"} // 1.2 has no objects without a name
	}
	return t
}

func (s *Server) swaggerModel(name string, models map[string]*swaggerModel) {
	sc := s.doc.Components.Schemas[name]
	if models[name] != nil || sc == nil {
		return
	}
	m := &swaggerModel{ID: name, Description: sc.Description, Required: sc.Required, Properties: map[string]swaggerProperty{}}
	models[name] = m
	for k, p := range sc.Properties {
		m.Properties[k] = swaggerProperty{p.Description, s.swaggerType(p, models, true)}
	}
}

// openapi sends the document as it is.
func openapi(c *call) error { return c.bytes("application/json", openapiJSON) }
