// Package load defines what a load generator is told (Spec), what it reports
// (Result) and how its latencies are kept (Recorder). The generators themselves
// live below this folder, one protocol or mechanism each:
//
//	dist      random sizes, gaps and keys
//	mctext    memcached's text protocol: requests and checked replies
//	httpreq   HTTP/1.1 GET: request and checked reply
//	udp       the datagram engine (kernel sockets by sendmmsg, or raw frames)
//	stream    the TCP engine (one thread, epoll, many connections)
//	iperf     drives the real iperf3 client
//	typical   gomemcache, the client a Go program would use
//	plain     a small independent generator that shares nothing with the above
//	null      the null server that shows the generator's own ceiling
//	search    closed-loop peak and knee (largest rate with p99 ≤ SLO)
//	drive     picks the generator for a Spec and runs it
//
// Latency is counted from the intended send time: an open-loop generator that
// falls behind does not excuse the server, and its own lateness is recorded
// beside it (send lag) so that a reader can tell one from the other. In the
// closed loop the intended time is the actual one.
//
// A reply counts only after its bytes were compared with what the request must
// give; anything else is Wrong and spoils the sample.
//
// Start reading at Spec, then udp/engine.go. A new protocol over TCP is a new
// stream.Codec; a new client library (CQL through gocql, say) is a package like
// typical and a line in drive.
package load

import (
	"fmt"
	"time"
)

// Kind names a generator.
type Kind string

// The generators. Plain ones are the independent check.
const (
	MemcachedUDP Kind = "memcached-udp"
	MemcachedTCP Kind = "memcached-tcp"
	HTTP         Kind = "http"
	Iperf        Kind = "iperf"
	GoMemcache   Kind = "gomemcache"
	PlainUDP     Kind = "plain-udp"
	PlainTCP     Kind = "plain-tcp"
)

// Kinds lists the generators in the order that help shows them.
var Kinds = []Kind{MemcachedUDP, MemcachedTCP, HTTP, Iperf, GoMemcache, PlainUDP, PlainTCP}

// Mode is how requests are issued.
type Mode string

const (
	// Closed keeps a fixed number of requests outstanding: it finds a ceiling,
	// and its latency says nothing about users.
	Closed Mode = "closed"
	// Open issues requests on a schedule, whatever the server does.
	Open Mode = "open"
)

// Spec is one load: everything but the time at which it runs.
type Spec struct {
	Kind   Kind   `json:"kind" yaml:"kind"`
	Target string `json:"target,omitempty" yaml:"target,omitempty"` // host:port
	Mode   Mode   `json:"mode" yaml:"mode"`

	Rate     float64 `json:"rate,omitempty" yaml:"rate,omitempty"`         // open: requests/s
	Arrivals string  `json:"arrivals,omitempty" yaml:"arrivals,omitempty"` // open: poisson, uniform, or a dist

	// Outstanding is the number of requests in flight: in all over UDP, on each
	// connection over TCP (pipelining). Open loop: the most that may be.
	Outstanding int `json:"outstanding,omitempty" yaml:"outstanding,omitempty"`
	// Conns is the number of TCP connections, or of UDP source ports.
	Conns int `json:"conns,omitempty" yaml:"conns,omitempty"`

	Warmup   Duration `json:"warmup" yaml:"warmup"`
	Duration Duration `json:"duration" yaml:"duration"`
	Timeout  Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"` // reply later than this is lost

	// Memcached.
	Keys       int     `json:"keys,omitempty" yaml:"keys,omitempty"`
	KeySize    string  `json:"key_size,omitempty" yaml:"key_size,omitempty"`     // dist, bytes
	ValueSize  string  `json:"value_size,omitempty" yaml:"value_size,omitempty"` // dist, bytes
	Popularity string  `json:"popularity,omitempty" yaml:"popularity,omitempty"` // uniform, zipf:THETA
	SetRatio   float64 `json:"set_ratio,omitempty" yaml:"set_ratio,omitempty"`   // share of SETs, 0 to 1
	NoPopulate bool    `json:"no_populate,omitempty" yaml:"no_populate,omitempty"`
	Idle       int     `json:"idle,omitempty" yaml:"idle,omitempty"` // TCP connections beside Conns that say nothing
	Echo       bool    `json:"echo,omitempty" yaml:"echo,omitempty"` // the server is a reflector

	// HTTP.
	Path string `json:"path,omitempty" yaml:"path,omitempty"`

	// iperf.
	IperfUDP     bool   `json:"iperf_udp,omitempty" yaml:"iperf_udp,omitempty"`
	IperfReverse bool   `json:"iperf_reverse,omitempty" yaml:"iperf_reverse,omitempty"` // guest sends
	IperfBitrate string `json:"iperf_bitrate,omitempty" yaml:"iperf_bitrate,omitempty"` // as iperf3 -b

	// Seed fixes keys, values, their order and the gaps. Repeat varies order and
	// gaps but leaves keys and values alone.
	Seed   uint64 `json:"seed,omitempty" yaml:"seed,omitempty"`
	Repeat uint64 `json:"repeat,omitempty" yaml:"repeat,omitempty"`
}

