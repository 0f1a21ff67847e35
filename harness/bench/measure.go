package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/load/drive"
	"osv/harness/vm"
)

// LoadRequest is what a generator's process reads from its standard input; it
// writes a load.Result to its standard output.
type LoadRequest struct {
	Spec    load.Spec     `json:"spec"`
	Options drive.Options `json:"options"`
	CPUs    []int         `json:"cpus,omitempty"` // host cores it may use
}

// measure runs one workload against a guest.
func (r *Runner) measure(ctx context.Context, g Guest, w design.Workload, client []int, hdr, label string) (load.Result, error) {
	return r.load(ctx, g, w, client, drive.Options{HDRLog: hdr, Label: label})
}

// load is measure with the options that the generator is given; its probes are
// the guest's.
func (r *Runner) load(ctx context.Context, g Guest, w design.Workload, client []int, opt drive.Options) (load.Result, error) {
	spec := w.Spec.WithDefaults()
	var err error
	if spec.Target, err = g.Addr(w.Port); err != nil {
		return load.Result{}, err
	}
	opt.Probes = g.Probes()
	if fg, ok := g.(FrameGuest); ok && spec.Kind == load.MemcachedUDP {
		if opt.Port, err = fg.Frames(w.Port); err != nil {
			return load.Result{}, err
		}
		return runHere(ctx, spec, opt, client)
	}
	in, err := json.Marshal(LoadRequest{spec, opt, client})
	if err != nil {
		return load.Result{}, err
	}
	cmd := exec.Command(r.LoadCommand[0], r.LoadCommand[1:]...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errOut
	// A generator that hangs is a failure of the cell, not of the run.
	limit := spec.Warmup.Std() + spec.Duration.Std() + 90*time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := g.Run(ctx, cmd); err != nil {
		if why := strings.TrimSpace(errOut.String()); why != "" {
			err = fmt.Errorf("%s", why)
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %v", ctx.Err(), err)
		}
		return load.Result{}, err
	}
	var res load.Result
	if err := json.Unmarshal(out.Bytes(), &res); err != nil {
		return load.Result{}, fmt.Errorf("generator's answer: %w", err)
	}
	return res, nil
}

// hostWait is the share of the window in which the vCPU was runnable and not on a
// core because of somebody else: its run-queue wait, less the run time of QEMU's
// main loop where the two share a core.
func hostWait(r load.Result, p design.Placement) float64 {
	seconds := r.Seconds
	if s := r.Probes["seconds"]; s > 0 {
		seconds = s // the probes cover more than the window
	}
	if seconds <= 0 {
		return 0
	}
	wait := r.Probes["vcpu_wait"]
	if p == design.OneCore {
		wait -= r.Probes["main"]
	}
	return max(0, wait/1e9/seconds)
}

// busyHost says what other work on the host took from a window, "" when that was
// little.
func busyHost(r load.Result, p design.Placement, speed float64) string {
	if speed < repeat.Speed {
		return fmt.Sprintf("the host's core ran at %.0f %% of its usual speed", speed*100)
	}
	if w := hostWait(r, p); w > repeat.Wait {
		return fmt.Sprintf("the host kept the vCPU waiting %.0f %% of the time", w*100)
	}
	if s := steal(r); s > repeat.Steal {
		return fmt.Sprintf("the host's own hypervisor took %.0f %% of its cores' time", s*100)
	}
	return ""
}

// steal is the share of all cores' time that the host was not given.
func steal(r load.Result) float64 {
	if s := r.Probes["seconds"]; s > 0 {
		return r.Probes["steal"] / 1e9 / s / float64(runtime.NumCPU())
	}
	if r.Seconds <= 0 {
		return 0
	}
	return r.Probes["steal"] / 1e9 / r.Seconds / float64(runtime.NumCPU())
}

// runHere runs a load in this process, on a thread of its own that may use the
// given cores; the thread ends with the load.
func runHere(ctx context.Context, spec load.Spec, opt drive.Options, cores []int) (load.Result, error) {
	var res load.Result
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if len(cores) > 0 {
			runtime.LockOSThread() // never unlocked: the thread goes with the goroutine
			if err = vm.SetAffinity(0, cores); err != nil {
				return
			}
		}
		res, err = drive.Run(ctx, spec, opt)
	}()
	<-done
	return res, err
}

// keptRate is the share of an offered rate that must be answered for the rate to
// count as carried.
const keptRate = 0.97

// verdict says whether a sample counts, and why not. Loss is a fault of the
// sample, except where it is the finding: iperf over UDP, and an open-loop rate
// that the guest did not carry while the host left it alone.
func verdict(r load.Result, p design.Placement) (bool, string) {
	ok, why := r.Clean()
	if ok || r.Wrong+r.Errors+r.Misses > 0 {
		return ok, why
	}
	if r.Spec.Kind == load.Iperf && r.Spec.IperfUDP {
		return true, ""
	}
	overload := r.Spec.Mode == load.Open && r.Rate < keptRate*r.Offered
	if overload && hostWait(r, p) <= repeat.Wait {
		return true, ""
	}
	return false, why
}

// Metrics derives the named figures of a result.
func Metrics(r load.Result, p design.Placement) map[string]float64 {
	m := map[string]float64{}
	put := func(name string, v float64) {
		if v > 0 {
			m[name] = v
		}
	}
	if r.Spec.Kind == load.Iperf {
		put("bit_rate", r.BitRate)
		if n := r.BitRate / 8 * r.Seconds; n > 0 && r.Spec.Warmup == 0 { // probes cover what -O omits, bytes do not
			put("instructions_byte", r.Probes["insn"]/n)
		}
		return m
	}
	put("host_wait", hostWait(r, p))
	put("host_steal", steal(r))
	put("rate", r.Rate)
	put("p50", float64(r.Latency.P50))
	put("p99", float64(r.Latency.P99))
	put("p999", float64(r.Latency.P999))
	if n := float64(r.Completed); n > 0 {
		put("instructions", r.Probes["insn"]/n)
		// A guest without a single interrupt in a window is one whose events are
		// not counted; of the others a zero is a figure.
		if r.Probes["interrupts"]+r.Probes["halts"] > 0 {
			for _, e := range []string{"interrupts", "doorbells", "halts", "sensitive"} {
				m[e] = r.Probes[e] / n
			}
		}
		put("exits", r.Probes["exits"]/n)
		put("vcpu_ns", r.Probes["vcpu"]/n)
		put("main_ns", r.Probes["main"]/n)
		put("client_ns", r.ClientCPU*r.Seconds*1e9/n)
	}
	return m
}
