package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"osv/kernel/ktest/simnet"
	"osv/kernel/pkt"
)

// A capture of both directions of a link, read back.
func TestTap(t *testing.T) {
	n, err := simnet.New(simnet.Config{Caps: pkt.Caps{TxScatter: 2}})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := NewWriter(&file, 40)
	if err != nil {
		t.Fatal(err)
	}
	now := int64(1_700_000_000_123_456_789)
	l := Tap(n.Links[0], w, func() int64 { now++; return now })
	frame := append(append([]byte{2, 0, 0, 0, 0, 2}, make([]byte, 28)...), "the payload of the frame"...)
	a, b := l.TxBuf(0), l.TxBuf(0)
	copy(a.Append(30), frame)
	copy(b.Append(len(frame)-30), frame[30:])
	a.Next = b
	if l.TxBatch(0, []*pkt.Buf{a}) != 1 {
		t.Fatal("not sent")
	}
	n.Links[1].Inject(append([]byte{2, 0, 0, 0, 0, 1}, frame[6:]...))
	var got [4]*pkt.Buf
	if l.RxBatch(0, got[:]) != 1 {
		t.Fatal("nothing received")
	}
	got[0].Put()
	w.Bytes(now, []byte("short"))
	if w.Err() != nil || w.Frames() != 3 {
		t.Errorf("%d frames, %v", w.Frames(), w.Err())
	}
	r, err := NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Record{
		{1_700_000_000_123_456_790, len(frame), frame[:40]},
		{1_700_000_000_123_456_791, len(frame), append([]byte{2, 0, 0, 0, 0, 1}, frame[6:40]...)},
		{now, 5, []byte("short")},
	} {
		rec, err := r.Next()
		if err != nil || rec.Time != want.Time || rec.Len != want.Len || !bytes.Equal(rec.Data, want.Data) {
			t.Errorf("record %d: %+v (%v), want %+v", i, rec, err, want)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	k := n.Links[1].RxBatch(0, got[:])
	for _, b := range got[:k] {
		b.Put()
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	if _, err := NewWriter(&failing{0}, 0); err == nil {
		t.Error("header error lost")
	}
	w, err := NewWriter(&failing{2}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.Bytes(1, []byte("x"))
	}
	if w.Err() == nil || w.Frames() != 1 {
		t.Errorf("%d frames, %v", w.Frames(), w.Err())
	}
}

func TestReadForeignFiles(t *testing.T) {
	var f []byte
	be := binary.BigEndian
	f = be.AppendUint32(f, magicMicros) // other byte order, microseconds
	f = append(f, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1)
	f = append(f, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 9, 'h', 'i')
	r, err := NewReader(bytes.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := r.Next(); err != nil || rec.Time != 5_000_007_000 || rec.Len != 9 || string(rec.Data) != "hi" {
		t.Errorf("%+v %v", rec, err)
	}
	for what, b := range map[string][]byte{
		"empty":        nil,
		"magic":        make([]byte, 24),
		"not ethernet": append(append([]byte{}, f[:23]...), 113),
	} {
		if _, err := NewReader(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for what, b := range map[string][]byte{
		"record header": f[:30],
		"record data":   f[:41],
		"huge record":   append(append([]byte{}, f[:32]...), 255, 0, 0, 0, 0, 0, 0, 0),
	} {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(what, err)
		}
		if _, err := r.Next(); err == nil || err == io.EOF {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		for err == nil {
			_, err = r.Next()
		}
	})
}
