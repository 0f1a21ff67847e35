package xdpcache

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode is where the kernel runs the XDP program.
type Mode string

// The modes.
const (
	Native  Mode = "native"  // in the driver, before a packet has a socket buffer
	Generic Mode = "generic" // after that; costs more
)

// Cache is the programs and maps in the kernel.
type Cache struct {
	coll *ebpf.Collection
}

// Load has the kernel verify the programs. It needs CAP_BPF and CAP_NET_ADMIN. The
// error of a program that is refused holds the verifier's last lines.
func Load(c Config) (*Cache, error) {
	spec, err := New(c)
	if err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("xdpcache: %w", err)
	}
	return &Cache{coll}, nil
}

// Close lets go of the programs; attached ones stay in the kernel.
func (c *Cache) Close() { c.coll.Close() }

// Attach puts the programs on a network interface, where they stay until it goes.
// It fails with the driver's reason in why when mode is Generic. processors is the
// number of the machine's.
func (c *Cache) Attach(name string, processors int) (mode Mode, why error, err error) {
	if processors != 1 {
		return "", nil, fmt.Errorf("xdpcache: %d processors: the programs exclude each other on one only", processors)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return "", nil, fmt.Errorf("xdpcache: interface %s: %w", name, err)
	}
	index := link.Attrs().Index
	qdisc := &netlink.GenericQdisc{QdiscType: "clsact",
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", nil, fmt.Errorf("xdpcache: %s: clsact: %w", name, err)
	}
	err = netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:          c.coll.Programs[progEgress].FD(), Name: progEgress, DirectAction: true})
	if err != nil {
		return "", nil, fmt.Errorf("xdpcache: %s: egress filter: %w", name, err)
	}
	fd := c.coll.Programs[progXDP].FD()
	if why = netlink.LinkSetXdpFdWithFlags(link, fd, unix.XDP_FLAGS_DRV_MODE); why == nil {
		return Native, nil, nil
	}
	if err := netlink.LinkSetXdpFdWithFlags(link, fd, unix.XDP_FLAGS_SKB_MODE); err != nil {
		return "", why, fmt.Errorf("xdpcache: %s: XDP: %w", name, errors.Join(why, err))
	}
	return Generic, why, nil
}

// Address is the first IPv4 address of an interface.
func Address(name string) (netip.Addr, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("xdpcache: interface %s: %w", name, err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("xdpcache: addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("xdpcache: interface %s has no IPv4 address", name)
}

// Stats are counts since Load.
type Stats struct {
	Hits    uint64 // GETs answered
	Fills   uint64 // replies kept
	Writes  uint64 // write commands read
	Flushes uint64 // times the cache was emptied
	Off     bool   // a delayed flush_all ended caching
}

// Stats reads the counts.
func (c *Cache) Stats() (Stats, error) {
	b, err := c.coll.Maps[mapWork].LookupBytes(uint32(0))
	if err != nil || len(b) < workSize {
		return Stats{}, fmt.Errorf("xdpcache: counts: %d bytes, %w", len(b), err)
	}
	u := func(off int) uint64 { return uint64(word(string(b[off : off+8]))) }
	return Stats{u(workHits), u(workFills), u(workWrites), u(workFlushes), u(workOff) != 0}, nil
}

// Explain shortens the verifier's refusal to its last lines.
func Explain(err error) string {
	var v *ebpf.VerifierError
	if errors.As(err, &v) && len(v.Log) > 12 {
		return fmt.Sprintf("%v: …\n%s", v.Cause, strings.Join(v.Log[len(v.Log)-12:], "\n"))
	}
	return err.Error()
}
