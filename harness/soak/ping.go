package soak

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"osv/harness/wire"
)

// Limits of the ping flood.
const (
	pingsPerSecond = 2000 // of a scenario's length; ping -f itself goes as fast as replies come
	pingLossMost   = 0.001
)

var (
	pingCounts = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)
	pingTimes  = regexp.MustCompile(`rtt min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/`)
)

type pingResult struct {
	sent, received float64
	avg, max       float64 // ms
}

func parsePing(out string) (pingResult, error) {
	c, t := pingCounts.FindStringSubmatch(out), pingTimes.FindStringSubmatch(out)
	if c == nil {
		return pingResult{}, fmt.Errorf("no packets in ping's output: %s", abridge(out))
	}
	num := func(s string) float64 { v, _ := strconv.ParseFloat(s, 64); return v }
	r := pingResult{sent: num(c[1]), received: num(c[2])}
	if t != nil {
		r.avg, r.max = num(t[2]), num(t[3])
	}
	return r, nil
}

// pingFlood floods with echo requests that fit one frame, that fill it, and that
// come in fragments.
func pingFlood(ctx context.Context, r *Run) error {
	g, err := r.boot(ctx, httpdProg, "tcp:80", bootOptions{})
	if err != nil {
		return err
	}
	count := max(1, int(r.Length.Seconds()*pingsPerSecond/3))
	for _, size := range []string{"56", "1472", "8000"} {
		r.logf("%d requests of %s octets", count, size)
		out, _, err := g.run(ctx, "ping", "-f", "-q", "-n", "-s", size, "-c", fmt.Sprint(count),
			"-w", fmt.Sprint(int(r.Length/time.Second)+20), wire.GuestIP(0).Addr().String())
		if errors.Is(err, ErrSkip) {
			return err
		}
		p, perr := parsePing(out)
		if perr != nil {
			return errors.Join(perr, err) // a status of 1 alone says that replies are missing
		}
		r.figure(size+" octets, requests", p.sent, "")
		r.figure(size+" octets, lost", p.sent-p.received, "")
		r.figure(size+" octets, mean time", p.avg, "ms")
		if lost := p.sent - p.received; p.sent == 0 || lost > pingLossMost*p.sent {
			return fmt.Errorf("%.0f of %.0f echo requests of %s octets have no reply", lost, p.sent, size)
		}
	}
	return g.trouble()
}
