package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Probe reads counters of the guest at the two ends of the measurement window,
// from the generator's own thread, so that no request falls between the figure
// and its denominator. Sources, written NAME=SOURCE:
//
//	NAME=u64:FILE:OFFSET   a little-endian 64-bit counter in a shared file,
//	                       as the instruction-counting plugin keeps
//	NAME=cpu:PID/TID       run time of a thread, in nanoseconds
//	                       (/proc/PID/task/TID/schedstat, first field)
//	NAME=wait:PID/TID      its run-queue wait, in nanoseconds (second field)
//	NAME=num:FILE          a decimal number alone in a file, as KVM's counters are
//	NAME=steal:            time that the host's own hypervisor kept from all its
//	                       cores, in nanoseconds, to 10 ms (/proc/stat, "steal")
type Probe struct {
	name   string
	file   *os.File
	offset int64
	field  int // of the text, from 0; -1 for a raw counter
	scale  float64
	first  float64
	buf    [160]byte
}

// ParseProbe opens a source.
func ParseProbe(s string) (*Probe, error) {
	name, src, ok := strings.Cut(s, "=")
	kind, arg, ok2 := strings.Cut(src, ":")
	if !ok || !ok2 || name == "" {
		return nil, fmt.Errorf("probe %q: want NAME=SOURCE with u64:FILE:OFFSET, cpu:PID/TID, wait:PID/TID, num:FILE or steal:", s)
	}
	p := &Probe{name: name, field: -1, scale: 1}
	path := ""
	switch kind {
	case "u64":
		i := strings.LastIndexByte(arg, ':')
		if i < 0 {
			return nil, fmt.Errorf("probe %q: no offset", s)
		}
		off, err := strconv.ParseInt(arg[i+1:], 10, 64)
		if err != nil || off < 0 {
			return nil, fmt.Errorf("probe %q: bad offset", s)
		}
		path, p.offset = arg[:i], off
	case "cpu", "wait":
		pid, tid, ok := strings.Cut(arg, "/")
		if _, err := strconv.ParseUint(pid, 10, 32); err != nil || !ok {
			return nil, fmt.Errorf("probe %q: want PID/TID", s)
		}
		if _, err := strconv.ParseUint(tid, 10, 32); err != nil {
			return nil, fmt.Errorf("probe %q: want PID/TID", s)
		}
		path = "/proc/" + pid + "/task/" + tid + "/schedstat"
		if kind == "wait" {
			p.field = 1
		} else {
			p.field = 0
		}
	case "num":
		path, p.field = arg, 0
	case "steal":
		// cpu user nice system idle iowait irq softirq steal, in 1/100 s
		// (proc(5); USER_HZ is 100 on every x86 and ARM Linux).
		path, p.field, p.scale = "/proc/stat", 8, 1e7
	default:
		return nil, fmt.Errorf("probe %q: unknown source %q", s, kind)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", name, err)
	}
	p.file = f
	if _, err := p.read(); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func (p *Probe) read() (float64, error) {
	if p.field < 0 {
		if _, err := p.file.ReadAt(p.buf[:8], p.offset); err != nil {
			return 0, fmt.Errorf("probe %s: %w", p.name, err)
		}
		return float64(binary.LittleEndian.Uint64(p.buf[:8])), nil
	}
	n, err := p.file.ReadAt(p.buf[:], 0)
	if n == 0 {
		return 0, fmt.Errorf("probe %s: %w", p.name, err)
	}
	line, _, _ := bytes.Cut(p.buf[:n], []byte{'\n'})
	f := bytes.Fields(line)
	if len(f) <= p.field {
		return 0, fmt.Errorf("probe %s: no field %d in %q", p.name, p.field, line)
	}
	v, err := strconv.ParseUint(string(f[p.field]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("probe %s: %w", p.name, err)
	}
	return float64(v) * p.scale, nil
}

// Probes is the set of one load.
type Probes []*Probe

// ParseProbes opens all sources, or none.
func ParseProbes(list []string) (Probes, error) {
	var ps Probes
	for _, s := range list {
		p, err := ParseProbe(s)
		if err != nil {
			ps.Close()
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// Start reads every source at the window's start.
func (ps Probes) Start() error {
	for _, p := range ps {
		v, err := p.read()
		if err != nil {
			return err
		}
		p.first = v
	}
	return nil
}

// Stop reads them again and gives the differences by name; sources of the same
// name add up (the threads of a process).
func (ps Probes) Stop() (map[string]float64, error) {
	if len(ps) == 0 {
		return nil, nil
	}
	out := map[string]float64{}
	for _, p := range ps {
		v, err := p.read()
		if err != nil {
			return nil, err
		}
		out[p.name] += v - p.first
	}
	return out, nil
}

// Close closes the sources.
func (ps Probes) Close() {
	for _, p := range ps {
		p.file.Close()
	}
}
