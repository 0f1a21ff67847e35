package mm

// Frames keeps contents of files in the memory that programs have, so that it can be
// mapped: what the page cache and tmpfs ask for a frame.
type Frames struct{ M Machine }

// Alloc returns a frame and its 4096 bytes, zeroed if zero is set; ENOMEM.
func (f Frames) Alloc(zero bool) (uint64, []byte, error) {
	var one [1]Frame
	if err := f.M.Alloc(one[:], 0, zero); err != nil {
		return 0, nil, err
	}
	return uint64(one[0]), f.M.Bytes(one[0], 0), nil
}

// Free takes a frame back.
func (f Frames) Free(frame uint64, _ []byte) { f.M.Free([]Frame{Frame(frame)}, 0) }
