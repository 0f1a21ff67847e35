package rest

import (
	"bytes"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"osv/kernel/rest/machine"
	"osv/kernel/trace"
)

// /metrics in Prometheus' text exposition format, version 0.0.4: families of samples
// under one HELP and TYPE line each, names with units, counters that end in _total.

// exposition builds the text.
type exposition struct{ b bytes.Buffer }

// family begins a family. kind is counter, gauge or untyped.
func (e *exposition) family(name, kind, help string) {
	e.b.WriteString("# HELP " + name + " " + escapeHelp.Replace(help) + "\n# TYPE " + name + " " + kind + "\n")
}

// sample adds one value; labels are names and values in turn.
func (e *exposition) sample(name string, v float64, labels ...string) {
	e.b.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		if i == 0 {
			e.b.WriteByte('{')
		} else {
			e.b.WriteByte(',')
		}
		e.b.WriteString(labels[i])
		e.b.WriteString(`="`)
		e.b.WriteString(escapeLabel.Replace(labels[i+1]))
		e.b.WriteByte('"')
	}
	if len(labels) > 0 {
		e.b.WriteByte('}')
	}
	e.b.WriteByte(' ')
	e.b.Write(strconv.AppendFloat(e.b.AvailableBuffer(), v, 'g', -1, 64))
	e.b.WriteByte('\n')
}

// one adds a family of one sample.
func (e *exposition) one(name, kind, help string, v float64) {
	e.family(name, kind, help)
	e.sample(name, v)
}

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func itoa[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }

func serveMetrics(c *call) error {
	var e exposition
	s := c.s
	e.family("osv_build_info", "gauge", "Version of the kernel, as a label.")
	e.sample("osv_build_info", 1, "version", machine.Version, "go", runtime.Version())
	e.one("osv_uptime_seconds", "gauge", "Time since boot.", s.m.System.Uptime().Seconds())
	e.memory(s.m.System.Memory())
	e.processors(s.m.Hardware.Processors())
	e.threads(s.m.System.Threads())
	if s.m.Network != nil {
		if l, err := s.m.Network.Interfaces(); err == nil {
			e.interfaces(l)
		}
	}
	if s.m.Mounts != nil {
		if l, err := s.m.Mounts.FileSystems(); err == nil {
			e.fileSystems(l)
		}
	}
	e.server(s)
	e.counters()
	return c.bytes("text/plain; version=0.0.4; charset=utf-8", e.b.Bytes())
}

func (e *exposition) memory(m machine.Memory) {
	h := readHeap()
	e.one("osv_memory_total_bytes", "gauge", "Memory that the kernel manages.", float64(m.Total))
	e.one("osv_memory_free_bytes", "gauge", "Memory that nothing uses.", float64(m.Free))
	if m.LeastFree > 0 {
		e.one("osv_memory_least_free_bytes", "gauge", "The least that was free since boot.", float64(m.LeastFree))
	}
	e.one("osv_go_heap_bytes", "gauge", "Objects of the Go heap, in use or not yet swept.", float64(h.Heap))
	e.one("osv_go_heap_goal_bytes", "gauge", "Size of the heap at which the next collection begins.", float64(h.HeapGoal))
	e.one("osv_go_runtime_bytes", "gauge", "All that the Go runtime holds.", float64(h.Runtime))
	e.one("osv_go_collections_total", "counter", "Garbage collections.", float64(h.GCCycles))
	e.one("osv_go_goroutines", "gauge", "Goroutines.", float64(runtime.NumGoroutine()))
}

