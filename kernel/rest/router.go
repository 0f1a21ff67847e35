package rest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// maxPath is the longest path of a request in bytes, as it came over the wire.
const maxPath = 4096

// route is one path of the document.
type route struct {
	path    string
	params  []string // names, in the order of the path
	methods map[string]*bound
	allow   string // value of the Allow header
}

// bound is an operation and what serves it.
type bound struct {
	*operation
	serve func(*call) error
	stats *operationStats
}

// node is a place in the tree of paths: what follows a prefix of segments.
type node struct {
	literal map[string]*node
	param   *node
	rest    *route // takes any number of segments, none included
	route   *route // ends here
}

// router finds the route of a path. It is built once and then only read.
type router struct {
	root  node
	ops   map[string]*bound // by operationId
	names []string          // of all operations, sorted
}

// newRouter binds each operation to the handler of its name. A handler without an
// operation, and the reverse, is an error: a route exists only if it is documented.
func newRouter(ops []*operation, handlers map[string]func(*call) error) (*router, error) {
	r := &router{ops: map[string]*bound{}}
	routes := map[string]*route{}
	for _, o := range ops {
		h := handlers[o.OperationID]
		if h == nil {
			return nil, fmt.Errorf("rest: %s %s: nothing serves operation %s", o.method, o.path, o.OperationID)
		}
		rt := routes[o.path]
		if rt == nil {
			rt = &route{path: o.path, methods: map[string]*bound{}}
			routes[o.path] = rt
			if err := r.add(rt, o); err != nil {
				return nil, err
			}
		}
		b := &bound{operation: o, serve: h, stats: new(operationStats)}
		o.route = rt
		rt.methods[o.method] = b
		r.ops[o.OperationID] = b
		r.names = append(r.names, o.OperationID)
	}
	slices.Sort(r.names)
	for name := range handlers {
		if r.ops[name] == nil {
			return nil, fmt.Errorf("rest: handler %s: openapi.json has no such operation", name)
		}
	}
	for _, rt := range routes {
		var ms []string
		for m := range rt.methods {
			ms = append(ms, m)
			if m == "GET" {
				ms = append(ms, "HEAD")
			}
		}
		ms = append(ms, "OPTIONS")
		slices.Sort(ms)
		rt.allow = strings.Join(ms, ", ")
	}
	return r, nil
}

// add puts a route into the tree. o is one of its operations.
func (r *router) add(rt *route, o *operation) error {
	n := &r.root
	segs := split(rt.path)
	for i, seg := range segs {
		name, isParam := template(seg)
		if !isParam {
			if n.literal == nil {
				n.literal = map[string]*node{}
			}
			if n.literal[seg] == nil {
				n.literal[seg] = &node{}
			}
			n = n.literal[seg]
			continue
		}
		rt.params = append(rt.params, name)
		if o.param(name).Rest {
			if i != len(segs)-1 || n.rest != nil {
				return fmt.Errorf("rest: %s: {%s} must be the path's end, and the only one there", rt.path, name)
			}
			n.rest = rt
			return nil
		}
		if n.param == nil {
			n.param = &node{}
		}
		n = n.param
	}
	if n.route != nil {
		return fmt.Errorf("rest: %s and %s are the same path", rt.path, n.route.path)
	}
	n.route = rt
	return nil
}

// split cuts a path into its segments; a slash at the end makes no difference.
func split(path string) []string {
	path = strings.TrimPrefix(path, "/")
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// find returns the route of a path as it came over the wire, percent signs included,
// and the values of its parameters. No route is a nil route; an error is a path that
// no request may have.
//
// Segments are decoded one by one, so that %2f separates only in a parameter that
// takes the rest of the path. Nothing is resolved: to the tree, ".." is a name.
func (r *router) find(escaped string) (*route, []string, error) {
	if len(escaped) > maxPath {
		return nil, nil, errorf(414, "the path has %d bytes, %d at most are taken", len(escaped), maxPath)
	}
	if !strings.HasPrefix(escaped, "/") {
		return nil, nil, errorf(400, "the path does not start with a slash")
	}
	segs := split(escaped)
	for i, seg := range segs {
		if !strings.Contains(seg, "%") {
			continue
		}
		s, err := url.PathUnescape(seg)
		if err != nil {
			return nil, nil, errorf(400, "path: %v", err)
		}
		segs[i] = s
	}
	if slices.ContainsFunc(segs, func(s string) bool { return strings.IndexByte(s, 0) >= 0 }) {
		return nil, nil, errorf(400, "the path has a NUL")
	}
	rt, values := r.root.find(segs, nil)
	return rt, values, nil
}

// find looks for segs below n: a literal name before a parameter, that before the
// rest. values are those so far.
func (n *node) find(segs, values []string) (*route, []string) {
	if len(segs) == 0 {
		if n.route != nil {
			return n.route, values
		}
		if n.rest != nil {
			return n.rest, append(values, "")
		}
		return nil, nil
	}
	if next := n.literal[segs[0]]; next != nil {
		if rt, v := next.find(segs[1:], values); rt != nil {
			return rt, v
		}
	}
	if n.param != nil && segs[0] != "" {
		if rt, v := n.param.find(segs[1:], append(values[:len(values):len(values)], segs[0])); rt != nil {
			return rt, v
		}
	}
	if n.rest != nil {
		return n.rest, append(values, strings.Join(segs, "/"))
	}
	return nil, nil
}
