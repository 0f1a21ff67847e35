package sysbench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
)

// Ops are the operations in the table's order; others follow by name.
var Ops = []string{"getpid", "clock_vdso", "clock_call", "read_zero", "pipe_rw", "pipe_rw_4k", "unix_socket", "epoll_round",
	"futex_wake_nobody", "futex_ping_pong", "pipe_ping_pong", "yield", "mmap_touch_munmap", "mmap_touch_1m", "mprotect_page",
	"signal_self", "sigprocmask", "thread_create_join", "fork_wait", "stat_file", "readlink_no_link", "open_close", "pread_file_4k", "pwrite_file_4k"}

// What the operations are, where the name does not say it.
var what = map[string]string{
	"clock_vdso":       "clock_gettime in the vDSO",
	"clock_call":       "clock_gettime by system call",
	"read_zero":        "read of a byte of /dev/zero",
	"pipe_rw":          "write and read of a byte",
	"pipe_rw_4k":       "write and read of 4 KiB",
	"unix_socket":      "write and read of 100 bytes",
	"epoll_round":      "eventfd write, epoll_wait, eventfd read",
	"futex_ping_pong":  "two threads: two wakes, two switches",
	"pipe_ping_pong":   "context switch: a byte there and back",
	"mmap_touch_1m":    "mmap, 256 page faults, munmap",
	"mprotect_page":    "to read-only and back",
	"signal_self":      "tgkill, handler, sigreturn",
	"stat_file":        "stat of /usr/../tmp",
	"readlink_no_link": "readlink of a directory: EINVAL",
}

// Row is one operation.
type Row struct {
	Op     string          `json:"op"`
	Cells  map[string]Cell `json:"cells"`
	Stock  float64         `json:"osv_by_stock"` // ratio of medians
	Tuned  float64         `json:"osv_by_tuned"`
	What   string          `json:"what,omitempty"`
	Reason string          `json:"reason,omitempty"` // where ours is the slower
}

// Rows are the table's rows.
func (r *Report) Rows() []Row {
	names := make([]string, 0, len(r.Values))
	for op := range r.Values {
		names = append(names, op)
	}
	place := func(op string) int {
		if i := slices.Index(Ops, op); i >= 0 {
			return i
		}
		return len(Ops)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		return bytes.Compare([]byte(a), []byte(b))
	})
	rows := make([]Row, 0, len(names))
	for _, op := range names {
		row := Row{Op: op, Cells: map[string]Cell{}, What: what[op]}
		for g, v := range r.Values[op] {
			if len(v) > 0 {
				row.Cells[g] = cellOf(v)
			}
		}
		ratio := func(base string) float64 {
			b, o := row.Cells[base].Median, row.Cells[OSv].Median
			if b == 0 {
				return 0
			}
			return o / b
		}
		row.Stock, row.Tuned = ratio(Stock), ratio(Tuned)
		if max(row.Stock, row.Tuned) >= 1.005 { // printed as more than 1.00
			row.Reason = reason(op)
		}
		rows = append(rows, row)
	}
	return rows
}

// Table writes the table as text.
func (r *Report) Table(w io.Writer) error {
	unit := "ns"
	how := "KVM, real time"
	if r.Counted {
		unit = "instructions"
		how = "TCG, one instruction is one ns of the guest's clock"
	}
	fmt.Fprintf(w, "What system calls cost, in %s each: median of %d boots (least to most), the best of %d rounds in each boot.\n", unit, r.Runs, r.Rounds)
	fmt.Fprintf(w, "Linux %s and OSv on one QEMU line (%s), one vCPU, 512 MiB. Ratios are OSv by Linux: below 1, OSv is the quicker.\n", r.Kernel, how)
	fmt.Fprintf(w, "Files: Linux on ramfs, OSv on ext4 through its page cache.\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "operation\t%s\t%s\t%s\tby stock\tby tuned\twhat it is; why ours is slower\n", Stock, Tuned, OSv)
	for _, row := range r.Rows() {
		note := row.What
		if row.Reason != "" {
			if note != "" {
				note += "; "
			}
			note += row.Reason
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.2f\t%.2f\t%s\n", row.Op, row.Cells[Stock], row.Cells[Tuned], row.Cells[OSv], row.Stock, row.Tuned, note)
	}
	return t.Flush()
}

// WriteJSON writes rows and values.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		*Report
		Rows []Row `json:"rows"`
	}{r, r.Rows()})
}

// String is "median (min to max)", the range only where it can be seen.
func (c Cell) String() string {
	if c == (Cell{}) {
		return "-"
	}
	m, lo, hi := figure(c.Median), figure(c.Min), figure(c.Max)
	if lo == hi {
		return m
	}
	return fmt.Sprintf("%s (%s to %s)", m, lo, hi)
}

func figure(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}
