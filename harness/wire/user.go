package wire

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"osv/harness/vm"
)

// userNote marks results that came over QEMU's own network.
const userNote = "user-mode network: QEMU translates every packet itself; not for claims"

// openUser makes a card on QEMU's user-mode network, in a namespace of its own
// where one can be made, with forwards on its loopback. why is the reason for the
// fall-back.
func openUser(o Options, why string) (*Wire, error) {
	if o.Guests > 1 {
		return nil, fmt.Errorf("wire: %d guests: the user-mode network joins one", o.Guests)
	}
	w := &Wire{Kind: User, Note: userNote, forward: map[string]string{}}
	if why != "" {
		w.Note += " (" + why + ")"
	}
	s, err := NewSpace(o.Named)
	switch {
	case err == nil:
		w.Space = s
	case !errors.Is(err, ErrPrivilege):
		return nil, err
	}
	nic := vm.NIC{
		Kind: vm.NetUser, MAC: GuestMAC(0), Off: o.Off,
		Net: Host.Masked().String(), HostAddr: Host.Addr().String(),
	}
	udp := false
	for _, p := range o.Ports {
		network, port, ok := cutPort(p)
		if !ok {
			return nil, errors.Join(fmt.Errorf("wire: port %q: want tcp:N or udp:N", p), w.Close())
		}
		udp = udp || network == "udp"
		local, err := w.freePort(network)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("wire: forward %s: %w", p, err), w.Close())
		}
		guest := Guest.Addr().String()
		nic.HostFwd = append(nic.HostFwd, fmt.Sprintf("%s:%s-%s:%s", network, local, guest, port))
		w.forward[network+":"+net.JoinHostPort(guest, port)] = local
	}
	// A restricted guest cannot even answer over UDP (libslirp drops all of it);
	// in a namespace of ours there is nothing else to reach.
	nic.Restrict = !udp
	w.nics = []vm.NIC{nic}
	return w, nil
}

// freePort finds a free loopback port. Outside a namespace another process could
// take it before QEMU does; QEMU then says so.
func (w *Wire) freePort(network string) (string, error) {
	find := func() (string, error) {
		if network == "udp" {
			c, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				return "", err
			}
			defer c.Close()
			return c.LocalAddr().String(), nil
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		defer l.Close()
		return l.Addr().String(), nil
	}
	if w.Space == nil {
		return find()
	}
	var addr string
	err := w.Space.Do(func() (err error) {
		addr, err = find()
		return err
	})
	return addr, err
}

// cutPort splits "tcp:80".
func cutPort(s string) (network, port string, ok bool) {
	network, port, ok = strings.Cut(s, ":")
	n, err := strconv.Atoi(port)
	return network, port, ok && (network == "tcp" || network == "udp") && err == nil && n > 0 && n < 65536
}
