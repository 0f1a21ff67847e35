package rest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"osv/kernel/rest/machine"
)

// busyNetwork has channels, with labels that need escapes.
type busyNetwork struct{}

func (busyNetwork) Interfaces() ([]machine.Interface, error) {
	return []machine.Interface{{
		Config:   machine.InterfaceConfig{Name: "eth\"0\\\n"},
		Data:     machine.InterfaceData{IPackets: 1 << 60},
		Channels: &machine.Channels{Fast: 5, Slow: 6, Reasons: map[string]uint64{"no flow": 3, "ARP": 2}},
	}, {Config: machine.InterfaceConfig{Name: "lo"}}}, nil
}
func (busyNetwork) Routes() ([]machine.Route, error) { return nil, nil }

// Prometheus' own parser and linter find nothing to say against it.
func TestMetricsAreClean(t *testing.T) {
	s := newServer(t, func(c *Config) { c.Machine.Network = busyNetwork{} })
	send(s, "GET", "/os/version", nil)
	send(s, "POST", "/os/shutdown", nil)
	w := send(s, "GET", "/metrics", nil)
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	text := w.Body.Bytes()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(families) < 25 {
		t.Errorf("%d families", len(families))
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	value := func(name string, labels ...string) float64 {
		f := families[name]
		if f == nil {
			t.Errorf("no %s", name)
			return 0
		}
	samples:
		for _, m := range f.Metric {
			for i := 0; i < len(labels); i += 2 {
				ok := false
				for _, l := range m.Label {
					ok = ok || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				if !ok {
					continue samples
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		}
		t.Errorf("no %s%v", name, labels)
		return 0
	}
	if v := value("osv_channel_frames_total", "interface", "eth\"0\\\n", "path", "fast"); v != 5 {
		t.Errorf("fast frames: %v", v)
	}
	if v := value("osv_channel_reasons_total", "reason", "no flow"); v != 3 {
		t.Errorf("reason: %v", v)
	}
	if v := value("osv_network_receive_packets_total", "interface", "eth\"0\\\n"); v != 1<<60 {
		t.Errorf("packets: %v", v)
	}
	if v := value("osv_http_requests_total", "operation", "os_version", "code", "2xx"); v != 1 {
		t.Errorf("requests: %v", v)
	}
	if v := value("osv_http_refused_total", "reason", "authentication"); v != 1 {
		t.Errorf("refused: %v", v)
	}
	if value("osv_memory_total_bytes") < 1<<20 || value("osv_go_goroutines") < 1 || value("osv_cpu_seconds_total", "cpu", "0", "mode", "busy") <= 0 {
		t.Error("values are not those of this machine")
	}
	value("osv_tracepoint_enabled", "name", "rest.refused")
	if strings.Contains(string(text), "\r") {
		t.Error("a carriage return")
	}
}
