package pio

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// recorder writes down each access; a read returns the port's number, cut to
// the width.
type recorder struct{ log []string }

func (r *recorder) accessor() *accessor {
	in := func(bits int, port uint16) { r.log = append(r.log, fmt.Sprintf("in%d %#x", bits, port)) }
	out := func(bits int, port uint16, v uint32) {
		r.log = append(r.log, fmt.Sprintf("out%d %#x %#x", bits, port, v))
	}
	return &accessor{
		in8:   func(p uint16) uint8 { in(8, p); return uint8(p) },
		in16:  func(p uint16) uint16 { in(16, p); return p },
		in32:  func(p uint16) uint32 { in(32, p); return uint32(p) | 0xABCD_0000 },
		out8:  func(p uint16, v uint8) { out(8, p, uint32(v)) },
		out16: func(p uint16, v uint16) { out(16, p, uint32(v)) },
		out32: func(p uint16, v uint32) { out(32, p, v) },
	}
}

func window(t *testing.T, base uint16, size uint32) (*Ports, *recorder) {
	t.Helper()
	r := &recorder{}
	p, err := newPorts(base, size, r.accessor())
	if err != nil {
		t.Fatal(err)
	}
	return p, r
}

func TestAccessesAreExactlyAsWideAsTheyAre(t *testing.T) {
	p, r := window(t, 0xC040, 0x20)
	if v := p.Load8(0); v != 0x40 {
		t.Errorf("Load8 is %#x", v)
	}
	if v := p.Load16(0x1E); v != 0xC05E {
		t.Errorf("Load16 is %#x", v)
	}
	if v := p.Load32(0x1C); v != 0xABCD_C05C {
		t.Errorf("Load32 is %#x", v)
	}
	p.Store8(0x1F, 0xFE)
	p.Store16(3, 0xFEDC)
	p.Store32(4, 0xFEDCBA98)
	bell := p.Doorbell(0x10)
	bell.Ring16(7)
	bell.Ring32(8)
	want := []string{
		"in8 0xc040", "in16 0xc05e", "in32 0xc05c",
		"out8 0xc05f 0xfe", "out16 0xc043 0xfedc", "out32 0xc044 0xfedcba98",
		"out16 0xc050 0x7", "out32 0xc050 0x8",
	}
	if !reflect.DeepEqual(r.log, want) {
		t.Errorf("accesses:\n got %q\nwant %q", r.log, want)
	}
	if p.Len() != 0x20 || p.Base() != 0xC040 {
		t.Errorf("window is %#x ports at %#x", p.Len(), p.Base())
	}
}

func TestAccessOutsideTheWindowPanics(t *testing.T) {
	p, r := window(t, 0xC040, 0x1E)
	for name, f := range map[string]func(){
		"Load8":      func() { p.Load8(0x1E) },
		"Load16":     func() { p.Load16(0x1D) },
		"Load32":     func() { p.Load32(0x1B) },
		"Store8":     func() { p.Store8(0xFFFF_FFFF, 1) },
		"Store16":    func() { p.Store16(0xFFFF_FFFF, 1) },
		"Store32":    func() { p.Store32(0xFFFF_FFFE, 1) },
		"Doorbell":   func() { p.Doorbell(0x1D) },
		"Doorbell32": func() { p.Doorbell(0x1C).Ring32(1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if s := fmt.Sprint(recover()); !strings.Contains(s, "outside the window of 0x1e ports at 0xc040") {
					t.Errorf("panic is %q", s)
				}
				if len(r.log) != 0 {
					t.Errorf("the access was made: %q", r.log)
				}
			}()
			f()
		})
	}
	p.Doorbell(0x1C).Ring16(1) // the last two ports
}

func TestWindowOutsideThePortSpace(t *testing.T) {
	for _, c := range []struct {
		base uint16
		size uint32
		ok   bool
	}{
		{0, 0x10000, true}, {0xFFFF, 1, true}, {0xFFF0, 0x10, true},
		{0, 0, false}, {0, 0x10001, false}, {1, 0x10000, false}, {0xFFFF, 2, false}, {0xFFFF, 0xFFFF_FFFF, false},
	} {
		_, err := newPorts(c.base, c.size, &accessor{})
		if (err == nil) != c.ok {
			t.Errorf("%#x ports at %#x: error %v, want success %v", c.size, c.base, err, c.ok)
		}
	}
}

func TestRingDoesNotAllocate(t *testing.T) {
	a := &accessor{out16: func(uint16, uint16) {}, out32: func(uint16, uint32) {}}
	p, err := newPorts(0x100, 4, a)
	if err != nil {
		t.Fatal(err)
	}
	bell := p.Doorbell(0)
	if n := testing.AllocsPerRun(1000, func() { bell.Ring16(1); bell.Ring32(2) }); n != 0 {
		t.Errorf("%v allocations per ring", n)
	}
}

// New only hands the instructions over; that they exist is all a host can see.
func TestNew(t *testing.T) {
	p, err := New(0xCF8, 8)
	if instructions == nil {
		if err != ErrNoPorts {
			t.Errorf("error %v, want ErrNoPorts", err)
		}
		return
	}
	if err != nil || p.Base() != 0xCF8 || p.Len() != 8 {
		t.Errorf("%+v, error %v", p, err)
	}
}
