package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// mode is one way to run a Debian client against our server.
type mode struct {
	name  string
	tool  string // "iperf3" or "iperf"
	args  string // without the address and the port
	check func(t *testing.T, out string)
}

// document is the part of iperf3's JSON that is looked at.
type document struct {
	Error string
	Start struct {
		Connected []struct{}
	}
	Intervals []struct {
		Sum struct {
			Bytes   float64
			Omitted bool
		}
	}
	End struct {
		Streams         []json.RawMessage
		SumSent         sum `json:"sum_sent"`
		SumReceived     sum `json:"sum_received"`
		SumSentBack     sum `json:"sum_sent_bidir_reverse"`
		SumReceivedBack sum `json:"sum_received_bidir_reverse"`
		CPU             struct {
			RemoteTotal float64 `json:"remote_total"`
		} `json:"cpu_utilization_percent"`
		SenderCongestion, ReceiverCongestion string
	}
	ServerOutput string `json:"server_output_text"`
}

type sum struct {
	Seconds, Bytes, Packets float64
	Rate                    float64 `json:"bits_per_second"`
	Retransmits             float64
	Lost                    float64 `json:"lost_packets"`
}

// expect is what a mode of iperf3 must have measured.
type expect struct {
	streams int     // 0: 1
	bytes   float64 // that were sent and all received, 0: something
	bidir   bool
	udp     bool
	rate    float64 // bit/s of all streams, 0: any; half of it is enough on a busy machine
	omit    bool
	output  bool
	unread  bool // the receiver may not have counted all, or any
}

// block is what Debian's client may send beyond -n.
const block = 128 << 10

func (e expect) check(t *testing.T, out string) {
	t.Helper()
	var d document
	out = out[max(0, strings.Index(out, "{")):] // warnings come first
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	bad := func(format string, args ...any) { t.Errorf(format+"\n%s", append(args, out)...) }
	if d.Error != "" {
		bad("error %q", d.Error)
		return
	}
	streams := max(e.streams, 1)
	if e.bidir {
		streams *= 2
	}
	if len(d.End.Streams) != streams || len(d.Start.Connected) != streams {
		bad("%d streams, want %d", len(d.End.Streams), streams)
	}
	sums := []sum{d.End.SumSent, d.End.SumReceived}
	if e.bidir {
		sums = append(sums, d.End.SumSentBack, d.End.SumReceivedBack)
	}
	for i, s := range sums {
		switch {
		case e.unread && i%2 == 1:
		case s.Bytes <= 0 || s.Seconds <= 0:
			bad("sum %d: nothing", i)
		case e.bytes > 0 && i%2 == 0 && (s.Bytes < e.bytes || s.Bytes > e.bytes+block):
			bad("sum %d: %.0f octets, want %.0f", i, s.Bytes, e.bytes)
		case e.bytes > 0 && i%2 == 1 && !e.udp && s.Bytes != sums[i-1].Bytes:
			bad("sum %d: %.0f octets of %.0f", i, s.Bytes, sums[i-1].Bytes)
		case s.Retransmits < 0 || s.Retransmits > 1e9:
			bad("sum %d: %.0f retransmits", i, s.Retransmits)
		case e.udp && (s.Packets <= 0 || s.Lost < 0 || s.Lost > s.Packets):
			bad("sum %d: %.0f of %.0f lost", i, s.Lost, s.Packets)
		case e.rate > 0 && (s.Rate > 2*e.rate || i%2 == 0 && s.Rate < e.rate/2):
			bad("sum %d: %.0f bit/s, want %.0f", i, s.Rate, e.rate)
		}
	}
	if n := len(d.Intervals); e.omit && (n < 2 || !d.Intervals[0].Sum.Omitted || d.Intervals[n-1].Sum.Omitted) {
		bad("nothing, or all, is omitted")
	}
	if e.output && !strings.Contains(d.ServerOutput, "Accepted connection") {
		bad("no output of the server")
	}
}

