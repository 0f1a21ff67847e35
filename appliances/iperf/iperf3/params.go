package iperf3

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Bounds of iperf3.
const (
	maxStreams   = 128
	maxBlock     = 1 << 20
	maxUDPBlock  = 65507
	minUDPBlock  = 16 // so that 64-bit counters have room
	maxBuffer    = 512 << 20
	maxMSS       = 9 << 10
	maxDuration  = 86400 * time.Second
	maxOmit      = 600 * time.Second
	maxBurst     = 1000
	defaultBlock = 128 << 10
	defaultUDP   = 1460 // where the path's segment size is not known
	udpRate      = 1 << 20
	pacingTimer  = time.Millisecond
)

// Protocol of the streams.
type Protocol string

// The two protocols.
const (
	TCP Protocol = "TCP"
	UDP Protocol = "UDP"
)

// Params describe a test. The client chooses them, the server gets them.
type Params struct {
	Protocol      Protocol
	Omit          time.Duration // at the beginning, not counted
	Time          time.Duration // 0 where Bytes or Blocks end the test
	Bytes, Blocks uint64        // of all streams of one direction; 0: no bound
	Parallel      int           // streams in each direction
	Reverse       bool          // the server sends
	Bidir         bool          // both do
	Block         int           // bytes of a write, or of a datagram
	Window        int           // socket buffers, bytes; 0: the host's
	NoDelay       bool
	MSS           int    // 0: the path's
	Bitrate       uint64 // bit/s of each stream; 0: no bound
	Burst         int    // blocks sent at once when a stream is paced; 0: 1
	PacingTimer   time.Duration
	TOS           uint8
	Congestion    string
	UDP64         bool // 64-bit counters in datagrams
	ServerOutput  bool // the client wants to see what the server prints
	Title         string
	ExtraData     string
	ClientVersion string
}

// number reads what iperf3 writes for a number: 3.12 sends -1 as
// 18446744073709551615, and newer ones send fractions.
type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null", "false":
		*n = 0
		return nil
	case "true":
		*n = 1
		return nil
	}
	if u, err := strconv.ParseUint(string(b), 10, 64); err == nil && u > math.MaxInt64 {
		*n = number(int64(u))
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		if f == 0 || !math.IsInf(f, 0) {
			return fmt.Errorf("%.40q is not a number", b)
		}
		f = math.Copysign(math.MaxFloat64, f)
	}
	*n = number(f)
	return nil
}

// huge is the largest count that is taken from the wire. What is larger than
// 2^63 is a negative number there.
const huge = 1 << 62

// clamp is n as a whole number between lo and hi.
func (n number) clamp(lo, hi int64) int64 {
	switch f := math.Trunc(float64(n)); {
	case f <= float64(lo):
		return lo
	case f >= float64(hi):
		return hi
	default:
		return int64(f)
	}
}

// seconds is n as a duration, below a year.
func (n number) seconds() time.Duration {
	return time.Duration(min(max(float64(n), -1), 31536000) * float64(time.Second))
}

// wireParams are the JSON of Params. Flags are sent only if set.
type wireParams struct {
	TCP           flag    `json:"tcp,omitempty"`
	UDP           flag    `json:"udp,omitempty"`
	SCTP          flag    `json:"sctp,omitempty"`
	Omit          number  `json:"omit"`
	Time          number  `json:"time"`
	Num           number  `json:"num"`
	BlockCount    number  `json:"blockcount"`
	Parallel      number  `json:"parallel"`
	Reverse       flag    `json:"reverse,omitempty"`
	Bidirectional flag    `json:"bidirectional,omitempty"`
	Len           number  `json:"len"`
	Window        number  `json:"window,omitempty"`
	NoDelay       flag    `json:"nodelay,omitempty"`
	MSS           number  `json:"MSS,omitempty"`
	Bandwidth     number  `json:"bandwidth,omitempty"`
	PacingTimer   number  `json:"pacing_timer,omitempty"`
	Burst         number  `json:"burst,omitempty"`
	TOS           number  `json:"TOS,omitempty"`
	Title         *string `json:"title,omitempty"`
	ExtraData     *string `json:"extra_data,omitempty"`
	Congestion    *string `json:"congestion,omitempty"`
	ServerOutput  number  `json:"get_server_output,omitempty"`
	UDP64         number  `json:"udp_counters_64bit,omitempty"`
	AuthToken     *string `json:"authtoken,omitempty"`
	ClientVersion *string `json:"client_version,omitempty"`
}

// MarshalJSON writes n without an exponent.
func (n number) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(n), 'f', -1, 64), nil
}

// flag is what newer versions want to be true, and older ones to be there.
type flag bool

func (f *flag) UnmarshalJSON(b []byte) error {
	var n number
	err := n.UnmarshalJSON(b)
	*f = n != 0
	return err
}

