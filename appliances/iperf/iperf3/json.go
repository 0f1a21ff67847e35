package iperf3

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"time"

	"osv/appliances/iperf/units"
)

// jsonReport is the reporter that scripts read: one document per test, with the
// members that iperf3 -J has. What this host does not know is left out.
type jsonReport struct {
	w      io.Writer
	o      textOptions
	doc    document
	params *Params
	text   []byte
}

func newJSON(w io.Writer, o textOptions) *jsonReport {
	r := &jsonReport{w: w, o: o}
	r.doc.Title = o.title
	r.doc.Start.Version, r.doc.Start.System = Version, o.system
	r.doc.Start.Connected = []connectedDoc{}
	r.doc.Intervals = []intervalDoc{}
	return r
}

type document struct {
	Title      string          `json:"title,omitempty"`
	ExtraData  string          `json:"extra_data,omitempty"`
	Start      startDoc        `json:"start"`
	Intervals  []intervalDoc   `json:"intervals"`
	End        endDoc          `json:"end"`
	ServerText string          `json:"server_output_text,omitempty"`
	ServerJSON json.RawMessage `json:"server_output_json,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
	Error      string          `json:"error,omitempty"`
}

type startDoc struct {
	Connected     []connectedDoc `json:"connected"`
	Version       string         `json:"version"`
	System        string         `json:"system_info"`
	Timestamp     *timeDoc       `json:"timestamp,omitempty"`
	ConnectingTo  *hostDoc       `json:"connecting_to,omitempty"`
	Accepted      *hostDoc       `json:"accepted_connection,omitempty"`
	Cookie        string         `json:"cookie,omitempty"`
	MSS           int            `json:"tcp_mss,omitempty"`
	MSSDefault    int            `json:"tcp_mss_default,omitempty"`
	TargetBitrate *uint64        `json:"target_bitrate,omitempty"`
	SockBufSize   *int           `json:"sock_bufsize,omitempty"`
	Test          *testDoc       `json:"test_start,omitempty"`
}

type connectedDoc struct {
	Socket     int    `json:"socket"`
	LocalHost  string `json:"local_host"`
	LocalPort  uint16 `json:"local_port"`
	RemoteHost string `json:"remote_host"`
	RemotePort uint16 `json:"remote_port"`
}

type timeDoc struct {
	Time string `json:"time"`
	Secs int64  `json:"timesecs"`
}

type hostDoc struct {
	Host string `json:"host"`
	Port uint16 `json:"port"`
}

type testDoc struct {
	Protocol Protocol `json:"protocol"`
	Streams  int      `json:"num_streams"`
	Block    int      `json:"blksize"`
	Omit     float64  `json:"omit"`
	Duration float64  `json:"duration"`
	Bytes    uint64   `json:"bytes"`
	Blocks   uint64   `json:"blocks"`
	Reverse  int      `json:"reverse"`
	Bidir    int      `json:"bidir"`
	TOS      uint8    `json:"tos"`
	Bitrate  uint64   `json:"target_bitrate"`
}

type intervalDoc struct {
	Streams  []sampleDoc        `json:"streams"`
	Sum      *sampleDoc         `json:"sum,omitempty"`
	Reverse  *sampleDoc         `json:"sum_bidir_reverse,omitempty"`
	Counters map[string]float64 `json:"counters_per_second,omitempty"`
}

// sampleDoc is a Sample, of an interval or of the whole test.
type sampleDoc struct {
	Socket      *int     `json:"socket,omitempty"`
	Start       float64  `json:"start"`
	End         float64  `json:"end"`
	Seconds     float64  `json:"seconds"`
	Bytes       uint64   `json:"bytes"`
	Bitrate     float64  `json:"bits_per_second"`
	Retransmits *int64   `json:"retransmits,omitempty"`
	Cwnd        *int     `json:"snd_cwnd,omitempty"`
	Window      *int     `json:"snd_wnd,omitempty"`
	RTT         *int64   `json:"rtt,omitempty"`
	RTTVar      *int64   `json:"rttvar,omitempty"`
	PMTU        *int     `json:"pmtu,omitempty"`
	MaxCwnd     *int     `json:"max_snd_cwnd,omitempty"`
	MaxWindow   *int     `json:"max_snd_wnd,omitempty"`
	MaxRTT      *int64   `json:"max_rtt,omitempty"`
	MinRTT      *int64   `json:"min_rtt,omitempty"`
	MeanRTT     *int64   `json:"mean_rtt,omitempty"`
	Jitter      *float64 `json:"jitter_ms,omitempty"`
	Lost        *int64   `json:"lost_packets,omitempty"`
	Packets     *int64   `json:"packets,omitempty"`
	LostPercent *float64 `json:"lost_percent,omitempty"`
	OutOfOrder  *int64   `json:"out_of_order,omitempty"`
	Omitted     *bool    `json:"omitted,omitempty"`
	Sender      bool     `json:"sender"`
}

type endDoc struct {
	Streams            []any      `json:"streams,omitempty"`
	Sum                *sampleDoc `json:"sum,omitempty"` // UDP
	SumSent            *sampleDoc `json:"sum_sent,omitempty"`
	SumReceived        *sampleDoc `json:"sum_received,omitempty"`
	SumReverse         *sampleDoc `json:"sum_bidir_reverse,omitempty"`
	SumSentReverse     *sampleDoc `json:"sum_sent_bidir_reverse,omitempty"`
	SumReceivedReverse *sampleDoc `json:"sum_received_bidir_reverse,omitempty"`
	CPU                *cpuDoc    `json:"cpu_utilization_percent,omitempty"`
	SenderCongestion   string     `json:"sender_tcp_congestion,omitempty"`
	ReceiverCongestion string     `json:"receiver_tcp_congestion,omitempty"`
}

type tcpStreamDoc struct {
	Sender   *sampleDoc `json:"sender,omitempty"`
	Receiver *sampleDoc `json:"receiver,omitempty"`
}

type udpStreamDoc struct {
	UDP *sampleDoc `json:"udp"`
}

type cpuDoc struct {
	HostTotal    float64 `json:"host_total"`
	HostUser     float64 `json:"host_user"`
	HostSystem   float64 `json:"host_system"`
	RemoteTotal  float64 `json:"remote_total"`
	RemoteUser   float64 `json:"remote_user"`
	RemoteSystem float64 `json:"remote_system"`
}

func ptr[T any](v T) *T { return &v }

func (r *jsonReport) connecting(host string, port uint16) {
	r.doc.Start.ConnectingTo = &hostDoc{host, port}
	r.stamp()
}

func (r *jsonReport) accepted(peer netip.AddrPort) {
	r.doc.Start.Accepted = &hostDoc{peer.Addr().String(), peer.Port()}
	r.stamp()
}

func (r *jsonReport) stamp() {
	now := time.Now()
	r.doc.Start.Timestamp = &timeDoc{now.UTC().Format(timeFormat), now.Unix()}
}

func (r *jsonReport) start(g *greeting) {
	p := g.Params
	r.params = p
	s := &r.doc.Start
	s.Cookie, s.TargetBitrate, s.SockBufSize = g.Cookie, &p.Bitrate, &p.Window
	if p.Protocol == TCP {
		s.MSS = p.MSS
		if p.MSS == 0 {
			s.MSSDefault = g.MSS
		}
	}
	for _, e := range g.Streams {
		s.Connected = append(s.Connected, connectedDoc{e.ID, e.Local.Addr().String(), e.Local.Port(), e.Remote.Addr().String(), e.Remote.Port()})
	}
	s.Test = &testDoc{
		Protocol: p.Protocol, Streams: p.Parallel, Block: p.Block, Omit: p.Omit.Seconds(), Duration: p.Time.Seconds(),
		Bytes: p.Bytes, Blocks: p.Blocks, Reverse: int(flagged(p.Reverse)), Bidir: int(flagged(p.Bidir)), TOS: p.TOS, Bitrate: p.Bitrate,
	}
	r.doc.ExtraData = p.ExtraData
	if r.doc.Title == "" {
		r.doc.Title = p.Title
	}
}

// base is what all samples have.
func base(s *Sample, sender bool) sampleDoc {
	span := s.End - s.Start
	return sampleDoc{Start: s.Start, End: s.End, Seconds: span, Bytes: s.Bytes, Bitrate: units.Bitrate(s.Bytes, span), Sender: sender}
}

func (d *sampleDoc) datagrams(s *Sample) {
	d.Jitter, d.Lost, d.Packets = ptr(s.Jitter*1e3), &s.Lost, &s.Packets
	d.LostPercent = ptr(units.Percent(s.Lost, s.Packets))
}

func (r *jsonReport) sample(s Sample) *sampleDoc {
	d := base(&s, s.Sender)
	d.Omitted = &s.Omitted
	if s.ID > 0 {
		d.Socket = &s.ID
	}
	switch {
	case r.params.Protocol == UDP && s.Sender:
		d.Packets = &s.Packets
	case r.params.Protocol == UDP:
		d.datagrams(&s)
	case s.Sender && s.Retransmits >= 0:
		d.Retransmits = &s.Retransmits
		if i := s.Info; i != nil {
			d.Cwnd, d.Window, d.PMTU = ptr(i.Cwnd), ptr(i.PeerWindow), ptr(i.PMTU)
			d.RTT, d.RTTVar = ptr(i.RTT.Microseconds()), ptr(i.RTTVar.Microseconds())
		}
	}
	return &d
}

func (r *jsonReport) interval(iv *interval) {
	var d intervalDoc
	for _, s := range iv.Samples {
		d.Streams = append(d.Streams, *r.sample(s))
	}
	for _, sender := range r.directions() {
		if s, n := sum(iv.Samples, sender); n > 0 {
			if d.Sum == nil {
				d.Sum = r.sample(s)
			} else {
				d.Reverse = r.sample(s)
			}
		}
	}
	if len(iv.Counters) > 0 {
		d.Counters = map[string]float64{}
		for _, c := range iv.Counters {
			d.Counters[c.Name] = c.PerS
		}
	}
	r.doc.Intervals = append(r.doc.Intervals, d)
}

// directions are the client's sending direction first, as it counts.
func (r *jsonReport) directions() []bool {
	if r.o.client {
		return []bool{true, false}
	}
	return []bool{false, true}
}

func (r *jsonReport) end(e *ending) {
	if r.params == nil {
		return
	}
	d := &r.doc.End
	udp := r.params.Protocol == UDP
	for i := range e.Pairs {
		p := &e.Pairs[i]
		sent, received := side(p.Sent, p, p.Sender), side(p.Received, p, p.Sender)
		if !udp {
			if sent != nil && p.Sent.Retransmits >= 0 {
				sent.Retransmits = &p.Sent.Retransmits
			}
			if c := &p.Conn; sent != nil && c.n > 0 {
				sent.MaxCwnd, sent.MaxWindow = &c.maxCwnd, &c.maxWindow
				sent.MaxRTT, sent.MinRTT = ptr(c.maxRTT.Microseconds()), ptr(c.minRTT.Microseconds())
				sent.MeanRTT = ptr(c.sumRTT.Microseconds() / int64(c.n))
			}
			d.Streams = append(d.Streams, tcpStreamDoc{sent, received})
			continue
		}
		one := sent
		if one == nil || !p.Sender {
			one = received
		}
		if s := p.Received; s != nil {
			one.datagrams(s)
			one.OutOfOrder = &s.OutOfOrder
		} else {
			one.datagrams(p.Sent)
		}
		d.Streams = append(d.Streams, udpStreamDoc{one})
	}
	for _, sender := range r.directions() {
		sent, received := r.sumDocs(e.Pairs, sender)
		switch {
		case sent == nil && received == nil:
		case d.SumSent == nil && d.SumReceived == nil:
			d.SumSent, d.SumReceived = sent, received
			d.Sum = r.whole(sent, received)
		default:
			d.SumSentReverse, d.SumReceivedReverse = sent, received
			d.SumReverse = r.whole(sent, received)
		}
	}
	d.CPU = &cpuDoc{e.Local[0], e.Local[1], e.Local[2], e.Remote[0], e.Remote[1], e.Remote[2]}
	if !udp {
		d.SenderCongestion, d.ReceiverCongestion = e.SenderCC, e.ReceiverCC
	}
	r.doc.ServerText, r.doc.ServerJSON = e.Server.OutputText, e.Server.OutputJSON
}

func side(s *Sample, p *pair, sender bool) *sampleDoc {
	if s == nil {
		return nil
	}
	d := base(s, sender)
	d.Socket = &p.ID
	return &d
}

// sumDocs are the two sums of a direction.
func (r *jsonReport) sumDocs(ps []pair, sender bool) (sent, received *sampleDoc) {
	ss, rs := sums(ps, sender)
	udp := r.params.Protocol == UDP
	if ss != nil {
		d := base(ss, sender)
		if udp {
			d.datagrams(&Sample{Packets: ss.Packets})
			d.Sender = true
		} else if ss.Retransmits >= 0 {
			d.Retransmits = &ss.Retransmits
		}
		sent = &d
	}
	if rs != nil {
		d := base(rs, sender)
		if udp {
			d.datagrams(rs)
			d.Sender = false
		}
		received = &d
	}
	return sent, received
}

// whole is the sum of a UDP direction as older readers want it: the sender's
// octets and the receiver's losses.
func (r *jsonReport) whole(sent, received *sampleDoc) *sampleDoc {
	if r.params.Protocol != UDP {
		return nil
	}
	if sent == nil {
		return received
	}
	d := *sent
	if received != nil {
		d.Jitter, d.Lost, d.Packets, d.LostPercent = received.Jitter, received.Lost, received.Packets, received.LostPercent
	}
	return &d
}

func (r *jsonReport) warn(s string) { r.doc.Warnings = append(r.doc.Warnings, s) }

func (r *jsonReport) fail(err error) {
	if r.doc.Error == "" {
		r.doc.Error = err.Error()
	}
}

// output writes the document. The second call finds it written.
func (r *jsonReport) output() (string, []byte) {
	if r.text == nil {
		b, err := json.MarshalIndent(&r.doc, "", "\t")
		if err != nil {
			b = []byte(`{"error":"report"}`)
		}
		r.text = b
		r.w.Write(append(bytes.Clone(b), '\n'))
	}
	return "", r.text
}
