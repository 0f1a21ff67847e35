package proto

import (
	"errors"
	"sync/atomic"

	"osv/appliances/memcached/store"
)

// Version is the version that clients are told: they choose their behaviour by
// it, and ours is that of this release of upstream.
const Version = "1.6.18"

// Protocol is what a connection may speak (-B).
type Protocol uint8

// The values of -B.
const (
	Auto Protocol = iota
	ASCII
	Binary
)

// Server is what all connections share. The fields are set before the first
// Conn and not changed afterwards, unless they are atomic.
type Server struct {
	Store    *store.Store
	Protocol Protocol

	NoFlush    bool // -F
	NoDump     bool // -X
	Shutdownok bool // -A
	// Shutdown is called for the command, if it is allowed.
	Shutdown func(graceful bool)

	Verbosity atomic.Int32
	Detail    detail // stats detail
	sizesOn   atomic.Bool

	// MoreStats adds the statistics of the rest of the server to `stats`,
	// `stats settings` and `stats conns`; group is "", "settings" or "conns".
	MoreStats func(group string, add func(name, value string))
	// StatsReset is called by `stats reset`.
	StatsReset func()
	// Automove and CrawlerSleep only keep what was set.
	Automove     atomic.Int32
	CrawlerSleep atomic.Int32
	Tocrawl      atomic.Uint32

	// LineMemory is how many bytes of long lines all connections together may hold,
	// 0 = no bound. Who would hold more is turned away.
	LineMemory int64
	lines      atomic.Int64

	// UDPFactor caps a UDP reply at that many times the request, 0 = no cap.
	UDPFactor int
}

// Counters of the worker (store.Worker.Count).
const (
	countBytesRead = iota
	countBytesWritten
	countFlush
	countMeta
	countUDPCapped
)

var errTooManyPins = errors.New("proto: too many readers of one item")

// maxKey is the longest key in bytes (protocol.txt, "Keys").
const maxKey = 250

// TrackSizes switches `stats sizes` on or off.
func (s *Server) TrackSizes(on bool) { s.sizesOn.Store(on) }
