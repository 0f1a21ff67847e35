package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// QMP is a connection to a QEMU, one command at a time. (harness/vm has a client with
// events; it is for Linux only, and this tool is not.)
type QMP struct {
	conn net.Conn
	dec  *json.Decoder
}

var errClosed = errors.New("qmp: connection closed")

const qmpWait = 5 * time.Second

// Dial connects to a control address, unix:PATH or tcp:HOST:PORT.
func Dial(ctx context.Context, control string) (*QMP, error) {
	network, addr, ok := strings.Cut(control, ":")
	if !ok {
		return nil, fmt.Errorf("qmp: address %q", control)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	q := &QMP{conn, json.NewDecoder(conn)}
	conn.SetDeadline(time.Now().Add(qmpWait)) //nolint:errcheck // a socket has deadlines
	var greeting struct{ QMP json.RawMessage }
	if err := q.dec.Decode(&greeting); err != nil || greeting.QMP == nil {
		conn.Close()
		return nil, fmt.Errorf("qmp: no greeting: %w", errors.Join(err, errClosed))
	}
	if err := q.Do("qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

// Do runs a command without arguments, and stores its answer into out unless nil.
func (q *QMP) Do(command string, out any) error {
	return q.ask(command, map[string]any{"execute": command}, out)
}

// monitor has QEMU's other monitor carry out a line, and returns what it prints.
func (q *QMP) monitor(line string) (out string, err error) {
	err = q.ask(line, map[string]any{"execute": "human-monitor-command", "arguments": map[string]string{"command-line": line}}, &out)
	return out, err
}

// ask sends a request and waits for what QEMU says to it. Errors name the command.
func (q *QMP) ask(command string, request map[string]any, out any) error {
	q.conn.SetDeadline(time.Now().Add(qmpWait)) //nolint:errcheck // a socket has deadlines
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return fmt.Errorf("qmp: %s: %w", command, errors.Join(err, errClosed))
	}
	for {
		var m struct {
			Event  string
			Return json.RawMessage
			Error  *struct{ Class, Desc string }
		}
		if err := q.dec.Decode(&m); err != nil {
			return fmt.Errorf("%w while waiting for the answer to %s", errClosed, command)
		}
		switch {
		case m.Event != "":
		case m.Error != nil:
			return fmt.Errorf("qmp: %s: %s (%s)", command, m.Error.Desc, m.Error.Class)
		case out != nil:
			return json.Unmarshal(m.Return, out)
		default:
			return nil
		}
	}
}

// WaitClosed waits until QEMU closes the connection, which it does by ending.
func (q *QMP) WaitClosed(d time.Duration) bool {
	q.conn.SetDeadline(time.Now().Add(d)) //nolint:errcheck // a socket has deadlines
	for {
		var m json.RawMessage
		err := q.dec.Decode(&m)
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			return false
		}
		if err != nil {
			return true
		}
	}
}

// Close ends the connection; QEMU goes on.
func (q *QMP) Close() error { return q.conn.Close() }
