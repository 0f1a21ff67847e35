package rest

import (
	"bytes"
	"runtime/metrics"
	"strings"
	"time"

	"osv/kernel/rest/machine"
)

func osVersion(c *call) error { return c.json(machine.Version) }
func osVendor(c *call) error  { return c.json(machine.Vendor) }

func osUptime(c *call) error { return c.json(int64(c.s.m.System.Uptime() / time.Second)) }

// osDate is in the form of date(1), as OSv has it.
func osDate(c *call) error { return c.json(time.Now().UTC().Format(time.UnixDate)) }

func osMemoryTotal(c *call) error   { return c.json(c.s.m.System.Memory().Total) }
func osMemoryFree(c *call) error    { return c.json(c.s.m.System.Memory().Free) }
func osMemoryBalloon(c *call) error { return c.json(c.s.m.System.Memory().Balloon) }

// memory is the document's model Memory.
type memory struct {
	machine.Memory
	heapMemory
}

// heapMemory is the part of the Go runtime, in bytes.
type heapMemory struct {
	Heap     uint64 `json:"heap"`
	HeapGoal uint64 `json:"heap_goal"`
	Runtime  uint64 `json:"runtime"`
	Stacks   uint64 `json:"stacks"`
	GCCycles uint64 `json:"gc_cycles"`
}

func readHeap() heapMemory {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/goal:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	v := func(i int) uint64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return samples[i].Value.Uint64()
	}
	return heapMemory{v(0), v(1), v(2) - v(5), v(3), v(4)}
}

func osMemory(c *call) error { return c.json(memory{c.s.m.System.Memory(), readHeap()}) }

// threads is the document's model Threads.
type threads struct {
	TimeMS     int64            `json:"time_ms"`
	List       []machine.Thread `json:"list"`
	Goroutines []goroutines     `json:"goroutines"`
	Count      int              `json:"goroutine_count"`
}

func osThreads(c *call) error {
	groups, n := c.s.stacks.groups()
	list := c.s.m.System.Threads()
	if list == nil {
		list = []machine.Thread{}
	}
	return c.json(threads{time.Now().UnixMilli(), list, groups, n})
}

// osDmesg answers with a JSON string, as OSv does, or with text for people.
func osDmesg(c *call) error {
	var b bytes.Buffer
	if err := c.s.m.System.Log(&b); err != nil {
		return err
	}
	accept := c.r.Header.Get("Accept")
	if t, j := strings.Index(accept, "text/plain"), strings.Index(accept, "json"); t >= 0 && (j < 0 || t < j) {
		return c.bytes("text/plain; charset=utf-8", b.Bytes())
	}
	return c.json(strings.ToValidUTF8(b.String(), "\uFFFD"))
}

func osGetHostname(c *call) error { return c.json(c.s.m.System.Hostname()) }

func osSetHostname(c *call) error {
	name := c.arg("name")
	if !validHostname(name) {
		return errorf(400, "parameter name: %q is not a host name", name)
	}
	if err := c.s.m.System.SetHostname(name); err != nil {
		return err
	}
	return c.done()
}

// validHostname is RFC 1123 §2.1: labels of letters, digits and inner hyphens.
func validHostname(name string) bool {
	if len(name) == 0 || len(name) > 64 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, b := range []byte(label) {
			if !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-') {
				return false
			}
		}
	}
	return true
}

func osGetCmdline(c *call) error { return c.json(Redact(c.s.m.System.CommandLine())) }

func osSetCmdline(c *call) error {
	line := c.arg("cmdline")
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
		return errorf(400, "parameter cmdline: control characters are not possible")
	}
	if err := c.s.m.System.SetCommandLine(line); err != nil {
		return err
	}
	return c.json(Redact(line))
}

func osShutdown(c *call) error { return end(c, machine.Shutdown) }
func osPoweroff(c *call) error { return end(c, machine.PowerOff) }
func osReboot(c *call) error   { return end(c, machine.Reboot) }

// end answers first: the machine ends once the answer is with the client.
func end(c *call, a machine.Action) error {
	do, err := c.s.m.System.End(a)
	if err != nil {
		return err
	}
	c.w.Header().Set("Connection", "close")
	c.then = do
	return c.done()
}
