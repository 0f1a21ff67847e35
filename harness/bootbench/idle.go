package bootbench

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"osv/harness/vm"
)

// Idle is what a guest costs that has nothing to do, in percent of one host core.
type Idle struct {
	VCPU  float64 `json:"vcpu"`  // running guest code
	Rest  float64 `json:"rest"`  // QEMU's main loop and other threads
	Total float64 `json:"total"` // both
}

// Idle boots s, waits for its first line, lets it settle, and reads the
// processor time of QEMU's threads over window.
func (b Bench) Idle(ctx context.Context, s Subject, settle, window time.Duration) (Idle, error) {
	v, err := vm.Start(ctx, s.Spec, vm.Options{})
	if err != nil {
		return Idle{}, fmt.Errorf("%s: %w", s.Name, err)
	}
	defer v.Kill()
	if _, err := v.WaitLine(s.First, s.timeout()); err != nil {
		return Idle{}, fmt.Errorf("%s: %w", s.Name, err)
	}
	pause := func(d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-v.Done():
			return fmt.Errorf("%s: ended while idle: %v", s.Name, v.Wait())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := pause(settle); err != nil {
		return Idle{}, err
	}
	first, err := v.Usage()
	if err != nil {
		return Idle{}, err
	}
	start := time.Now()
	if err := pause(window); err != nil {
		return Idle{}, err
	}
	last, err := v.Usage()
	if err != nil {
		return Idle{}, err
	}
	took := time.Since(start)
	u := last.Sub(first)
	pct := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
	i := Idle{VCPU: pct(u.VCPU.Run), Rest: pct(u.Main.Run + u.Other.Run)}
	i.Total = i.VCPU + i.Rest
	b.log("idle %s: %.2f %% of a core", s.Name, i.Total)
	return i, nil
}

// Price is a figure that a guest measured of itself.
type Price struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"` // one a boot
}

var benchLine = regexp.MustCompile(`^BENCH (\S+) (\S+) (\S+)$`)

// Prices boots s n times to its end and collects its lines "BENCH name value
// unit", in the order of their first appearance.
func (b Bench) Prices(ctx context.Context, s Subject, n int) ([]Price, error) {
	var out []Price
	at := map[string]int{}
	for round := range n {
		v, err := vm.Start(ctx, s.Spec, vm.Options{})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		e, late := v.WaitTimeout(s.timeout())
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if late || !e.OK() {
			return nil, fmt.Errorf("%s: %v%s", s.Name, e, v.Tail(5))
		}
		for _, l := range v.Lines() {
			m := benchLine.FindStringSubmatch(l.Text)
			if m == nil {
				continue
			}
			x, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: line %q: %w", s.Name, l.Text, err)
			}
			i, ok := at[m[1]]
			if !ok {
				i = len(out)
				at[m[1]] = i
				out = append(out, Price{Name: m[1], Unit: m[3]})
			}
			if out[i].Unit != m[3] {
				return nil, fmt.Errorf("%s: %s is in %s and in %s", s.Name, m[1], out[i].Unit, m[3])
			}
			out[i].Values = append(out[i].Values, x)
		}
		b.log("prices of %s: boot %d/%d", s.Name, round+1, n)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: printed no line \"BENCH name value unit\"", s.Name)
	}
	return out, nil
}
