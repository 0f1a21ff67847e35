package usermem

import (
	"sync/atomic"
	"syscall"
)

// reserve is the memory that programs and files do not get: the Go heap, threads and
// drivers have no one to ask and end the guest where there is nothing left.
type reserve struct {
	keep atomic.Uint64 // bytes
	want func() uint64
	n    atomic.Uint32
}

// askEvery is how many trips below the runtime pass between two questions of how much
// is to be kept: some 4 MiB.
const askEvery = 16

// SetReserve keeps so many bytes free; want is asked again as memory is taken. It is
// called before programs run.
func (m *Machine) SetReserve(want func() uint64) {
	m.reserve.want = want
	m.reserve.keep.Store(want())
}

// allocFrames is Hardware.AllocFrames for all but what is kept.
func (m *Machine) allocFrames(list []uint64, order uint) error {
	r := &m.reserve
	if r.want != nil {
		if r.n.Add(1)%askEvery == 0 {
			r.keep.Store(r.want())
		}
		if m.hw.FreeMemory() < r.keep.Load()+uint64(len(list))*pageSize<<order {
			return syscall.ENOMEM
		}
	}
	return m.hw.AllocFrames(list, order)
}
