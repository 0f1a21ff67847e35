package imagefmt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// memDisk is a raw disk in memory.
type memDisk []byte

func (m memDisk) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }

func (m memDisk) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], p), nil
}

var good = Header{CommandLine: CommandLineSector, Payload: PayloadSector, PayloadBytes: 100, MemBytes: 200, Load: 0x400000, Entry: 0x400010}

// disk has an OSv partition as its third, from sector 40 on.
func disk(h Header, line string) memDisk {
	const part = 40
	b := make(memDisk, 128*SectorBytes)
	copy(b[SectorBytes:], "EFI PART")
	le := binary.LittleEndian
	le.PutUint64(b[SectorBytes+72:], 2)
	le.PutUint32(b[SectorBytes+80:], 4)
	le.PutUint32(b[SectorBytes+84:], 128)
	e := b[2*SectorBytes+2*128:]
	copy(e, Type[:])
	le.PutUint64(e[32:], part)
	copy(b[part*SectorBytes:], h.Sector())
	area, err := CommandLineArea(line)
	if err != nil {
		panic(err)
	}
	copy(b[(part+int(h.CommandLine))*SectorBytes:], area)
	return b
}

func TestHeaderRoundTrip(t *testing.T) {
	h, err := ParseHeader(good.Sector())
	if err != nil || h != good {
		t.Errorf("%+v, %v; want %+v", h, err, good)
	}
	for i := range SectorBytes { // no byte may change unseen
		b := good.Sector()
		b[i] ^= 0x40
		if _, err := ParseHeader(b); err == nil {
			t.Fatalf("byte %d may change", i)
		}
	}
	for name, h := range map[string]Header{
		"no line": {Payload: 16, PayloadBytes: 1, MemBytes: 1}, "no payload": {CommandLine: 1, PayloadBytes: 1, MemBytes: 1},
		"empty": {CommandLine: 1, Payload: 16}, "too short": {CommandLine: 1, Payload: 16, PayloadBytes: 2, MemBytes: 1},
	} {
		if _, err := ParseHeader(h.Sector()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ParseHeader(make([]byte, 100)); err == nil {
		t.Error("a short sector is a header")
	}
}

func TestCommandLine(t *testing.T) {
	for _, line := range []string{"", "--verbose -- -m 64", strings.Repeat("x", MaxCommandLine)} {
		d := disk(good, "what was there before")
		if err := SetCommandLine(d, line); err != nil {
			t.Fatal(err)
		}
		got, err := ReadCommandLine(d)
		if err != nil || got != line {
			t.Errorf("%.20q (%d bytes) comes back as %.20q, %v", line, len(line), got, err)
		}
		want := disk(good, line)
		if !bytes.Equal(d, want) {
			t.Error("setting leaves other bytes than building")
		}
	}
	d := disk(good, "")
	for _, line := range []string{strings.Repeat("x", MaxCommandLine+1), "a\x00b"} {
		if err := SetCommandLine(d, line); err == nil {
			t.Errorf("%.20q: no error", line)
		}
	}
}

// A damaged line is reported, and can be set anew.
func TestDamagedCommandLine(t *testing.T) {
	d := disk(good, "--ip=1")
	at := 41 * SectorBytes
	for _, i := range []int{0, 8, 12, 15, 16, 21} {
		d[at+i] ^= 1
		if l, err := ReadCommandLine(d); err == nil {
			t.Errorf("byte %d: reads as %q", i, l)
		}
		if err := SetCommandLine(d, "new"); err != nil {
			t.Fatal(err)
		}
		if l, err := ReadCommandLine(d); l != "new" || err != nil {
			t.Errorf("byte %d: set anew reads as %q, %v", i, l, err)
		}
		copy(d[at:], disk(good, "--ip=1")[at:])
	}
}

func TestFindRefuses(t *testing.T) {
	for name, break_ := range map[string]func(memDisk){
		"no table":        func(d memDisk) { d[SectorBytes] = 0 },
		"too many":        func(d memDisk) { d[SectorBytes+81] = 1 },
		"odd entries":     func(d memDisk) { d[SectorBytes+84] = 0 },
		"table far away":  func(d memDisk) { d[SectorBytes+78] = 1 },
		"table cut off":   func(d memDisk) { d[SectorBytes+72] = 0x7f; d[SectorBytes+80] = 8 },
		"no partition":    func(d memDisk) { d[2*SectorBytes+2*128] ^= 1 },
		"starts at 0":     func(d memDisk) { d[2*SectorBytes+2*128+32] = 0 },
		"starts far away": func(d memDisk) { d[2*SectorBytes+2*128+37] = 9 },
		"starts behind":   func(d memDisk) { d[2*SectorBytes+2*128+33] = 9 },
		"no header":       func(d memDisk) { d[40*SectorBytes] = 0 },
		"no line": func(d memDisk) {
			copy(d[40*SectorBytes:], Header{CommandLine: 120, Payload: 16, PayloadBytes: 1, MemBytes: 1}.Sector())
		},
	} {
		d := disk(good, "x")
		break_(d)
		if l, err := ReadCommandLine(d); err == nil {
			t.Errorf("%s: read %q", name, l)
		}
		if name == "no line" {
			continue
		}
		if _, _, err := Find(d); err == nil {
			t.Errorf("%s: found", name)
		}
	}
	if _, _, err := Find(memDisk{}); !errors.Is(err, ErrNoPartition) {
		t.Errorf("an empty disk: %v", err)
	}
}

func FuzzReadCommandLine(f *testing.F) {
	f.Add([]byte(disk(good, "--verbose")))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := memDisk(b)
		line, err := ReadCommandLine(d)
		if err != nil {
			return
		}
		if err := SetCommandLine(d, line); err != nil {
			t.Fatal(err)
		}
		if again, err := ReadCommandLine(d); err != nil || again != line {
			t.Fatalf("%q, %v; was %q", again, err, line)
		}
	})
}
