package qtest

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// SetLink plugs or pulls the cable of the network device named id, by QEMU's
// monitor.
func (m *Machine) SetLink(id string, up bool) {
	m.t.Helper()
	m.qmp(fmt.Sprintf(`{"execute":"set_link","arguments":{"name":%q,"up":%v}}`, id, up))
}

// qmp runs one command and waits for its answer.
func (m *Machine) qmp(command string) {
	m.t.Helper()
	c, err := net.Dial("unix", filepath.Join(m.Dir, "qmp"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewScanner(c)
	for _, cmd := range []string{`{"execute":"qmp_capabilities"}`, command} {
		if _, err := fmt.Fprintln(c, cmd); err != nil {
			m.t.Fatal(err)
		}
		for in.Scan() {
			if strings.HasPrefix(in.Text(), `{"return"`) {
				break
			}
			if strings.HasPrefix(in.Text(), `{"error"`) {
				m.t.Fatalf("qmp: %s: %s", cmd, in.Text())
			}
		}
	}
}
