package boottest

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"time"
)

// Progress prints each result as it comes: one line that rewrites itself on a
// terminal, plain lines elsewhere; failures always in full.
type Progress struct {
	W     io.Writer
	TTY   bool
	Total int
	Quiet bool // failures only

	done, failed int
	start        time.Time
}

// Done is for Config.Done.
func (p *Progress) Done(r Result) {
	if p.done == 0 && p.start.IsZero() {
		p.start = time.Now().Add(-time.Duration(r.Seconds * float64(time.Second)))
	}
	p.done++
	count := fmt.Sprintf("[%*d/%d]", len(fmt.Sprint(p.Total)), p.done, p.Total)
	name := r.Name
	if r.Round > 1 {
		name += fmt.Sprintf(" round %d", r.Round)
	}
	switch {
	case r.Skipped != "":
		p.line("%s skip %s: %s", count, name, r.Skipped)
	case r.OK && p.TTY:
		left := time.Since(p.start) / time.Duration(p.done) * time.Duration(p.Total-p.done)
		fmt.Fprintf(p.W, "\r\x1b[K%s ok %s %.2f s; %d failed; %v to go", count, name, r.Seconds, p.failed, left.Round(time.Second))
	case r.OK && !p.Quiet:
		p.line("%s ok   %s %.2f s", count, name, r.Seconds)
	case !r.OK:
		p.failed++
		p.line("%s FAIL %s", count, name)
		for _, f := range r.Faults {
			fmt.Fprintf(p.W, "    %s\n", f)
		}
		if r.Tail != "" {
			fmt.Fprintf(p.W, "%s\n", r.Tail)
		}
		if r.Log != "" {
			fmt.Fprintf(p.W, "    log: %s\n", r.Log)
		}
		if r.QEMU != "" {
			fmt.Fprintf(p.W, "    %s\n", r.QEMU)
		}
	}
	if p.TTY && p.done == p.Total {
		fmt.Fprintln(p.W)
	}
}

func (p *Progress) line(format string, a ...any) {
	if p.TTY {
		fmt.Fprint(p.W, "\r\x1b[K")
	}
	fmt.Fprintf(p.W, format+"\n", a...)
}

// Summary writes one line for each program and case, and the total.
func Summary(w io.Writer, rs []Result) {
	type row struct {
		ok, failed, skipped int
		seconds             []float64
	}
	rows := map[string]*row{}
	var names []string
	var all row
	for _, r := range rs {
		name := r.Name
		for i := range name {
			if name[i] == '/' {
				name = name[:i]
				break
			}
		}
		x := rows[name]
		if x == nil {
			x = &row{}
			rows[name] = x
			names = append(names, name)
		}
		for _, y := range []*row{x, &all} {
			switch {
			case r.Skipped != "":
				y.skipped++
			case r.OK:
				y.ok++
				y.seconds = append(y.seconds, r.Seconds)
			default:
				y.failed++
			}
		}
	}
	fmt.Fprintf(w, "%-28s %6s %6s %6s %10s\n", "program", "ok", "failed", "skip", "median s")
	print := func(name string, x *row) {
		med := "-"
		if n := len(x.seconds); n > 0 {
			sort.Float64s(x.seconds)
			med = fmt.Sprintf("%.2f", (x.seconds[(n-1)/2]+x.seconds[n/2])/2)
		}
		fmt.Fprintf(w, "%-28s %6d %6d %6d %10s\n", name, x.ok, x.failed, x.skipped, med)
	}
	for _, n := range names {
		print(n, rows[n])
	}
	if len(names) != 1 {
		print("total", &all)
	}
}

// WriteJSON writes the results as one JSON document.
func WriteJSON(w io.Writer, rs []Result) error {
	if rs == nil {
		rs = []Result{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Results []Result `json:"results"`
	}{rs})
}
