// Package journal keeps what a run has measured: one JSON line for each finished
// thing, synced to disk before the next begins. It is the raw data of a report,
// and what a run that was interrupted goes on from.
//
// A line is complete or it does not count: a last line that was cut off by a
// crash or a full disk is removed when the file is opened again. A damaged line
// anywhere else is an error, since nothing that the harness does makes one.
//
// Who may use it: bench (writes), report (reads). Start reading at Entry.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/load/search"
)

// Format is the version of the lines; a reader refuses others.
const Format = 1

// Entry is one line. Exactly one of the pointers is set.
type Entry struct {
	Time time.Time `json:"time"`

	Header  *Header  `json:"header,omitempty"`
	Boot    *Boot    `json:"boot,omitempty"`
	Sample  *Sample  `json:"sample,omitempty"`
	Fact    *Fact    `json:"fact,omitempty"`
	Ceiling *Ceiling `json:"ceiling,omitempty"`
	Profile *Profile `json:"profile,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	Note    *Note    `json:"note,omitempty"`
}

// Header is the first line.
type Header struct {
	Format     int    `json:"format"`
	Name       string `json:"name"`
	PlanSHA256 string `json:"plan_sha256"` // of plan.yaml, so that a resume is of the same plan
	// Repeat is the rule for busy windows; nil in runs of before it was stated.
	Repeat *Repeat `json:"repeat,omitempty"`
}

// Repeat says when a window is measured again because the host was busy with
// something else. One rule holds for all systems.
type Repeat struct {
	Wait  float64 `json:"wait"`  // the host kept the vCPU waiting for more than this share of the time
	Steal float64 `json:"steal"` // the host's own hypervisor took more than this share of its cores
	// Speed: the vCPU executed fewer instructions per nanosecond of its CPU time than
	// this share of what is usual (the median) for the cell in this run.
	Speed float64 `json:"speed"`
	Tries int     `json:"tries"` // of one window, the first included
	Share float64 `json:"share"` // repeats are at most this share of the run's windows
}

// Boot is a guest that came up.
type Boot struct {
	Boot       design.Boot       `json:"boot"`
	Attempt    int               `json:"attempt"`     // from 1; above 1 after a failure or a resume
	FirstReply float64           `json:"first_reply"` // seconds from QEMU start to the first right reply
	Line       string            `json:"line"`        // QEMU command line, or that of a local process
	Accel      string            `json:"accel"`       // kvm, tcg, none
	Kernel     string            `json:"kernel,omitempty"`
	Image      string            `json:"image,omitempty"` // digest
	Parity     map[string]string `json:"parity,omitempty"`
	Wire       string            `json:"wire,omitempty"`
	WireNote   string            `json:"wire_note,omitempty"`
	Serial     string            `json:"serial,omitempty"` // file in the results folder
}

// Sample is one window of a cell in one boot.
type Sample struct {
	Cell    design.Cell        `json:"cell"`
	Boot    int                `json:"boot"` // index in the schedule
	Pair    int                `json:"pair"`
	Window  int                `json:"window,omitempty"` // of this cell in this boot, from 0
	Metrics map[string]float64 `json:"metrics"`
	Result  load.Result        `json:"result"`
	HDR     string             `json:"hdr,omitempty"` // file in the results folder
	Clean   bool               `json:"clean"`         // no loss, no error, no wrong reply
	Why     string             `json:"why,omitempty"`
	// Knee is the search that a sample of a knee workload is; Result is then its last
	// load at the rate found.
	Knee *search.Knee `json:"knee,omitempty"`
	// Again are the reasons why earlier tries of this window do not count.
	Again []string `json:"again,omitempty"`
}

// Fact is a figure of a system that no load gives: idle cost, image size, least
// memory. Boot is the schedule index it was taken in, -1 where it was none.
type Fact struct {
	System string  `json:"system"`
	Metric string  `json:"metric"`
	Value  float64 `json:"value"`
	Boot   int     `json:"boot"`
	Pair   int     `json:"pair"`
	How    string  `json:"how,omitempty"`
}

// Ceiling is the null server's rate for a workload's generator.
type Ceiling struct {
	Workload string  `json:"workload"`
	Rate     float64 `json:"rate"`
}

// Profile is where a system's instructions go under one workload, from a boot of
// its own that counts every block.
type Profile struct {
	System       string         `json:"system"`
	Workload     string         `json:"workload"`
	Placement    string         `json:"placement"`
	Requests     uint64         `json:"requests"`
	Instructions float64        `json:"instructions"` // per request
	Functions    []ProfileEntry `json:"functions"`    // the largest, in order
	Others       int            `json:"others"`       // functions not listed
	Guest        *GuestSide     `json:"guest,omitempty"`
}

// GuestSide is what a guest told of itself, by its own REST API, over a load.
type GuestSide struct {
	CPU        float64 `json:"cpu"`         // share of the processors' time that was busy, 0 to 1
	MemTotal   uint64  `json:"mem_total"`   // bytes
	MemFree    uint64  `json:"mem_free"`    // bytes, at the end
	FastFrames uint64  `json:"fast_frames"` // frames that went by net channels or handlers
	SlowFrames uint64  `json:"slow_frames"` // the others
}

// ProfileEntry is one function's share of the instructions, 0 to 1.
type ProfileEntry struct {
	Function string  `json:"function"`
	Share    float64 `json:"share"`
}

// Failure is a boot or a cell that did not work.
type Failure struct {
	Boot    int          `json:"boot"`
	Attempt int          `json:"attempt"`
	Cell    *design.Cell `json:"cell,omitempty"`
	Error   string       `json:"error"`
	Final   bool         `json:"final"` // given up; the run went on without it
}

// Note is a remark: an interruption, a resume.
type Note struct {
	Text string `json:"text"`
}

// Journal is an open file. It belongs to one goroutine.
type Journal struct {
	f    *os.File
	size int64
	Now  func() time.Time // tests replace it
}

// Open opens or creates a journal and returns what is in it. A cut-off last line
// is removed.
func Open(path string) (*Journal, []Entry, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	entries, good, err := read(f)
	if err == nil {
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return &Journal{f: f, size: good, Now: time.Now}, entries, nil
}

// Read reads a journal without opening it for writing; a cut-off last line is
// left out.
func Read(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	entries, _, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return entries, nil
}

// read gives the entries and the length of the good part.
func read(r io.Reader) ([]Entry, int64, error) {
	br := bufio.NewReaderSize(r, 1<<16)
	var out []Entry
	var good int64
	for n := 1; ; n++ {
		line, err := br.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, good, nil // what follows the last newline was cut off
		}
		if err != nil {
			return nil, 0, err
		}
		var e Entry
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&e); err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", n, err)
		}
		if (n == 1) != (e.Header != nil) {
			return nil, 0, fmt.Errorf("line %d: a journal begins with its header, and has one", n)
		}
		if e.Header != nil && e.Header.Format != Format {
			return nil, 0, fmt.Errorf("format %d, this program reads %d", e.Header.Format, Format)
		}
		out = append(out, e)
		good += int64(len(line))
	}
}

// Append writes an entry and syncs it. After an error (a full disk) the file
// ends with the last good line.
func (j *Journal) Append(e Entry) error {
	e.Time = j.Now().UTC().Truncate(time.Millisecond)
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	b = append(b, '\n')
	_, err = j.f.Write(b)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		_ = j.f.Truncate(j.size) // best effort; Open repairs it otherwise
		_, _ = j.f.Seek(j.size, io.SeekStart)
		return fmt.Errorf("journal: %w", err)
	}
	j.size += int64(len(b))
	return nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.f.Close() }
