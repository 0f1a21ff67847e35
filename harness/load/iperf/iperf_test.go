package iperf

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
)

func TestArgs(t *testing.T) {
	s := load.Spec{Target: "10.0.0.2:5201", Warmup: load.Duration(500 * time.Millisecond), Duration: load.Duration(3 * time.Second), Conns: 4,
		IperfReverse: true, IperfUDP: true, IperfBitrate: "100M"}
	got, err := Args(s)
	want := strings.Fields("-c 10.0.0.2 -p 5201 -J -t 3 -O 1 -P 4 -R -u -b 100M")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := Args(load.Spec{Target: "nowhere"}); err == nil {
		t.Error("target without a port accepted")
	}
}

func TestParse(t *testing.T) {
	// 3.12 prints the -1 of "not known" unsigned.
	r, err := Parse([]byte(`{"end":{"sum_sent":{"seconds":2,"bits_per_second":9e8,"retransmits":18446744073709551615},
		"sum_received":{"seconds":2.01,"bits_per_second":8e8},"cpu_utilization_percent":{"host_total":12.5}}}`))
	if err != nil || r.BitRate != 8e8 || r.Retrans != 0 || r.ClientCPU != 0.125 || r.Seconds != 2.01 {
		t.Errorf("%+v %v", r, err)
	}
	r, err = Parse([]byte(`{"end":{"sum":{"seconds":2,"bits_per_second":1e6,"packets":100,"lost_packets":3},"sum_sent":{"retransmits":7}}}`))
	if err != nil || r.Lost != 3 || r.Completed != 97 || r.Retrans != 7 {
		t.Errorf("%+v %v", r, err)
	}
	for _, bad := range []string{"", "{", `{"error":"unable to connect"}`, `{"end":{}}`, `{"end":{"sum_received":{"bits_per_second":0}}}`} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestAgainstRealServer(t *testing.T) {
	bin, err := exec.LookPath("iperf3")
	if err != nil {
		t.Skip("iperf3 is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	srv := exec.Command(bin, "-s", "-B", "127.0.0.1", "-p", strconv.Itoa(port), "--forceflush")
	out, err := srv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { srv.Process.Kill(); srv.Wait() }()
	for sc := bufio.NewScanner(out); sc.Scan() && !strings.Contains(sc.Text(), "listening"); {
	}
	spec := load.Spec{Kind: load.Iperf, Target: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Duration: load.Duration(time.Second)}.WithDefaults()
	r, err := Run(context.Background(), spec, nil)
	if err != nil || r.BitRate < 1e6 || r.Spec.Kind != load.Iperf {
		t.Errorf("%+v %v", r, err)
	}
}

func TestFailures(t *testing.T) {
	old := Binary
	defer func() { Binary = old }()
	Binary = "/nonexistent/iperf3"
	spec := load.Spec{Kind: load.Iperf, Target: "127.0.0.1:1"}.WithDefaults()
	if _, err := Run(context.Background(), spec, nil); err == nil || !strings.Contains(err.Error(), "nonexistent") {
		t.Error(err)
	}
	// A server that is not ready at first is waited for.
	script := filepath.Join(t.TempDir(), "iperf3")
	flag := script + ".once"
	text := "#!/bin/sh\nif [ -e " + flag + " ]; then echo '{\"end\":{\"sum_received\":{\"seconds\":1,\"bits_per_second\":5e6}}}'; else touch " + flag +
		"; echo '{\"error\":\"unable to connect to server: Connection refused\"}'; exit 1; fi\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	Binary = script
	pid := os.Getpid()
	ps, err := load.ParseProbes([]string{fmt.Sprintf("main=cpu:%d/%d", pid, pid)})
	if err != nil {
		t.Fatal(err)
	}
	defer ps.Close()
	if r, err := Run(context.Background(), spec, ps); err != nil || r.BitRate != 5e6 || r.Probes["seconds"] <= 0 {
		t.Errorf("%+v %v", r, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, spec, nil); err != context.Canceled {
		t.Error(err)
	}
	spec.Target = "x"
	if _, err := Run(context.Background(), spec, nil); err == nil {
		t.Error("bad target accepted")
	}
}
