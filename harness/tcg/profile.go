package tcg

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
)

// Symbols names code addresses.
type Symbols struct {
	addrs []uint64 // ascending
	ends  []uint64 // 0 = up to the next symbol
	names []string
}

// ELFSymbols reads the functions of an ELF with a symbol table.
func ELFSymbols(path string) (*Symbols, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("symbols of %s: %w", path, err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("symbols of %s: %w", path, err)
	}
	s := &Symbols{}
	for _, y := range syms {
		if elf.ST_TYPE(y.Info) != elf.STT_FUNC || y.Value == 0 {
			continue
		}
		end := uint64(0)
		if y.Size > 0 {
			end = y.Value + y.Size
		}
		s.add(y.Value, end, y.Name)
	}
	s.sort()
	return s, nil
}

// ParseKallsyms reads lines "address type name" as /proc/kallsyms has them, and
// keeps code (types t, T, w, W).
func ParseKallsyms(r io.Reader) (*Symbols, error) {
	s := &Symbols{}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 3 || !strings.Contains("tTwW", f[1]) {
			continue
		}
		a, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("kallsyms: line %q: %w", sc.Text(), err)
		}
		if a != 0 { // all zero: the reader may not know
			s.add(a, 0, f[2])
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("kallsyms: %w", err)
	}
	s.sort()
	return s, nil
}

func (s *Symbols) add(addr, end uint64, name string) {
	s.addrs = append(s.addrs, addr)
	s.ends = append(s.ends, end)
	s.names = append(s.names, name)
}

func (s *Symbols) sort() { sort.Stable(s) }

// Len, Less and Swap are for sort.
func (s *Symbols) Len() int           { return len(s.addrs) }
func (s *Symbols) Less(i, j int) bool { return s.addrs[i] < s.addrs[j] }
func (s *Symbols) Swap(i, j int) {
	s.addrs[i], s.addrs[j] = s.addrs[j], s.addrs[i]
	s.ends[i], s.ends[j] = s.ends[j], s.ends[i]
	s.names[i], s.names[j] = s.names[j], s.names[i]
}

// Lookup is the symbol that addr lies in, "" where there is none.
func (s *Symbols) Lookup(addr uint64) string {
	if s == nil {
		return ""
	}
	i := sort.Search(len(s.addrs), func(i int) bool { return s.addrs[i] > addr }) - 1
	if i < 0 || s.ends[i] != 0 && addr >= s.ends[i] {
		return ""
	}
	return s.names[i]
}

// Entry is one line of a profile.
type Entry struct {
	Symbol string
	Insns  uint64
	Share  float64 // of all instructions, 0 to 1
}

// Profile sums the instructions executed between two readings of the table by
// symbol, largest first. Code without a symbol goes under low (top address bit
// 0) or "unknown".
func Profile(before, after []Block, syms *Symbols, low string) []Entry {
	type key struct{ addr, insns uint64 }
	// The table only grows, and a block that was translated again is a further
	// line: sums by address are what can be subtracted.
	sum := map[key]uint64{}
	for _, b := range after {
		sum[key{b.Addr, b.Insns}] += b.Execs
	}
	for _, b := range before {
		sum[key{b.Addr, b.Insns}] -= b.Execs
	}
	by := map[string]uint64{}
	total := uint64(0)
	for k, execs := range sum {
		n := execs * k.insns
		if n == 0 {
			continue
		}
		name := syms.Lookup(k.addr)
		switch {
		case name != "":
		case k.addr>>63 == 0:
			name = low
		default:
			name = "unknown"
		}
		by[name] += n
		total += n
	}
	out := make([]Entry, 0, len(by))
	for name, n := range by {
		out = append(out, Entry{name, n, float64(n) / float64(total)})
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Insns != out[j].Insns {
			return out[i].Insns > out[j].Insns
		}
		return out[i].Symbol < out[j].Symbol
	})
	return out
}

// Write prints the first n entries with their share and, where requests is not 0,
// instructions a request.
func Write(w io.Writer, entries []Entry, n int, requests uint64) {
	for _, e := range entries[:min(n, len(entries))] {
		per := ""
		if requests > 0 {
			per = fmt.Sprintf(" %10.1f", float64(e.Insns)/float64(requests))
		}
		fmt.Fprintf(w, "%6.2f %%%s  %s\n", 100*e.Share, per, e.Symbol)
	}
}
