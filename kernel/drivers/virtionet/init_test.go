package virtionet_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtionet"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/pkt"
)

func TestCapsFollowFeatures(t *testing.T) {
	mac := [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	made := [6]byte{2, 0, 0, 0, 0, 1}
	all := pkt.Caps{MAC: mac, MTU: 1500, RxQueues: 1, TxQueues: 1, TxCsum: true, RxCsum: true, TSO4: true, TSO6: true,
		GSOMax: 65549, TxScatter: 40}
	with := func(f func(*pkt.Caps)) pkt.Caps { c := all; f(&c); return c }
	for _, c := range []struct {
		name string
		o    rigOpt
		want pkt.Caps
	}{
		{"all", rigOpt{features: fakedev.NetAll}, all},
		{"LRO", rigOpt{features: fakedev.NetAll, cfg: virtionet.Config{LRO: true}}, with(func(c *pkt.Caps) { c.LRO = true })},
		{"LRO of IPv6 only", rigOpt{features: fakedev.NetAll &^ fakedev.NetGuestTSO4, cfg: virtionet.Config{LRO: true}}, with(func(c *pkt.Caps) { c.LRO = true })},
		{"LRO in a ring of less than 64 KiB", rigOpt{features: fakedev.NetAll, ring: 32, cfg: virtionet.Config{LRO: true}}, with(func(c *pkt.Caps) { c.TxScatter = 16 })},
		{"LRO in a ring that we make too small", rigOpt{features: fakedev.NetAll, cfg: virtionet.Config{LRO: true, RxRing: 32}}, all},
		{"LRO in a small ring of large buffers", rigOpt{features: fakedev.NetAll, bufSize: 4224, cfg: virtionet.Config{LRO: true, RxRing: 32}}, with(func(c *pkt.Caps) { c.LRO = true })},
		{"LRO without mergeable buffers", rigOpt{features: fakedev.NetAll &^ fakedev.NetMrgRxbuf, cfg: virtionet.Config{LRO: true}}, all},
		{"no offload", rigOpt{features: fakedev.NetAll, cfg: virtionet.Config{NoOffload: true}},
			pkt.Caps{MAC: mac, MTU: 1500, RxQueues: 1, TxQueues: 1, TxScatter: 40}},
		{"nothing", rigOpt{features: fakedev.FeatureVersion1}, pkt.Caps{MAC: made, MTU: 1500, RxQueues: 1, TxQueues: 1, TxScatter: 40}},
		// §5.1.3.1: offers that break the rules are not taken.
		{"TSO without CSUM", rigOpt{features: fakedev.NetAll &^ fakedev.NetCsum},
			with(func(c *pkt.Caps) { c.TxCsum, c.TSO4, c.TSO6, c.GSOMax = false, false, false, 0 })},
		{"GUEST_TSO without GUEST_CSUM", rigOpt{features: fakedev.NetAll &^ fakedev.NetGuestCsum, cfg: virtionet.Config{LRO: true}},
			with(func(c *pkt.Caps) { c.RxCsum = false })},
		{"MQ without CTRL_VQ", rigOpt{features: fakedev.NetAll &^ fakedev.NetCtrlVQ, pairs: 2, lines: 3}, all},
		{"MTU 9000", rigOpt{features: fakedev.NetAll, before: func(n *fakedev.NIC) { n.SetConf(10, 0x28, 0x23) }},
			with(func(c *pkt.Caps) { c.MTU = 9000 })},
		{"MTU 9000 without mergeable buffers", rigOpt{features: fakedev.NetAll &^ fakedev.NetMrgRxbuf,
			before: func(n *fakedev.NIC) { n.SetConf(10, 0x28, 0x23) }}, with(func(c *pkt.Caps) { c.MTU = 2048 - 50 - 14 })},
		{"small ring", rigOpt{features: fakedev.NetAll, ring: 8}, with(func(c *pkt.Caps) { c.TxScatter = 4 })},
		{"4 pairs", rigOpt{features: fakedev.NetAll, pairs: 4, lines: 5}, with(func(c *pkt.Caps) { c.RxQueues, c.TxQueues = 4, 4 })},
		{"2 of 4 pairs for lack of lines", rigOpt{features: fakedev.NetAll, pairs: 4, lines: 3},
			with(func(c *pkt.Caps) { c.RxQueues, c.TxQueues = 2, 2 })},
		{"3 of 4 pairs as asked", rigOpt{features: fakedev.NetAll, pairs: 4, lines: 5, cfg: virtionet.Config{Pairs: 3}},
			with(func(c *pkt.Caps) { c.RxQueues, c.TxQueues = 3, 3 })},
		{"2 pairs on one pin", rigOpt{features: fakedev.NetAll, pairs: 2, cfg: virtionet.Config{Pairs: 2}},
			with(func(c *pkt.Caps) { c.RxQueues, c.TxQueues = 2, 2 })},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.o)
			if got := r.dev.Caps(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
			if r.nic.Pairs != c.want.RxQueues {
				t.Errorf("the card was told of %d pairs", r.nic.Pairs)
			}
			if uint64(r.dev.Features()) != r.nic.Features() {
				t.Errorf("features %#x, the card has %#x", r.dev.Features(), r.nic.Features())
			}
			if r.dev.Name() != "eth0" || !r.dev.LinkUp() {
				t.Error(r.dev.Name(), r.dev.LinkUp())
			}
		})
	}
}

