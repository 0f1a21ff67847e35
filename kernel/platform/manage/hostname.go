package manage

import (
	"fmt"
	"strings"
	"sync"

	"osv/kernel/net/dhcp"
	"osv/kernel/platform"
)

// defaultName is a guest's name where nobody says another.
const defaultName = "osv"

const usage = `  --hostname=NAME           name of the guest, also told to DHCP servers; without it
                            the one that metadata, else DHCP, gives, else osv
`

// givenName is what the command line says; "": nothing.
var givenName string

func init() { platform.Extend(platform.Extension{Usage: usage, Set: setName}) }

func setName(word string) (known bool, err error) {
	name, value, _ := strings.Cut(word, "=")
	if name != "--hostname" {
		return false, nil
	}
	if value == "" {
		return true, fmt.Errorf("option %s: want a name", name)
	}
	if err := dhcp.CheckHostname(value); err != nil {
		return true, fmt.Errorf("option %s: %w", name, err)
	}
	givenName = value
	return true, nil
}

// hostname is the guest's name: the one that was set, else the one that a DHCP server
// offers, else defaultName.
type hostname struct {
	offers func() []string         // of DHCP servers
	tell   func(name string) error // tells DHCP servers
	mu     sync.Mutex
	name   string // guarded by mu; "" = not set
}

func (h *hostname) get() string {
	h.mu.Lock()
	name := h.name
	h.mu.Unlock()
	if name != "" {
		return name
	}
	for _, o := range h.offers() {
		// A server can say anything. The domain has an option of its own.
		label, _, _ := strings.Cut(o, ".")
		if label != "" && dhcp.CheckHostname(label) == nil {
			return label
		}
	}
	return defaultName
}

func (h *hostname) set(name string) {
	h.mu.Lock()
	h.name = name
	h.mu.Unlock()
	if err := h.tell(name); err != nil {
		log.Warnf("DHCP servers are not told the name %q: %v", name, err)
	}
}

// offers are the names that DHCP servers give this guest.
func (s *system) offers() []string {
	n, err := s.sys.Net()
	if err != nil {
		return nil
	}
	var out []string
	for _, i := range n.Stack().Interfaces() {
		if l, ok := i.Lease(); ok {
			out = append(out, l.Hostname)
		}
	}
	return out
}

// tell has DHCP send the name.
func (s *system) tell(name string) error {
	n, err := s.sys.Net()
	if err != nil {
		return err
	}
	return n.Stack().SetHostname(name)
}
