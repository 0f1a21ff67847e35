package fakemm

import (
	"encoding/binary"

	"osv/kernel/linux/mm"
)

// CPU runs accesses of a user program in a space: it faults until they succeed.
type CPU struct {
	S      *mm.Space
	Faults int
}

// do makes one access at va, within a page.
func (c *CPU) do(va uint64, want mm.Prot, f func(b []byte)) error {
	t := c.S.Table().(*Table)
	for {
		code, ok := t.Touch(va, want, f)
		if ok {
			return nil
		}
		c.Faults++
		if err := c.S.Fault(va, code); err != nil {
			return err
		}
	}
}

// Read loads len(p) bytes from va; the error is what Fault returned.
func (c *CPU) Read(va uint64, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), int(pageSize-va%pageSize))
		if err := c.do(va, mm.ProtRead, func(b []byte) { copy(p[:n], b) }); err != nil {
			return err
		}
		va, p = va+uint64(n), p[n:]
	}
	return nil
}

// Write stores p at va.
func (c *CPU) Write(va uint64, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), int(pageSize-va%pageSize))
		if err := c.do(va, mm.ProtWrite, func(b []byte) { copy(b, p[:n]) }); err != nil {
			return err
		}
		va, p = va+uint64(n), p[n:]
	}
	return nil
}

// Load and Store are one word, which may not cross a page.
func (c *CPU) Load(va uint64) (x uint64, err error) {
	err = c.do(va, mm.ProtRead, func(b []byte) { x = binary.LittleEndian.Uint64(b) })
	return x, err
}

func (c *CPU) Store(va, x uint64) error {
	return c.do(va, mm.ProtWrite, func(b []byte) { binary.LittleEndian.PutUint64(b, x) })
}

// Fetch executes at va.
func (c *CPU) Fetch(va uint64) error { return c.do(va, mm.ProtExec, func([]byte) {}) }
