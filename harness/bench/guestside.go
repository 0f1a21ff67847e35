package bench

import (
	"context"
	"fmt"

	"osv/harness/guestapi"
	"osv/harness/journal"
)

// Managed is a guest that can be asked about itself.
type Managed interface {
	// API is the guest's REST API, nil where it has none.
	API() *guestapi.Client
}

// guestSide reads what a guest tells of itself before and after a load. It serves
// profiles only: in a claimed window the questions would be load, and Linux guests
// answer none.
type guestSide struct {
	client *guestapi.Client

	cpus       []guestapi.Processor
	fast, slow uint64
	err        error
}

func (s *guestSide) start(ctx context.Context) {
	if s.client == nil {
		return
	}
	if s.cpus, s.err = s.client.Processors(ctx); s.err == nil {
		s.fast, s.slow, s.err = s.frames(ctx)
	}
}

// stop returns nil where the guest has no API.
func (s *guestSide) stop(ctx context.Context) (*journal.GuestSide, error) {
	if s.client == nil {
		return nil, nil
	}
	cpus, err := s.client.Processors(ctx)
	if s.err != nil {
		err = s.err
	}
	var mem guestapi.Memory
	if err == nil {
		mem, err = s.client.Memory(ctx)
	}
	var fast, slow uint64
	if err == nil {
		fast, slow, err = s.frames(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("the guest's own figures: %w", err)
	}
	var busy, all int64
	for i, c := range cpus {
		if i < len(s.cpus) {
			busy += c.BusyMS - s.cpus[i].BusyMS
			all += c.BusyMS - s.cpus[i].BusyMS + c.IdleMS - s.cpus[i].IdleMS
		}
	}
	out := &journal.GuestSide{MemTotal: mem.Total, MemFree: mem.Free, FastFrames: fast - s.fast, SlowFrames: slow - s.slow}
	if all > 0 {
		out.CPU = float64(busy) / float64(all)
	}
	return out, nil
}

// frames sums the counters of all interfaces.
func (s *guestSide) frames(ctx context.Context) (fast, slow uint64, err error) {
	list, err := s.client.Channels(ctx)
	for _, c := range list {
		fast, slow = fast+c.Fast, slow+c.Slow
	}
	return fast, slow, err
}
