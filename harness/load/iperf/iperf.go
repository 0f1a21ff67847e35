// Package iperf drives the real iperf3 client (Debian 12 has 3.12) and reads its
// JSON, so that the bulk transfer figures are those of the tool people know.
//
// Spec: the output of iperf3 -J. Numbers are read as float64, since 3.12 prints
// -1 as 18446744073709551615. Who may use it: drive.
package iperf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"osv/harness/load"
)

// Binary is the client's name; tests replace it.
var Binary = "iperf3"

// Args is the client's command line for a spec: seconds are rounded up, the
// warm-up is iperf3's own -O.
func Args(spec load.Spec) ([]string, error) {
	host, port, err := net.SplitHostPort(spec.Target)
	if err != nil {
		return nil, fmt.Errorf("iperf: target %q: %w", spec.Target, err)
	}
	args := []string{"-c", host, "-p", port, "-J", "-t", seconds(spec.Duration.Std())}
	if spec.Warmup > 0 {
		args = append(args, "-O", seconds(spec.Warmup.Std()))
	}
	if spec.Conns > 1 {
		args = append(args, "-P", strconv.Itoa(spec.Conns))
	}
	if spec.IperfReverse {
		args = append(args, "-R")
	}
	if spec.IperfUDP {
		args = append(args, "-u")
	}
	if spec.IperfBitrate != "" {
		args = append(args, "-b", spec.IperfBitrate)
	}
	return args, nil
}

func seconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}

// patience is how long a server that is between two tests is waited for: iperf3
// serves one at a time and does not listen in between.
const patience = 8 * time.Second

// Run runs the client once; a refused or reset connection is tried again for a
// while. Guest probes cover the whole run, omitted seconds too; its length is
// with them as "seconds".
func Run(ctx context.Context, spec load.Spec, probes load.Probes) (load.Result, error) {
	args, err := Args(spec)
	if err != nil {
		return load.Result{}, err
	}
	for end := time.Now().Add(patience); ; {
		res, err := once(ctx, spec, args, probes)
		if err == nil || !between(err) || time.Now().After(end) {
			return res, err
		}
		select {
		case <-ctx.Done():
			return load.Result{}, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// between reports an error that a server gives while it gets ready for the next
// test.
func between(err error) bool {
	for _, s := range []string{"Connection refused", "reset by peer", "server is busy"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

func once(ctx context.Context, spec load.Spec, args []string, probes load.Probes) (load.Result, error) {
	if err := probes.Start(); err != nil {
		return load.Result{}, err
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, Binary, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	runErr := cmd.Run()
	if ctx.Err() != nil {
		return load.Result{}, ctx.Err()
	}
	got, err := probes.Stop()
	if err != nil {
		return load.Result{}, err
	}
	if got != nil {
		got["seconds"] = time.Since(began).Seconds()
	}
	res, err := Parse(out.Bytes())
	if err != nil {
		if runErr != nil {
			err = fmt.Errorf("%w (%v: %s)", err, runErr, strings.TrimSpace(errOut.String()))
		}
		return load.Result{}, err
	}
	res.Spec, res.Probes = spec, got
	res.Guard = load.Judge(res, 0)
	return res, nil
}

// output is the part of iperf3's JSON that counts.
type output struct {
	Error string `json:"error"`
	End   struct {
		SumSent     *sum `json:"sum_sent"`
		SumReceived *sum `json:"sum_received"`
		Sum         *sum `json:"sum"` // UDP
		CPU         struct {
			HostTotal float64 `json:"host_total"`
		} `json:"cpu_utilization_percent"`
	} `json:"end"`
}

type sum struct {
	Seconds       float64 `json:"seconds"`
	Bytes         float64 `json:"bytes"`
	BitsPerSecond float64 `json:"bits_per_second"`
	Retransmits   float64 `json:"retransmits"`
	Lost          float64 `json:"lost_packets"`
	Packets       float64 `json:"packets"`
}

// Parse reads iperf3's JSON. The bit rate is the receiver's, which is what
// arrived; a UDP loss is counted as lost, and spoils the sample like any other.
func Parse(b []byte) (load.Result, error) {
	var o output
	if err := json.Unmarshal(b, &o); err != nil {
		return load.Result{}, fmt.Errorf("iperf: output: %w", err)
	}
	if o.Error != "" {
		return load.Result{}, fmt.Errorf("iperf: %s", o.Error)
	}
	s := o.End.SumReceived
	if s == nil || s.BitsPerSecond == 0 {
		s = o.End.Sum
	}
	if s == nil || !(s.BitsPerSecond > 0) {
		return load.Result{}, errors.New("iperf: output has no received rate")
	}
	r := load.Result{Seconds: s.Seconds, BitRate: s.BitsPerSecond, ClientCPU: o.End.CPU.HostTotal / 100}
	r.Completed = uint64(s.Packets - s.Lost)
	r.Lost = uint64(max(s.Lost, 0))
	if sent := o.End.SumSent; sent != nil && sent.Retransmits > 0 && sent.Retransmits < 1e15 {
		r.Retrans = uint64(sent.Retransmits)
	}
	return r, nil
}
