package cache

// arc is the replacement policy: which page goes when there are too many. Names are
// the paper's. T1 holds pages seen once, T2 pages seen again; B1 and B2 remember
// what went from each of them, and p, the size that T1 should have, follows which of
// the two memories is asked for. Guarded by Cache.mu.
type arc struct {
	t1, t2 pageList
	b1, b2 ghostList
	ghosts map[ghostKey]*ghost
	spare  *ghost // for use again, linked by next
	p      int

	hitB1, hitB2 uint64
}

func (a *arc) init() { a.ghosts = map[ghostKey]*ghost{} }

func (a *arc) pages() int { return a.t1.n + a.t2.n }

// pageList is a list of pages, the one used longest ago first.
type pageList struct {
	head, tail *Page
	n          int
}

func (l *pageList) push(p *Page) {
	p.list, p.prev, p.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = p
	} else {
		l.head = p
	}
	l.tail = p
	l.n++
}

func (l *pageList) remove(p *Page) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		l.head = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		l.tail = p.prev
	}
	p.list, p.prev, p.next = nil, nil, nil
	l.n--
}

// ghostKey names a page of the past by its file's key, which outlives the File.
type ghostKey struct {
	file  uint64
	index int64
}

type ghost struct {
	key        ghostKey
	list       *ghostList
	prev, next *ghost
}

type ghostList struct {
	head, tail *ghost
	n          int
}

func (a *arc) remember(l *ghostList, key ghostKey) {
	if old := a.ghosts[key]; old != nil {
		a.dropGhost(old)
	}
	g := a.spare
	if g != nil {
		a.spare = g.next
	} else {
		g = new(ghost)
	}
	*g = ghost{key: key, list: l, prev: l.tail}
	if l.tail != nil {
		l.tail.next = g
	} else {
		l.head = g
	}
	l.tail = g
	l.n++
	a.ghosts[key] = g
}

func (a *arc) dropGhost(g *ghost) {
	l := g.list
	if g.prev != nil {
		g.prev.next = g.next
	} else {
		l.head = g.next
	}
	if g.next != nil {
		g.next.prev = g.prev
	} else {
		l.tail = g.prev
	}
	l.n--
	delete(a.ghosts, g.key)
	*g = ghost{next: a.spare}
	a.spare = g
}

// add takes in a page that was missed, in a cache of c pages.
func (a *arc) add(p *Page, c int) {
	if g := a.ghosts[ghostKey{p.file.key, p.index}]; g != nil {
		if g.list == &a.b1 { // case II
			a.p = min(c, a.p+max(1, a.b2.n/a.b1.n))
			a.hitB1++
		} else { // case III
			a.p = max(0, a.p-max(1, a.b1.n/a.b2.n))
			a.hitB2++
		}
		a.dropGhost(g)
		a.t2.push(p)
		return
	}
	// Case IV: the memories are kept so that T1 and B1 are at most c, and all four
	// at most 2c.
	for a.t1.n+a.b1.n >= c && a.b1.n > 0 {
		a.dropGhost(a.b1.head)
	}
	for a.pages()+a.b1.n+a.b2.n >= 2*c && a.b2.n > 0 {
		a.dropGhost(a.b2.head)
	}
	a.t1.push(p)
}

// drop takes a page out that its file no longer has.
func (a *arc) drop(p *Page) {
	if p.list != nil {
		p.list.remove(p)
	}
}

// victims takes up to len(out) pages out of the lists and makes them gone: their
// last reference was the tree's. Pages that are in use or dirty, which is a reference
// too, are passed over.
func (a *arc) victims(out []*Page, c int) int {
	n := 0
	// Each page is looked at at most twice: once to take its bit, once to go; and not
	// too many in one call, since the lock is held. The next call goes on behind.
	for look := min(2*a.pages(), 512+16*len(out)); look > 0 && n < len(out); look-- {
		l, memory := &a.t2, &a.b2
		if a.t1.n > 0 && (a.t1.n >= max(1, a.p) || a.t2.n == 0) {
			l, memory = &a.t1, &a.b1
		}
		p := l.head
		if p == nil {
			break
		}
		l.remove(p)
		switch {
		case p.clear(accessed):
			a.t2.push(p)
		case !p.refs.CompareAndSwap(1, 0):
			l.push(p)
		default:
			a.remember(memory, ghostKey{p.file.key, p.index})
			out[n] = p
			n++
		}
	}
	for a.b1.n+a.b2.n > c && a.b1.n+a.b2.n > 0 {
		if a.b1.n > a.b2.n {
			a.dropGhost(a.b1.head)
		} else {
			a.dropGhost(a.b2.head)
		}
	}
	return n
}
