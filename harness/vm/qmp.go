package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// QMP is a client of the QEMU Machine Protocol on one connection. Commands may
// be issued from several goroutines; answers are matched by id.
type QMP struct {
	conn    io.ReadWriteCloser
	onEvent func(QMPEvent)
	done    chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	enc     *json.Encoder
	nextID  uint64
	pending map[uint64]chan qmpMessage
	err     error // why the connection ended
}

// QMPEvent is an asynchronous message.
type QMPEvent struct {
	Name string
	Data json.RawMessage
}

// QMPError is a command refused by QEMU.
type QMPError struct {
	Command, Class, Desc string
}

func (e *QMPError) Error() string {
	return fmt.Sprintf("qmp: %s: %s (%s)", e.Command, e.Desc, e.Class)
}

type qmpMessage struct {
	Greeting *json.RawMessage `json:"QMP"`
	Event    string           `json:"event"`
	Data     json.RawMessage  `json:"data"`
	ID       *uint64          `json:"id"`
	Return   json.RawMessage  `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

type qmpCommand struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        uint64 `json:"id"`
}

// errQMPClosed: QEMU closed the connection, as a rule by ending.
var errQMPClosed = errors.New("qmp: connection closed")

// newQMP reads QEMU's greeting from conn and leaves negotiation mode. onEvent is
// called in the reader's goroutine and must not block or issue commands; it may
// be nil. The QMP owns conn.
func newQMP(conn io.ReadWriteCloser, timeout time.Duration, onEvent func(QMPEvent)) (*QMP, error) {
	q := &QMP{
		conn: conn, onEvent: onEvent, done: make(chan struct{}),
		enc: json.NewEncoder(conn), pending: map[uint64]chan qmpMessage{},
	}
	greeted := make(chan struct{})
	go q.read(greeted)
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-greeted:
	case <-q.done:
		return nil, q.err
	case <-t.C:
		conn.Close()
		return nil, fmt.Errorf("qmp: no greeting within %v", timeout)
	}
	if err := q.Do("qmp_capabilities", nil, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

// read takes messages until the connection ends.
func (q *QMP) read(greeted chan<- struct{}) {
	dec := json.NewDecoder(q.conn)
	var err error
	for {
		var m qmpMessage
		if err = dec.Decode(&m); err != nil {
			break
		}
		switch {
		case m.Greeting != nil:
			if greeted != nil {
				close(greeted)
				greeted = nil
			}
		case m.Event != "":
			if q.onEvent != nil {
				q.onEvent(QMPEvent{m.Event, m.Data})
			}
		case m.ID != nil:
			q.mu.Lock()
			ch := q.pending[*m.ID]
			delete(q.pending, *m.ID)
			q.mu.Unlock()
			if ch != nil {
				ch <- m
			}
		}
	}
	q.mu.Lock()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) {
		err = errQMPClosed
	}
	q.err = err
	q.mu.Unlock()
	close(q.done)
}

// Do runs a command. args, if not nil, is marshalled as its arguments; the
// answer is stored into out, if not nil.
func (q *QMP) Do(command string, args, out any) error {
	ch := make(chan qmpMessage, 1)
	q.mu.Lock()
	q.nextID++
	id := q.nextID
	q.pending[id] = ch
	err := q.enc.Encode(qmpCommand{command, args, id})
	q.mu.Unlock()
	if err != nil {
		q.mu.Lock()
		delete(q.pending, id)
		q.mu.Unlock()
		if errors.Is(err, unix.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
			err = errQMPClosed
		}
		return fmt.Errorf("qmp: %s: %w", command, err)
	}
	var m qmpMessage
	select {
	case m = <-ch:
	case <-q.done:
		select {
		case m = <-ch: // answered just before the end
		default:
			return fmt.Errorf("qmp: %s: %w", command, q.err)
		}
	}
	if m.Error != nil {
		return &QMPError{command, m.Error.Class, m.Error.Desc}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, out); err != nil {
		return fmt.Errorf("qmp: %s: answer: %w", command, err)
	}
	return nil
}

// Done is closed when the connection has ended.
func (q *QMP) Done() <-chan struct{} { return q.done }

// Close ends the connection; QEMU goes on.
func (q *QMP) Close() error { return q.conn.Close() }

// shutdownReason is the ShutdownCause in the data of a SHUTDOWN event.
func shutdownReason(data json.RawMessage) string {
	var d struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(data, &d) != nil {
		return ""
	}
	return d.Reason
}
