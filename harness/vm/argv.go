package vm

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Argv is the command line of s, the binary first. It depends on s alone: equal
// Specs give equal lines, and the line can be pasted into a shell (Line). Start
// adds the control channel to it. Auto is written as QEMU's own fallback pair;
// Resolve first to see what would really be used.
func (s Spec) Argv() []string {
	s = s.withDefaults()
	a := []string{s.QEMU, "-nodefaults", "-no-user-config", "-no-reboot"}
	add := func(args ...string) { a = append(a, args...) }

	machine := append([]string{string(s.Machine)}, s.MachineOpts...)
	if s.sharedMemory() {
		machine = append(machine, "memory-backend=mem")
		add("-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", s.MemMiB))
	}
	add("-M", strings.Join(machine, ","))
	switch s.Accel {
	case TCG:
		if s.OneThread {
			add("-accel", "tcg,thread=single")
			break
		}
		add("-accel", "tcg,thread=multi")
	case KVM:
		add("-accel", "kvm")
	case Auto:
		add("-accel", "kvm", "-accel", "tcg,thread=multi")
	}
	add("-cpu", s.CPU, "-smp", strconv.Itoa(s.CPUs), "-m", strconv.Itoa(s.MemMiB))
	add("-display", "none", "-monitor", "none", "-serial", "stdio")
	if !s.NoDebugExit {
		add("-device", "isa-debug-exit,iobase=0xf4,iosize=0x4")
	}
	if s.RNG {
		add("-device", "virtio-rng-"+s.transport())
	}
	for i, d := range s.Disks {
		add(d.argv(i, s)...)
	}
	for i, n := range s.NICs {
		add(n.argv(i, s)...)
	}
	for _, p := range s.Plugins {
		add("-plugin", strings.Join(append([]string{p.Path}, p.Args...), ","))
	}
	if s.GDBPort != 0 {
		add("-gdb", "tcp:127.0.0.1:"+strconv.Itoa(s.GDBPort))
	}
	if s.Kernel != "" {
		add("-kernel", s.Kernel)
	}
	if s.Initrd != "" {
		add("-initrd", s.Initrd)
	}
	if s.Append != "" {
		add("-append", s.Append)
	}
	return append(a, s.Extra...)
}

// Line is Argv quoted for a shell.
func (s Spec) Line() string { return Quote(s.Argv()) }

