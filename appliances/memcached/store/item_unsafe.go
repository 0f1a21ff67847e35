package store

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// ref is the place of a chunk in the arena: its byte offset. 0 is no chunk, as
// the first page of the arena is never handed out. It fits 48 bits, which the
// table relies on.
type ref uint64

// item is the header of every chunk. The key follows it, then the value with its
// "\r\n"; in a chunked item the key is followed by the ref of the first piece.
// Its size is checked by init below.
//
// Who may touch what, once the item is in the table:
type item struct {
	lnext ref    // shard.mu; LRU neighbour towards the tail; free: next free; retired: next retired; piece: next piece, then immutable
	lprev ref    // shard.mu; LRU neighbour towards the head; retired: epoch stamp; piece: the item it belongs to
	hnext uint64 // atomic, written under shard.mu; ref of the next item in the bucket's overflow chain
	cas   uint64 // atomic

	exptime uint32 // atomic; relative seconds, 0 = never
	time    uint32 // atomic; last access as upstream counts it
	state   uint32 // atomic; see st* below
	nbytes  uint32 // immutable; value bytes including "\r\n"; piece: bytes in use
	cflags  uint32 // immutable; the client's flags

	nkey uint8     // immutable
	cls  uint8     // immutable; slab class of the item, for a chunked one that of its pieces
	hcls uint8     // immutable; slab class of this chunk
	kind chunkKind // shard.mu
}

const (
	headerBytes = 56
	refBytes    = 8
)

// chunkKind says what a chunk of a page is, for those who walk the page.
type chunkKind uint8

const (
	chunkFree    chunkKind = iota
	chunkPending           // being filled by a worker, not in the table
	chunkLinked            // in the table and on an LRU list
	chunkRetired           // out of the table, readers may remain
	chunkPiece             // part of the item at lprev
)

// Bits of item.state.
const (
	stFetched uint32 = 1 << iota // read at least once
	stActive                     // read at least twice; on its way to WARM
	stStale                      // marked by md I or an outdated ms I
	stWon                        // the recache token is out
	stRetired                    // for who unpins
	stChunked                    // the value is in pieces
	stBinKey                     // the key came as base64
	_
	stLRU0 // two bits: the LRU list
	stLRU1
	stPin // one pin; the count is the rest of the word

	stLRUShift = 8
	stLRUMask  = stLRU0 | stLRU1
)

// arena is the address range that holds all pages.
type arena struct {
	mem  []byte
	base unsafe.Pointer
}

func arenaOver(mem []byte) arena { return arena{mem, unsafe.Pointer(unsafe.SliceData(mem))} }

func (a *arena) item(r ref) *item { return (*item)(unsafe.Add(a.base, r)) }

func (a *arena) ref(it *item) ref { return ref(uintptr(unsafe.Pointer(it)) - uintptr(a.base)) }

// data is n bytes of the chunk behind the header and off more bytes.
func (it *item) data(off, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(it), headerBytes+off)), n)
}

func (it *item) key() []byte { return it.data(0, int(it.nkey)) }

// value is the value with its "\r\n"; not for chunked items.
func (it *item) value() []byte { return it.data(int(it.nkey), int(it.nbytes)) }

// firstPiece is where a chunked item keeps the ref of its first piece.
func (it *item) firstPiece() *ref {
	return (*ref)(unsafe.Add(unsafe.Pointer(it), headerBytes+pieceRefOffset(int(it.nkey))))
}

func pieceRefOffset(nkey int) int { return (nkey + 7) &^ 7 }

func (it *item) loadState() uint32   { return atomic.LoadUint32(&it.state) }
func (it *item) setState(m uint32)   { atomic.OrUint32(&it.state, m) }
func (it *item) clearState(m uint32) { atomic.AndUint32(&it.state, ^m) }
func (it *item) chunked() bool       { return it.loadState()&stChunked != 0 }
func (it *item) pins() uint32        { return it.loadState() / stPin }
func (it *item) lru() lruID          { return lruID(it.loadState() & stLRUMask >> stLRUShift) }

// setLRU may run beside readers' setState, so it never writes the whole word. The
// bits of the list are shard.mu's, so that adding the difference sets them.
func (it *item) setLRU(l lruID) {
	if d := uint32(l)<<stLRUShift - it.loadState()&stLRUMask; d != 0 {
		atomic.AddUint32(&it.state, d)
	}
}

// isKey compares without reading past either: keys are short, so that a call of
// the general comparison costs more than the work.
func (it *item) isKey(key []byte) bool {
	n := len(key)
	if int(it.nkey) != n {
		return false
	}
	p, q := unsafe.Add(unsafe.Pointer(it), headerBytes), unsafe.Pointer(unsafe.SliceData(key))
	if n < 8 {
		return string(it.key()) == string(key)
	}
	last := n - 8
	for i := 0; i < last; i += 8 {
		if load64(p, i) != load64(q, i) {
			return false
		}
	}
	return load64(p, last) == load64(q, last)
}

// initItem sets the atomic words of a fresh item. Plain stores do: whoever held
// what the chunk was before has left (epoch.go), and whoever finds what it becomes
// loads it from the table after the atomic store that puts it there.
func initItem(it *item, deadline, state uint32) {
	it.hnext, it.cas = 0, 0
	it.exptime, it.time, it.state = deadline, 0, state
}

// The layout that item promises; wrong offsets would be silent corruption.
func init() {
	if s := unsafe.Sizeof(item{}); s != headerBytes {
		panic(fmt.Sprintf("store: item header is %d bytes, not %d", s, headerBytes))
	}
}
