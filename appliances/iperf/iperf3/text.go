package iperf3

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"osv/appliances/iperf/units"
)

// textOptions are what the user can choose about text.
type textOptions struct {
	format  units.Format
	verbose bool
	client  bool
	title   string // in front of each line
	system  string
	capture bool // keep what is printed, for a client that asks for it
}

// maxCapture bounds what is kept; the rest is not sent.
const maxCapture = 1 << 20

// text is the reporter that people read.
type text struct {
	w       io.Writer
	o       textOptions
	p       *Params
	kept    strings.Builder
	headed  bool // the columns of the intervals were named
	started time.Time
}

func newText(w io.Writer, o textOptions) *text { return &text{w: w, o: o} }

// printf writes whole lines with one Write.
func (r *text) printf(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if r.o.capture && r.kept.Len()+len(s) <= maxCapture {
		r.kept.WriteString(s)
	}
	if r.o.title != "" {
		s = r.o.title + ":  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n"+r.o.title+":  ") + "\n"
	}
	io.WriteString(r.w, s)
}

func (r *text) connecting(host string, port uint16) {
	if r.o.verbose {
		r.printf("%s\n%s\nTime: %s\n", Version, r.o.system, time.Now().UTC().Format(timeFormat))
	}
	r.printf("Connecting to host %s, port %d\n", host, port)
}

const timeFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

func (r *text) accepted(peer netip.AddrPort) {
	if r.o.verbose {
		r.printf("Time: %s\n", time.Now().UTC().Format(timeFormat))
	}
	r.printf("Accepted connection from %s, port %d\n", peer.Addr(), peer.Port())
}

func (r *text) start(g *greeting) {
	r.p = g.Params
	p := g.Params
	if r.o.client && p.Reverse {
		r.printf("Reverse mode, remote host %s is sending\n", g.Streams[0].Remote.Addr())
	}
	if r.o.verbose {
		r.printf("      Cookie: %s\n", g.Cookie)
		if p.Protocol == TCP && p.MSS == 0 && g.MSS > 0 {
			r.printf("      TCP MSS: %d (default)\n", g.MSS)
		} else if p.Protocol == TCP && p.MSS > 0 {
			r.printf("      TCP MSS: %d\n", p.MSS)
		}
		if p.Bitrate > 0 {
			r.printf("      Target Bitrate: %d\n", p.Bitrate)
		}
	}
	for _, s := range g.Streams {
		r.printf("[%3d] local %s port %d connected to %s port %d\n", s.ID, s.Local.Addr(), s.Local.Port(), s.Remote.Addr(), s.Remote.Port())
	}
	if r.o.verbose {
		what := units.Seconds(p.Time) + " second test"
		switch {
		case p.Bytes > 0:
			what = fmt.Sprintf("%d bytes to send", p.Bytes)
		case p.Blocks > 0:
			what = fmt.Sprintf("%d blocks to send", p.Blocks)
		}
		r.printf("Starting Test: protocol: %s, %d streams, %d byte blocks, omitting %s seconds, %s, tos %d\n",
			p.Protocol, p.Parallel, p.Block, units.Seconds(p.Omit), what, p.TOS)
	}
}

// role is the tag of a stream in a test with both directions.
func (r *text) role(sender bool) string {
	if r.p == nil || !r.p.Bidir {
		return ""
	}
	dir, end := "RX", "S"
	if sender {
		dir = "TX"
	}
	if r.o.client {
		end = "C"
	}
	return "[" + dir + "-" + end + "]"
}

// heading names the columns; last says for the summary.
func (r *text) heading(sender, last bool) {
	role := ""
	if r.p.Bidir {
		role = "[Role]"
	}
	cols := ""
	switch {
	case r.p.Protocol == UDP && (last || !sender && !r.p.Bidir):
		cols = "  Jitter    Lost/Total Datagrams"
	case r.p.Protocol == UDP:
		cols = "  Total Datagrams"
	case last && (r.o.client || sender):
		cols = "  Retr"
	case sender && !last:
		cols = "  Retr  Cwnd"
	}
	r.printf("%s\n", strings.TrimRight(fmt.Sprintf("[ ID]%s Interval           Transfer     %-14s%s", role, "Bitrate", cols), " "))
}

const rule = "- - - - - - - - - - - - - - - - - - - - - - - - -\n"

func omittedMark(on bool) string {
	if on {
		return "(omitted)"
	}
	return ""
}

// span is the part of a line that all have.
func (r *text) span(id string, sender bool, s *Sample) string {
	return fmt.Sprintf("[%3s]%s %6.2f-%-6.2f sec  %s  %s", id, r.role(sender), s.Start, s.End, units.Transfer(s.Bytes), r.o.format.Rate(s.Bytes, s.End-s.Start))
}

func (r *text) interval(iv *interval) {
	anySender := false
	for _, s := range iv.Samples {
		anySender = anySender || s.Sender
	}
	if !r.headed {
		r.headed = true
		r.heading(anySender, false)
	}
	for i := range iv.Samples {
		s := &iv.Samples[i]
		r.intervalLine(fmt.Sprint(s.ID), s)
	}
	if r.p.Parallel > 1 {
		for _, sender := range []bool{true, false} {
			if s, n := sum(iv.Samples, sender); n > 0 {
				s.Info = nil
				r.intervalLine("SUM", &s)
			}
		}
	}
	for i, c := range iv.Counters {
		if i == 0 {
			r.printf("      counters per second:")
		}
		r.printf(" %s %.0f", c.Name, c.PerS)
		if i == len(iv.Counters)-1 {
			r.printf("\n")
		}
	}
	if r.p.Parallel > 1 {
		r.printf(rule)
	}
}