func (e *exposition) processors(l []machine.Processor) {
	e.family("osv_cpu_seconds_total", "counter", "Time of each processor, busy and idle.")
	for _, p := range l {
		e.sample("osv_cpu_seconds_total", float64(p.BusyMS)/1000, "cpu", itoa(p.ID), "mode", "busy")
		e.sample("osv_cpu_seconds_total", float64(p.IdleMS)/1000, "cpu", itoa(p.ID), "mode", "idle")
	}
	for _, f := range []struct {
		name, help string
		value      func(machine.Processor) *uint64
	}{
		{"osv_cpu_switches_total", "Changes of the running thread.", func(p machine.Processor) *uint64 { return p.Switches }},
		{"osv_cpu_interrupts_total", "Interrupts of devices.", func(p machine.Processor) *uint64 { return p.Interrupts }},
		{"osv_cpu_timer_interrupts_total", "Interrupts of the timer.", func(p machine.Processor) *uint64 { return p.Timer }},
		{"osv_cpu_ipis_total", "Interrupts sent to other processors.", func(p machine.Processor) *uint64 { return p.IPIs }},
		{"osv_cpu_page_faults_total", "Page faults.", func(p machine.Processor) *uint64 { return p.PageFaults }},
		{"osv_cpu_syscalls_total", "System calls.", func(p machine.Processor) *uint64 { return p.Syscalls }},
	} {
		first := true
		for _, p := range l {
			v := f.value(p)
			if v == nil {
				continue
			}
			if first {
				e.family(f.name, "counter", f.help)
				first = false
			}
			e.sample(f.name, float64(*v), "cpu", itoa(p.ID))
		}
	}
}

func (e *exposition) threads(l []machine.Thread) {
	for _, f := range []struct {
		name, help string
		value      func(machine.Thread) (float64, bool)
	}{
		{"osv_thread_cpu_seconds_total", "Processor time of each thread.", func(t machine.Thread) (float64, bool) {
			if t.CPUns != nil {
				return float64(*t.CPUns) / 1e9, true
			}
			return scaled(t.CPUms, 1e-3)
		}},
		{"osv_thread_switches_total", "Times that a thread was given a processor.", func(t machine.Thread) (float64, bool) { return scaled(t.Switches, 1) }},
		{"osv_thread_preemptions_total", "Times that a thread had to give up a processor.", func(t machine.Thread) (float64, bool) { return scaled(t.Preemptions, 1) }},
		{"osv_thread_migrations_total", "Times that a thread changed the processor.", func(t machine.Thread) (float64, bool) { return scaled(t.Migrations, 1) }},
	} {
		first := true
		for _, t := range l {
			v, ok := f.value(t)
			if !ok {
				continue
			}
			if first {
				e.family(f.name, "counter", f.help)
				first = false
			}
			e.sample(f.name, v, "thread", itoa(t.ID), "name", t.Name)
		}
	}
}

func scaled[T int64 | uint64](p *T, by float64) (float64, bool) {
	if p == nil {
		return 0, false
	}
	return float64(*p) * by, true
}

func (e *exposition) interfaces(l []machine.Interface) {
	for _, f := range []struct {
		name, help string
		value      func(machine.InterfaceData) uint64
	}{
		{"osv_network_receive_bytes_total", "Bytes received.", func(d machine.InterfaceData) uint64 { return d.IBytes }},
		{"osv_network_receive_packets_total", "Frames received.", func(d machine.InterfaceData) uint64 { return d.IPackets }},
		{"osv_network_receive_errors_total", "Frames received damaged.", func(d machine.InterfaceData) uint64 { return d.IErrors }},
		{"osv_network_receive_drops_total", "Frames dropped for want of a buffer.", func(d machine.InterfaceData) uint64 { return d.IQDrops }},
		{"osv_network_transmit_bytes_total", "Bytes sent.", func(d machine.InterfaceData) uint64 { return d.OBytes }},
		{"osv_network_transmit_packets_total", "Frames sent.", func(d machine.InterfaceData) uint64 { return d.OPackets }},
		{"osv_network_transmit_errors_total", "Frames not sent.", func(d machine.InterfaceData) uint64 { return d.OErrors }},
	} {
		e.family(f.name, "counter", f.help)
		for _, i := range l {
			e.sample(f.name, float64(f.value(i.Data)), "interface", i.Config.Name)
		}
	}
	if !slices.ContainsFunc(l, func(i machine.Interface) bool { return i.Channels != nil }) {
		return
	}
	e.family("osv_channel_frames_total", "counter", "Frames by the way they took: fast into a net channel or a handler, or through the slow path.")
	for _, i := range l {
		if i.Channels != nil {
			e.sample("osv_channel_frames_total", float64(i.Channels.Fast), "interface", i.Config.Name, "path", "fast")
			e.sample("osv_channel_frames_total", float64(i.Channels.Slow), "interface", i.Config.Name, "path", "slow")
		}
	}
	e.family("osv_channel_reasons_total", "counter", "Frames dropped or sent through the slow path, by reason.")
	for _, i := range l {
		if i.Channels == nil {
			continue
		}
		for _, reason := range sortedKeys(i.Channels.Reasons) {
			e.sample("osv_channel_reasons_total", float64(i.Channels.Reasons[reason]), "interface", i.Config.Name, "reason", reason)
		}
	}
}

