package sock

import (
	"fmt"
	"sync"
	"syscall"

	"osv/kernel/vfs"
)

// unixTable is the AF_UNIX sockets of a system: their names, and the lock of all that
// two of them have to do with each other.
type unixTable struct {
	mu       sync.Mutex
	abstract map[abstractKey]*unix
	nodes    map[nodeKey]*unix
	auto     uint32

	flying map[*unix]int // sockets that are in SCM_RIGHTS messages, how often
	count  int           // files that are in such messages, in all
}

// abstractKey is a name in the abstract space: each type has its own.
type abstractKey struct {
	typ  int
	name string
}

// nodeKey is an inode.
type nodeKey struct{ dev, ino uint64 }

func (t *unixTable) init() {
	t.abstract, t.nodes, t.flying = map[abstractKey]*unix{}, map[nodeKey]*unix{}, map[*unix]int{}
}

func keyOf(n vfs.Node) (nodeKey, error) {
	a, err := n.Attr()
	if err != nil {
		return nodeKey{}, err
	}
	return nodeKey{a.Dev, a.Ino}, nil
}

// bind gives s a name: that of node, or one of the abstract space, chosen where it is
// "". Caller must hold mu.
func (t *unixTable) bind(s *unix, name string, node vfs.Node) error {
	switch {
	case node != nil:
		k, err := keyOf(node)
		if err != nil {
			return err
		}
		t.nodes[k] = s
		s.key, s.byNode = k, true
	case name == "":
		for range 1 << 20 { // autobind: five hexadecimal digits
			t.auto = (t.auto + 1) & 0xfffff
			name = fmt.Sprintf("\x00%05x", t.auto)
			if t.abstract[abstractKey{s.typ, name}] == nil {
				break
			}
			name = ""
		}
		if name == "" {
			return syscall.ENOSPC
		}
		t.abstract[abstractKey{s.typ, name}] = s
	default:
		if t.abstract[abstractKey{s.typ, name}] != nil {
			return syscall.EADDRINUSE
		}
		t.abstract[abstractKey{s.typ, name}] = s
	}
	s.name.Store(&Addr{Family: syscall.AF_UNIX, Path: name})
	return nil
}

// unbind ends the name of s; a node that it was bound to stays. Caller must hold mu.
func (t *unixTable) unbind(s *unix) {
	a := s.name.Load()
	switch {
	case a == nil:
	case s.byNode:
		if t.nodes[s.key] == s {
			delete(t.nodes, s.key)
		}
	case t.abstract[abstractKey{s.typ, a.Path}] == s:
		delete(t.abstract, abstractKey{s.typ, a.Path})
	}
}

// find is the socket with a name, for one of the type.
func (t *unixTable) find(c Caller, name string, typ int) (*unix, error) {
	if name[0] == 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s := t.abstract[abstractKey{typ, name}]; s != nil {
			return s, nil
		}
		return nil, syscall.ECONNREFUSED
	}
	node, err := c.FindSocket(name)
	if err != nil {
		return nil, err
	}
	k, err := keyOf(node)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.nodes[k]; s != nil {
		return s, nil
	}
	return nil, syscall.ECONNREFUSED
}
