package units

import "testing"

// The widths and digits are those of iperf3 3.12's output.
func TestTransfer(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		want string
	}{
		{0, "0.00 Bytes"}, {1, "1.00 Bytes"}, {1023, "1023 Bytes"}, {1024, "1.00 KBytes"}, {65536, "64.0 KBytes"},
		{131072, " 128 KBytes"}, {680525824, " 649 MBytes"}, {10 << 20, "10.0 MBytes"}, {1357209665, "1.26 GBytes"}, {3 << 40, "3.00 TBytes"}, {5 << 50, "5120 TBytes"},
		{10230, "9.99 KBytes"}, {10236, "10.0 KBytes"},
	} {
		if got := Transfer(c.n); got != c.want {
			t.Errorf("Transfer(%d) = %q, want %q", c.n, got, c.want)
		}
	}
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		f    Format
		n    uint64
		s    float64
		want string
	}{
		{'a', 680525824, 1, "5.44 Gbits/sec"}, {'a', 131072, 1, "1.05 Mbits/sec"}, {'a', 0, 1, "0.00 bits/sec"}, {'a', 10, 0, "0.00 bits/sec"},
		{'k', 125000, 1, "1000 Kbits/sec"}, {'m', 125000, 1, "1.00 Mbits/sec"}, {'g', 125000000, 1, "1.00 Gbits/sec"}, {'t', 125000000000, 1, "1.00 Tbits/sec"},
		{'K', 1024, 1, "1.00 KBytes/sec"}, {'M', 1 << 20, 2, "0.50 MBytes/sec"}, {'G', 1 << 30, 1, "1.00 GBytes/sec"}, {'T', 1 << 40, 1, "1.00 TBytes/sec"},
	} {
		if got := c.f.Rate(c.n, c.s); got != c.want {
			t.Errorf("%c: %d in %v s = %q, want %q", c.f, c.n, c.s, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		size uint64
		rate uint64
		bad  bool
	}{
		{in: "1", size: 1, rate: 1}, {in: "10k", size: 10240, rate: 10000}, {in: "10K", size: 10240, rate: 10000}, {in: "1.5M", size: 1572864, rate: 1500000},
		{in: "2g", size: 2 << 30, rate: 2e9}, {in: "1T", size: 1 << 40, rate: 1e12}, {in: "0", size: 0, rate: 0},
		{in: "", bad: true}, {in: "k", bad: true}, {in: "-1", bad: true}, {in: "1x", bad: true}, {in: "1e300", bad: true}, {in: "nan", bad: true}, {in: "9999999T", bad: true}, {in: "1kk", bad: true},
	} {
		s, err1 := ParseSize(c.in)
		r, err2 := ParseRate(c.in)
		if (err1 != nil) != c.bad || (err2 != nil) != c.bad || s != c.size || r != c.rate {
			t.Errorf("%q: %d %v, %d %v", c.in, s, err1, r, err2)
		}
	}
}

func TestPercent(t *testing.T) {
	if Percent(1, 4) != 25 || Percent(1, 0) != 0 || Percent(3, -1) != 0 {
		t.Error(Percent(1, 4), Percent(1, 0), Percent(3, -1))
	}
}