// Frames pass both ways on each transport and in each header layout.
func TestFramesPassInEachLayout(t *testing.T) {
	const anyLayout = 1 << 27
	legacy := fakedev.NetAll &^ fakedev.FeatureVersion1
	for _, c := range []struct {
		name  string
		o     rigOpt
		segs  int // descriptors of a plain frame
		pairs int
	}{
		{"pci", rigOpt{features: fakedev.NetAll}, 1, 1},
		{"pci, no mergeable buffers", rigOpt{features: fakedev.NetAll &^ fakedev.NetMrgRxbuf}, 1, 1},
		{"pci, 3 pairs", rigOpt{features: fakedev.NetAll, pairs: 3, lines: 4}, 1, 3},
		{"pci, no event index", rigOpt{features: fakedev.NetAll &^ fakedev.FeatureEventIdx}, 1, 1},
		{"mmio", rigOpt{features: fakedev.NetAll, front: "mmio"}, 1, 1},
		{"mmio-legacy", rigOpt{features: legacy | anyLayout, front: "mmio-legacy"}, 1, 1},
		{"mmio-legacy, no mergeable buffers", rigOpt{features: legacy&^fakedev.NetMrgRxbuf | anyLayout, front: "mmio-legacy"}, 1, 1},
		{"pci-legacy", rigOpt{features: legacy | anyLayout, front: "pci-legacy"}, 1, 1},
		{"pci-legacy msix", rigOpt{features: legacy | anyLayout, front: "pci-legacy", lines: 2}, 1, 1},
		{"pci-legacy, header apart", rigOpt{features: legacy, front: "pci-legacy"}, 2, 1},
		{"pci-legacy, header of 10 bytes apart", rigOpt{features: legacy &^ fakedev.NetMrgRxbuf, front: "pci-legacy"}, 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.o)
			for q := range c.pairs {
				for i := range 700 { // more than twice around the rings
					n := 14 + (i*37)%1480
					if k := r.dev.TxBatch(q, []*pkt.Buf{r.buf(q, frame(n, i))}); k != 1 {
						t.Fatalf("TxBatch %d: %d, %v", i, k, r.dev.Err())
					}
					r.nic.Deliver(q, fakedev.Frame{Data: frame(n, i+1)})
					r.nic.Step()
					sent := r.nic.Sent[q]
					if len(sent) != i+1 || string(sent[i].Data) != string(frame(n, i)) || sent[i].Segs != c.segs {
						t.Fatalf("frame %d: the card saw %d frames", i, len(sent))
					}
					got := r.recv(q, 2)
					if len(got) != 1 || int(got[0].Queue) != q {
						t.Fatalf("frame %d: received %d, %v", i, len(got), r.dev.Err())
					}
					r.wantFrame(got[0], frame(n, i+1))
					got[0].Put()
				}
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
		want string
	}{
		{"no receive descriptors", rigOpt{before: func(n *fakedev.NIC) { n.Queues[0].Max = 0 }}, "virtio-net: queue 0: device offers 0 descriptors"},
		{"no transmit descriptors", rigOpt{before: func(n *fakedev.NIC) { n.Queues[1].Max = 0 }}, "virtio-net: queue 1: device offers 0 descriptors"},
		{"no queues", rigOpt{before: func(n *fakedev.NIC) { n.Queues = nil }}, "device has only 0 queues"},
		{"no control queue", rigOpt{before: func(n *fakedev.NIC) { n.Queues = n.Queues[:2] }}, "queue 2: device has only 2 queues"},
		{"0 pairs", rigOpt{lines: 3, before: func(n *fakedev.NIC) { n.SetConf(8, 0, 0) }}, "device says it has 0 queue pairs"},
		{"60000 pairs", rigOpt{lines: 3, before: func(n *fakedev.NIC) { n.SetConf(8, 0x60, 0xea) }}, "device says it has 60000 queue pairs"},
		{"more pairs than queues", rigOpt{lines: 3, pairs: 1, before: func(n *fakedev.NIC) { n.SetConf(8, 2, 0) }}, "device has only 3 queues"},
		{"no configuration", rigOpt{before: func(n *fakedev.NIC) { n.Conf = nil }}, "configuration of 0 bytes lacks the field that ends at 12"},
		{"no configuration for MQ", rigOpt{lines: 3, before: func(n *fakedev.NIC) { n.Conf = n.Conf[:8] }}, "multiqueue without the number"},
		{"MTU", rigOpt{before: func(n *fakedev.NIC) { n.SetConf(10, 20, 0) }}, "device says its MTU is 20"},
		{"MAC", rigOpt{before: func(n *fakedev.NIC) { n.SetConf(0, 1) }}, "a group address"},
		{"features refused", rigOpt{before: func(n *fakedev.NIC) { n.RefuseFeatures = true }}, "device refuses features"},
		{"control refuses pairs", rigOpt{lines: 3, pairs: 2, before: func(n *fakedev.NIC) { n.CtrlAck = 1 }}, "device refuses control command 4.0: 1"},
		{"no vectors", rigOpt{lines: 2, before: func(n *fakedev.NIC) { n.NoVectors = true }}, "vector"},
		{"forgets DRIVER_OK", rigOpt{before: func(n *fakedev.NIC) { n.DropDriverOK = true }}, "reset behind the driver's back"},
		{"not a network device", rigOpt{before: func(n *fakedev.NIC) { n.ID = 2 }}, "type 2"},
		{"small buffers", rigOpt{bufSize: 145}, ""},
		{"lines", rigOpt{lines: 2, front: "mmio"}, "2 interrupt lines for a device with one interrupt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.o.features == 0 {
				c.o.features = fakedev.NetAll
			}
			r, err := tryRig(t, c.o)
			if c.want == "" { // small, but enough for the smallest MTU
				if err != nil {
					t.Fatal(err)
				}
				r.close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New: %v, want %q", err, c.want)
			}
		})
	}
}

