package rest

import (
	"encoding/json"
	"strings"
	"testing"

	"osv/kernel/rest/machine"
)

// The document and the table of handlers have the same operations: New fails else.
func TestRoutesAreTheDocuments(t *testing.T) {
	s := new(Server)
	_, ops, err := parseSpec(openapiJSON)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newRouter(ops, s.handlers()); err != nil {
		t.Fatal(err)
	}
	if len(ops) < 70 {
		t.Errorf("%d operations", len(ops))
	}
	// Each kind of difference is found.
	h := s.handlers()
	delete(h, "os_version")
	if _, err := newRouter(ops, h); err == nil || !strings.Contains(err.Error(), "os_version") {
		t.Errorf("an operation without a handler: %v", err)
	}
	h = s.handlers()
	h["os_extra"] = osVersion
	if _, err := newRouter(ops, h); err == nil || !strings.Contains(err.Error(), "os_extra") {
		t.Errorf("a handler without an operation: %v", err)
	}
}

// What OSv has (modules/httpserver-api, and the tag v0.06) is all there.
func TestOSvsOperations(t *testing.T) {
	want := strings.Fields(`
		GET/os/name GET/os/version GET/os/vendor GET/os/manufacturer GET/os/uptime GET/os/date GET/os/memory/total GET/os/memory/free
		GET/os/memory/balloon GET/os/dmesg GET/os/hostname POST/os/hostname GET/os/threads GET/os/cmdline POST/os/cmdline
		POST/os/shutdown POST/os/poweroff POST/os/reboot
		GET/file/{path-par} PUT/file/{path-par} POST/file/{path-par} DELETE/file/{path-par}
		GET/jvm/version GET/jvm/memory/gc POST/jvm/memory/gc GET/jvm/jmx GET/jvm/jmx/{mbean} POST/jvm/jmx/{mbean}/{attribute}
		GET/env GET/env/{var} POST/env/{var} DELETE/env/{var} GET/fs/df GET/fs/df/{mount}
		GET/hardware/processor/flags GET/hardware/processor/count GET/hardware/firmware/vendor GET/hardware/hypervisor
		GET/network/ifconfig GET/network/ifconfig/{intf} GET/network/route
		GET/trace/status POST/trace/status GET/trace/event/{eventid} POST/trace/event/{eventid} POST/trace/count/{eventid}
		GET/trace/count DELETE/trace/count POST/trace/sampler GET/trace/buffers
		PUT/app GET/app/finished POST/api/batch POST/api/stop GET/jolokia/{query} GET/jolokia POST/jolokia`)
	_, ops, err := parseSpec(openapiJSON)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, o := range ops {
		have[o.method+o.path] = true
	}
	for _, w := range want {
		if !have[w] {
			t.Errorf("%s is missing", w)
		}
	}
}

// Nothing that changes something is public; what reads files, environment and
// profiles is not either.
func TestAccess(t *testing.T) {
	_, ops, err := parseSpec(openapiJSON)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range ops {
		want := public
		switch {
		case o.method != "GET":
			want = change
		case strings.HasPrefix(o.path, "/file"), strings.HasPrefix(o.path, "/env"), strings.HasPrefix(o.path, "/debug"),
			o.path == "/os/cmdline", o.path == "/trace/sampler", o.path == "/jvm/jmx/{mbean}", strings.HasPrefix(o.path, "/jolokia"):
			want = private
		}
		if o.access != want {
			t.Errorf("%s %s: access %d, want %d", o.method, o.path, o.access, want)
		}
	}
}

// Each reference in the document leads somewhere, and each response has a
// description, as OpenAPI 3.0.3 wants it.
func TestReferences(t *testing.T) {
	var doc any
	if err := json.Unmarshal(openapiJSON, &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				at := doc
				for _, k := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[k]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(doc)
}

// A document that breaks a rule of the router is refused.
func TestBadDocuments(t *testing.T) {
	const ok = `"responses": {"200": {"description": "x"}}`
	for name, paths := range map[string]string{
		"no JSON":               `{`,
		"no name":               `"/a": {"get": {` + ok + `}}`,
		"the name twice":        `"/a": {"get": {"operationId": "x", ` + ok + `}}, "/b": {"get": {"operationId": "x", ` + ok + `}}`,
		"a public change":       `"/a": {"post": {"operationId": "x", "security": [], ` + ok + `}}`,
		"an unnamed template":   `"/a/{b}": {"get": {"operationId": "x", ` + ok + `}}`,
		"a template too little": `"/a": {"get": {"operationId": "x", "parameters": [{"name": "b", "in": "path", "schema": {}}], ` + ok + `}}`,
		"a header":              `"/a": {"get": {"operationId": "x", "parameters": [{"name": "b", "in": "header", "schema": {}}], ` + ok + `}}`,
		"a bad pattern":         `"/a": {"get": {"operationId": "x", "parameters": [{"name": "b", "in": "query", "schema": {"pattern": "("}}], ` + ok + `}}`,
	} {
		if _, _, err := parseSpec([]byte(`{"paths": {` + paths + `}}`)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for name, paths := range map[string]string{
		"the rest in the middle": `"/a/{b}/c": {"get": {"operationId": "x", "parameters": [{"name": "b", "in": "path", "x-osv-rest": true, "schema": {}}]}}`,
		"two rests":              `"/a/{b}": {"get": {"operationId": "x", "parameters": [{"name": "b", "in": "path", "x-osv-rest": true, "schema": {}}]}}, "/a/{c}": {"get": {"operationId": "y", "parameters": [{"name": "c", "in": "path", "x-osv-rest": true, "schema": {}}]}}`,
		"the same path twice":    `"/a/{b}": {"get": {"operationId": "x", "parameters": [{"name": "b", "in": "path", "schema": {}}]}}, "/a/{c}": {"get": {"operationId": "y", "parameters": [{"name": "c", "in": "path", "schema": {}}]}}`,
	} {
		_, ops, err := parseSpec([]byte(`{"paths": {` + paths + `}}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		h := map[string]func(*call) error{}
		for _, o := range ops {
			h[o.OperationID] = osVersion
		}
		if _, err := newRouter(ops, h); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestNewWantsAMachine(t *testing.T) {
	if _, err := New(Config{Machine: machine.Machine{}}); err == nil {
		t.Error("a machine of nothing is taken")
	}
}
