// Package drive picks the generator for a load.Spec and runs it from beginning
// to end: store the keys, warm up, measure, read back what was written, keep the
// histograms.
//
// Who may use it: the command line ("bench load", which a run starts inside the
// network namespace) and tests. Start reading at Run.
package drive

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"osv/harness/load"
	"osv/harness/load/dist"
	"osv/harness/load/httpreq"
	"osv/harness/load/iperf"
	"osv/harness/load/mctext"
	"osv/harness/load/plain"
	"osv/harness/load/stream"
	"osv/harness/load/typical"
	"osv/harness/load/udp"
)

// Options are what a run adds to a Spec.
type Options struct {
	Probes []string `json:"probes,omitempty"`  // see load.ParseProbe
	HDRLog string   `json:"hdr_log,omitempty"` // file to write, none if empty
	Label  string   `json:"label,omitempty"`   // comment in the log
	// Port replaces the kernel's sockets for memcached-udp, for raw frames.
	Port udp.Port `json:"-"`
	// NoReadback leaves out the check of what the load's SETs left behind.
	NoReadback bool `json:"no_readback,omitempty"`
}

// MaxUDPValue is the largest value of a UDP load, in bytes: request and reply
// each fit one datagram with the largest key.
const MaxUDPValue = 1080

// readbackKeys is how many written keys are read back.
const readbackKeys = 1000

// Items makes the key space of a spec, the same for equal specs.
func Items(spec load.Spec) (*mctext.Items, error) {
	k, err := dist.Parse(spec.KeySize)
	if err != nil {
		return nil, fmt.Errorf("drive: key size: %w", err)
	}
	v, err := dist.Parse(spec.ValueSize)
	if err != nil {
		return nil, fmt.Errorf("drive: value size: %w", err)
	}
	most := mctext.MaxValue / 2
	if spec.Kind == load.MemcachedUDP {
		most = MaxUDPValue
	}
	return mctext.NewItems(spec.Keys, k, v, most, spec.Seed)
}

// outcome is what a generator leaves.
type outcome struct {
	res load.Result
	rec *load.Recorder
	at  time.Time
}

// Run runs one load.
func Run(ctx context.Context, spec load.Spec, opt Options) (load.Result, error) {
	spec = spec.WithDefaults()
	if err := spec.Check(); err != nil {
		return load.Result{}, err
	}
	probes, err := load.ParseProbes(opt.Probes)
	if err != nil {
		return load.Result{}, err
	}
	defer probes.Close()
	var o outcome
	switch spec.Kind {
	case load.MemcachedUDP, load.MemcachedTCP:
		o, err = memcached(ctx, spec, opt, probes)
	case load.HTTP:
		o, err = httpGet(ctx, spec, probes)
	case load.Iperf:
		o.res, err = iperf.Run(ctx, spec, probes)
	case load.GoMemcache:
		var it *mctext.Items
		if it, err = Items(spec); err == nil {
			o.res, o.rec, o.at, err = typical.Run(ctx, spec, it, probes)
		}
	case load.PlainUDP, load.PlainTCP:
		o.res, err = independent(ctx, spec)
	}
	if err != nil {
		return load.Result{}, err
	}
	if opt.HDRLog != "" && o.rec != nil {
		if err := writeLog(opt.HDRLog, opt.Label, o); err != nil {
			return load.Result{}, err
		}
	}
	return o.res, nil
}

func writeLog(path, label string, o outcome) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := o.rec.WriteLog(f, label, o.at); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// target resolves host:port to an address.
func target(spec load.Spec) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(spec.Target)
	if err != nil {
		return a, fmt.Errorf("drive: target %q is not ADDRESS:PORT: %w", spec.Target, err)
	}
	return a, nil
}

// transport is how a finite job and the load reach the server.
type transport struct {
	run func(ctx context.Context, spec load.Spec, c load.Codec, p load.Probes) (*load.Engine, error)
	job func(ctx context.Context, spec load.Spec, c load.Codec) error
}

