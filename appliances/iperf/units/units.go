// Package units writes and reads numbers as users of iperf know them.
//
// Spec: the output and the options of iperf3 and iperf 2. Who may use it: the
// packages of this appliance. Start reading at Transfer.
package units

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Format is how rates are shown (-f): 'a' chooses by size; k, m, g, t are
// bits, K, M, G, T bytes. Transfers are always chosen by size, in bytes.
type Format byte

var prefixes = [...]string{"", "K", "M", "G", "T"}

// scaled is v as a number of four characters with a unit. step is 1000 or 1024,
// fixed the prefix to use, -1 for the one that suits.
func scaled(v float64, step float64, fixed int, unit string) string {
	i := 0
	for fixed < 0 && v >= step && i < len(prefixes)-1 || i < fixed {
		v /= step
		i++
	}
	digits := 0
	switch {
	case v < 9.995:
		digits = 2
	case v < 99.95:
		digits = 1
	}
	return fmt.Sprintf("%4.*f %s%s", digits, v, prefixes[i], unit)
}

// Transfer is a number of bytes.
func Transfer(n uint64) string { return scaled(float64(n), 1024, -1, "Bytes") }

// Rate is a rate of n bytes in s seconds.
func (f Format) Rate(n uint64, s float64) string {
	v := Bitrate(n, s)
	if i := strings.IndexByte("kmgt", byte(f)); i >= 0 {
		return scaled(v, 1000, i+1, "bits/sec")
	}
	if i := strings.IndexByte("KMGT", byte(f)); i >= 0 {
		return scaled(v/8, 1024, i+1, "Bytes/sec")
	}
	return scaled(v, 1000, -1, "bits/sec")
}

// Bitrate is bits per second.
func Bitrate(n uint64, s float64) float64 {
	if s <= 0 {
		return 0
	}
	return float64(n) * 8 / s
}

// Percent is part of all.
func Percent(part, all int64) float64 {
	if all <= 0 {
		return 0
	}
	return float64(part) / float64(all) * 100
}

// ParseSize reads a number with one of k, m, g, t behind, each a power of 1024
// (with capitals too), as -n, -l and -w have it.
func ParseSize(s string) (uint64, error) { return parseUnits(s, 1024) }

// ParseRate is ParseSize with powers of 1000, as -b has it.
func ParseRate(s string) (uint64, error) { return parseUnits(s, 1000) }

func parseUnits(s string, step float64) (uint64, error) {
	text, factor := s, 1.0
	if s != "" {
		if i := strings.IndexByte("kmgt", s[len(s)-1]|0x20); i >= 0 {
			text = s[:len(s)-1]
			for range i + 1 {
				factor *= step
			}
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0) || v*factor >= 1<<62 {
		return 0, fmt.Errorf("%q: want a number, with k, m, g or t behind it or not", s)
	}
	return uint64(v * factor), nil
}

// Seconds rounds for a reader of text.
func Seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) }
