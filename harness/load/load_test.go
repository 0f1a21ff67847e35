package load

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"osv/harness/load/dist"
)

func TestSpecDefaultsAndChecks(t *testing.T) {
	s := Spec{Kind: MemcachedUDP}.WithDefaults()
	if err := s.Check(); err != nil || s.Mode != Closed || s.Outstanding != 1 || s.Timeout.Std() != time.Second {
		t.Fatalf("%+v: %v", s, err)
	}
	if o := (Spec{Kind: HTTP, Mode: Open, Rate: 5}).WithDefaults(); o.Outstanding != 1024 || o.Check() != nil {
		t.Errorf("%+v", o)
	}
	for want, change := range map[string]func(s *Spec){
		"unknown kind":  func(s *Spec) { s.Kind = "ftp" },
		"neither":       func(s *Spec) { s.Mode = "ajar" },
		"positive rate": func(s *Spec) { s.Mode = Open },
		"connections":   func(s *Spec) { s.Conns = 70000 },
		"outstanding":   func(s *Spec) { s.Outstanding = 40000 },
		"duration":      func(s *Spec) { s.Duration = -1 },
		"warm-up":       func(s *Spec) { s.Warmup = Duration(2 * time.Hour) },
		"timeout":       func(s *Spec) { s.Timeout = Duration(time.Minute) },
		"set ratio":     func(s *Spec) { s.SetRatio = 1.5 },
		"keys":          func(s *Spec) { s.Keys = -3 },
	} {
		bad := s
		change(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestDurationText(t *testing.T) {
	b, err := json.Marshal(Spec{Duration: Duration(1500 * time.Millisecond)})
	if err != nil || !strings.Contains(string(b), `"duration":"1.5s"`) {
		t.Fatalf("%s %v", b, err)
	}
	var s Spec
	if err := json.Unmarshal(b, &s); err != nil || s.Duration.Std() != 1500*time.Millisecond {
		t.Fatalf("%+v %v", s, err)
	}
	if err := json.Unmarshal([]byte(`{"warmup":"soon"}`), &s); err == nil {
		t.Error("bad duration accepted")
	}
}

func TestRecorderWindow(t *testing.T) {
	const s = int64(time.Second)
	r := NewRecorder(s, 2*s)
	r.Sent(s-1, s)          // due in the warm-up
	r.Done(s-1, s, s, true) // but answered in the window: throughput, not latency
	r.Sent(s+5, s+25)
	r.Done(s+5, s+25, s+1005, true)
	r.Sent(2*s-1, 2*s)
	r.Done(2*s-1, 2*s, 2*s+99, false) // due in the window, answered after it: latency only
	r.Sent(2*s, 2*s)
	r.Drop(s + 7)
	r.Drop(s - 7)
	r.Missed(s + 8)
	r.Missed(2*s + 8)
	r.Fault(&r.Wrong, "first %d", 1)
	r.Fault(&r.Wrong, "second")
	var res Result
	r.Fill(&res)
	if res.Completed != 2 || res.Hits != 2 || res.Lost != 1 || res.Misses != 1 || res.Wrong != 2 || res.WrongText != "first 1" ||
		res.Offered != 2 || res.Rate != 2 || res.Seconds != 1 {
		t.Errorf("%+v", res)
	}
	if res.Latency.Count != 2 || res.Latency.Max != 1000 || res.Service.Max != 980 || res.SendLag.Count != 2 || res.SendLag.Max != 20 {
		t.Errorf("%+v %+v %+v", res.Latency, res.Service, res.SendLag)
	}
	if len(res.Timeline) != 10 || res.Timeline[0] != 2 {
		t.Errorf("%v", res.Timeline)
	}
	r.Done(s, s, 3*s+int64(90*time.Second), true) // beyond the histogram: clamped, not lost
	if got := Summary(r.Latency); got.Count != 3 || got.Max < 59e9 {
		t.Errorf("%+v", got)
	}
	if r.FaultText() != "first 1" {
		t.Error(r.FaultText())
	}
	if n := testing.AllocsPerRun(100, func() { r.Sent(s+1, s+2); r.Done(s+1, s+2, s+3, true); r.Drop(s); r.Missed(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHistogramLogRoundTrip(t *testing.T) {
	r := NewRecorder(0, int64(time.Second))
	for i := int64(1); i <= 1000; i++ {
		r.Sent(i, i+10)
		r.Done(i, i+10, i+1000*i, true)
	}
	var b bytes.Buffer
	if err := r.WriteLog(&b, "udp-get, boot 3", time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "#[Histogram log format version 1.3]") || !strings.Contains(b.String(), "Tag=latency,") {
		t.Errorf("%s", b.String()[:200])
	}
	got, err := ReadLog(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]Quantiles{TagLatency: Summary(r.Latency), TagService: Summary(r.Service), TagLag: Summary(r.Lag)} {
		if got[tag] == nil || Summary(got[tag]) != want {
			t.Errorf("%s: %+v, want %+v", tag, got[tag], want)
		}
	}
	var second bytes.Buffer
	second.Write(b.Bytes())
	second.Write(b.Bytes())
	twice, err := ReadLog(&second)
	if err != nil || twice[TagLatency].TotalCount() != 2000 {
		t.Errorf("intervals of one tag do not add up: %v", err)
	}
	if _, err := ReadLog(strings.NewReader("Tag=x,1,2,3,notbase64!!\n")); err == nil {
		t.Error("broken log accepted")
	}
	if Summary(NewHistogram()) != (Quantiles{}) {
		t.Error("an empty histogram has points")
	}
}

func TestJudge(t *testing.T) {
	ok := Result{Spec: Spec{Mode: Open}, Rate: 100, ClientCPU: 0.5, Latency: Quantiles{Count: 9, P99: 1000e3}, SendLag: Quantiles{Count: 9, P99: 50e3}}
	if g := Judge(ok, 1000); g.ClientBound || g.Ceiling != 1000 {
		t.Errorf("%+v", g)
	}
	lag := ok
	lag.SendLag.P99 = 101e3
	busy := ok
	busy.ClientCPU = 0.6
	if Judge(ok, 50).ClientBound {
		t.Error("an idle client is the limit")
	}
	cpu := ok
	cpu.ClientCPU = 0.81
	for want, c := range map[string]struct {
		r Result
		c float64
	}{"send lag": {lag, 0}, "client CPU": {cpu, 0}, "null server": {busy, 105}} {
		if g := Judge(c.r, c.c); !g.ClientBound || !strings.Contains(g.Reason, want) {
			t.Errorf("%s: %+v", want, g)
		}
	}
	lag.Spec.Mode = Closed
	if Judge(lag, 0).ClientBound {
		t.Error("a closed loop has no schedule to lag behind")
	}
}

func TestClean(t *testing.T) {
	for want, r := range map[string]Result{"wrong": {Wrong: 1}, "errors": {Errors: 1}, "misses": {Misses: 1}, "lost": {Lost: 1}, "nothing came back": {}} {
		if ok, why := r.Clean(); ok || !strings.Contains(why, want) {
			t.Errorf("%s: %v %q", want, ok, why)
		}
	}
	if ok, _ := (Result{Completed: 5}).Clean(); !ok {
		t.Error("a clean result is not")
	}
}

func TestProbes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counters")
	write := func(user, kernel uint64) {
		b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, user), kernel)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(100, 1000)
	self := fmt.Sprintf("%d/%d", os.Getpid(), os.Getpid())
	ps, err := ParseProbes([]string{"user=u64:" + file + ":0", "kernel=u64:" + file + ":8", "vcpu=cpu:" + self, "vcpu=cpu:" + self, "wait=wait:" + self})
	if err != nil {
		t.Fatal(err)
	}
	defer ps.Close()
	if err := ps.Start(); err != nil {
		t.Fatal(err)
	}
	write(150, 1700)
	got, err := ps.Stop()
	if err != nil || got["user"] != 50 || got["kernel"] != 700 || got["vcpu"] < 0 || len(got) != 4 {
		t.Errorf("%v %v", got, err)
	}
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := ps.Stop(); err == nil {
		t.Error("a vanished counter is not an error")
	}
	if ps.Start() == nil {
		t.Error("a vanished counter is not an error")
	}
	for _, bad := range []string{"", "x", "x=", "=u64:f:0", "x=u64:f", "x=u64:f:-1", "x=cpu:1", "x=cpu:a/1", "x=cpu:1/b", "x=what:1", "x=u64:/nonexistent:0", "x=cpu:4294967295/1", "x=u64:" + file + ":99"} {
		if _, err := ParseProbes([]string{bad}); err == nil {
			t.Errorf("probe %q accepted", bad)
		}
	}
	if m, err := (Probes)(nil).Stop(); m != nil || err != nil {
		t.Error("no probes, no map")
	}
}

type endless struct{}

func (endless) Next(dist.Rand) (Req, bool)       { return Req{}, true }
func (endless) Append(dst []byte, q Req) []byte  { return dst }
func (endless) Check([]byte, Req) (int, Verdict) { return 0, Done }
func (endless) MaxRequest() int                  { return 1 }
func (endless) MaxReply() int                    { return 1 }

// The sleep of an engine ends at whatever comes first.
func TestWaitTime(t *testing.T) {
	s := Spec{Kind: HTTP, Mode: Open, Rate: 1000, Arrivals: "uniform", Warmup: Duration(time.Millisecond), Duration: Duration(time.Second)}.WithDefaults()
	e, err := NewEngine(s, endless{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := e.Due(0); !ok || !e.OpenLoop() {
		t.Fatal("the first request is due at once")
	}
	if _, _, ok := e.Due(999_999); ok {
		t.Error("due too early")
	}
	if w := e.WaitTime(400_000, 0, true); w != 600*time.Microsecond {
		t.Errorf("to the next request: %v", w)
	}
	if w := e.WaitTime(400_000, 500_000, true); w != 100*time.Microsecond {
		t.Errorf("to the expiry: %v", w)
	}
	if w := e.WaitTime(900_000, 0, false); w != 100*time.Microsecond {
		t.Errorf("to the window: %v", w)
	}
	if err := e.Edge(2e6); err != nil {
		t.Fatal(err)
	}
	if w := e.WaitTime(5e6, 0, false); w != 20*time.Millisecond {
		t.Errorf("at most: %v", w)
	}
	e.SetPolling()
	e.Worked(5e8)
	if err := e.Edge(2e9); err != nil || e.Issuing(2e9) {
		t.Fatal(err)
	}
	if r := e.Result(); r.ClientCPU != 0.5 {
		t.Errorf("busy share %v", r.ClientCPU)
	}
	// A second at 1,000/s of which none was sent; at the start two were looked at.
	if r := e.Result(); r.Offered < 999 || r.Offered > 1000 {
		t.Errorf("offered %v/s", r.Offered)
	}
	s.Rate = 0
	if _, err := NewEngine(s, endless{}, false); err == nil {
		t.Error("no rate accepted")
	}
}
