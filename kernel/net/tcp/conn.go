package tcp

import (
	"errors"
	"time"

	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Reasons for which a connection ends, or a call fails.
var (
	ErrReset       = errors.New("tcp: connection reset by peer")
	ErrRefused     = errors.New("tcp: connection refused")
	ErrTimeout     = errors.New("tcp: connection timed out")
	ErrKeepalive   = errors.New("tcp: peer does not answer keepalive probes")
	ErrAborted     = errors.New("tcp: connection aborted")
	ErrClosing     = errors.New("tcp: connection closing")
	ErrNotOpen     = errors.New("tcp: connection does not exist")
	ErrIsOpen      = errors.New("tcp: connection already exists")
	ErrUnreachable = errors.New("tcp: destination unreachable")
)

// Output takes what a Conn or Listener sends. Calls come from within the calls
// of the Conn and may not call back.
type Output interface {
	// TxBuf returns an empty buffer with headroom for all headers in front of a
	// TCP payload, nil when none is free.
	TxBuf(c *Conn) *pkt.Buf
	// TxSegment takes the finished segment b of c: Head at the TCP header, the
	// checksum field 0, GSO and GSOSize set where it is larger than a packet.
	TxSegment(c *Conn, b *pkt.Buf)
}

// Config is what the connections of one host share. It is not changed while
// they live. Zero fields take the defaults that Defaults gives.
type Config struct {
	Out    Output
	Chunks Source // memory for octets to send
	// ChunksShort, if not nil, reports that Chunks is nearly used up. Connections
	// then take little more, so that a few do not hold all of it.
	ChunksShort func() bool
	Key         Key     // the host's secret
	Memory      *Memory // of received octets, for all connections; nil for no bound

	RcvBuf, RcvBufMax int // receive buffer at first and at most, bytes
	SndBuf, SndBufMax int // send buffer at first and at most, bytes
	InitialWindow     int // RFC 6928: segments sent before the first ACK

	MinRTO, MaxRTO  time.Duration
	DelayedAck      time.Duration // longest delay of an ACK, at most 500 ms
	ConnectTimeout  time.Duration // R2 for a SYN, at least 3 min (RFC 9293 §3.8.3)
	UserTimeout     time.Duration // R2: data not acknowledged for so long ends a connection
	FinWait2Timeout time.Duration // for a connection no one will read from any more
	MSL             time.Duration // maximum segment lifetime; TIME-WAIT lasts twice that
	KeepIdle        time.Duration // keepalive, where switched on
	KeepInterval    time.Duration
	KeepCount       int

	NoSACK, NoTimestamps, NoWindowScale bool
	NewReno                             bool // instead of CUBIC

	noQuick bool // for tests: without quick.go
}

// Defaults are the values that zero fields of a Config take.
var Defaults = Config{
	RcvBuf: 64 << 10, RcvBufMax: 6 << 20,
	SndBuf: 64 << 10, SndBufMax: 4 << 20,
	InitialWindow: 10,
	MinRTO:        200 * time.Millisecond, MaxRTO: 120 * time.Second,
	DelayedAck:      40 * time.Millisecond,
	ConnectTimeout:  3 * time.Minute,
	UserTimeout:     5 * time.Minute,
	FinWait2Timeout: time.Minute,
	MSL:             30 * time.Second,
	KeepIdle:        2 * time.Hour, KeepInterval: 75 * time.Second, KeepCount: 9,
}

// WithDefaults is c with its zero fields filled in.
func (c Config) WithDefaults() Config {
	or(&c.RcvBuf, Defaults.RcvBuf)
	or(&c.RcvBufMax, max(c.RcvBuf, Defaults.RcvBufMax))
	or(&c.SndBuf, Defaults.SndBuf)
	or(&c.SndBufMax, max(c.SndBuf, Defaults.SndBufMax))
	or(&c.InitialWindow, Defaults.InitialWindow)
	or(&c.MinRTO, Defaults.MinRTO)
	or(&c.MaxRTO, Defaults.MaxRTO)
	or(&c.DelayedAck, Defaults.DelayedAck)
	or(&c.ConnectTimeout, Defaults.ConnectTimeout)
	or(&c.UserTimeout, Defaults.UserTimeout)
	or(&c.FinWait2Timeout, Defaults.FinWait2Timeout)
	or(&c.MSL, Defaults.MSL)
	or(&c.KeepIdle, Defaults.KeepIdle)
	or(&c.KeepInterval, Defaults.KeepInterval)
	or(&c.KeepCount, Defaults.KeepCount)
	return c
}

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Conn is one connection: the transmission control block of RFC 9293 §3.3.1.
type Conn struct {
	cfg   *Config
	out   Output
	tuple Tuple
	path  Path
	state State
	ev    Event // for TakeEvents
	err   error // why the connection failed
	now   int64 // ns; time of the call in progress

	// Send sequence space.
	iss            seq.Num
	sndUna, sndNxt seq.Num
	sndMax         seq.Num // highest ever sent; beyond sndNxt only by a window probe
	sndWnd         int     // octets, scaled
	sndWl1, sndWl2 seq.Num
	sndMaxWnd      int // largest sndWnd ever
	ackSpan        int // octets acknowledged since the connection is open, 1 GiB at most
	sndScale       uint8
	snd            sendBuf
	sndBase        seq.Num // of the first octet in snd
	sndLimit       int     // octets that snd may hold
	sndSmall       seq.Num // end of the last segment sent that was not full
	sndUp          seq.Num // end of urgent octets, while sndUrgent
	sndUrgent      bool
	finQueued      bool // the user has closed: a FIN follows the last octet
	push           bool // the segment in the making gets PSH in any case
	sent           sentQueue
	txOrder        uint32  // counts transmissions: many have the same time
	limited        bool    // the congestion window has held back octets,
	limitedTo      seq.Num // when SND.NXT was this
	sackedBytes    int     // octets in sent that are sentSacked
	sackedSegs     int     // about as many segments
	lostBytes      int     // octets in sent that are sentLost

	// Receive sequence space.
	irs        seq.Num
	rcvNxt     seq.Num
	rcvAdv     seq.Num // right edge of the window, the furthest ever advertised
	rcvUp      seq.Num // end of urgent octets, while rcvUrgent
	rcvUrgent  bool
	rcvFin     bool    // finSeq is known
	finSeq     seq.Num // of the peer's FIN
	finTaken   bool    // the FIN has been reached in order
	rcvScale   uint8
	rcv        rcvQueue
	ooo        oooQueue
	rcvLimit   int  // octets the window may open to
	charged    int  // bytes of buffers that Config.Memory knows of
	rdShut     bool // the user wants no more octets; they are acknowledged and dropped
	orphan     bool // the user has closed both ways and will not call again
	passive    bool // opened by a peer's SYN
	tune       tuner
	sackRecent [4]seq.Num // a number in each of the ranges reported last, newest first
	sackNum    int
	dsack      oooRange // duplicate octets to report in the next ACK

	// Acknowledgment.
	ackNow      bool    // an ACK must go out at the next Flush
	lastAckSent seq.Num // SEG.ACK of the last segment sent
	rcvMSS      int     // the peer's segment size, as seen
	quickAcks   int     // ACKs that will not be delayed
	ownAcks     int     // segments in order that will not share an ACK beyond the second
	lastDataAt  int64   // when data last came in

	// Options in use.
	mss        int // payload octets of a segment without options: what peer and path take
	peerMSS    int
	peerScales bool // the peer's SYN had the window scale option
	sackOK     bool
	tsOK       bool
	tsCookie   bool   // the timestamp of the SYN carries tsBits
	tsBits     uint32 // see cookie.go
	tsOff      uint32
	tsRecent   uint32
	tsRecentT  int64 // when tsRecent was taken

	rtt rttState
	cc  congestion
	rec recovery
	rk  rack

	// Timers: times in ns, 0 where off.
	rtx        rtxTimer
	rtoAt      int64 // when the retransmission timeout would fire, also while rtx is another
	backoff    int   // of the retransmission timeout
	softErr    error // what an ICMP error said that may pass
	progressAt int64 // since when no ACK has moved anything
	delackAt   int64
	keepAt     int64
	keepSent   int   // probes not answered
	stateAt    int64 // end of TIME-WAIT, or of FIN-WAIT-2
	stallAt    int64 // when to try again after TxBuf had nothing
	memAt      int64 // when to tell the user to try again after Chunks had nothing
	lastRcvAt  int64
	lastSndAt  int64
	challenge  bucket

	opt   Options
	count Counts
}

// Options are what the user sets for one connection.
type Options struct {
	NoDelay      bool // RFC 9293 §3.7.4: the Nagle algorithm is off
	Cork         bool // no segment that is not full, but the last before the FIN
	Keepalive    bool
	KeepIdle     time.Duration // 0: the host's
	KeepInterval time.Duration
	KeepCount    int
	UserTimeout  time.Duration // 0: the host's
}

// New returns a connection between the ends of t in state CLOSED.
func New(cfg *Config, t Tuple, p Path) *Conn {
	c := new(Conn)
	c.reset(cfg, t, p)
	return c
}

func (c *Conn) reset(cfg *Config, t Tuple, p Path) {
	*c = Conn{cfg: cfg, out: cfg.Out, tuple: t, path: p}
	c.snd.src = cfg.Chunks
	c.sndLimit, c.rcvLimit = cfg.SndBuf, cfg.RcvBuf
	c.sackOK, c.tsOK = !cfg.NoSACK, !cfg.NoTimestamps
	c.tsOff = tsOffset(&cfg.Key, &t)
	c.peerMSS = defaultMSS(&t)
	c.rcvMSS = c.peerMSS
	c.quickAcks = quickAcksAtStart
	c.setMSS()
	c.rtt.reset(cfg)
}

// SetOutput makes o take what c sends from now on, in place of Config.Out.
func (c *Conn) SetOutput(o Output) { c.out = o }

// Tuple is the two ends of c.
func (c *Conn) Tuple() *Tuple { return &c.tuple }

// Path is the way to the peer as c knows it.
func (c *Conn) Path() *Path { return &c.path }

// State is where c is in RFC 9293 §3.3.2.
func (c *Conn) State() State { return c.state }

// Err is why c failed, nil where it did not.
func (c *Conn) Err() error { return c.err }

// TakeEvents returns what has happened since it was last called.
func (c *Conn) TakeEvents() Event {
	ev := c.ev
	c.ev = 0
	return ev
}

// Options are the user's settings of c.
func (c *Conn) Options() Options { return c.opt }

// Header sizes, bytes.
const (
	ip4Header = 20
	ip6Header = 40
)

func ipHeader(t *Tuple) int {
	if t.Local.Addr().Is4() {
		return ip4Header
	}
	return ip6Header
}

// defaultMSS is the segment size for a peer that does not send the option (RFC
// 9293 §3.7.1, MUST-15).
func defaultMSS(t *Tuple) int {
	if t.Local.Addr().Is4() {
		return 536
	}
	return 1220
}

// minMSS is the smallest segment size that is taken from a peer or a path, so
// that neither can make us send headers only.
const minMSS = 64

// setMSS derives the segment size from the peer's and the path's (RFC 9293
// §3.7.1: both without options).
func (c *Conn) setMSS() {
	c.mss = max(minMSS, min(c.peerMSS, c.pathMSS()))
	c.cc.mss = c.maxPayload()
}

// pathMSS is the largest segment that fits the path, options excluded: what the
// MSS option of our SYN says, with the link's MTU.
func (c *Conn) pathMSS() int {
	return min(c.path.MTU, 65535) - ipHeader(&c.tuple) - wire.TCPMinHeader
}

// maxPayload is the octets of a full segment: the timestamp option is counted.
func (c *Conn) maxPayload() int {
	if c.tsOK {
		return c.mss - wire.TCPTimestampLen
	}
	return c.mss
}

// dataEnd is the sequence number after the last octet the user has given.
func (c *Conn) dataEnd() seq.Num { return c.sndBase.Add(c.snd.len) }

// flight is the octets sent and not acknowledged.
func (c *Conn) flight() int { return c.sndNxt.Sub(c.sndUna) }

// pipe is the octets that are thought to be in the network (RFC 6675 §4 SetPipe,
// RFC 5681 §3.2 for peers without SACK).
func (c *Conn) pipe() int {
	return c.flight() - c.sackedBytes - c.lostBytes - c.rec.renoSacked
}

// tsClock is the timestamp clock at time t: milliseconds (RFC 7323 §5.4).
func (c *Conn) tsClock(t int64) uint32 { return uint32(t/1e6) + c.tsOff }