func sortedKeys(m map[string]uint64) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (e *exposition) fileSystems(l []machine.FileSystem) {
	// The last one mounted at a place is the one that is seen there.
	seen := map[string]machine.FileSystem{}
	var mounts []string
	for _, f := range l {
		if _, ok := seen[f.Mount]; !ok {
			mounts = append(mounts, f.Mount)
		}
		seen[f.Mount] = f
	}
	e.family("osv_filesystem_size_bytes", "gauge", "Size of a file system.")
	for _, m := range mounts {
		e.sample("osv_filesystem_size_bytes", float64(seen[m].BTotal)*float64(seen[m].BlockSize), "mount", m, "filesystem", seen[m].Filesystem)
	}
	e.family("osv_filesystem_free_bytes", "gauge", "Free space of a file system.")
	for _, m := range mounts {
		e.sample("osv_filesystem_free_bytes", float64(seen[m].BFree)*float64(seen[m].BlockSize), "mount", m, "filesystem", seen[m].Filesystem)
	}
}

func (e *exposition) server(s *Server) {
	e.one("osv_http_requests_in_flight", "gauge", "Requests that are being answered.", float64(s.inFlight.Load()))
	e.family("osv_http_requests_total", "counter", "Answers by operation of the API and class of status.")
	for _, name := range s.router.names {
		for class := range 6 {
			if n := s.router.ops[name].stats.classes[class].Load(); n > 0 {
				e.sample("osv_http_requests_total", float64(n), "operation", name, "code", itoa(class)+"xx")
			}
		}
	}
	e.family("osv_http_refused_total", "counter", "What never reached an operation, by reason.")
	r := &s.refused
	e.sample("osv_http_refused_total", float64(r.conns.Load()), "reason", "connections")
	e.sample("osv_http_refused_total", float64(r.clientConns.Load()), "reason", "connections of one client")
	e.sample("osv_http_refused_total", float64(r.host.Load()), "reason", "host")
	e.sample("osv_http_refused_total", float64(r.origin.Load()), "reason", "origin")
	e.sample("osv_http_refused_total", float64(r.rate.Load()), "reason", "rate")
	e.sample("osv_http_refused_total", float64(r.auth.Load()), "reason", "authentication")
}

// counters tells of all that the kernel counts, under the kernel's names. Which of
// them only grow, kernel/trace does not say.
func (e *exposition) counters() {
	e.family("osv_kernel_value", "untyped", "Counters and gauges of the kernel.")
	for _, v := range trace.Snapshot() {
		e.sample("osv_kernel_value", float64(v.N), "name", v.Name)
	}
	e.family("osv_tracepoint_enabled", "gauge", "Whether a tracepoint is on.")
	for _, p := range trace.Points() {
		on := 0.0
		if p.On() {
			on = 1
		}
		e.sample("osv_tracepoint_enabled", on, "name", p.Name())
	}
}
