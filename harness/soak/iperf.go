package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"osv/harness/wire"
)

// bulk is the part of iperf3's JSON that is looked at.
type bulk struct {
	Error     string
	Intervals []struct{ Sum struct{ Bytes float64 } }
	End       struct {
		Sent     bulkSum `json:"sum_sent"`
		Received bulkSum `json:"sum_received"`
	}
}

type bulkSum struct {
	Bytes       float64
	Rate        float64 `json:"bits_per_second"`
	Retransmits float64
}

// parseBulk reads the output of iperf3 -J. No second may have passed without a
// byte.
func parseBulk(out string) (bulk, error) {
	var b bulk
	if i := strings.IndexByte(out, '{'); i > 0 {
		out = out[i:] // warnings come first
	}
	if err := json.Unmarshal([]byte(out), &b); err != nil {
		return b, fmt.Errorf("iperf3's output: %w: %s", err, abridge(out))
	}
	switch {
	case b.Error != "":
		return b, fmt.Errorf("iperf3: %s", b.Error)
	case len(b.Intervals) == 0 || b.End.Received.Bytes <= 0 || b.End.Sent.Bytes < b.End.Received.Bytes:
		return b, fmt.Errorf("iperf3: %d intervals, %.0f bytes sent, %.0f received", len(b.Intervals), b.End.Sent.Bytes, b.End.Received.Bytes)
	}
	for i, iv := range b.Intervals {
		if iv.Sum.Bytes == 0 {
			return b, fmt.Errorf("iperf3: nothing moved in second %d of %d", i+1, len(b.Intervals))
		}
	}
	return b, nil
}

func iperfLong(ctx context.Context, r *Run) error {
	g, err := r.boot(ctx, iperfApp, "tcp:5201", bootOptions{args: "-s"})
	if err != nil {
		return err
	}
	secs := fmt.Sprint(max(1, int(r.Length/time.Second)))
	for _, way := range []struct{ name, flag string }{{"to the guest", ""}, {"from the guest", "-R"}} {
		args := []string{"iperf3", "-c", wire.GuestIP(0).Addr().String(), "-J", "-P", "8", "-t", secs}
		if way.flag != "" {
			args = append(args, way.flag)
		}
		r.logf("%s for %s s", way.name, secs)
		// The error is in the document; without one, it is err.
		out, _, err := g.run(ctx, args...)
		b, perr := parseBulk(out)
		if err != nil || perr != nil {
			return fmt.Errorf("%s: %w", way.name, errors.Join(perr, err))
		}
		least := b.Intervals[0].Sum.Bytes
		for _, iv := range b.Intervals[:max(1, len(b.Intervals)-1)] { // the last may be a fraction of a second
			least = min(least, iv.Sum.Bytes)
		}
		r.figure(way.name, b.End.Received.Rate/1e6, "Mbit/s")
		r.figure(way.name+", slowest second", least*8/1e6, "Mbit/s")
		r.figure(way.name+", retransmits", b.End.Sent.Retransmits, "")
	}
	return g.trouble()
}

// iperfModes runs the boot test that appliances/iperf has of its own: its table of
// modes is the one place where they are listed.
func iperfModes(ctx context.Context, r *Run) error {
	if !wire.MayUnshare() {
		return fmt.Errorf("%w: %v", ErrSkip, wire.ErrPrivilege)
	}
	r.logf("go test -tags boot -run TestBootDebianClients/1cpu ./%s", iperfApp)
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "boot", "-count=1", "-json", "-run", "^TestBootDebianClients$/^1cpu$", "./"+iperfApp)
	cmd.Dir = r.cfg.Module
	// All of its processes end with it: QEMU dies with the test program.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	modes, perr := parseModes(out)
	err = cmd.Wait()
	r.figure("modes that passed", float64(modes.passed), "")
	switch {
	case len(modes.failed) > 0:
		return fmt.Errorf("modes %s:\n%s", strings.Join(modes.failed, ", "), lastLines(modes.text, 40))
	case perr != nil || err != nil:
		return errors.Join(perr, err)
	case modes.passed == 0:
		return errors.New("no mode was run")
	}
	return nil
}

type modeResults struct {
	passed int
	failed []string
	text   string // of failed modes
}

// parseModes reads the events of go test -json; modes are the leaves, three deep.
func parseModes(in io.Reader) (modeResults, error) {
	var res modeResults
	text := map[string]string{}
	d := json.NewDecoder(in)
	for {
		var e struct{ Action, Test, Output string }
		if err := d.Decode(&e); err == io.EOF {
			return res, nil
		} else if err != nil {
			return res, fmt.Errorf("go test -json: %w", err)
		}
		if strings.Count(e.Test, "/") < 2 {
			continue
		}
		name := e.Test[strings.LastIndexByte(e.Test, '/')+1:]
		switch e.Action {
		case "output":
			text[name] += e.Output
		case "pass":
			res.passed++
		case "fail":
			res.failed = append(res.failed, name)
			res.text += text[name]
		}
	}
}
