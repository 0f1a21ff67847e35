package store

// alloc makes an item of nbytes value bytes ("\r\n" included) and size accounted
// bytes, pending, with its header and key in place. It returns nil where there is no memory for it.
// Caller must hold sh.mu, must not be in a reader section, and must expect the
// mutex to have been let go in between.
func (sh *shard) alloc(key []byte, nbytes, size int, cflags, deadline, state uint32) *item {
	s := sh.s
	total := max(size, headerBytes+len(key)+nbytes)
	c := s.classes.of(total)
	hc := c
	if c == 0 {
		c = s.classes.largest
		hc = s.classes.of(headerBytes + pieceRefOffset(len(key)) + refBytes)
		state |= stChunked
	}
	r := sh.get(hc)
	if r == 0 {
		return nil
	}
	it := s.arena.item(r)
	it.kind = chunkPending
	it.lnext, it.lprev = 0, 0
	it.nbytes, it.cflags = uint32(nbytes), cflags
	it.nkey, it.cls, it.hcls = uint8(len(key)), uint8(c), uint8(hc)
	initItem(it, deadline, state)
	copy(it.key(), key)
	if state&stChunked != 0 && !sh.allocPieces(it) {
		sh.free(it)
		return nil
	}
	return it
}

// allocPieces gives a chunked item its pieces: as many of the largest chunks as
// are filled, and a fitting one for the rest.
func (sh *shard) allocPieces(it *item) bool {
	s := sh.s
	full := s.classes.size[s.classes.largest] - headerBytes
	link := it.firstPiece()
	*link = 0
	for rest := int(it.nbytes); rest > 0; {
		n := min(rest, full)
		c := s.classes.of(n + headerBytes)
		r := sh.get(c)
		if r == 0 {
			return false
		}
		p := s.arena.item(r)
		p.kind = chunkPiece
		p.hcls = uint8(c)
		p.nbytes = uint32(n)
		p.lnext, p.lprev = 0, s.arena.ref(it)
		*link = r
		link = &p.lnext
		rest -= n
	}
	return true
}

// writer fills the value of a pending item, whether in one chunk or in pieces.
type writer struct {
	a     *arena
	buf   []byte // what is left of the chunk at hand
	next  ref    // the piece after it
	total int    // bytes still to come in all
}

func (w *writer) init(a *arena, it *item) {
	w.a, w.total = a, int(it.nbytes)
	if it.loadState()&stChunked == 0 {
		w.buf, w.next = it.value(), 0
		return
	}
	w.buf, w.next = nil, *it.firstPiece()
}

func (w *writer) write(b []byte) {
	for len(b) > 0 {
		if len(w.buf) == 0 {
			p := w.a.item(w.next)
			w.buf, w.next = p.data(0, int(p.nbytes)), p.lnext
		}
		n := copy(w.buf, b)
		w.buf, b = w.buf[n:], b[n:]
		w.total -= n
	}
}

// writeItem appends the value of it without its "\r\n".
func (w *writer) writeItem(it *item) {
	n := int(it.nbytes) - 2
	if it.loadState()&stChunked == 0 {
		w.write(it.value()[:n])
		return
	}
	for r := *it.firstPiece(); n > 0; {
		p := w.a.item(r)
		m := min(n, int(p.nbytes))
		w.write(p.data(0, m))
		n -= m
		r = p.lnext
	}
}

// Fits reports whether an item with a key of nkey bytes and a value of n bytes
// is within the item size limit.
func (s *Store) Fits(nkey, n int, cflags uint32) bool {
	return s.sizeOf(nkey, n+2, cflags) <= s.itemMax
}