func TestNewRefusesItsCallersMistakes(t *testing.T) {
	mem := &fakedev.Mem{}
	nic := fakedev.NewNIC(mem, fakedev.NetAll, 1, 16)
	tr := transport(t, nic, "pci")
	if _, err := virtionet.New(tr, mem, nil, virtionet.Config{}); err == nil || !strings.Contains(err.Error(), "no interrupt line") {
		t.Error(err)
	}
	lines := []irq.Line{&fakedev.Line{}}
	if _, err := virtionet.New(tr, mem, lines, virtionet.Config{}); err == nil || !strings.Contains(err.Error(), "no buffer pool") {
		t.Error(err)
	}
	pool, err := pkt.NewPool(mem, 4, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var all []*pkt.Buf
	for b := pool.Get(); b != nil; b = pool.Get() {
		all = append(all, b)
	}
	if _, err := virtionet.New(tr, mem, lines, virtionet.Config{RxPools: []*pkt.Pool{pool}}); err == nil ||
		!strings.Contains(err.Error(), "no buffer to start with") {
		t.Error(err)
	}
	pkt.PutBatch(all)
	if err := pool.Close(mem); err != nil || mem.Live() != 0 {
		t.Error(err, mem.Live())
	}
}

// A control queue that is never answered does not hang the boot.
func TestControlCommandIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := tryRig(t, rigOpt{features: fakedev.NetAll, pairs: 2, lines: 3, before: func(n *fakedev.NIC) { n.CtrlHang = true }})
		if err == nil || err.Error() != "virtio-net: control command 4.0 is not answered after 5s" {
			t.Error(err)
		}
	})
}

func TestResetInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.NetAll, before: func(n *fakedev.NIC) { n.ResetReads = 300 }})
		r.deliver()
		if got := r.recv(0, 1); len(got) == 1 {
			got[0].Put()
		} else {
			t.Error("no frame")
		}
	})
}

// Where the device does not finish its reset it may still write: no ring and no
// buffer is given back.
func TestResetThatDoesNotFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := tryRig(t, rigOpt{features: fakedev.NetAll})
		if err != nil {
			t.Fatal(err)
		}
		live, out := r.mem.Live(), r.pool.InUse()
		r.nic.ResetReads = -1
		if err := r.dev.Close(); err == nil || !strings.Contains(err.Error(), virtio.ErrStuck.Error()) {
			t.Error(err)
		}
		if r.mem.Live() != live || r.pool.InUse() != out {
			t.Error("memory was given back that the device may write to")
		}
	})
}

func TestControlCommands(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll})
	for _, err := range []error{r.dev.SetPromiscuous(true), r.dev.SetAllMulticast(false), r.dev.SetMAC([6]byte{2, 3, 4, 5, 6, 7})} {
		if err != nil {
			t.Error(err)
		}
	}
	want := "[{0 0 [1]} {0 1 [0]} {1 1 [2 3 4 5 6 7]}]"
	if got := fmt.Sprint(r.nic.Commands); got != want {
		t.Errorf("commands %s, want %s", got, want)
	}
	r.nic.CtrlAck = 1
	if err := r.dev.SetPromiscuous(false); err == nil || !strings.Contains(err.Error(), "refuses control command 0.0: 1") {
		t.Error(err)
	}
	r.nic.CtrlAck = 0
	if err := r.dev.SetPromiscuous(false); err != nil {
		t.Errorf("the control queue is given up after a refusal: %v", err)
	}
	r.nic.CtrlHang = true
	r.nic.CtrlQueue().PushRaw(40000, 1)
	r.nic.CtrlQueue().Flush()
	if err := r.dev.SetPromiscuous(false); err == nil || !strings.Contains(err.Error(), "names descriptor 40000") {
		t.Error(err)
	}
	if err := r.dev.SetPromiscuous(false); err == nil {
		t.Error("a broken control queue takes commands")
	}
	r = newRig(t, rigOpt{features: fakedev.NetAll &^ (fakedev.NetCtrlRx | fakedev.NetCtrlMAC)})
	if r.dev.SetPromiscuous(true) == nil || r.dev.SetMAC([6]byte{}) == nil {
		t.Error("commands without the feature")
	}
}

// §5.1.6.5.6: merged segments can be switched off and on again, within what was
// agreed on.
func TestSetLRO(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll &^ fakedev.NetGuestTSO6, cfg: virtionet.Config{LRO: true}})
	if err := errors.Join(r.dev.SetLRO(false), r.dev.SetLRO(true)); err != nil {
		t.Error(err)
	}
	want := "[{5 0 [2 0 0 0 0 0 0 0]} {5 0 [130 2 0 0 0 0 0 0]}]"
	if got := fmt.Sprint(r.nic.Commands); got != want {
		t.Errorf("commands %s, want %s", got, want)
	}
	for _, o := range []rigOpt{
		{features: fakedev.NetAll}, {features: fakedev.NetAll &^ fakedev.NetOffloads, cfg: virtionet.Config{LRO: true}},
	} {
		r := newRig(t, o)
		if err := r.dev.SetLRO(true); err == nil || err.Error() != "virtio-net: device's receive offloads cannot be changed" {
			t.Error(err)
		}
	}
}
