// Package route is the routing table: from a destination to the interface and
// next hop, by longest prefix and then lowest metric.
//
// Spec: RFC 1122 §3.3.1 (host routing), without redirects. Who may use it:
// kernel/net/stack; the interface type is a parameter, so the table knows none.
// May not: send anything.
//
// Look-ups read an immutable list through one atomic load; a host has a handful
// of routes, so the list is searched in order. Changes replace it and raise the
// generation, by which cached results notice. Start reading at Table.
package route

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// Route is one row of the table.
type Route[I comparable] struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // next hop; the zero Addr where the prefix is on the link
	Iface   I
	Source  netip.Addr // preferred source address; may be the zero Addr
	Metric  int        // lower wins among equal prefixes
	MTU     int        // 0: that of the interface
}

func (r Route[I]) String() string {
	via := "on link"
	if r.Gateway.IsValid() {
		via = "via " + r.Gateway.String()
	}
	return fmt.Sprintf("%v %s metric %d", r.Prefix, via, r.Metric)
}

// Table is a routing table. The zero value is empty and ready.
type Table[I comparable] struct {
	gen  atomic.Uint64
	list atomic.Pointer[[]Route[I]] // best match first
	mu   sync.Mutex                 // guards changes
}

// Generation changes with every change of the table. It is read before a
// look-up whose result is to be kept.
func (t *Table[I]) Generation() uint64 { return t.gen.Load() }

// Bump raises the generation without a change of the rows: something else that
// cached results depend on (an address, a path MTU) has changed.
func (t *Table[I]) Bump() { t.gen.Add(1) }

func (t *Table[I]) change(f func([]Route[I]) []Route[I]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []Route[I]
	if old := t.list.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = f(list)
	slices.SortStableFunc(list, func(a, b Route[I]) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), cmp.Compare(a.Metric, b.Metric))
	})
	t.list.Store(&list)
	t.gen.Add(1)
}

func (r Route[I]) sameRow(o Route[I]) bool {
	return r.Prefix == o.Prefix && r.Gateway == o.Gateway && r.Iface == o.Iface
}

// Add adds a row, or replaces the one with the same prefix, gateway and interface.
func (t *Table[I]) Add(r Route[I]) error {
	if !r.Prefix.IsValid() || r.Gateway.IsValid() && r.Gateway.Is4() != r.Prefix.Addr().Is4() {
		return fmt.Errorf("route: %v: prefix and gateway must be valid and of one family", r)
	}
	r.Prefix = r.Prefix.Masked()
	t.change(func(l []Route[I]) []Route[I] {
		return append(slices.DeleteFunc(l, r.sameRow), r)
	})
	return nil
}

// Remove removes all rows for which f is true and returns how many.
func (t *Table[I]) Remove(f func(Route[I]) bool) int {
	n := 0
	t.change(func(l []Route[I]) []Route[I] {
		before := len(l)
		l = slices.DeleteFunc(l, f)
		n = before - len(l)
		return l
	})
	return n
}

// Lookup finds the best row for dst.
func (t *Table[I]) Lookup(dst netip.Addr) (Route[I], bool) {
	return t.LookupIf(dst, nil)
}

// LookupIf finds the best row for dst that ok accepts; nil accepts all.
func (t *Table[I]) LookupIf(dst netip.Addr, ok func(*Route[I]) bool) (Route[I], bool) {
	dst = dst.Unmap().WithZone("")
	if list := t.list.Load(); list != nil {
		for i := range *list {
			if r := &(*list)[i]; r.Prefix.Contains(dst) && (ok == nil || ok(r)) {
				return *r, true
			}
		}
	}
	return Route[I]{}, false
}

// All copies the rows, best match first.
func (t *Table[I]) All() []Route[I] {
	if list := t.list.Load(); list != nil {
		return slices.Clone(*list)
	}
	return nil
}