func flagged(on bool) number {
	if on {
		return 1
	}
	return 0
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// MarshalJSON makes the text that goes over the wire.
func (p Params) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireParams{
		TCP: p.Protocol == TCP, UDP: p.Protocol == UDP,
		Omit: number(p.Omit.Seconds()), Time: number(p.Time.Seconds()),
		Num: number(p.Bytes), BlockCount: number(p.Blocks), Parallel: number(p.Parallel),
		Reverse: flag(p.Reverse), Bidirectional: flag(p.Bidir),
		Len: number(p.Block), Window: number(p.Window), NoDelay: flag(p.NoDelay), MSS: number(p.MSS),
		Bandwidth: number(p.Bitrate), PacingTimer: number(p.PacingTimer.Microseconds()), Burst: number(p.Burst),
		TOS: number(p.TOS), Title: optional(p.Title), ExtraData: optional(p.ExtraData), Congestion: optional(p.Congestion),
		ServerOutput: flagged(p.ServerOutput), UDP64: flagged(p.UDP64), ClientVersion: optional(p.ClientVersion),
	})
}

// parseParams reads what a client asks for. The error is an *Error, with the code
// that the client is told.
func parseParams(text []byte) (Params, error) {
	var w wireParams
	if err := json.Unmarshal(text, &w); err != nil {
		return Params{}, failed(codeRecvParams, err)
	}
	p := Params{
		Protocol: TCP,
		Omit:     w.Omit.seconds(), Time: w.Time.seconds(),
		Bytes: uint64(w.Num.clamp(0, huge)), Blocks: uint64(w.BlockCount.clamp(0, huge)),
		Parallel: int(w.Parallel.clamp(-1, math.MaxInt32)),
		Reverse:  bool(w.Reverse), Bidir: bool(w.Bidirectional),
		Block: int(w.Len.clamp(-1, math.MaxInt32)), Window: int(w.Window.clamp(0, math.MaxInt32)),
		NoDelay: bool(w.NoDelay), MSS: int(w.MSS.clamp(0, math.MaxInt32)),
		Bitrate: uint64(w.Bandwidth.clamp(0, huge)), Burst: int(w.Burst.clamp(0, math.MaxInt32)),
		PacingTimer: time.Duration(w.PacingTimer.clamp(0, 1e9)) * time.Microsecond,
		TOS:         uint8(w.TOS.clamp(0, 255)),
		Title:       value(w.Title), ExtraData: value(w.ExtraData), Congestion: value(w.Congestion),
		ServerOutput: w.ServerOutput != 0, UDP64: w.UDP64 != 0, ClientVersion: value(w.ClientVersion),
	}
	if w.UDP {
		p.Protocol = UDP
	}
	if w.SCTP {
		return p, failed(codeProtocol, fmt.Errorf("SCTP"))
	}
	p.fill(0)
	return p, p.check()
}

// fill puts defaults where nothing was asked for. mss is the control
// connection's, 0 where it is not known.
func (p *Params) fill(mss int) {
	if p.Parallel == 0 {
		p.Parallel = 1
	}
	if p.Block == 0 {
		p.Block = defaultBlock
		if p.Protocol == UDP {
			p.Block = defaultUDP
			if mss > 0 {
				p.Block = min(max(mss, minUDPBlock), maxUDPBlock)
			}
		}
	}
	if p.PacingTimer == 0 {
		p.PacingTimer = pacingTimer
	}
}

// check says what is out of bounds.
func (p *Params) check() error {
	bad := func(code int, format string, args ...any) error { return failed(code, fmt.Errorf(format, args...)) }
	switch {
	case p.Parallel < 1 || p.Parallel > maxStreams:
		return bad(codeNumStreams, "%d", p.Parallel)
	case p.Reverse && p.Bidir:
		return failed(codeReverseBoth, nil)
	case p.Protocol == UDP && (p.Block < minUDPBlock || p.Block > maxUDPBlock):
		return bad(codeUDPBlock, "%d", p.Block)
	case p.Block < 1 || p.Block > maxBlock:
		return bad(codeBlockSize, "%d", p.Block)
	case p.Window > maxBuffer:
		return bad(codeBufSize, "%d", p.Window)
	case p.MSS > maxMSS:
		return bad(codeMSS, "%d", p.MSS)
	case p.Time < 0 || p.Time > maxDuration:
		return bad(codeDuration, "%v", p.Time)
	case p.Omit < 0 || p.Omit > maxOmit:
		return bad(codeOmit, "%v", p.Omit)
	case p.Burst > maxBurst:
		return bad(codeBurst, "%d", p.Burst)
	}
	return nil
}

// bounded reports that octets or blocks end the test, not time.
func (p *Params) bounded() bool { return p.Bytes > 0 || p.Blocks > 0 }

// budget is how many octets all streams of a direction send; 0: no bound.
func (p *Params) budget() uint64 {
	if p.Bytes > 0 || p.Blocks == 0 {
		return p.Bytes
	}
	if p.Blocks > huge/uint64(p.Block) {
		return huge
	}
	return p.Blocks * uint64(p.Block)
}