// WithDefaults fills what is unset: 10,000 keys of 32 bytes, values of 32 bytes,
// one connection, one outstanding, replies within a second.
func (s Spec) WithDefaults() Spec {
	if s.Mode == "" {
		s.Mode = Closed
	}
	if s.Conns == 0 {
		s.Conns = 1
	}
	if s.Outstanding == 0 {
		s.Outstanding = 1
		if s.Mode == Open {
			s.Outstanding = 1024
		}
	}
	if s.Duration == 0 {
		s.Duration = Duration(5 * time.Second)
	}
	if s.Timeout == 0 {
		s.Timeout = Duration(time.Second)
	}
	if s.Keys == 0 {
		s.Keys = 10000
	}
	if s.KeySize == "" {
		s.KeySize = "32"
	}
	if s.ValueSize == "" {
		s.ValueSize = "32"
	}
	if s.Path == "" {
		s.Path = "/"
	}
	if s.Seed == 0 {
		s.Seed = 1
	}
	return s
}

// maxSeconds bounds warm-up and duration; longer runs are several samples.
const maxSeconds = 3600

// Check reports the first thing in a filled-in Spec that no generator can do.
func (s Spec) Check() error {
	known := false
	for _, k := range Kinds {
		known = known || k == s.Kind
	}
	switch {
	case !known:
		return fmt.Errorf("load: unknown kind %q", s.Kind)
	case s.Mode != Closed && s.Mode != Open:
		return fmt.Errorf("load: mode %q is neither closed nor open", s.Mode)
	case s.Mode == Open && !(s.Rate > 0):
		return fmt.Errorf("load: open loop needs a positive rate, not %v", s.Rate)
	case s.Conns < 1 || s.Conns > 60000:
		return fmt.Errorf("load: %d connections, want 1 to 60000", s.Conns)
	case s.Idle < 0 || s.Idle+s.Conns > 60000 || s.Idle > 0 && s.Kind != MemcachedTCP:
		return fmt.Errorf("load: %d idle connections, want up to 60000 with the others, memcached-tcp only", s.Idle)
	case s.Outstanding < 1 || s.Outstanding > 32768:
		return fmt.Errorf("load: %d outstanding, want 1 to 32768", s.Outstanding)
	case s.Duration <= 0 || s.Duration.Std() > maxSeconds*time.Second:
		return fmt.Errorf("load: duration %v, want up to %d s", s.Duration, maxSeconds)
	case s.Warmup < 0 || s.Warmup.Std() > maxSeconds*time.Second:
		return fmt.Errorf("load: warm-up %v, want up to %d s", s.Warmup, maxSeconds)
	case s.Timeout <= 0 || s.Timeout.Std() > 59*time.Second:
		return fmt.Errorf("load: timeout %v, want up to 59 s", s.Timeout)
	case s.SetRatio < 0 || s.SetRatio > 1:
		return fmt.Errorf("load: set ratio %v is outside 0 to 1", s.SetRatio)
	case s.Keys < 1 || s.Keys > 1<<24:
		return fmt.Errorf("load: %d keys, want 1 to %d", s.Keys, 1<<24)
	}
	return nil
}

// Duration is a time.Duration that is written as "1.5s" in JSON and YAML.
type Duration time.Duration

// Std is d as the standard type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the notation of time.Duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the notation of time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	*d = Duration(v)
	return nil
}