func memcached(ctx context.Context, spec load.Spec, opt Options, probes load.Probes) (outcome, error) {
	it, err := Items(spec)
	if err != nil {
		return outcome{}, err
	}
	pick, err := dist.NewPicker(spec.Popularity, it.Len())
	if err != nil {
		return outcome{}, fmt.Errorf("drive: %w", err)
	}
	addr, err := target(spec)
	if err != nil && opt.Port == nil {
		return outcome{}, err
	}
	tr := transport{
		run: func(ctx context.Context, s load.Spec, c load.Codec, p load.Probes) (*load.Engine, error) {
			return stream.Run(ctx, s, c, addr, p)
		},
		job: func(ctx context.Context, s load.Spec, c load.Codec) error { return stream.RunJob(ctx, s, c, addr) },
	}
	if spec.Kind == load.MemcachedUDP {
		port := opt.Port
		if port == nil {
			if port, err = udp.OpenSocket(addr, spec.Conns); err != nil {
				return outcome{}, err
			}
			defer port.Close()
		}
		tr.run = func(ctx context.Context, s load.Spec, c load.Codec, p load.Probes) (*load.Engine, error) {
			return udp.Run(ctx, s, c, port, p)
		}
		tr.job = func(ctx context.Context, s load.Spec, c load.Codec) error { return udp.RunJob(ctx, s, c, port) }
	}
	if spec.Idle > 0 {
		idle, err := openIdle(ctx, addr, spec.Idle)
		if err != nil {
			return outcome{}, err
		}
		defer idle.close()
	}
	mix := mctext.NewMix(it, pick, spec.SetRatio)
	if spec.Echo {
		e, err := tr.run(ctx, spec, mctext.NewEcho(mix), probes)
		if err != nil {
			return outcome{}, err
		}
		return outcome{res: e.Result(), rec: e.Rec, at: e.StartedAt}, nil
	}
	if !spec.NoPopulate {
		if err := job(ctx, tr, spec, mctext.NewJob(it, mctext.OpSet, 0, mctext.All(it), jobRounds), "store"); err != nil {
			return outcome{}, err
		}
	}
	e, err := tr.run(ctx, spec, mix, probes)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{res: e.Result(), rec: e.Rec, at: e.StartedAt}
	if mix.StoredCount() > 0 && !opt.NoReadback {
		var list []uint32
		for i := uint32(0); int(i) < it.Len() && len(list) < readbackKeys; i++ {
			if mix.Stored(i) {
				list = append(list, i)
			}
		}
		j := mctext.NewJob(it, mctext.OpGet, 1, list, jobRounds)
		if err := job(ctx, tr, spec, j, "read back"); err != nil {
			return outcome{}, err
		}
		if j.Misses() > 0 {
			return outcome{}, fmt.Errorf("drive: %d of %d written keys are gone", j.Misses(), len(list))
		}
		o.res.Readback = uint64(len(list))
	}
	return o, nil
}

// jobRounds is how often a lost request of a job is repeated.
const jobRounds = 10

// job runs a finite codec gently: 16 outstanding in all.
func job(ctx context.Context, tr transport, spec load.Spec, j *mctext.Job, what string) error {
	s := spec
	s.Mode, s.Outstanding, s.Conns = load.Closed, 16, 1
	s.Timeout = load.Duration(max(spec.Timeout.Std(), 500*time.Millisecond))
	if err := tr.job(ctx, s, j); err != nil {
		return fmt.Errorf("drive: %s keys: %w", what, err)
	}
	if j.Pending() > 0 {
		return fmt.Errorf("drive: %s keys: %d have no right reply after %d rounds", what, j.Pending(), jobRounds)
	}
	return nil
}

func httpGet(ctx context.Context, spec load.Spec, probes load.Probes) (outcome, error) {
	addr, err := target(spec)
	if err != nil {
		return outcome{}, err
	}
	body, err := httpreq.Fetch(ctx, spec.Target, spec.Path, 10*time.Second)
	if err != nil {
		return outcome{}, fmt.Errorf("drive: %w", err)
	}
	e, err := stream.Run(ctx, spec, httpreq.New(spec.Target, spec.Path, body), addr, probes)
	if err != nil {
		return outcome{}, err
	}
	return outcome{res: e.Result(), rec: e.Rec, at: e.StartedAt}, nil
}

// independent runs the second generator, which keeps no histogram.
func independent(ctx context.Context, spec load.Spec) (load.Result, error) {
	if spec.Mode != load.Closed {
		return load.Result{}, fmt.Errorf("drive: %s is measured in the closed loop only", spec.Kind)
	}
	v, err := dist.Parse(spec.ValueSize)
	if err != nil {
		return load.Result{}, err
	}
	cfg := plain.Config{Network: "udp", Addr: spec.Target, Workers: spec.Conns, Keys: max(1, min(spec.Keys, 10000)/spec.Conns), Value: int(v.Mean()),
		Set: spec.SetRatio > 0.5, Warmup: spec.Warmup.Std(), Duration: spec.Duration.Std()}
	if spec.Kind == load.PlainTCP {
		cfg.Network = "tcp"
	}
	cpu := load.NewMeter()
	p, err := plain.Run(ctx, cfg)
	if err != nil {
		return load.Result{}, err
	}
	r := load.Result{Spec: spec, Seconds: spec.Duration.Std().Seconds(), Rate: p.Rate, Offered: p.Rate, Completed: uint64(p.Completed),
		Lost: uint64(p.Failed), ClientCPU: cpu.Share()}
	r.Latency = load.Quantiles{Count: int64(p.Completed), P50: int64(p.P50), P99: int64(p.P99), Max: int64(p.Max)}
	r.Guard = load.Judge(r, 0)
	return r, nil
}
