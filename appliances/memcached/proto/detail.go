package proto

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// detail counts gets, sets and deletes by key prefix (`stats detail`). Off by
// default: it takes a mutex per request, as upstream does.
type detail struct {
	on        atomic.Bool
	delimiter byte // 0 = ':'
	mu        sync.Mutex
	m         map[string]*prefixCount
}

// maxPrefixes bounds the memory; further prefixes are not counted.
const maxPrefixes = 10000

type prefixCount struct{ gets, hits, sets, deletes uint64 }

func (d *detail) count(key []byte, f func(*prefixCount)) {
	delim := d.delimiter
	if delim == 0 {
		delim = ':'
	}
	i := bytes.IndexByte(key, delim)
	if i < 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.m[string(key[:i])]
	if p == nil {
		if len(d.m) >= maxPrefixes {
			return
		}
		if d.m == nil {
			d.m = map[string]*prefixCount{}
		}
		p = &prefixCount{}
		d.m[string(key[:i])] = p
	}
	f(p)
}

func (d *detail) get(key []byte, hit bool) {
	d.count(key, func(p *prefixCount) {
		p.gets++
		if hit {
			p.hits++
		}
	})
}

func (d *detail) set(key []byte)    { d.count(key, func(p *prefixCount) { p.sets++ }) }
func (d *detail) delete(key []byte) { d.count(key, func(p *prefixCount) { p.deletes++ }) }

// SetDelimiter sets the byte that ends a prefix (-D) and switches counting on.
func (d *detail) SetDelimiter(b byte) {
	d.delimiter = b
	d.on.Store(true)
}

// On reports whether prefixes are counted, Delimiter what ends one.
func (d *detail) On() bool { return d.on.Load() }

// Delimiter: see On.
func (d *detail) Delimiter() byte {
	if d.delimiter == 0 {
		return ':'
	}
	return d.delimiter
}

func (d *detail) reset() {
	d.mu.Lock()
	d.m = nil
	d.mu.Unlock()
}

func (d *detail) dump() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for n := range d.m {
		names = append(names, n)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, n := range names {
		p := d.m[n]
		fmt.Fprintf(&b, "PREFIX %s get %d hit %d set %d del %d\r\n", n, p.gets, p.hits, p.sets, p.deletes)
	}
	b.WriteString(rEnd)
	return b.String()
}