// lines wants each of these expressions in iperf 2's text.
func lines(exprs ...string) func(t *testing.T, out string) {
	return func(t *testing.T, out string) {
		t.Helper()
		for _, e := range append(exprs, `connected with`) {
			if !regexp.MustCompile(e).MatchString(out) {
				t.Errorf("no line like %s in\n%s", e, out)
			}
		}
		for _, no := range []string{"did not receive ack", "connect failed", "bind failed", "ignore"} {
			if strings.Contains(out, no) {
				t.Errorf("%q in\n%s", no, out)
			}
		}
	}
}

// Lines of iperf 2.1.8.
const (
	moved    = `(?m)^\[ *\*?\d+\] 0\.0000-\d+\.\d+ sec +[1-9][\d.]* [KMG]Bytes +[\d.]+ [KMG]bits/sec$`
	movedUDP = `(?m)^\[ *\*?\d+\] 0\.0000-\d+\.\d+ sec +[1-9][\d.]* [KM]Bytes +[\d.]+ [KM]bits/sec +[\d.]+ ms \d+/[1-9]\d* \([\d.e+-]+%\)$`
	reported = `Server Report:`
)

// modes are all that users of both tools expect. seconds is how long each test
// takes, back the port where clients of -d and -r listen.
func modes(seconds, back int) []mode {
	ts, listen := fmt.Sprintf("-t %d ", seconds), fmt.Sprintf(" -L %d", back)
	opened := fmt.Sprintf(`local \S+ port %d connected with`, back)
	var ms []mode
	i3 := func(name, args string, e expect) { ms = append(ms, mode{name, "iperf3", args + " -J", e.check}) }
	i2 := func(name, args string, check func(*testing.T, string)) {
		ms = append(ms, mode{name, "iperf", args, check})
	}

	i3("TCP", ts, expect{})
	i3("TCP reverse", ts+"-R", expect{})
	i3("TCP bidir", ts+"--bidir", expect{bidir: true})
	i3("TCP bidir, 4 streams", ts+"--bidir -P 4", expect{bidir: true, streams: 4})
	i3("TCP 8 streams", ts+"-P 8", expect{streams: 8})
	i3("TCP 8 streams, reverse", ts+"-P 8 -R", expect{streams: 8})
	i3("TCP 128 streams", ts+"-P 128", expect{streams: 128})
	i3("TCP 128 streams, reverse", ts+"-P 128 -R", expect{streams: 128})
	i3("TCP omit", ts+"-O 1", expect{omit: true})
	i3("TCP omit, reverse", ts+"-O 1 -R", expect{omit: true})
	i3("TCP octets", "-n 8M", expect{bytes: 8 << 20})
	i3("TCP octets, reverse", "-n 8M -R", expect{})
	i3("TCP blocks", "-k 100 -l 10000", expect{bytes: 1e6})
	i3("TCP small blocks", ts+"-l 100", expect{})
	i3("TCP window", ts+"-w 64K", expect{})
	i3("TCP window, reverse", ts+"-w 64K -R", expect{})
	i3("TCP segment size", ts+"-M 1000", expect{})
	i3("TCP segment size, reverse", ts+"-M 1000 -R", expect{})
	i3("TCP paced", ts+"-b 20M", expect{rate: 20e6})
	i3("TCP paced, reverse", ts+"-b 20M -R", expect{rate: 20e6})
	i3("TCP no delay, TOS", ts+"-N -S 8", expect{})
	i3("TCP server's output", ts+"--get-server-output", expect{output: true})
	i3("UDP", ts+"-u -b 20M", expect{udp: true, rate: 20e6})
	i3("UDP reverse", ts+"-u -b 20M -R", expect{udp: true, rate: 20e6})
	i3("UDP bidir", ts+"-u -b 10M --bidir", expect{udp: true, rate: 10e6, bidir: true})
	i3("UDP 4 streams", ts+"-u -b 5M -P 4", expect{udp: true, rate: 20e6, streams: 4})
	i3("UDP 4 streams, bidir", ts+"-u -b 5M -P 4 --bidir", expect{udp: true, rate: 20e6, streams: 4, bidir: true})
	i3("UDP omit", ts+"-u -b 10M -O 1", expect{udp: true, omit: true})
	i3("UDP omit, reverse", ts+"-u -b 10M -O 1 -R", expect{udp: true, omit: true})
	i3("UDP octets", "-u -b 20M -n 1M", expect{udp: true})
	i3("UDP blocks", "-u -b 20M -k 500 -l 1000", expect{udp: true, bytes: 5e5})
	i3("UDP as fast as it goes", ts+"-u -b 0 -l 1400", expect{udp: true})
	i3("UDP as fast as it goes, reverse", ts+"-u -b 0 -l 1400 -R", expect{udp: true})
	i3("UDP fragments, 64-bit counters", ts+"-u -b 20M -l 8000 --udp-counters-64bit", expect{udp: true, rate: 20e6})
	i3("UDP fragments, reverse", ts+"-u -b 20M -l 8000 -R", expect{udp: true, rate: 20e6})

	i2("iperf 2 TCP", ts, lines(moved))
	i2("iperf 2 TCP intervals, 4 streams", ts+"-P 4 -i 1", lines(moved, `\[SUM\]`))
	i2("iperf 2 TCP octets", "-n 8M", lines(`8\.00 MBytes`))
	i2("iperf 2 TCP peer detection", ts+"-X", lines(moved))
	i2("iperf 2 TCP reverse", ts+"-R", lines(moved))
	i2("iperf 2 TCP full duplex", ts+"--full-duplex", lines(moved, `\[ \*\d+\]`, `\[SUM\]`))
	i2("iperf 2 TCP dual", ts+"-d"+listen, lines(moved, opened))
	i2("iperf 2 TCP trade-off", ts+"-r"+listen, lines(moved, opened))
	i2("iperf 2 UDP", ts+"-u -b 10M", lines(moved, reported, movedUDP))
	i2("iperf 2 UDP, 4 streams", ts+"-u -b 5M -P 4", lines(`\[SUM\]`, reported, movedUDP))
	i2("iperf 2 UDP small", ts+"-u -b 1M -l 64", lines(reported, movedUDP))
	i2("iperf 2 UDP reverse", ts+"-u -b 10M -R", lines(movedUDP))
	i2("iperf 2 UDP full duplex", ts+"-u -b 10M --full-duplex", lines(movedUDP))
	i2("iperf 2 UDP dual", ts+"-u -b 10M -d"+listen, lines(reported, movedUDP, opened))
	i2("iperf 2 UDP trade-off", ts+"-u -b 10M -r"+listen, lines(reported, movedUDP, opened))
	return ms
}

