package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

const answerStep = 100 * time.Millisecond

// Answers waits until the guest takes a connection on the machine's first forwarded TCP
// port. QEMU itself takes such a connection before the guest is up, so it is asked what
// became of it. Without such a port, that is an error.
func (QEMU) Answers(ctx context.Context, m Machine) error {
	i := slices.IndexFunc(m.Forwards, func(f Forward) bool { return f.Proto == "tcp" })
	if m.Net != NAT || i < 0 {
		return errors.New("qemu: no TCP port leads into the guest (-f HOST:GUEST forwards one), so there is nothing to wait for")
	}
	f := m.Forwards[i]
	q, err := Dial(ctx, m.Control)
	if err != nil {
		return fmt.Errorf("qemu: %s has ended: %w", m.Name, err)
	}
	defer q.Close()
	host := f.Host
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	for {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(f.From)), answerStep)
		for step := 0; err == nil && step < 5; step++ {
			var list string
			if list, err = q.monitor("info usernet"); err != nil {
				c.Close()
				return fmt.Errorf("qemu: %s: %w", m.Name, err)
			}
			if taken(list, f) {
				c.Close()
				return nil
			}
			select {
			case <-ctx.Done():
				c.Close()
				return fmt.Errorf("qemu: %s does not answer on %s: %w", m.Name, f, context.Cause(ctx))
			case <-time.After(answerStep):
			}
		}
		if err == nil {
			c.Close()
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("qemu: %s does not answer on %s: %w", m.Name, f, context.Cause(ctx))
		case <-time.After(answerStep):
		}
	}
}

// taken looks for a connection by way of f that the guest has taken in what "info
// usernet" says: protocol and state, descriptor, then addresses and ports of the host's
// and the guest's side.
func taken(list string, f Forward) bool {
	for line := range strings.Lines(list) {
		w := strings.Fields(line)
		if len(w) < 6 || w[3] != strconv.Itoa(f.From) || w[5] != strconv.Itoa(f.To) {
			continue
		}
		switch w[0] {
		case "TCP[ESTABLISHED]", "TCP[CLOSE_WAIT]", "TCP[FIN_WAIT_1]", "TCP[FIN_WAIT_2]", "TCP[LAST_ACK]", "TCP[CLOSING]":
			return true
		}
	}
	return false
}

// monitor has QEMU's other monitor carry out a line, and returns what it prints.
func (q *QMP) monitor(line string) (string, error) {
	q.conn.SetDeadline(time.Now().Add(qmpWait)) //nolint:errcheck // a socket has deadlines
	if err := json.NewEncoder(q.conn).Encode(map[string]any{"execute": "human-monitor-command", "arguments": map[string]string{"command-line": line}}); err != nil {
		return "", fmt.Errorf("qmp: %s: %w", line, errors.Join(err, errClosed))
	}
	var out string
	err := q.answer(line, &out)
	return out, err
}
