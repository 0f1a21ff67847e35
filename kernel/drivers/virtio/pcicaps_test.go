package virtio_test

import (
	"encoding/binary"
	"testing"

	"osv/kernel/drivers/virtio"
)

// confSpace is 256 bytes of PCI configuration space.
type confSpace [256]byte

func (c *confSpace) read(off uint16) uint32 { return binary.LittleEndian.Uint32(c[off:]) }

// add puts a virtio capability at offset at.
func (c *confSpace) add(at, next, capLen, cfgType, bar byte, offset, length, mult uint32) {
	copy(c[at:], []byte{9, next, capLen, cfgType, bar})
	binary.LittleEndian.PutUint32(c[at+8:], offset)
	binary.LittleEndian.PutUint32(c[at+12:], length)
	if capLen >= 20 {
		binary.LittleEndian.PutUint32(c[at+16:], mult)
	}
}

// What QEMU 7.2 shows for -device virtio-net-pci.
func qemuNet() *confSpace {
	c := &confSpace{}
	c[6] = 0x10
	c[0x34] = 0x98
	copy(c[0x98:], []byte{0x11, 0x84}) // MSI-X
	c.add(0x84, 0x70, 20, 5, 0, 0, 0, 0)
	c.add(0x70, 0x60, 20, 2, 4, 0x3000, 0x1000, 4)
	c.add(0x60, 0x50, 16, 4, 4, 0x2000, 0x1000, 0)
	c.add(0x50, 0x40, 16, 3, 4, 0x1000, 0x1000, 0)
	c.add(0x40, 0, 16, 1, 4, 0, 0x1000, 0)
	return c
}

func TestFindPCICapsOfQEMU(t *testing.T) {
	got, err := virtio.FindPCICaps(qemuNet().read)
	want := virtio.PCICaps{
		Common: virtio.PCICap{BAR: 4, Offset: 0, Length: 0x1000},
		ISR:    virtio.PCICap{BAR: 4, Offset: 0x1000, Length: 0x1000},
		Device: virtio.PCICap{BAR: 4, Offset: 0x2000, Length: 0x1000},
		Notify: virtio.PCICap{BAR: 4, Offset: 0x3000, Length: 0x1000}, NotifyMultiplier: 4,
	}
	if err != nil || got != want || !got.Modern() {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFindPCICapsPassesOverWhatItMust(t *testing.T) {
	c := &confSpace{}
	if got, err := virtio.FindPCICaps(c.read); err != nil || got.Modern() {
		t.Errorf("no list: %+v, %v", got, err)
	}
	c = qemuNet()
	c[0x98+1] = 0xb0                              // a second common configuration, seen first
	c.add(0xb0, 0xc0, 16, 1, 6, 0, 0x1000, 0)     // in a reserved BAR
	c.add(0xc0, 0xd0, 12, 1, 1, 0, 0x1000, 0)     // too short
	c.add(0xd0, 0xe0, 16, 2, 1, 0, 0x1000, 0)     // notify without multiplier
	c.add(0xe0, 0xf0, 16, 3, 2, 0x40, 0x100, 0)   // a better ISR: the first counts
	c.add(0xf0, 0x84, 16, 0xee, 2, 0x40, 0x80, 0) // unknown type
	got, err := virtio.FindPCICaps(c.read)
	if err != nil || got.Common.BAR != 4 || got.Notify.BAR != 4 || got.ISR != (virtio.PCICap{BAR: 2, Offset: 0x40, Length: 0x100}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFindPCICapsOfGarbledList(t *testing.T) {
	c := qemuNet()
	c[0x41] = 0x98 // a loop
	if _, err := virtio.FindPCICaps(c.read); err == nil {
		t.Error("a loop is not noticed")
	}
	c[0x41] = 0x10 // into the header
	if _, err := virtio.FindPCICaps(c.read); err == nil {
		t.Error("a pointer into the header is not noticed")
	}
}

func FuzzFindPCICaps(f *testing.F) {
	f.Add(qemuNet()[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &confSpace{}
		copy(c[:], b)
		got, _ := virtio.FindPCICaps(func(off uint16) uint32 {
			if off > 252 || off%4 != 0 {
				t.Fatalf("read at %#x", off)
			}
			return c.read(off)
		})
		for _, p := range []virtio.PCICap{got.Common, got.Notify, got.ISR, got.Device} {
			if p.BAR > 5 {
				t.Fatalf("%+v", got)
			}
		}
	})
}

func TestPCIDeviceID(t *testing.T) {
	for _, c := range []struct {
		vendor, device, sub uint16
		id                  virtio.DeviceID
		transitional, ok    bool
	}{
		{0x1af4, 0x1041, 0x1100, virtio.IDNet, false, true},
		{0x1af4, 0x1000, 1, virtio.IDNet, true, true},
		{0x1af4, 0x1001, 2, virtio.IDBlock, true, true},
		{0x1af4, 0x1044, 0, virtio.IDEntropy, false, true},
		{0x1af4, 0x1110, 0, 0, false, false}, // ivshmem
		{0x8086, 0x1041, 1, 0, false, false},
	} {
		id, tr, ok := virtio.PCIDeviceID(c.vendor, c.device, c.sub)
		if id != c.id || tr != c.transitional || ok != c.ok {
			t.Errorf("%04x:%04x/%d: %d, %v, %v", c.vendor, c.device, c.sub, id, tr, ok)
		}
	}
}
