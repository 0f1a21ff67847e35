package e1000_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"osv/kernel/drivers/e1000"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakee1000"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The order of accesses from power-on to the first frame, SDM §14.3 to §14.5 and
// 82574 §4.6. The NVM's words and the tables, which are all alike, are left out.
func TestInitFollowsTheManual(t *testing.T) {
	for _, c := range []struct {
		file string
		opt  rigOpt
	}{{"testdata/82540em.regs", rigOpt{}}, {"testdata/82574l-msix.regs", rigOpt{ext: true, msix: true}}} {
		var tr *fakedev.Transcript
		c.opt.wrap = func(s mmio.Space) mmio.Space {
			tr = &fakedev.Transcript{Behind: s}
			return tr
		}
		r := newRig(t, c.opt)
		var out strings.Builder
		for _, l := range strings.SplitAfter(tr.String(), "\n") {
			f := strings.Fields(l)
			if len(f) == 3 && (f[1] == "014" || len(f[1]) == 4 && (f[1] > "5200" && f[1] < "5400" || f[1] > "5404" && f[1] < "5480")) {
				continue
			}
			if len(f) == 3 && (f[1] == "2800" || f[1] == "3800") {
				l = f[0] + " " + f[1] + " ring\n" // an address
			}
			out.WriteString(l)
		}
		_ = r
		if *update {
			if err := os.WriteFile(c.file, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(c.file)
		if err != nil || string(want) != out.String() {
			t.Errorf("%s: got\n%s\nwant\n%s\n%v", c.file, out.String(), want, err)
		}
	}
}

// What the configuration cannot be, and what a device may do wrong at the start:
// each has its message, and nothing is kept.
func TestNewRefuses(t *testing.T) {
	type card = fakee1000.Card
	for _, c := range []struct {
		want   string
		opt    rigOpt
		before func(*card)
	}{
		{"e1000: no model 77", rigOpt{cfg: e1000.Config{Model: 77}}, nil},
		{"e1000: 82574L: an MTU of 9001, want 68 to 9000", rigOpt{ext: true, cfg: e1000.Config{MTU: 9001}}, nil},
		{"e1000: 82574L: a ring of 20 descriptors, want a multiple of 8 from 16 to 4096", rigOpt{ext: true, cfg: e1000.Config{RxRing: 20}}, nil},
		{"e1000: 82540EM: a ring of 8192 descriptors, want a multiple of 8 from 16 to 4096", rigOpt{cfg: e1000.Config{TxRing: 8192}}, nil},
		{"e1000: 82540EM: it has no MSI-X", rigOpt{msix: true}, nil},
		{"e1000: eth0: buffers of 256 bytes hold no frame", rigOpt{bufSize: 256}, nil},
		{"e1000: eth0: a frame of 9018 bytes takes 36 of 64 receive descriptors", rigOpt{bufSize: 320, cfg: e1000.Config{MTU: 9000, RxRing: 64}}, nil},
		{"e1000: eth0: STATUS reads 0xffffffff: there is no device", rigOpt{}, func(c *card) { c.Gone = true }},
		{"e1000: eth0: CTRL reads 0x4000048: the reset does not end: the device does not stop", rigOpt{}, func(c *card) { c.ResetSticks = true }},
		{"e1000: eth0: STATUS reads 0x80083 after GIO Master Disable: the device does not stop", rigOpt{ext: true}, func(c *card) { c.MasterSticks = true }},
		{"e1000: eth0: EECD reads 0x100: the NVM was not read", rigOpt{ext: true}, func(c *card) { c.AutoReadHang = true }},
		{"e1000: eth0: NVM word 0 is not read: EERD 0x1, and receive address 0 is 000000000000, RAH 0x0", rigOpt{}, func(c *card) { c.NoNVM, c.NoRAL = true, true; c.Regs().Store32(0, 1<<26) }},
		{"e1000: eth0: the MAC address is 010203040506, and receive address 0 is 010203040506, RAH 0x80000605", rigOpt{ext: true}, func(c *card) { c.NVMMAC = [6]byte{1, 2, 3, 4, 5, 6} }},
		{"e1000: eth0: MDIC reads 0x8200000: PHY register 0 does not answer", rigOpt{}, func(c *card) { c.PHYSilent = true }},
		{"e1000: eth0: MDIC reads 0x58200000: an error of PHY register 0", rigOpt{}, func(c *card) { c.PHYError = true }},
	} {
		c.opt.before = c.before
		r, err := tryRig(t, c.opt)
		if err == nil {
			t.Errorf("no error, want %q", c.want)
			r.close()
			continue
		}
		if got, _, _ := strings.Cut(err.Error(), "\n"); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
		r.card.Violations = nil
		r.leaks()
	}
	var mem fakedev.Mem
	c := fakee1000.New(&mem, false)
	for _, lines := range [][]irq.Line{nil, {&fakedev.Line{}}} {
		if _, err := e1000.New(c.Regs(), &mem, lines, e1000.Config{Model: e1000.Model82540EM}); err == nil {
			t.Error("no line, or no pool, and no error")
		}
	}
	if _, err := e1000.New(&fakedev.Transcript{}, &mem, []irq.Line{&fakedev.Line{}}, e1000.Config{Model: e1000.Model82540EM}); err == nil {
		t.Error("a window of 4 KiB and no error")
	}
}

// Where the NVM cannot be read, or its checksum is wrong, the address that the
// device loaded itself is used, and Fault says so.
func TestMACFromReceiveAddress(t *testing.T) {
	for _, c := range []struct {
		want   string
		before func(*fakee1000.Card)
	}{
		{"e1000: eth0: NVM words add up to 0xbabb, want 0xbaba", func(c *fakee1000.Card) { c.BadNVMSum = true }},
		{"e1000: eth0: NVM word 0 is not read: EERD 0x1", func(c *fakee1000.Card) { c.NoNVM = true }},
	} {
		r := newRig(t, rigOpt{before: c.before})
		if m := r.dev.Caps().MAC; m != fakee1000.MAC {
			t.Errorf("MAC %x", m)
		}
		if err := r.dev.Fault(); err == nil || err.Error() != c.want {
			t.Errorf("fault %v, want %s", err, c.want)
		}
	}
}

func TestPHYIsMadeToNegotiate(t *testing.T) {
	for _, c := range []struct{ before, after uint16 }{{0x1140, 0x1140}, {0x0140, 0x1340}, {0x1D40, 0x1340}} {
		r := newRig(t, rigOpt{before: func(f *fakee1000.Card) { f.PHYControl = c.before; f.Regs().Store32(0, 1<<26) }})
		if got := r.card.PHY(0); got != c.after {
			t.Errorf("PHY control %#x became %#x, want %#x", c.before, got, c.after)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		vendor, device uint16
		want           string
	}{{0x8086, 0x100E, "82540EM"}, {0x8086, 0x100F, "82545EM"}, {0x8086, 0x10D3, "82574L"}, {0x8086, 0x10C9, ""}, {0x15AD, 0x100E, ""}} {
		m, ok := e1000.Lookup(c.vendor, c.device)
		if ok != (c.want != "") || ok && m.String() != c.want {
			t.Errorf("%04x:%04x: %v, %v", c.vendor, c.device, m, ok)
		}
	}
	if e1000.Model(9).String() != "model 9" {
		t.Error(e1000.Model(9))
	}
}
