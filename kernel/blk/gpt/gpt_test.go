package gpt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"unicode/utf16"

	"osv/kernel/blk/gpt"
)

type entry struct {
	kind, id    gpt.GUID
	first, last uint64
	name        string
}

// build lays a table of these entries on a disk of that many blocks.
func build(bs, blocks int, entries []entry) []byte {
	le := binary.LittleEndian
	table := make([]byte, 128*128)
	for i, e := range entries {
		b := table[i*128:]
		copy(b, e.kind[:])
		copy(b[16:], e.id[:])
		le.PutUint64(b[32:], e.first)
		le.PutUint64(b[40:], e.last)
		for j, u := range utf16.Encode([]rune(e.name)) {
			le.PutUint16(b[56+2*j:], u)
		}
	}
	d := make([]byte, bs*blocks)
	n := (len(table) + bs - 1) / bs
	header := func(self, other, at int) {
		h := d[self*bs:][:bs]
		copy(h, "EFI PART")
		le.PutUint32(h[8:], 0x10000)
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], uint64(self))
		le.PutUint64(h[32:], uint64(other))
		le.PutUint64(h[40:], uint64(2+n))
		le.PutUint64(h[48:], uint64(blocks-2-n))
		copy(h[56:], "the disk's GUID.")
		le.PutUint64(h[72:], uint64(at))
		le.PutUint32(h[80:], 128)
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		copy(d[at*bs:], table)
	}
	header(1, blocks-1, 2)
	header(blocks-1, 1, blocks-1-n)
	return d
}

var two = []entry{
	{kind: gpt.GUID{1}, id: gpt.GUID{2}, first: 40, last: 49, name: "boot"},
	{},
	{kind: gpt.LinuxData, id: gpt.GUID{3}, first: 50, last: 50, name: "Daten größer als 20 Zeichen, 36 sind"},
}

