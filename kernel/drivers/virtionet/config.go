package virtionet

import (
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/mmio"
)

// Device configuration layout, §5.1.4.
const (
	cfgMAC      mmio.Off = 0  // R  6 bytes, with MAC
	cfgStatus   mmio.Off = 6  // R  16 bits, with STATUS
	cfgMaxPairs mmio.Off = 8  // R  16 bits, with MQ
	cfgMTU      mmio.Off = 10 // R  16 bits, with MTU
)

const statusLinkUp = 1 // VIRTIO_NET_S_LINK_UP

// Feature bits, §5.1.3.
const (
	featCsum      virtio.Features = 1 << 0  // device finishes checksums
	featGuestCsum virtio.Features = 1 << 1  // driver takes unfinished checksums
	featOffloads  virtio.Features = 1 << 2  // CTRL_GUEST_OFFLOADS: receive offloads by command
	featMTU       virtio.Features = 1 << 3  // device tells the MTU
	featMAC       virtio.Features = 1 << 5  // device tells the MAC address
	featGuestTSO4 virtio.Features = 1 << 7  // driver takes merged TCPv4 segments
	featGuestTSO6 virtio.Features = 1 << 8  //
	featGuestECN  virtio.Features = 1 << 9  // driver takes merged segments of which the first has CWR
	featHostTSO4  virtio.Features = 1 << 11 // device splits TCPv4 segments
	featHostTSO6  virtio.Features = 1 << 12 //
	featMrgRxbuf  virtio.Features = 1 << 15 // a frame may take several buffers
	featStatus    virtio.Features = 1 << 16 // device tells the carrier
	featCtrlVQ    virtio.Features = 1 << 17
	featCtrlRx    virtio.Features = 1 << 18 // receive modes
	featMQ        virtio.Features = 1 << 22
	featCtrlMAC   virtio.Features = 1 << 23 // MAC address by command
)

// requires lists what a feature stands on, §5.1.3.1. A device that offers the
// first without the second breaks the rule, and does without it.
var requires = [][2]virtio.Features{
	{featGuestTSO4, featGuestCsum},
	{featGuestTSO6, featGuestCsum},
	{featOffloads, featCtrlVQ},
	{featHostTSO4, featCsum},
	{featHostTSO6, featCsum},
	{featCtrlRx, featCtrlVQ},
	{featMQ, featCtrlVQ},
	{featCtrlMAC, featCtrlVQ},
}

// wanted chooses the features to accept of those offered. lro says that the
// receive rings have room for merged segments.
func wanted(offered virtio.Features, cfg Config, pairs int, lro bool) virtio.Features {
	w := featMTU | featMAC | featMrgRxbuf | featStatus | featCtrlVQ | featCtrlRx | featCtrlMAC |
		virtio.FeatureAnyLayout
	if !cfg.NoEventIdx {
		w |= virtio.FeatureEventIdx
	}
	if !cfg.NoOffload {
		w |= featCsum | featGuestCsum | featHostTSO4 | featHostTSO6
		// Merged segments need chains of buffers: without MRG_RXBUF each buffer
		// would have to hold 64 KiB (§5.1.6.3.1).
		if cfg.LRO && lro && offered.Has(featMrgRxbuf) {
			w |= featGuestTSO4 | featGuestTSO6 | featGuestECN | featOffloads
		}
	}
	if pairs > 1 {
		w |= featMQ
	}
	w &= offered
	for _, r := range requires {
		if !w.Has(r[1]) {
			w &^= r[0]
		}
	}
	if w&(featGuestTSO4|featGuestTSO6) == 0 { // GUEST_ECN stands on either
		w &^= featGuestECN | featOffloads
	}
	return w
}

// lroFits reports whether a receive ring holds a frame of the largest size, also
// when it is about to be refilled. A device with such a frame and a smaller ring
// would wait for ever.
func lroFits(t virtio.Transport, cfg Config) bool {
	size, err := t.QueueMax(0)
	size = min(size, cfg.RxRing)
	return err == nil && size-refillAt(size)+1 >= buffersFor(maxFrame, bufLen(cfg.RxPools[0], hdrBytes), hdrBytes)
}

// netConf is the device configuration as far as features say it is valid.
type netConf struct {
	mac      [6]byte
	linkUp   bool
	maxPairs uint16
	mtu      uint16
}

// minMTU is what IPv4 asks of a link, RFC 791 §3.2.
const minMTU = 68

func (d *Device) readConfig() (netConf, error) {
	f := d.dev.Features
	c, err := virtio.ReadConfig(d.dev, func(r *virtio.ConfigReader) netConf {
		// Without MAC the driver makes one up (§5.1.5): locally administered.
		c := netConf{linkUp: true, mac: [6]byte{0x02, 0x00, 0x00, 0x00, 0x00, 0x01}}
		if f.Has(featMAC) {
			for i := range c.mac {
				c.mac[i] = r.U8(cfgMAC + mmio.Off(i))
			}
		}
		if f.Has(featStatus) {
			c.linkUp = r.U16(cfgStatus)&statusLinkUp != 0
		}
		if f.Has(featMQ) {
			c.maxPairs = r.U16(cfgMaxPairs)
		}
		if f.Has(featMTU) {
			c.mtu = r.U16(cfgMTU)
		}
		return c
	})
	if err != nil {
		return c, err
	}
	if f.Has(featMTU) && c.mtu < minMTU {
		return c, d.dev.Errorf("device says its MTU is %d", c.mtu)
	}
	if c.mac[0]&1 != 0 {
		return c, d.dev.Errorf("device says its MAC address is %x, a group address", c.mac)
	}
	return c, nil
}

// configChanged looks at what a configuration interrupt may mean.
func (d *Device) configChanged() {
	if err := d.dev.Check(); err != nil {
		d.fail(err)
		return
	}
	c, err := d.readConfig()
	if err != nil {
		d.fail(err)
		return
	}
	d.linkUp.Store(c.linkUp)
}
