package design

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Metric is one figure that a cell gives, with what a reader must know of it.
type Metric struct {
	Name   string
	Title  string
	Unit   string  // for readers, after scaling
	Scale  float64 // stored value × Scale = shown value
	Higher bool    // higher is better
	Digits int     // significant digits shown
}

// The metrics, by their names in journal and summary.
var Metrics = []Metric{
	{Name: "rate", Title: "Throughput", Unit: "req/s", Scale: 1, Higher: true, Digits: 4},
	{Name: "bit_rate", Title: "Throughput", Unit: "Mbit/s", Scale: 1e-6, Higher: true, Digits: 4},
	{Name: "knee", Title: "Highest rate within the limit of p99 latency", Unit: "req/s", Scale: 1, Higher: true, Digits: 3},
	{Name: "p50", Title: "Median latency", Unit: "µs", Scale: 1e-3, Digits: 3},
	{Name: "p99", Title: "p99 latency", Unit: "µs", Scale: 1e-3, Digits: 3},
	{Name: "p999", Title: "p99.9 latency", Unit: "µs", Scale: 1e-3, Digits: 3},
	{Name: "instructions", Title: "Guest instructions per request", Unit: "instr/req", Scale: 1, Digits: 4},
	{Name: "instructions_byte", Title: "Guest instructions per KiB", Unit: "instr/KiB", Scale: 1024, Digits: 4},
	{Name: "interrupts", Title: "Interrupts and exceptions per request", Unit: "interrupts/req", Scale: 1, Digits: 3},
	{Name: "doorbells", Title: "Queue notifications per request", Unit: "notifications/req", Scale: 1, Digits: 3},
	{Name: "halts", Title: "Halts per request", Unit: "halts/req", Scale: 1, Digits: 3},
	{Name: "sensitive", Title: "Port I/O and MSR writes per request", Unit: "accesses/req", Scale: 1, Digits: 3},
	{Name: "exits", Title: "VM exits per request", Unit: "exits/req", Scale: 1, Digits: 3},
	{Name: "vcpu_ns", Title: "vCPU time per request", Unit: "µs/req", Scale: 1e-3, Digits: 3},
	{Name: "main_ns", Title: "QEMU main loop time per request", Unit: "µs/req", Scale: 1e-3, Digits: 3},
	{Name: "client_ns", Title: "Client time per request", Unit: "µs/req", Scale: 1e-3, Digits: 3},
	{Name: "first_reply", Title: "QEMU start to first reply", Unit: "s", Scale: 1, Digits: 3},
	{Name: "idle_vcpu", Title: "vCPU time while idle", Unit: "% of a core", Scale: 100, Digits: 2},
	{Name: "idle_instructions", Title: "Guest instructions while idle", Unit: "M/s", Scale: 1e-6, Digits: 3},
	{Name: "ram_floor", Title: "Least memory that boots and serves", Unit: "MiB", Scale: 1, Digits: 3},
	{Name: "image_bytes", Title: "Image size", Unit: "MiB", Scale: 1.0 / (1 << 20), Digits: 3},
	{Name: "host_wait", Title: "vCPU kept waiting by the host", Unit: "% of the time", Scale: 100, Digits: 2},
	{Name: "host_steal", Title: "Kept from the host by its hypervisor", Unit: "% of the time", Scale: 100, Digits: 2},
}

// MetricByName finds a metric; one that is not listed is shown as it is.
func MetricByName(name string) Metric {
	for _, m := range Metrics {
		if m.Name == name {
			return m
		}
	}
	return Metric{Name: name, Title: name, Scale: 1, Digits: 4}
}

// Format writes a stored value in the metric's unit, without the unit.
func (m Metric) Format(v float64) string { return Number(v*m.Scale, m.Digits) }

// FormatUnit adds the unit.
func (m Metric) FormatUnit(v float64) string { return strings.TrimSpace(m.Format(v) + " " + m.Unit) }

// Number writes v with so many significant digits, never in exponent form, with
// commas between thousands; large numbers keep all their integer digits.
func Number(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprint(v)
	}
	dec := 0
	if a := math.Abs(v); a > 0 {
		dec = max(0, digits-1-int(math.Floor(math.Log10(a)+1e-12)))
	}
	if v == 0 {
		return "0"
	}
	s := strconv.FormatFloat(v, 'f', min(dec, 12), 64)
	whole, frac, _ := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if frac != "" {
		whole += "." + frac
	}
	return sign + whole
}
