package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"osv/harness/bench"
	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/load/drive"
	"osv/harness/load/search"
)

type loadCmd struct {
	Target string `arg:"" optional:"" help:"ADDRESS:PORT of the server."`
	Stdin  bool   `help:"Read a load request as JSON, write the result as JSON: how a run starts its generators." hidden:""`

	Kind        string        `help:"Generator: memcached-udp, memcached-tcp, http, iperf, gomemcache, plain-udp or plain-tcp." default:"memcached-udp" enum:"memcached-udp,memcached-tcp,http,iperf,gomemcache,plain-udp,plain-tcp" placeholder:"KIND"`
	Rate        float64       `help:"Open loop at this rate (requests/s); 0 = closed loop." default:"0"`
	Arrivals    string        `help:"Gaps of the open loop: poisson, uniform, fb_ia, or a distribution." default:"poisson"`
	Outstanding int           `help:"Requests in flight: in all over UDP, on each connection over TCP." short:"o" default:"0"`
	Conns       int           `help:"Connections (UDP: source ports)." short:"c" default:"1"`
	Duration    time.Duration `help:"Length of the measurement." short:"d" default:"5s"`
	Warmup      time.Duration `help:"Time before it." default:"1s"`
	Timeout     time.Duration `help:"A later reply is lost." default:"1s"`
	Keys        int           `help:"Number of keys." default:"10000"`
	KeySize     string        `help:"Key size: a number or a distribution (fb_key)." default:"32"`
	ValueSize   string        `help:"Value size: a number or a distribution (fb_value)." default:"32"`
	Popularity  string        `help:"Which key: uniform or zipf:THETA." default:"uniform"`
	SetRatio    float64       `help:"Share of SETs, 0 to 1." default:"0"`
	NoPopulate  bool          `help:"The keys are stored already."`
	Path        string        `help:"HTTP path." default:"/"`
	Reverse     bool          `help:"iperf: the server sends."`
	Probe       []string      `help:"Counter to read at both ends of the measurement: NAME=u64:FILE:OFFSET, NAME=cpu:PID/TID or NAME=wait:PID/TID." sep:"none" placeholder:"PROBE"`
	HDR         string        `help:"Write the latency histograms to this file (HdrHistogram log, V2)." name:"hdr" placeholder:"FILE"`
	Seed        uint64        `help:"Seed of keys and gaps." default:"1"`

	Ceiling bool          `help:"Load the null server in this process instead: the generator's own ceiling."`
	Peak    bool          `help:"Closed loop with more and more outstanding, until the rate stops growing."`
	Knee    time.Duration `help:"Seek the largest rate whose p99 latency stays within this." placeholder:"SLO"`
	Low     float64       `help:"Knee: a rate that passes." default:"100"`
	High    float64       `help:"Knee: a rate that fails." default:"200000"`
	Repeats int           `help:"Knee: loads at each rate; the majority decides." default:"3"`
	JSON    bool          `help:"Print the result as JSON."`
}

func (c *loadCmd) spec() load.Spec {
	s := load.Spec{Kind: load.Kind(c.Kind), Target: c.Target, Mode: load.Closed, Rate: c.Rate, Arrivals: c.Arrivals, Outstanding: c.Outstanding, Conns: c.Conns,
		Warmup: load.Duration(c.Warmup), Duration: load.Duration(c.Duration), Timeout: load.Duration(c.Timeout), Keys: c.Keys, KeySize: c.KeySize, ValueSize: c.ValueSize,
		Popularity: c.Popularity, SetRatio: c.SetRatio, NoPopulate: c.NoPopulate, Path: c.Path, IperfReverse: c.Reverse, Seed: c.Seed}
	if c.Rate > 0 {
		s.Mode = load.Open
	}
	return s
}

func (c *loadCmd) Run(ctx context.Context, io streams) error {
	if c.Stdin {
		return bench.ServeLoad(ctx, io.in, io.out)
	}
	s := c.spec()
	if c.Ceiling {
		rate, err := drive.Ceiling(ctx, s, c.Duration)
		if err != nil {
			return err
		}
		return c.print(io, map[string]float64{"ceiling": rate}, fmt.Sprintf("null server: %s req/s\n", design.Number(rate, 4)))
	}
	if c.Target == "" {
		return fmt.Errorf("load: no target; give ADDRESS:PORT")
	}
	opt := drive.Options{Probes: c.Probe, HDRLog: c.HDR, Label: "bench load"}
	measure := func(ctx context.Context, s load.Spec) (load.Result, error) { return drive.Run(ctx, s, opt) }
	switch {
	case c.Peak:
		best, all, err := search.Peak(ctx, s, 4096, 0.03, measure)
		if err != nil {
			return err
		}
		var b strings.Builder
		for _, r := range all {
			fmt.Fprintf(&b, "%5d outstanding: %s\n", r.Spec.Outstanding, line(r))
		}
		return c.print(io, best, b.String()+"peak: "+line(best)+"\n")
	case c.Knee > 0:
		k, err := search.FindKnee(ctx, s, search.KneeConfig{SLO: c.Knee, Low: c.Low, High: c.High, Repeats: c.Repeats, Tolerance: 0.05}, measure)
		if err != nil {
			return err
		}
		var b strings.Builder
		for _, p := range k.Points {
			verdict := "over the limit"
			if p.Passed {
				verdict = "within"
			}
			if p.Bound {
				verdict += " (client-bound)"
			}
			fmt.Fprintf(&b, "%10s req/s: p99 %s, %s\n", design.Number(p.Rate, 4), design.MetricByName("p99").FormatUnit(p.P99), verdict)
		}
		fmt.Fprintf(&b, "knee at p99 ≤ %v: between %s and %s req/s\n", c.Knee, design.Number(k.Low, 4), design.Number(k.High, 4))
		return c.print(io, k, b.String())
	}
	r, err := measure(ctx, s)
	if err != nil {
		return err
	}
	if err := c.print(io, r, line(r)+"\n"); err != nil {
		return err
	}
	if ok, why := r.Clean(); !ok {
		fmt.Fprintln(io.err, "bench: not clean:", why)
		return failure{exitFailed}
	}
	return nil
}

func (c *loadCmd) print(io streams, v any, text string) error {
	if !c.JSON {
		_, err := fmt.Fprint(io.out, text)
		return err
	}
	enc := json.NewEncoder(io.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// line is a result on one line.
func line(r load.Result) string {
	if r.Spec.Kind == load.Iperf {
		return fmt.Sprintf("%s, %d retransmits", design.MetricByName("bit_rate").FormatUnit(r.BitRate), r.Retrans)
	}
	us := design.MetricByName("p99")
	s := fmt.Sprintf("%s, p50 %s, p99 %s, p99.9 %s, lost %d, client CPU %.0f %%", design.MetricByName("rate").FormatUnit(r.Rate), us.FormatUnit(float64(r.Latency.P50)),
		us.FormatUnit(float64(r.Latency.P99)), us.FormatUnit(float64(r.Latency.P999)), r.Lost, r.ClientCPU*100)
	if r.Guard.ClientBound {
		s += ", client-bound: " + r.Guard.Reason
	}
	return s
}
