package pci_test

import (
	"testing"

	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci"
	"osv/kernel/hw/pci/msi"
	"osv/kernel/ktest/fakepci"
)

// FuzzScan scans a bus with one function whose configuration space, and what of
// it can be written, are arbitrary, beside one that is sound; then it does with
// the devices found what a driver would.
func FuzzScan(f *testing.F) {
	for _, name := range []string{"q35.pci", "microvm-pcie.pci"} {
		bus := load(f, name)
		for _, d := range pci.Scan(bus, pci.Options{}).Devices {
			b := make([]byte, 512)
			for off := range uint16(128) {
				v := bus.At(d.Addr).Get32(off * 4)
				b[off*4], b[off*4+1], b[off*4+2], b[off*4+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
			}
			f.Add(b, []byte{4: 0x47, 5: 7, 0x10: 0xFF, 0xF0, 0xFF, 0xFF, 0, 0xF0, 0xFF, 0xFF}, uint16(0))
		}
	}
	f.Fuzz(func(t *testing.T, cfg, writable []byte, gone uint16) {
		odd := fakepci.NewDevice(0, 0, 0)
		odd.Put(0, cfg[:min(len(cfg), fakepci.ConfigLen)]...)
		odd.PutWritable(0, writable[:min(len(writable), fakepci.ConfigLen)]...)
		odd.GoneAfter = int(gone)
		bus := fakepci.New()
		bus.Add(at(0, 2, 0), odd)
		bus.Add(at(0, 3, 0), fakepci.NewDevice(0x1AF4, 0x1041, 0x020000).Memory32(0, 0, 0x1000))
		bus.Add(at(1, 0, 0), fakepci.NewDevice(0x1AF4, 0x1041, 0x020000).Memory32(0, 0, 0x1000))
		opt := root(mem(0xC000_0000, 0x1000_0000), io(0x1000, 0xF000))
		opt.RAM, opt.PhysBits = []pci.Range{{Base: 0, Size: 1 << 30}, {Base: 1 << 32, Size: 1 << 30}}, 40
		r := pci.Scan(bus, opt)
		sound := false
		for _, d := range r.Devices {
			// It may find no room for its BAR, but then that is said.
			sound = sound || d.Addr == at(0, 3, 0) && (d.BARs[0].Assigned() || len(r.Warnings) > 0)
			useDevice(t, d, opt)
		}
		if !sound {
			t.Fatalf("the sound device is lost; warnings %q", r.Warnings)
		}
	})
}

// useDevice checks what a Device promises, and uses all of it.
func useDevice(t *testing.T, d *pci.Device, opt pci.Options) {
	for i, b := range d.BARs {
		if !b.Present() {
			continue
		}
		end := uint64(1) << opt.PhysBits
		if b.Kind == pci.IO {
			end = 1 << 16
		}
		if b.Size&(b.Size-1) != 0 || b.Base%b.Size != 0 || b.Base+b.Size > end {
			t.Fatalf("%v: BAR %d: %v", d, i, b)
		}
		for _, r := range opt.RAM {
			if b.Kind != pci.IO && b.Assigned() && b.Base < r.Base+r.Size && r.Base < b.Base+b.Size {
				t.Fatalf("%v: BAR %d: %v is in RAM", d, i, b)
			}
		}
		d.MapBAR(i, anything{})
	}
	for _, c := range d.Caps {
		if c.Off < 0x40 || c.Off > 0xFC || c.Off%4 != 0 {
			t.Fatalf("%v: capability %+v", d, c)
		}
	}
	for _, c := range d.ExtCaps {
		if c.Off < 0x100 || c.Off > 0xFFC || c.Off%4 != 0 {
			t.Fatalf("%v: extended capability %+v", d, c)
		}
	}
	if m, err := d.MSI(); err == nil {
		m.Enable(msi.Message{Addr: 0xFEE0_0000, Data: 0x40}, m.Max)
		if m.Maskable() {
			m.SetMask(m.Max-1, true)
		}
		m.Disable()
	}
	if x, err := d.MSIX(anything{}); err == nil {
		if err := x.Enable([]msi.Message{message(0)}); err != nil {
			t.Fatal(err)
		}
		x.Mask(x.Len() - 1)
		x.Pending(x.Len() - 1)
		x.Disable()
	}
	d.SetBusMaster(true)
	d.SetINTx(false)
}

// anything maps any address to memory of its own.
type anything struct{}

func (anything) Map(_ uint64, size int) (mmio.Space, error) {
	// What a driver maps by way of MapBAR may be large; its size is not the point.
	return &fakepci.RAM{B: make([]byte, min(size, 1<<16))}, nil
}