func (r *text) intervalLine(id string, s *Sample) {
	line := r.span(id, s.Sender, s)
	mark := omittedMark(s.Omitted)
	switch {
	case r.p.Protocol == UDP && s.Sender:
		r.printf("%s  %d  %s\n", line, s.Packets, mark)
	case r.p.Protocol == UDP:
		r.printf("%s  %5.3f ms  %d/%d (%.2g%%)  %s\n", line, s.Jitter*1e3, s.Lost, s.Packets, units.Percent(s.Lost, s.Packets), mark)
	case s.Sender && s.Retransmits >= 0 && s.Info != nil:
		r.printf("%s  %3d   %s       %s\n", line, s.Retransmits, units.Transfer(uint64(s.Info.Cwnd)), mark)
	case s.Sender && s.Retransmits >= 0:
		r.printf("%s  %3d             %s\n", line, s.Retransmits, mark)
	default:
		r.printf("%s                  %s\n", line, mark)
	}
}

// sum adds up the samples of one direction and says how many there were.
func sum(samples []Sample, sender bool) (out Sample, n int) {
	for _, s := range samples {
		if s.Sender != sender {
			continue
		}
		if n == 0 {
			out = Sample{Sender: sender, Start: s.Start, End: s.End, Omitted: s.Omitted}
		}
		n++
		out.End = max(out.End, s.End)
		out.Bytes += s.Bytes
		out.Packets += s.Packets
		out.Lost += s.Lost
		out.OutOfOrder += s.OutOfOrder
		out.Jitter += s.Jitter
		if s.Retransmits >= 0 && out.Retransmits >= 0 {
			out.Retransmits += s.Retransmits
		} else {
			out.Retransmits = -1
		}
	}
	if n > 0 {
		out.Jitter /= float64(n)
	}
	return out, n
}

func (r *text) end(e *ending) {
	if r.p == nil {
		return
	}
	if r.o.verbose && r.o.client {
		r.printf("- - - - - - - - - - - - - - - - - - - - - - - - -\nTest Complete. Summary Results:\n")
	} else {
		r.printf(rule)
	}
	anySender := false
	for _, p := range e.Pairs {
		anySender = anySender || p.Sender
	}
	r.heading(anySender, true)
	for i := range e.Pairs {
		p := &e.Pairs[i]
		id := fmt.Sprint(p.ID)
		r.endLine(id, p.Sender, p.Sent, p, "sender")
		r.endLine(id, p.Sender, p.Received, p, "receiver")
	}
	if r.p.Parallel > 1 {
		for _, sender := range []bool{true, false} {
			sent, received := sums(e.Pairs, sender)
			r.endLine("SUM", sender, sent, nil, "sender")
			r.endLine("SUM", sender, received, nil, "receiver")
		}
	}
	if r.o.verbose && e.HasRemote {
		mine, theirs := "sender", "receiver"
		if !anySender {
			mine, theirs = theirs, mine
		}
		r.printf("CPU Utilization: local/%s %.1f%% (%.1f%%u/%.1f%%s), remote/%s %.1f%% (%.1f%%u/%.1f%%s)\n",
			mine, e.Local[0], e.Local[1], e.Local[2], theirs, e.Remote[0], e.Remote[1], e.Remote[2])
		if e.SenderCC != "" {
			r.printf("snd_tcp_congestion %s\n", e.SenderCC)
		}
		if e.ReceiverCC != "" {
			r.printf("rcv_tcp_congestion %s\n", e.ReceiverCC)
		}
	}
	if e.Server.OutputText != "" {
		r.printf("\nServer output:\n%s\n", e.Server.OutputText)
	}
	if len(e.Server.OutputJSON) > 0 {
		r.printf("\nServer JSON output:\n%s\n", e.Server.OutputJSON)
	}
	if e.HasRemote {
		r.printf("\niperf Done.\n")
	}
}

// sums adds up the two sides of the streams of one direction; nil where a side
// is not known.
func sums(ps []pair, sender bool) (sent, received *Sample) {
	var ss, rs []Sample
	for _, p := range ps {
		if p.Sender != sender {
			continue
		}
		if p.Sent != nil {
			ss = append(ss, *p.Sent)
		}
		if p.Received != nil {
			rs = append(rs, *p.Received)
		}
	}
	if s, n := sum(ss, sender); n > 0 {
		sent = &s
	}
	if s, n := sum(rs, sender); n > 0 {
		received = &s
	}
	return sent, received
}

func (r *text) endLine(id string, sender bool, s *Sample, p *pair, who string) {
	if s == nil {
		return
	}
	line := r.span(id, sender, s)
	switch {
	case r.p.Protocol == UDP && who == "sender":
		r.printf("%s  %5.3f ms  0/%d (0%%)  %s\n", line, 0.0, s.Packets, who)
	case r.p.Protocol == UDP:
		r.printf("%s  %5.3f ms  %d/%d (%.2g%%)  %s\n", line, s.Jitter*1e3, s.Lost, s.Packets, units.Percent(s.Lost, s.Packets), who)
		if s.OutOfOrder > 0 {
			r.printf("[%3s]%s %6.2f-%-6.2f sec  %d datagrams received out-of-order\n", id, r.role(sender), s.Start, s.End, s.OutOfOrder)
		}
	case who == "sender" && s.Retransmits >= 0:
		r.printf("%s  %3d             %s\n", line, s.Retransmits, who)
	default:
		r.printf("%s                  %s\n", line, who)
	}
}

func (r *text) warn(s string) { r.printf("warning: %s\n", s) }

func (r *text) fail(err error) { r.printf("iperf3: error - %v\n", err) }

func (r *text) output() (string, []byte) { return r.kept.String(), nil }
