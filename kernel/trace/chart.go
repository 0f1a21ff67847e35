package trace

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxStages bounds the chart: a stage in a loop must not eat the memory.
const maxStages = 64

// StageTime is one stage of the boot.
type StageTime struct {
	Name string
	At   time.Duration // when it was done, since boot
	Took time.Duration // since the stage before, or since boot
}

// Chart is a list of boot stages with the time at which each was done. Create
// one with NewChart.
type Chart struct {
	now func() time.Duration

	mu     sync.Mutex  // guards stages
	stages []StageTime // Took is not filled in
}

// NewChart returns an empty chart that takes the time from clock.
func NewChart(clock func() time.Duration) *Chart { return &Chart{now: clock} }

// Stage says that the stage of that name is done now.
func (c *Chart) Stage(name string) { c.StageAt(name, c.now()) }

// StageAt says that the stage of that name was done at a time since boot: for
// stages before this package could be called.
func (c *Chart) StageAt(name string, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stages) < maxStages {
		c.stages = append(c.stages, StageTime{Name: name, At: at})
	}
}

// Stages returns the stages in order of time.
func (c *Chart) Stages() []StageTime {
	c.mu.Lock()
	s := slices.Clone(c.stages)
	c.mu.Unlock()
	slices.SortStableFunc(s, func(a, b StageTime) int { return int(max(-1, min(1, a.At-b.At))) })
	before := time.Duration(0)
	for i := range s {
		s[i].Took = s[i].At - before
		before = s[i].At
	}
	return s
}

// String returns the chart as a table in the form of OSv's --bootchart: for each
// stage the time since boot and since the stage before, then the total.
func (c *Chart) String() string {
	var b strings.Builder
	total := time.Duration(0)
	for _, s := range c.Stages() {
		fmt.Fprintf(&b, "\t%s: %.2fms, (+%.2fms)\n", s.Name, ms(s.At), ms(s.Took))
		total = s.At
	}
	fmt.Fprintf(&b, "\tTotal time: %.2fms\n", ms(total))
	return b.String()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
