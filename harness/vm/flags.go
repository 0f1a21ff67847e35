package vm

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseNIC reads the short form of a network card used on command lines:
//
//	user[,fwd=tcp:127.0.0.1:8080-:80][,restrict]
//	tap=IFNAME[,vhost]          dgram=LOCAL:REMOTE      vhost-user=SOCKET
//
// followed by any of mac=, queues=, model=, pcap=, nomsix, off=FEATURE (may
// repeat), off (all offloads).
func ParseNIC(s string) (NIC, error) {
	var n NIC
	words := strings.Split(s, ",")
	kind, arg, _ := strings.Cut(words[0], "=")
	switch n.Kind = NICKind(kind); n.Kind {
	case NetTAP:
		n.IfName = arg
	case NetDgram:
		n.LocalPath, n.RemotePath, _ = strings.Cut(arg, ":")
	case NetVHostUser:
		n.Socket = arg
	}
	for _, w := range words[1:] {
		k, v, has := strings.Cut(w, "=")
		switch {
		case k == "mac" && has:
			n.MAC = v
		case k == "queues" && has:
			q, err := strconv.Atoi(v)
			if err != nil || q < 1 || q > 64 {
				return n, fmt.Errorf("network %q: queues=%s: want 1 to 64", s, v)
			}
			n.Queues = q
		case k == "model" && has:
			n.Model = v
		case k == "pcap" && has:
			n.Pcap = v
		case k == "fwd" && has:
			n.HostFwd = append(n.HostFwd, v)
		case k == "off" && has:
			n.Off = append(n.Off, v)
		case w == "off":
			n.Off = append(n.Off, OffloadsOff...)
		case w == "restrict":
			n.Restrict = true
		case w == "vhost":
			n.VHost = true
		case w == "nomsix":
			n.NoMSIX = true
		default:
			return n, fmt.Errorf("network %q: option %q is not known", s, w)
		}
	}
	if err := n.validate(); err != nil {
		return n, fmt.Errorf("network %q: %w", s, err)
	}
	return n, nil
}

// ParseDisk reads the short form of a disk: PATH, then any of bus=, format=,
// serial=, queues=, ro, snapshot, discard, eio=EVENT[@SECTOR] (may repeat).
func ParseDisk(s string) (Disk, error) {
	words := strings.Split(s, ",")
	d := Disk{Path: words[0]}
	for _, w := range words[1:] {
		k, v, has := strings.Cut(w, "=")
		switch {
		case k == "bus" && has:
			d.Bus = DiskBus(v)
		case k == "format" && has:
			d.Format = v
		case k == "serial" && has:
			d.Serial = v
		case k == "queues" && has:
			q, err := strconv.Atoi(v)
			if err != nil || q < 1 {
				return d, fmt.Errorf("disk %q: queues=%s: want 1 or more", s, v)
			}
			d.Queues = q
		case k == "eio" && has:
			event, at, hasAt := strings.Cut(v, "@")
			e := InjectError{Event: event}
			if hasAt {
				n, err := strconv.ParseInt(at, 0, 64)
				if err != nil {
					return d, fmt.Errorf("disk %q: sector %q: %w", s, at, err)
				}
				e.Sector = n
			}
			d.Errors = append(d.Errors, e)
		case w == "ro":
			d.ReadOnly = true
		case w == "snapshot":
			d.Snapshot = true
		case w == "discard":
			d.Discard = true
		default:
			return d, fmt.Errorf("disk %q: option %q is not known", s, w)
		}
	}
	if err := d.validate(); err != nil {
		return d, fmt.Errorf("disk %q: %w", s, err)
	}
	return d, nil
}

// ParsePin reads "VCPUS/REST", each a comma list of cores, either may be empty:
// "0/1", "0,1/", "/1".
func ParsePin(s string) (Pin, error) {
	var p Pin
	if s == "" {
		return p, nil
	}
	v, r, ok := strings.Cut(s, "/")
	if !ok {
		return p, fmt.Errorf("pin %q: want VCPU-CORES/OTHER-CORES, for example 0/1", s)
	}
	var err error
	if p.VCPU, err = cores(v); err == nil {
		p.Rest, err = cores(r)
	}
	if err != nil {
		return Pin{}, fmt.Errorf("pin %q: %w", s, err)
	}
	return p, nil
}

func cores(s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	var out []int
	for _, w := range strings.Split(s, ",") {
		n, err := strconv.Atoi(w)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("core %q is not a number", w)
		}
		out = append(out, n)
	}
	return out, nil
}