// clientModes are command lines of our own client against Debian's server.
var clientModes = []struct {
	name, args string
	e          expect
}{
	{"TCP", "-t 1", expect{}},
	{"TCP reverse", "-t 1 -R", expect{}},
	{"TCP bidir", "-t 1 --bidir -P 2", expect{bidir: true, streams: 2}},
	{"TCP 16 streams", "-t 1 -P 16", expect{streams: 16}},
	{"TCP omit", "-t 1 -O 1", expect{omit: true}},
	// Debian's server does not wait for octets that are on their way at the end.
	{"TCP octets", "-n 4M", expect{bytes: 4 << 20, unread: true}},
	{"TCP octets, reverse", "-n 4M -R", expect{}},
	{"TCP blocks", "-k 50 -l 10000", expect{bytes: 5e5, unread: true}},
	{"TCP paced", "-t 1 -b 20M", expect{rate: 20e6}},
	{"TCP options", "-t 1 -w 64K -M 1000 -N -S 8 --get-server-output", expect{output: true}},
	{"UDP", "-t 1 -u -b 10M", expect{udp: true, rate: 10e6}},
	{"UDP reverse", "-t 1 -u -b 10M -R", expect{udp: true, rate: 10e6}},
	{"UDP bidir", "-t 1 -u -b 5M --bidir -P 2", expect{udp: true, rate: 10e6, bidir: true, streams: 2}},
	{"UDP omit, 64-bit counters", "-t 1 -u -b 10M -O 1 --udp-counters-64bit", expect{udp: true, omit: true}},
	{"UDP blocks", "-u -b 10M -k 200 -l 1000", expect{udp: true, bytes: 2e5}},
}
