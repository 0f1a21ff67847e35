package vhost

import "time"

// Joined is all queue pairs of a device as one Port: a guest with several queues
// answers on that of the processor that had the request. It belongs to one
// goroutine. Unlike Port it never sleeps.
type Joined struct {
	ports []*Port
	next  int // port that Recv asks first
	send  int // port that Send uses next
}

// Joined returns the device's ports as one.
func (d *Device) Joined() *Joined { return &Joined{ports: d.ports} }

// Send puts a batch into the receive queues in turn.
func (j *Joined) Send(frames [][]byte) (int, error) {
	p := j.ports[j.send]
	j.send = (j.send + 1) % len(j.ports)
	return p.Send(frames)
}

// Recv takes frames from whichever queue has some.
func (j *Joined) Recv(frames [][]byte) (int, error) {
	n := 0
	for range j.ports {
		p := j.ports[j.next]
		j.next = (j.next + 1) % len(j.ports)
		k, err := p.Recv(frames[n:])
		if n += k; err != nil && n == 0 {
			return 0, err
		}
		if n == len(frames) {
			break
		}
	}
	return n, nil
}

// Wait polls all queues.
func (j *Joined) Wait(d time.Duration) error {
	const slice = 5 * time.Microsecond
	for start := time.Now(); ; {
		for _, p := range j.ports {
			ready, err := p.poll(slice)
			if ready || err != nil {
				return err
			}
		}
		if time.Since(start) >= d {
			return nil
		}
	}
}

// poll is Wait that never sleeps.
func (p *Port) poll(d time.Duration) (ready bool, err error) {
	if !p.gate.enter() {
		time.Sleep(10 * time.Microsecond)
		return false, nil
	}
	defer p.gate.leave()
	if p.failed != nil || p.tx == nil {
		return false, p.failed
	}
	for start := time.Now(); ; {
		if p.tx.pending() > 0 {
			return true, nil
		}
		if p.gate.shut.Load() || time.Since(start) >= d {
			return false, nil
		}
	}
}

// Stats are the sums over all ports.
func (j *Joined) Stats() Stats {
	var s Stats
	for _, p := range j.ports {
		x := p.Stats()
		s.ToGuest += x.ToGuest
		s.FromGuest += x.FromGuest
		s.Full += x.Full
		s.GuestErrors += x.GuestErrors
		s.Interrupts += x.Interrupts
		s.Doorbells += x.Doorbells
	}
	return s
}

// Close does nothing: the device is closed as a whole.
func (j *Joined) Close() error { return nil }
