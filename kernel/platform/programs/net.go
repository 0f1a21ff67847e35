package programs

import (
	"osv/kernel/linux"
	"osv/kernel/linux/sock"
	sysnet "osv/kernel/linux/sys/net"
	"osv/kernel/platform"
)

// joinNet gives the program sockets. A machine without a network card has those of
// the loopback interface and of AF_UNIX.
func joinNet(s *platform.System, cfg *linux.Config) error {
	n, err := s.Net()
	if err != nil {
		return err
	}
	sockets := sock.New(sock.Config{Net: n})
	cfg.Calls = append(cfg.Calls, sysnet.Calls(sockets))
	cfg.Net = sockets.Proc()
	return nil
}
