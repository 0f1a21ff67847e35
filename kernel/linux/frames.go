package linux

import (
	"osv/kernel/linux/mm"
	"osv/kernel/vfs/tmpfs"
)

// Frames keeps file contents in the memory that programs have, so that they can be
// mapped.
func Frames(m mm.Machine) tmpfs.Frames { return frames{m} }

// frames keeps file contents in the machine's frames, so that they can be mapped.
type frames struct{ m mm.Machine }

// Alloc is of tmpfs.Frames.
func (f frames) Alloc(zero bool) (uint64, []byte, error) {
	var one [1]mm.Frame
	if err := f.m.Alloc(one[:], 0, zero); err != nil {
		return 0, nil, err
	}
	return uint64(one[0]), f.m.Bytes(one[0], 0)[:mm.PageSize], nil
}

// Free is of tmpfs.Frames.
func (f frames) Free(frame uint64, _ []byte) { f.m.Free([]mm.Frame{mm.Frame(frame)}, 0) }
