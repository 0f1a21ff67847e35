package fakedev

// RNG plays an entropy source, §5.4: it fills buffers with a counter.
type RNG struct {
	Device
	Chunk int // bytes given at a time; 0: as many as there is room

	// Lies. Each is used up by one buffer.
	Empty   bool // nothing is written
	LongLen bool // more than there is room

	next byte
}

// NewRNG makes an entropy source with a queue of at most max descriptors.
func NewRNG(mem *Mem, features uint64, max int) *RNG {
	r := &RNG{}
	r.ID, r.Mem, r.Offered = 4, mem, features
	r.Init(1, max)
	return r
}

// Auto makes the device fill buffers within the doorbell's write.
func (r *RNG) Auto() { r.onNotify = func(int) { r.Step() } }

// Step fills all buffers offered and returns how many.
func (r *RNG) Step() (n int) {
	q := r.Queues[0]
	for {
		c, ok := q.Pop()
		if !ok {
			break
		}
		n++
		size := c.Writable()
		if r.Chunk > 0 {
			size = min(size, r.Chunk)
		}
		b := make([]byte, size)
		for i := range b {
			r.next++
			b[i] = r.next
		}
		c.Write(0, b)
		if r.Empty {
			r.Empty, size = false, 0
		}
		if r.LongLen {
			r.LongLen, size = false, c.Writable()+1
		}
		q.Push(c.Head, size)
	}
	if n > 0 {
		q.Flush()
	}
	return n
}
