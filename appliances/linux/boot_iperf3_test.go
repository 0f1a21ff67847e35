//go:build boot

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// report is the part of iperf3's JSON that is looked at.
type report struct {
	Error string
	Start struct {
		Connected []struct{}
	}
	Intervals []struct {
		Sum struct{ Omitted bool }
	}
	End struct {
		SumSent         flow `json:"sum_sent"`
		SumReceived     flow `json:"sum_received"`
		SumSentBack     flow `json:"sum_sent_bidir_reverse"`
		SumReceivedBack flow `json:"sum_received_bidir_reverse"`
	}
	ServerOutput string `json:"server_output_text"`
}

type flow struct{ Bytes, Packets float64 }

// TestBootIperf3 runs Debian's client in every mode against Debian's server.
func TestBootIperf3(t *testing.T) {
	needTool(t, "iperf3", "iperf3")
	s := describe(t, "linux-iperf3")
	g := boot(t, s, makeDisk(t, s))
	g.joinIPv6()
	for n, m := range []struct {
		args    string
		streams int
		bytes   float64 // that are sent, 0: any; the server does not read on when it hears of the end
	}{
		{"-t 1", 1, 0},
		{"-t 1 -R", 1, 0},
		{"-t 1 --bidir", 2, 0},
		{"-t 1 -P 8", 8, 0},
		{"-t 1 -P 8 -R", 8, 0},
		{"-t 1 -P 128", 128, 0},
		{"-t 1 -P 128 -R", 128, 0},
		{"-t 1 --bidir -P 4", 8, 0},
		{"-t 1 -O 1", 1, 0},
		{"-t 1 -O 1 -R", 1, 0},
		{"-n 8M", 1, 8 << 20},
		{"-n 8M -R", 1, 0},
		{"-k 100 -l 10000", 1, 1e6},
		{"-t 1 -l 100", 1, 0},
		{"-t 1 -w 64K", 1, 0},
		{"-t 1 -w 64K -R", 1, 0},
		{"-t 1 -M 1000", 1, 0},
		{"-t 1 -M 1000 -R", 1, 0},
		{"-t 1 -b 20M", 1, 0},
		{"-t 1 -b 20M -R", 1, 0},
		{"-t 1 -N -S 8", 1, 0},
		{"-t 1 --get-server-output", 1, 0},
		{"-t 1 -C reno", 1, 0},
		{"-u -t 1 -b 10M", 1, 0},
		{"-u -t 1 -b 10M -R", 1, 0},
		{"-u -t 1 -b 5M --bidir", 2, 0},
		{"-u -t 1 -b 2M -P 4", 4, 0},
		{"-u -t 1 -b 5M -O 1", 1, 0},
		{"-u -b 10M -n 1M", 1, 0},
		{"-u -b 10M -k 500 -l 1000", 1, 0},
		{"-u -t 1 -b 0 -l 1400", 1, 0},
		{"-u -t 1 -b 0 -l 1400 -R", 1, 0},
		{"-u -t 1 -b 10M -l 8000 --udp-counters-64bit", 1, 0},
		{"-6 -t 1", 1, 0},
		{"-6 -t 1 -R -P 4", 4, 0},
		{"-6 -u -t 1 -b 10M", 1, 0},
	} {
		t.Run(m.args, func(t *testing.T) {
			// The server opens its port anew for each test.
			g.waitLine(fmt.Sprintf(`^Server listening on 5201 \(test #%d\)$`, n+1))
			to := g.addr
			if strings.HasPrefix(m.args, "-6") {
				to = guestIP6
			}
			out, err := g.run(append([]string{"iperf3", "-c", to, "--json", "--connect-timeout", "60000"}, strings.Fields(m.args)...)...)
			if err != nil {
				t.Fatal(err)
			}
			var r report
			if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "{")):]), &r); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			udp, bidir := strings.Contains(m.args, "-u"), strings.Contains(m.args, "--bidir")
			flows := []flow{r.End.SumSent, r.End.SumReceived}
			if bidir {
				flows = append(flows, r.End.SumSentBack, r.End.SumReceivedBack)
			}
			if r.Error != "" || len(r.Start.Connected) != m.streams {
				t.Errorf("error %q, %d streams, want %d", r.Error, len(r.Start.Connected), m.streams)
			}
			for i, f := range flows {
				switch {
				case f.Bytes <= 0 && !(udp && strings.Contains(m.args, "-b 0")): // unpaced datagrams may all be lost
					t.Errorf("flow %d: nothing", i)
				case udp && i%2 == 0 && f.Packets <= 0:
					t.Errorf("flow %d: no packets", i)
				case i == 0 && m.bytes > 0 && (f.Bytes < m.bytes || f.Bytes > m.bytes+128<<10):
					t.Errorf("flow %d: %.0f octets, want %.0f", i, f.Bytes, m.bytes)
				}
			}
			if n := len(r.Intervals); strings.Contains(m.args, "-O") && (n < 2 || !r.Intervals[0].Sum.Omitted) {
				t.Errorf("nothing is omitted in %d intervals", n)
			}
			if strings.Contains(m.args, "server-output") && !strings.Contains(r.ServerOutput, "Accepted connection") {
				t.Errorf("the server's output is %q", r.ServerOutput)
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
	g.healthy()
}
