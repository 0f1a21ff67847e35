// Package stats holds the statistics of the benchmark: what a set of boots says
// about one guest, and what two sets say about their ratio.
//
// A value is one metric of one boot. A replicate is a boot, never a request, so
// samples are small (3 to 30) and every function says what it does when they are
// too small: under MinBoots values it gives no interval, with a note instead.
//
// Method. Performance figures vary by factors, so ratios are analysed on the
// logarithm: a geometric-mean ratio with a t interval. Boots are interleaved
// (A B B A), which pairs them in time: the primary interval is the paired t over
// adjacent boots. Welch's t on the logs and a percentile bootstrap are printed
// beside it as checks; where they disagree the reader sees it.
//
// Sources: Student's t and the incomplete beta function by continued fraction,
// NIST DLMF (release 1.2.4) §8.17(v); Welch, Biometrika 34 (1947), 28-35;
// distribution-free interval of the median, NIST/SEMATECH e-Handbook of
// Statistical Methods §7.1.6 and Conover, Practical Nonparametric Statistics
// (3rd ed., 1999) §3.2; percentile bootstrap, Efron and Tibshirani, An
// Introduction to the Bootstrap (1993) §13.3.
//
// May import: the standard library and montanaflynn/stats. Used by design,
// report and the command line. Start reading at ratio.go.
package stats
