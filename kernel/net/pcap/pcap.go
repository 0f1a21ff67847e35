// Package pcap writes and reads packet captures, and taps any link.
//
// Spec: the classic libpcap file (draft-ietf-opsawg-pcap), link type Ethernet,
// with nanoseconds (magic 0xa1b23c4d). Who may use it: the platform, tools and
// tests. A tap costs a lock and a write per frame: it is for looking, not for
// production. Frames that leave their checksum to the device are written as
// they are, with a checksum that a dissector calls wrong.
//
// Start reading at Tap.
package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"osv/kernel/pkt"
)

const (
	magicMicros   = 0xa1b2c3d4
	magicNanos    = 0xa1b23c4d
	fileHeaderLen = 24
	recHeaderLen  = 16
	linkEthernet  = 1
	maxRecord     = 1 << 20 // a length beyond is a broken file
	defaultSnap   = 65535 + 18
)

// Writer writes a capture. Any goroutine may use it.
type Writer struct {
	mu   sync.Mutex // guards all below
	w    io.Writer
	snap int
	buf  []byte
	err  error
	n    uint64
}

// NewWriter writes a file header. snap is the most bytes kept of a frame; 0: all.
func NewWriter(w io.Writer, snap int) (*Writer, error) {
	if snap <= 0 {
		snap = defaultSnap
	}
	var h [fileHeaderLen]byte
	le := binary.LittleEndian
	le.PutUint32(h[0:], magicNanos)
	le.PutUint16(h[4:], 2)
	le.PutUint16(h[6:], 4)
	le.PutUint32(h[16:], uint32(snap))
	le.PutUint32(h[20:], linkEthernet)
	if _, err := w.Write(h[:]); err != nil {
		return nil, fmt.Errorf("pcap: %w", err)
	}
	return &Writer{w: w, snap: snap}, nil
}

// Frame writes a frame, which may be in pieces, with its time in ns since 1970.
func (w *Writer) Frame(ns int64, b *pkt.Buf) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], make([]byte, recHeaderLen)...)
	total := 0
	for ; b != nil; b = b.Next {
		p := b.Bytes()
		total += len(p)
		w.buf = append(w.buf, p[:min(len(p), w.snap+recHeaderLen-len(w.buf))]...)
	}
	w.record(ns, total)
}

// Bytes writes a frame that is in one piece.
func (w *Writer) Bytes(ns int64, frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], make([]byte, recHeaderLen)...)
	w.buf = append(w.buf, frame[:min(len(frame), w.snap)]...)
	w.record(ns, len(frame))
}

// record fills in the record's header and writes it. Caller must hold mu.
func (w *Writer) record(ns int64, total int) {
	if w.err != nil {
		return
	}
	le := binary.LittleEndian
	le.PutUint32(w.buf[0:], uint32(ns/1e9))
	le.PutUint32(w.buf[4:], uint32(ns%1e9))
	le.PutUint32(w.buf[8:], uint32(len(w.buf)-recHeaderLen))
	le.PutUint32(w.buf[12:], uint32(total))
	if _, err := w.w.Write(w.buf); err != nil {
		w.err = fmt.Errorf("pcap: %w", err)
		return
	}
	w.n++
}

// Err is the first error of a write; after it nothing more is written. Frames is
// the number written.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Frames is the number of frames written.
func (w *Writer) Frames() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// Record is one frame of a capture.
type Record struct {
	Time int64 // ns since 1970
	Len  int   // of the frame; Data may be less
	Data []byte
}

// Reader reads a capture, of either byte order and time unit.
type Reader struct {
	r     *bufio.Reader
	order binary.ByteOrder
	unit  int64
}

// ErrFormat is wrapped in errors about the file itself.
var ErrFormat = errors.New("not a capture of Ethernet frames")

// NewReader reads the file header.
func NewReader(r io.Reader) (*Reader, error) {
	var h [fileHeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, fmt.Errorf("pcap: file header: %w", err)
	}
	p := &Reader{r: bufio.NewReader(r)}
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch o.Uint32(h[:]) {
		case magicMicros:
			p.order, p.unit = o, 1000
		case magicNanos:
			p.order, p.unit = o, 1
		}
	}
	if p.order == nil || p.order.Uint32(h[20:])&0xffff != linkEthernet {
		return nil, fmt.Errorf("pcap: magic %x, link type %x: %w", h[:4], h[20:], ErrFormat)
	}
	return p, nil
}

// Next reads a record; io.EOF after the last.
func (p *Reader) Next() (Record, error) {
	var h [recHeaderLen]byte
	if _, err := io.ReadFull(p.r, h[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return Record{}, fmt.Errorf("pcap: record header: %w", err)
		}
		return Record{}, err
	}
	n := p.order.Uint32(h[8:])
	if n > maxRecord {
		return Record{}, fmt.Errorf("pcap: record of %d bytes: %w", n, ErrFormat)
	}
	rec := Record{
		Time: int64(p.order.Uint32(h[:]))*1e9 + int64(p.order.Uint32(h[4:]))*p.unit,
		Len:  int(p.order.Uint32(h[12:])),
		Data: make([]byte, n),
	}
	if _, err := io.ReadFull(p.r, rec.Data); err != nil {
		return Record{}, fmt.Errorf("pcap: record data: %w", io.ErrUnexpectedEOF)
	}
	return rec, nil
}

// tap is a link whose frames are written down.
type tap struct {
	pkt.Link
	w   *Writer
	now func() int64
}

// Tap returns link with every frame that goes through it written to w; now gives
// ns since 1970.
func Tap(link pkt.Link, w *Writer, now func() int64) pkt.Link { return &tap{link, w, now} }

// RxBatch takes frames and writes them down.
func (t *tap) RxBatch(q int, dst []*pkt.Buf) int {
	n := t.Link.RxBatch(q, dst)
	for _, b := range dst[:n] {
		t.w.Frame(t.now(), b)
	}
	return n
}

// TxBatch writes frames down before they are sent, since afterwards they are the
// link's: one that the link then refuses is in the capture, and is there again
// when it is offered again.
func (t *tap) TxBatch(q int, frames []*pkt.Buf) int {
	for _, b := range frames {
		t.w.Frame(t.now(), b)
	}
	return t.Link.TxBatch(q, frames)
}
