package hypervisor

import (
	"context"
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
	pause := func() error {
		select {
		case <-ctx.Done():
			return fmt.Errorf("qemu: %s does not answer on %s: %w", m.Name, f, context.Cause(ctx))
		case <-time.After(answerStep):
			return nil
		}
	}
	for {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(f.From)), answerStep)
		if err != nil {
			if err := pause(); err != nil {
				return err
			}
			continue
		}
		ok, err := watch(q, m.Name, f, pause)
		c.Close()
		if err != nil || ok {
			return err
		}
	}
}

// watch looks some times whether the guest takes the connection that was just made.
func watch(q *QMP, name string, f Forward, pause func() error) (bool, error) {
	for range 5 {
		list, err := q.monitor("info usernet")
		if err != nil {
			return false, fmt.Errorf("qemu: %s: %w", name, err)
		}
		if taken(list, f) {
			return true, nil
		}
		if err := pause(); err != nil {
			return false, err
		}
	}
	return false, nil
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
