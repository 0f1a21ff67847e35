package linux

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// packLiterals packs b as LZ4 blocks of literals, and one run where asked.
func packLiterals(b []byte) []byte {
	var out []byte
	block := []byte{0xf0}
	n := len(b) - 15
	for ; n >= 255; n -= 255 {
		block = append(block, 255)
	}
	block = append(append(block, byte(n)), b...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(block)))
	return append(out, block...)
}

// makeBzImage wraps an already packed payload.
func makeBzImage(packed []byte, want int) []byte {
	payload := binary.LittleEndian.AppendUint32(nil, lz4Legacy)
	payload = append(payload, packed...)
	payload = binary.LittleEndian.AppendUint32(payload, uint32(want))
	bz := make([]byte, 2*512+100)
	bz[0x1f1] = 1
	copy(bz[0x202:], "HdrS")
	binary.LittleEndian.PutUint32(bz[0x248:], 100)
	binary.LittleEndian.PutUint32(bz[0x24c:], uint32(len(payload)))
	return append(append(bz, payload...), "trailer"...)
}

func TestUnpackKernel(t *testing.T) {
	elf := append([]byte("\x7fELF"), bytes.Repeat([]byte("kernel"), 100)...)
	got, err := unpackKernel(makeBzImage(packLiterals(elf), len(elf)))
	if err != nil || !bytes.Equal(got, elf) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for want, bz := range map[string][]byte{
		"no HdrS":         make([]byte, 4096),
		"no HdrS ":        nil,
		"is damaged":      makeBzImage(packLiterals(elf), len(elf)+1),
		"is not an ELF":   makeBzImage(packLiterals(bytes.ToUpper(elf[2:])), len(elf)-2),
		"unpacked size":   makeBzImage(packLiterals(elf), 1<<31-1),
		"payload of":      makeBzImage(packLiterals(elf), len(elf))[:1100],
		"something else ": bytes.Replace(makeBzImage(packLiterals(elf), len(elf)), []byte{0x02, 0x21, 0x4c, 0x18}, []byte{0x28, 0xb5, 0x2f, 0xfd}, 1),
	} {
		if _, err := unpackKernel(bz); err == nil || !strings.Contains(err.Error(), strings.TrimRight(want, " ")) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// Blocks written out by hand from the format's description.
func TestLZ4Blocks(t *testing.T) {
	for _, c := range []struct {
		name, block string
		limit       int
		want        string // "" = damaged
	}{
		{"literals", "\x30abc", 10, "abc"},
		{"run of one byte", "\x16a\x01\x00\x10z", 20, "aaaaaaaaaaaz"},
		{"copy", "\x40abcd\x04\x00\x10e", 20, "abcdabcde"},
		{"overlap", "\x21ab\x02\x00\x10e", 20, "abababae"},
		{"long match", "\x1fa\x01\x00\x05\x10z", 40, "a" + strings.Repeat("a", 24) + "z"},
		{"zero offset", "\x10a\x00\x00", 20, ""},
		{"offset before the start", "\x10a\x02\x00", 20, ""},
		{"literals missing", "\x50abc", 20, ""},
		{"offset missing", "\x10a\x01", 20, ""},
		{"length missing", "\xf0\xff", 20, ""},
		{"literals beyond the limit", "\x50abcde", 4, ""},
		{"match beyond the limit", "\x1fa\x01\x00\xff\xff\xff\x00", 9, ""},
	} {
		got, err := unpackBlock(nil, []byte(c.block), c.limit)
		if c.want == "" && err == nil || c.want != "" && (err != nil || string(got) != c.want) {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	for _, bad := range []string{"\x01", "\x09\x00\x00\x00\x10a"} {
		if _, err := unpackLZ4([]byte(bad), 4); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzLZ4(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x00\x40abcd\x07\x00\x00\x00\x40abcd\x04\x00"), 12)
	f.Fuzz(func(t *testing.T, src []byte, want int) {
		want = min(max(want, 0), 1<<20)
		got, err := unpackLZ4(src, want)
		if err == nil && len(got) != want {
			t.Fatalf("%d bytes, want %d", len(got), want)
		}
	})
}
