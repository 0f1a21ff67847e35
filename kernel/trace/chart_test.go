package trace

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestChart(t *testing.T) {
	var c fakeClock
	chart := NewChart(c.now)
	if got := chart.String(); got != "\tTotal time: 0.00ms\n" {
		t.Errorf("empty chart: %q", got)
	}
	c.set(12345678 * time.Nanosecond)
	chart.Stage("pci enumerated")
	chart.StageAt("runtime started", 3500*time.Microsecond) // before, but told later
	c.set(20 * time.Millisecond)
	chart.Stage("drivers loaded")
	chart.Stage("at the same time")
	golden(t, "chart.golden", []byte(chart.String()))
	want := "[{runtime started 3.5ms 3.5ms} {pci enumerated 12.345678ms 8.845678ms} {drivers loaded 20ms 7.654322ms} {at the same time 20ms 0s}]"
	if got := fmt.Sprint(chart.Stages()); got != want {
		t.Errorf("Stages() = %s, want %s", got, want)
	}
}

func TestChartIsBounded(t *testing.T) {
	var c fakeClock
	chart := NewChart(c.now)
	for i := range 1000 {
		chart.Stage(fmt.Sprint(i))
	}
	if n := len(chart.Stages()); n != maxStages {
		t.Errorf("%d stages, want %d", n, maxStages)
	}
}

// The machine's instances, through the package's functions.
func TestMachine(t *testing.T) {
	var c fakeClock
	clock.Store(nil)
	machineLog, machineTracer, machineChart = NewLog(now, logRecords), NewTracer(now, traceEvents), NewChart(now)
	machineCounters = Counters{}
	if now() <= 0 {
		t.Error("time stands still before SetClock")
	}
	SetClock(c.now)
	c.set(7 * time.Second)
	var con strings.Builder
	SetConsole(&con, LevelWarn)
	defer SetConsole(nil, LevelOff)
	SetLevel(LevelDebug)
	log := For("test")
	log.Debugf("debug line")
	log.Warnf("warn line")
	p := NewPoint("test.point", "value %d")
	if n, err := Enable("test.*"); n != 1 || err != nil {
		t.Errorf("Enable: %d, %v", n, err)
	}
	p.Emit(42)
	if err := Disable("test.*"); err != nil || p.On() {
		t.Errorf("Disable: %v", err)
	}
	NewCounter("test.count").Add(9)
	Gauge("test.gauge", func() uint64 { return 10 })
	Stage("tested")
	StageAt("begun", time.Second)

	if con.String() != "[    7.000000] warn  test: warn line\n" {
		t.Errorf("console: %q", con.String())
	}
	var b strings.Builder
	if err := Dump(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "dump.golden", []byte(b.String()))
	if s := BootChart().String(); !strings.Contains(s, "\tbegun: 1000.00ms, (+1000.00ms)\n\ttested: 7000.00ms, (+6000.00ms)\n") {
		t.Errorf("chart:\n%s", s)
	}
	if len(Records(0)) != 2 || len(Points()) != 1 || len(Events()) != 1 || len(Snapshot()) != 2 {
		t.Errorf("records %v, points %v, events %v, counters %v", Records(0), Points(), Events(), Snapshot())
	}
}
