package task

import (
	"fmt"

	"osv/kernel/linux/mm"
)

// memory adds what an address space tells.
func (u *Usage) memory(s *mm.Space) {
	st := s.Stat()
	u.MinorFaults += int64(st.Faults)
	u.MajorFaults += int64(st.IOWaits)
	u.MaxRSS = max(u.MaxRSS, int64(st.PeakRSS))
}

// code is the bytes of memory around an address, for a message about a crash.
func (t *Task) code(rip uint64) string {
	var b [24]byte
	if rip < 8 || t.mem.CopyIn(b[:], rip-8) != nil {
		return "code: not readable"
	}
	return fmt.Sprintf("code: % x <%02x> % x", b[:8], b[8], b[9:])
}