// Quote joins args so that a POSIX shell reads them back as they are.
func Quote(args []string) string {
	q := make([]string, len(args))
	for i, a := range args {
		if a != "" && strings.IndexFunc(a, shellSpecial) < 0 {
			q[i] = a
			continue
		}
		q[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(q, " ")
}

func shellSpecial(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./,:=@%+", r)
}

// sharedMemory reports whether another process maps the guest's memory.
func (s Spec) sharedMemory() bool {
	for _, n := range s.NICs {
		if n.Kind == NetVHostUser {
			return true
		}
	}
	return false
}

// hasPCI reports whether the board has a PCI bus.
func (s Spec) hasPCI() bool {
	if s.Machine != MicroVM {
		return true
	}
	for _, o := range s.MachineOpts {
		if o == "pcie=on" {
			return true
		}
	}
	return false
}

// transport is the suffix of QEMU's virtio device names on this board.
func (s Spec) transport() string {
	if s.hasPCI() {
		return "pci"
	}
	return "device"
}

// props joins a device and its properties, leaving out empty ones.
func props(parts ...string) string {
	kept := parts[:0]
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ",")
}

func (d Disk) argv(i int, s Spec) []string {
	id := fmt.Sprintf("d%d", i)
	format := d.Format
	if format == "" {
		format = "raw"
	}
	node := blockNode{
		Driver: format, NodeName: id, ReadOnly: d.ReadOnly,
		File: &blockNode{Driver: "file", Filename: d.Path},
	}
	if d.Discard {
		node.Discard, node.File.Discard = "unmap", "unmap"
	}
	if len(d.Errors) > 0 {
		node.File = &blockNode{Driver: "blkdebug", Image: node.File, InjectError: injectErrors(d.Errors)}
	}
	out := []string{}
	if d.Snapshot {
		// -blockdev has no snapshot mode; the older -drive has.
		drive := fmt.Sprintf("if=none,id=%s,format=%s,snapshot=on,file=%s", id, format,
			strings.ReplaceAll(d.Path, ",", ",,"))
		out = append(out, "-drive", drive)
	} else {
		js, err := json.Marshal(node)
		if err != nil {
			panic(err) // strings, bools and integers always marshal
		}
		out = append(out, "-blockdev", string(js))
	}
	serial := ""
	if d.Serial != "" {
		serial = "serial=" + d.Serial
	}
	more := strings.Join(d.Props, ",")
	switch d.Bus {
	case AHCI:
		bus := ""
		if s.Machine == Q35 {
			bus = fmt.Sprintf("bus=ide.%d", i)
		} else {
			out = append(out, "-device", "ahci,id=ahci"+strconv.Itoa(i))
			bus = fmt.Sprintf("bus=ahci%d.0", i)
		}
		out = append(out, "-device", props("ide-hd", "drive="+id, bus, serial, more))
	case NVMe:
		if serial == "" {
			serial = "serial=osv-nvme" + strconv.Itoa(i) // the device insists on one
		}
		out = append(out, "-device", props("nvme", "drive="+id, serial, more))
	case PVSCSI:
		ctl := "pvscsi" + strconv.Itoa(i)
		out = append(out, "-device", "pvscsi,id="+ctl,
			"-device", props("scsi-hd", "drive="+id, "bus="+ctl+".0", serial, more))
	case VirtioSCSI:
		ctl, queues := "vscsi"+strconv.Itoa(i), ""
		if d.Queues > 0 {
			queues = "num_queues=" + strconv.Itoa(d.Queues)
		}
		out = append(out, "-device", props("virtio-scsi-"+s.transport(), "id="+ctl, queues),
			"-device", props("scsi-hd", "drive="+id, "bus="+ctl+".0", serial, more))
	default:
		queues := ""
		if d.Queues > 0 {
			queues = "num-queues=" + strconv.Itoa(d.Queues)
		}
		out = append(out, "-device", props("virtio-blk-"+s.transport(), "drive="+id, queues, serial, more))
	}
	return out
}

// blockNode is the part of QMP's BlockdevOptions used here; QEMU takes it as
// JSON, which spares quoting rules for paths.
type blockNode struct {
	Driver      string       `json:"driver"`
	NodeName    string       `json:"node-name,omitempty"`
	Filename    string       `json:"filename,omitempty"`
	ReadOnly    bool         `json:"read-only,omitempty"`
	Discard     string       `json:"discard,omitempty"`
	File        *blockNode   `json:"file,omitempty"`
	Image       *blockNode   `json:"image,omitempty"`
	InjectError []injectRule `json:"inject-error,omitempty"`
}

type injectRule struct {
	Event  string `json:"event"`
	IOType string `json:"iotype,omitempty"`
	Errno  int    `json:"errno"`
	Sector *int64 `json:"sector,omitempty"`
	Once   bool   `json:"once,omitempty"`
}

func injectErrors(in []InjectError) []injectRule {
	out := make([]injectRule, len(in))
	for i, e := range in {
		r := injectRule{Event: e.Event, IOType: e.IO, Errno: e.Errno, Once: e.Once}
		if r.Event == "" {
			r.Event = "none"
		}
		if r.Errno == 0 {
			r.Errno = 5
		}
		if e.Sector > 0 {
			r.Sector = &in[i].Sector
		}
		out[i] = r
	}
	return out
}

func (n NIC) argv(i int, s Spec) []string {
	id := fmt.Sprintf("n%d", i)
	queues := max(n.Queues, 1)
	var out []string
	queueOpt := ""
	if queues > 1 {
		queueOpt = "queues=" + strconv.Itoa(queues)
	}
	switch n.Kind {
	case NetUser:
		opts := []string{"user", "id=" + id}
		if n.Net != "" {
			opts = append(opts, "net="+n.Net)
		}
		if n.HostAddr != "" {
			opts = append(opts, "host="+n.HostAddr)
		}
		if n.Restrict {
			opts = append(opts, "restrict=on")
		}
		for _, f := range n.HostFwd {
			opts = append(opts, "hostfwd="+f)
		}
		out = append(out, "-netdev", props(opts...))
	case NetTAP:
		vhost := ""
		if n.VHost {
			vhost = "vhost=on"
		}
		hdr := ""
		if n.NoVNetHdr {
			hdr = "vnet_hdr=off"
		}
		out = append(out, "-netdev", props("tap", "id="+id, "ifname="+n.IfName, "script=no", "downscript=no", queueOpt, vhost, hdr))
	case NetDgram:
		out = append(out, "-netdev", props("dgram", "id="+id,
			"local.type=unix", "local.path="+n.LocalPath, "remote.type=unix", "remote.path="+n.RemotePath))
	case NetVHostUser:
		where := "path=" + n.Socket
		if name, ok := strings.CutPrefix(n.Socket, "@"); ok {
			where = "path=" + name + ",abstract=on"
		}
		out = append(out, "-chardev", props("socket", "id=c"+strconv.Itoa(i), where),
			"-netdev", props("vhost-user", "id="+id, "chardev=c"+strconv.Itoa(i), queueOpt))
	}

	mac := n.MAC
	if mac == "" {
		mac = fmt.Sprintf("52:54:00:05:76:%02x", i+1)
	}
	model, virtio := n.Model, false
	switch model {
	case "", "virtio-net":
		model, virtio = "virtio-net-"+s.transport(), true
	case "virtio-net-pci", "virtio-net-device":
		virtio = true
	}
	dev := []string{model, "netdev=" + id, "mac=" + mac}
	if s.hasPCI() && !strings.HasSuffix(model, "-device") {
		dev = append(dev, "romfile=") // no network boot: its ROM costs time and memory
	}
	if virtio {
		if queues > 1 {
			dev = append(dev, "mq=on")
			if s.hasPCI() && !n.NoMSIX {
				// One vector a queue, one for configuration, one for control.
				dev = append(dev, "vectors="+strconv.Itoa(2*queues+2))
			}
		}
		if n.NoMSIX {
			dev = append(dev, "vectors=0")
		}
		for _, f := range n.Off {
			dev = append(dev, f+"=off")
		}
	}
	dev = append(dev, n.Props...)
	out = append(out, "-device", props(dev...))
	if n.Pcap != "" {
		out = append(out, "-object", fmt.Sprintf("filter-dump,id=dump%d,netdev=%s,file=%s", i, id, n.Pcap))
	}
	return out
}
