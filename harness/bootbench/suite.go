package bootbench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"osv/harness/vm"
)

// Suite is the whole comparison: what is booted for each metric. A nil or empty
// field leaves its rows out.
type Suite struct {
	Left, Right string // names of the two guests; ratios are Left / Right

	Boots [2]*Subject // the least program of each guest
	// Also is booted beside the two, in the same rounds, for further rows.
	Also []Case
	N    int // boots of each

	Floors   []Case
	FloorTop int // MiB that every floor starts from

	Idle         [2]*Subject
	Settle, Look time.Duration

	Prices  map[string]Subject // guest's own figures; the key is the row's suffix
	PricesN int

	Sizes []Size
}

// Case is one row: a subject of each guest, or of one.
type Case struct {
	Title    string
	Subjects [2]*Subject
}

// Size is one row of sizes: the sum of the files of each guest, in bytes.
type Size struct {
	Title string
	Files [2][]string
}

// Run measures everything. An error ends it; the report holds what came before.
func (s Suite) Run(ctx context.Context, b Bench) (*Report, error) {
	r := &Report{Guests: []string{s.Left, s.Right}, Host: Host(), QEMU: map[string]string{}, Boots: map[string][]Boot{}}
	for _, step := range []func(context.Context, Bench, *Report) error{s.boots, s.floors, s.idle, s.sizes, s.prices} {
		if err := step(ctx, b, r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (s Suite) boots(ctx context.Context, b Bench, r *Report) error {
	if s.Boots[0] == nil || s.N < 1 {
		return nil
	}
	cases := append([]Case{{"QEMU start to first line of the program", s.Boots}}, s.Also...)
	var subjects []Subject
	index := make([][2]int, len(cases)) // into subjects, -1 = none
	for i, c := range cases {
		for g, sub := range c.Subjects {
			index[i][g] = -1
			if sub == nil {
				continue
			}
			x := *sub
			var err error
			if x.Spec, err = x.Spec.Resolve(ctx); err != nil {
				return err
			}
			r.QEMU[x.Name] = x.Spec.Line()
			index[i][g] = len(subjects)
			subjects = append(subjects, x)
		}
	}
	boots, err := b.Boots(ctx, s.N, subjects...)
	if err != nil {
		return err
	}
	for i, sub := range subjects {
		r.Boots[sub.Name] = boots[i]
	}
	for i, c := range cases {
		total, guest := map[string][]float64{}, map[string][]float64{}
		for g, k := range index[i] {
			if k < 0 {
				continue
			}
			for _, x := range boots[k] {
				total[r.Guests[g]] = append(total[r.Guests[g]], x.Total)
				guest[r.Guests[g]] = append(guest[r.Guests[g]], x.Guest)
			}
		}
		if err := r.Add(c.Title, "s", total, nil); err != nil {
			return err
		}
		if i == 0 {
			if err := r.Add("  of which from the first instruction", "s", guest, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s Suite) floors(ctx context.Context, b Bench, r *Report) error {
	for _, c := range s.Floors {
		values, detail := map[string][]float64{}, map[string]string{}
		for i, sub := range c.Subjects {
			if sub == nil {
				continue
			}
			f, err := b.Floor(ctx, *sub, s.FloorTop)
			if err != nil {
				return err
			}
			g := r.Guests[i]
			values[g] = []float64{float64(f.MiB)}
			if f.Below != "" {
				detail[g] = fmt.Sprintf("with %d MiB: %s", f.MiB-1, f.Below)
			}
		}
		if err := r.Add(c.Title, "MiB", values, detail); err != nil {
			return err
		}
	}
	return nil
}

func (s Suite) idle(ctx context.Context, b Bench, r *Report) error {
	values, detail := map[string][]float64{}, map[string]string{}
	for i, sub := range s.Idle {
		if sub == nil {
			continue
		}
		x, err := b.Idle(ctx, *sub, s.Settle, s.Look)
		if err != nil {
			return err
		}
		g := r.Guests[i]
		values[g] = []float64{x.Total}
		detail[g] = fmt.Sprintf("vCPU threads %.2f %%, the rest of QEMU %.2f %%, over %v", x.VCPU, x.Rest, s.Look)
	}
	if len(values) == 0 {
		return nil
	}
	return r.Add("idle, of a host core", "%", values, detail)
}

func (s Suite) sizes(_ context.Context, _ Bench, r *Report) error {
	for _, c := range s.Sizes {
		values := map[string][]float64{}
		for i, files := range c.Files {
			sum := int64(0)
			for _, f := range files {
				st, err := os.Stat(f)
				if err != nil {
					return err
				}
				sum += st.Size()
			}
			if len(files) > 0 {
				values[r.Guests[i]] = []float64{float64(sum) / (1 << 20)}
			}
		}
		if err := r.Add(c.Title, "MiB", values, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s Suite) prices(ctx context.Context, b Bench, r *Report) error {
	for _, k := range sortedKeys(s.Prices) {
		ps, err := b.Prices(ctx, s.Prices[k], s.PricesN)
		if err != nil {
			return err
		}
		for _, p := range ps {
			if err := r.Add(p.Name+k, p.Unit, map[string][]float64{s.Left: p.Values}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// Host is what a reader must know of the machine that measured.
func Host() map[string]string {
	h := map[string]string{"cpus": strconv.Itoa(vm.AllowedCPUs())}
	read := func(key, path string, pick func(string) string) {
		if b, err := os.ReadFile(path); err == nil {
			if v := pick(string(b)); v != "" {
				h[key] = v
			}
		}
	}
	read("kernel", "/proc/sys/kernel/osrelease", strings.TrimSpace)
	read("load", "/proc/loadavg", strings.TrimSpace)
	read("cpu", "/proc/cpuinfo", func(s string) string {
		for _, l := range strings.Split(s, "\n") {
			if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
				return strings.TrimSpace(v)
			}
		}
		return ""
	})
	return h
}

func sortedKeys[V any](m map[string]V) []string {
	var ks []string
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}
