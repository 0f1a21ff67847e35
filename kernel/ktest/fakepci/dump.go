package fakepci

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"osv/kernel/hw/pci"
)

// Load reads a captured machine: for each function a line with its address and
// the sizes of its BARs, then its bytes in rows of 16, rows of zeroes left out:
//
//	0000:00:01.0 0=io:40 1=mem:1000 4=mem64:4000
//	000: f4 1a 00 10 …
//
// Numbers are hexadecimal. The word conventional in place of a BAR says that
// the function has no extended configuration space, so that 0x100 and on read as
// all ones. Besides the BARs the command register and the MSI and
// MSI-X capabilities are writable.
func Load(r io.Reader) (*Bus, error) {
	b := New()
	var f *Function
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		var err error
		if strings.Count(line, ":") >= 2 {
			f, err = b.loadFunction(line)
		} else if f == nil {
			err = fmt.Errorf("bytes before a function")
		} else {
			err = f.loadRow(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n, line, err)
		}
	}
	for _, f := range b.functions {
		f.unlockCaps()
	}
	return b, lines.Err()
}

func (b *Bus) loadFunction(line string) (*Function, error) {
	fields := strings.Fields(line)
	var a pci.Addr
	if _, err := fmt.Sscanf(fields[0], "%04x:%02x:%02x.%1x", &a.Segment, &a.Bus, &a.Device, &a.Function); err != nil {
		return nil, err
	}
	f := &Function{}
	f.PutWritable(offCommand, 0x47, 0x07)
	for _, s := range fields[1:] {
		if s == "conventional" {
			f.Put(offFirstExt, bytes.Repeat([]byte{0xFF}, ConfigLen-offFirstExt)...)
			continue
		}
		var i int
		var kind string
		var size uint64
		if _, err := fmt.Sscanf(strings.NewReplacer("=", " ", ":", " ").Replace(s), "%d %s %x", &i, &kind, &size); err != nil {
			return nil, err
		}
		switch kind {
		case "io":
			f.IO(i, 0, uint16(size))
		case "mem":
			f.Memory32(i, 0, uint32(size))
		case "mem64":
			f.Memory64(i, 0, size)
		default:
			return nil, fmt.Errorf("BAR of kind %q", kind)
		}
	}
	b.functions[a] = f
	return f, nil
}

func (f *Function) loadRow(line string) error {
	head, row, _ := strings.Cut(line, ":")
	var off uint16
	if _, err := fmt.Sscanf(head, "%x", &off); err != nil {
		return err
	}
	b, err := hex.DecodeString(strings.ReplaceAll(row, " ", ""))
	if err != nil {
		return err
	}
	if int(off)+len(b) > ConfigLen {
		return fmt.Errorf("beyond %#x", ConfigLen)
	}
	f.Put(off, b...)
	return nil
}

// unlockCaps makes the registers of MSI and MSI-X writable.
func (f *Function) unlockCaps() {
	if f.cfg[offStatus]&statusCaps == 0 {
		return
	}
	for off, n := f.cfg[offCapPointer], 0; off != 0 && n < 48; off, n = f.cfg[off+1], n+1 {
		switch f.cfg[off] {
		case pci.CapMSI:
			f.PutWritable(uint16(off)+2, 0x71, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)
		case pci.CapMSIX:
			f.PutWritable(uint16(off)+3, 0xC0)
		}
	}
}
