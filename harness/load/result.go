package load

import "fmt"

// Quantiles are points of one latency distribution, in nanoseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   int64   `json:"p50"`
	P90   int64   `json:"p90"`
	P99   int64   `json:"p99"`
	P999  int64   `json:"p999"`
	Max   int64   `json:"max"`
}

// Result is what one load measured. Counts are of the measurement window;
// warm-up is in none of them.
type Result struct {
	Spec Spec `json:"spec"`

	Seconds   float64 `json:"seconds"`   // length of the window
	Offered   float64 `json:"offered"`   // requests/s due in the window (open), issued (closed)
	Rate      float64 `json:"rate"`      // checked replies/s
	BitRate   float64 `json:"bit_rate"`  // payload bits/s, iperf
	Completed uint64  `json:"completed"` // checked replies
	Hits      uint64  `json:"hits"`
	Misses    uint64  `json:"misses"` // a key that was stored and is not there
	Lost      uint64  `json:"lost"`   // no reply within the timeout
	Late      uint64  `json:"late"`   // reply after it had been counted lost
	Wrong     uint64  `json:"wrong"`  // reply whose bytes are not what they must be
	Errors    uint64  `json:"errors"` // connection or protocol errors
	WrongText string  `json:"wrong_text,omitempty"`

	Latency Quantiles `json:"latency"`  // from intended send
	Service Quantiles `json:"service"`  // from actual send
	SendLag Quantiles `json:"send_lag"` // actual minus intended send

	ClientCPU float64  `json:"client_cpu"` // CPU time over window; polling without work is not counted
	Guard     Guard    `json:"guard"`
	Retrans   uint64   `json:"retrans"`            // iperf: TCP retransmits
	Timeline  []uint32 `json:"timeline,omitempty"` // replies per TimelineStep
	Readback  uint64   `json:"readback,omitempty"` // keys read back and found as written

	// Probes are the differences over the window of what Probe reads: guest
	// instructions, CPU nanoseconds of guest threads.
	Probes map[string]float64 `json:"probes,omitempty"`
}

// TimelineStep is the width of a Result.Timeline bin in nanoseconds.
const TimelineStep = 100e6

// Guard says whether the client, not the guest, set the figure.
type Guard struct {
	ClientBound bool    `json:"client_bound"`
	Reason      string  `json:"reason,omitempty"`
	Ceiling     float64 `json:"ceiling,omitempty"` // null server's rate with the same load, 0 = not measured
}

// The limits of the client guard.
const (
	// MaxLagShare: p99 of the send lag above this share of p99 latency.
	MaxLagShare = 0.10
	// MaxClientCPU: client CPU above this share of the window.
	MaxClientCPU = 0.80
	// MaxCeilingShare: rate above this share of the null server's, by a client
	// that is busy more than BusyClient. The null server's own wake-ups are in its
	// rate, so the rate alone does not convict an idle client.
	MaxCeilingShare = 0.90
	BusyClient      = 0.50
)

// Judge applies the client guard. ceiling is the rate that the same generator
// reaches against the null server, 0 if unknown. A client-bound result is drawn
// hollow and is never part of a claim.
func Judge(r Result, ceiling float64) Guard {
	g := Guard{Ceiling: ceiling}
	lag, lat := float64(r.SendLag.P99), float64(r.Latency.P99)
	switch {
	case r.Spec.Mode == Open && r.SendLag.Count > 0 && lag > MaxLagShare*lat:
		g.Reason = fmt.Sprintf("p99 send lag %.0f µs is over %.0f %% of p99 latency %.0f µs", lag/1e3, MaxLagShare*100, lat/1e3)
	case r.ClientCPU > MaxClientCPU:
		g.Reason = fmt.Sprintf("client CPU %.0f %% is over %.0f %%", r.ClientCPU*100, MaxClientCPU*100)
	case ceiling > 0 && r.Rate > MaxCeilingShare*ceiling && r.ClientCPU > BusyClient:
		g.Reason = fmt.Sprintf("rate %.0f/s is over %.0f %% of the null server's %.0f/s", r.Rate, MaxCeilingShare*100, ceiling)
	}
	g.ClientBound = g.Reason != ""
	return g
}

// Clean reports whether there were replies in the window and every request was
// answered rightly; the text says what was not.
func (r Result) Clean() (bool, string) {
	switch {
	case r.Wrong > 0:
		return false, fmt.Sprintf("%d wrong replies (%s)", r.Wrong, r.WrongText)
	case r.Errors > 0:
		return false, fmt.Sprintf("%d errors (%s)", r.Errors, r.WrongText)
	case r.Misses > 0:
		return false, fmt.Sprintf("%d misses of stored keys", r.Misses)
	case r.Lost > 0:
		return false, fmt.Sprintf("%d of %d requests lost", r.Lost, r.Lost+r.Completed)
	case r.Completed == 0 && r.BitRate == 0:
		return false, "nothing came back in the window"
	}
	return true, ""
}