func TestRead(t *testing.T) {
	for _, bs := range []int{512, 4096} {
		d := build(bs, 200, two)
		got, err := gpt.Read(bytes.NewReader(d), int64(len(d)), bs)
		if err != nil {
			t.Fatal(err)
		}
		if got.Backup || string(got.Disk[:]) != "the disk's GUID." || len(got.Partitions) != 2 {
			t.Fatalf("%+v", got)
		}
		want := gpt.Partition{Number: 3, Type: gpt.LinuxData, ID: gpt.GUID{3}, Name: two[2].name, Offset: int64(50 * bs), Size: int64(bs)}
		if p := got.Partitions[1]; p != want {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
	if s := gpt.LinuxData.String(); s != "0fc63daf-8483-4772-8e79-3d69d8477de4" {
		t.Error(s)
	}
}

// Where the first copy is damaged in any byte that counts, the second is read; where
// both are, it is an error that says so.
func TestReadTakesTheBackup(t *testing.T) {
	const bs, blocks = 512, 200
	for at := 0; at < 512+128*128; at++ {
		if at > 600 && at%97 != 0 {
			continue
		}
		d := build(bs, blocks, two)
		d[bs+at] ^= 0x40
		counts := at < 92 || at >= 512 && at < 512+128*128
		got, err := gpt.Read(bytes.NewReader(d), int64(len(d)), bs)
		if err != nil || got.Backup != counts || len(got.Partitions) != 2 {
			t.Fatalf("byte %d: %+v, %v", at, got, err)
		}
	}
	d := build(bs, blocks, two)
	d[bs+60] ^= 1
	d[(blocks-1)*bs+60] ^= 1
	if _, err := gpt.Read(bytes.NewReader(d), int64(len(d)), bs); err == nil || !strings.Contains(err.Error(), "header at block 1: CRC-32") {
		t.Error(err)
	}
}

// resum makes the sums of the first copy right again.
func resum(d []byte, bs int) {
	le := binary.LittleEndian
	h := d[bs:]
	n := uint64(le.Uint32(h[80:])) * uint64(le.Uint32(h[84:]))
	if at := le.Uint64(h[72:]); at < uint64(len(d)/bs) && n <= uint64(len(d))-at*uint64(bs) {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(d[at*uint64(bs):][:n]))
	}
	le.PutUint32(h[16:], 0)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
}

func TestReadRefuses(t *testing.T) {
	le := binary.LittleEndian
	const bs, blocks = 512, 200
	for _, c := range []struct {
		name string
		do   func(h []byte)
		want string
	}{
		{"revision", func(h []byte) { le.PutUint32(h[8:], 0x20000) }, "revision 0x20000"},
		{"length", func(h []byte) { le.PutUint32(h[12:], 513) }, "513 bytes"},
		{"place", func(h []byte) { le.PutUint64(h[24:], 7) }, "that of block 7"},
		{"usable", func(h []byte) { le.PutUint64(h[48:], 200) }, "usable blocks 34 to 200 of 200"},
		{"turned", func(h []byte) { le.PutUint64(h[40:], 190) }, "usable blocks 190"},
		{"size of entries", func(h []byte) { le.PutUint32(h[84:], 130) }, "128 entries of 130 bytes"},
		{"number of entries", func(h []byte) { le.PutUint32(h[80:], 1<<31) }, "entries of 128 bytes"},
		{"entries at the end", func(h []byte) { le.PutUint64(h[72:], 190) }, "at block 190 of 200"},
		{"entries beyond", func(h []byte) { le.PutUint64(h[72:], 1<<63) }, "of 200"},
	} {
		d := build(bs, blocks, two)
		c.do(d[bs:])
		resum(d, bs)
		clear(d[(blocks-1)*bs:])
		if _, err := gpt.Read(bytes.NewReader(d), int64(len(d)), bs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	// An entry that cannot be is passed over.
	for _, e := range []entry{{kind: gpt.GUID{1}, first: 3, last: 9}, {kind: gpt.GUID{1}, first: 60, last: 59}, {kind: gpt.GUID{1}, first: 60, last: 1 << 60}} {
		d := build(bs, blocks, []entry{e, two[0]})
		got, err := gpt.Read(bytes.NewReader(d), int64(len(d)), bs)
		if err != nil || len(got.Partitions) != 1 || got.Partitions[0].Number != 2 {
			t.Errorf("%+v: %+v, %v", e, got, err)
		}
	}
	none := make([]byte, bs*blocks)
	for _, size := range []int64{0, bs, bs * blocks} {
		if _, err := gpt.Read(bytes.NewReader(none), size, bs); !errors.Is(err, gpt.ErrNone) {
			t.Errorf("%d bytes without a table: %v", size, err)
		}
	}
	if _, err := gpt.Read(bytes.NewReader(none), bs*blocks, 1000); err == nil {
		t.Error("blocks of 1000 bytes are taken")
	}
	if _, err := gpt.Read(bytes.NewReader(none[:bs]), bs*blocks, bs); !errors.Is(err, io.EOF) {
		t.Errorf("a disk that cannot be read: %v", err)
	}
}

// Whatever is on a disk, what is read lies on it.
func FuzzRead(f *testing.F) {
	const bs, blocks = 512, 80
	d := build(bs, blocks, two[:1])
	f.Add(d[bs:2*bs], d[2*bs:4*bs])
	f.Add(bytes.Repeat([]byte{0xff}, 92), []byte{})
	f.Fuzz(func(t *testing.T, header, entries []byte) {
		d := build(bs, blocks, two[:1])
		copy(d[bs:2*bs], header)
		copy(d[2*bs:34*bs], entries)
		copy(d[bs:], "EFI PART")
		resum(d, bs)
		got, err := gpt.Read(bytes.NewReader(d), int64(len(d)), bs)
		if err != nil {
			return
		}
		for _, p := range got.Partitions {
			if p.Offset < 0 || p.Size <= 0 || p.Offset > int64(len(d))-p.Size || p.Number < 1 {
				t.Fatalf("%+v of %d bytes", p, len(d))
			}
		}
	})
}
