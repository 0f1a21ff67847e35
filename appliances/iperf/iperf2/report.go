package iperf2

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"osv/appliances/iperf/units"
)

// line is one connection in the reports.
type line struct {
	s             *Server
	id            int64
	local, remote netip.AddrPort
	udp           bool
}

func (s *Server) newLine(local, remote netip.AddrPort) *line {
	return &line{s: s, id: s.ids.Add(1), local: local, remote: remote}
}

func (l *line) tag() string { return fmt.Sprintf("[%3d]", l.id) }

func (l *line) connected() {
	cols := ""
	if l.udp {
		cols = "        Jitter   Lost/Total Datagrams"
	}
	l.s.printf("%s local %s port %d connected with %s port %d\n[ ID] Interval       Transfer     Bandwidth%s\n",
		l.tag(), l.local.Addr(), l.local.Port(), l.remote.Addr(), l.remote.Port(), cols)
}

func (l *line) failed(err error) { l.s.printf("%s %v\n", l.tag(), err) }

// format is that of the option, or the one that suits.
func (s *Server) format() units.Format {
	if s.Format == 0 {
		return 'a'
	}
	return units.Format(s.Format)
}

// span is what all lines have: octets between two times since the beginning.
func (l *line) span(n uint64, from, to time.Duration) string {
	return fmt.Sprintf("%s %.4f-%.4f sec  %s  %s", l.tag(), from.Seconds(), to.Seconds(),
		units.Transfer(n), l.s.format().Rate(n, (to-from).Seconds()))
}

func (l *line) summary(n uint64, d time.Duration) { l.s.printf("%s\n", l.span(n, 0, d)) }

func (l *line) udpSummary(r *report) {
	l.s.printf("%s %7.3f ms %d/%d (%.2g%%)\n", l.span(r.bytes, 0, r.span), r.jitter.Seconds()*1e3, r.lost, r.packets, units.Percent(r.lost, r.packets))
	if r.outOfOrder > 0 {
		l.s.printf("%s 0.0000-%.4f sec  %d datagrams received out-of-order\n", l.tag(), r.span.Seconds(), r.outOfOrder)
	}
}

// mark is what was shown last of a flow.
type mark struct {
	at            time.Time
	bytes         uint64
	lost, packets int64
}

func (l *line) udpInterval(m *mark, a *account, began, now time.Time) {
	lost, packets := a.lost-m.lost, a.packets()-m.packets
	l.s.printf("%s %7.3f ms %d/%d (%.2g%%)\n", l.span(a.bytes-m.bytes, m.at.Sub(began), now.Sub(began)), a.jitter*1e3, lost, packets, units.Percent(lost, packets))
	*m = mark{now, a.bytes, a.lost, a.packets()}
}

// reports prints what n has gained in each interval, until the function that is
// returned is called.
func (s *Server) reports(l *line, n *atomic.Uint64, begin time.Time, silent bool) (stop func()) {
	if s.Interval <= 0 || silent {
		return func() {}
	}
	t := time.NewTicker(s.Interval)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		from, had := begin, uint64(0)
		for {
			select {
			case <-t.C:
				now, has := time.Now(), n.Load()
				s.printf("%s\n", l.span(has-had, from.Sub(begin), now.Sub(begin)))
				from, had = now, has
			case <-end:
				return
			}
		}
	}()
	return func() {
		t.Stop()
		close(end)
		<-done
	}
}
