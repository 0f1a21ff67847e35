package tcp

// State is a state of RFC 9293 §3.3.2.
type State uint8

// The states, in the order of RFC 9293 §3.3.2.
const (
	StateClosed State = iota
	StateListen
	StateSynSent
	StateSynReceived
	StateEstablished
	StateFinWait1
	StateFinWait2
	StateCloseWait
	StateClosing
	StateLastAck
	StateTimeWait
)

var stateNames = [...]string{"CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED",
	"FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"}

// String is the state's name in RFC 9293.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "?"
}

// synchronized reports that both ends know each other's sequence numbers.
func (s State) synchronized() bool { return s >= StateEstablished }

// maySend reports that the user may still give octets to send.
func (s State) maySend() bool { return s == StateEstablished || s == StateCloseWait }

// mayReceive reports that the peer may still send octets.
func (s State) mayReceive() bool {
	return s == StateEstablished || s == StateFinWait1 || s == StateFinWait2
}

// hasSendQueue reports a state in which octets or a FIN may be on their way out.
func (s State) hasSendQueue() bool {
	switch s {
	case StateEstablished, StateCloseWait, StateFinWait1, StateClosing, StateLastAck:
		return true
	}
	return false
}

// Event is what happened to a connection since TakeEvents was last called.
type Event uint8

const (
	// EvReadable: Recv has octets, the end of the stream, or an error to return.
	EvReadable Event = 1 << iota
	// EvWritable: there is room for octets to send again, or an error.
	EvWritable
	// EvConnected: ESTABLISHED was reached.
	EvConnected
	// EvClosed: CLOSED was reached, and nothing more will be sent. Err says why,
	// nil after an orderly close.
	EvClosed
	// EvTimeWait: TIME-WAIT was reached. The owner may keep the TimeWait that
	// Conn.TimeWait returns in place of the whole connection.
	EvTimeWait
	// EvUrgent: the peer has announced urgent octets, or more of them (RFC 9293
	// §3.8.5, MUST-32).
	EvUrgent
)

// enter makes s the state of c.
func (c *Conn) enter(s State) {
	if c.state == s {
		return
	}
	c.state = s
	switch s {
	case StateEstablished:
		c.ev |= EvConnected | EvWritable
	case StateFinWait2:
		c.armFinWait2()
	case StateTimeWait:
		c.enterTimeWait()
	}
}

// fail ends c at once, with err as its reason: nothing more is sent.
func (c *Conn) fail(err error) {
	if c.state == StateClosed {
		return
	}
	if c.err == nil {
		c.err = err
	}
	c.close()
}

// close makes c CLOSED. What was received stays readable; the rest is released.
func (c *Conn) close() {
	c.state = StateClosed
	c.snd.release()
	c.ooo.release()
	c.sent.clear()
	c.sackedBytes, c.lostBytes = 0, 0
	c.rtx, c.delackAt, c.keepAt, c.stateAt, c.stallAt, c.memAt = rtxTimer{}, 0, 0, 0, 0, 0
	c.ackNow = false
	c.ev |= EvClosed | EvReadable | EvWritable
	if c.orphan || c.rdShut {
		c.rcv.release()
	}
	c.charge()
}
