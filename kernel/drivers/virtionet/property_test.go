package virtionet_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"osv/kernel/drivers/virtionet"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/pkt"
)

// Any mix of frames both ways: all arrive, in order and whole, and every buffer
// comes back (newRig's cleanup counts them).
func TestAnyTrafficArrives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		features := fakedev.NetAll
		for _, f := range []uint64{fakedev.NetMrgRxbuf, fakedev.FeatureEventIdx, fakedev.NetCsum} {
			if rapid.Bool().Draw(rt, "without") {
				features &^= f
			}
		}
		front := rapid.SampledFrom([]string{"pci", "mmio", "pci-legacy", "mmio-legacy"}).Draw(rt, "front")
		r, err := tryRig(t, rigOpt{features: features, front: front, ring: 1 << rapid.IntRange(3, 6).Draw(rt, "ring"),
			bufs: rapid.IntRange(140, 300).Draw(rt, "buffers"), cfg: virtionet.Config{LRO: rapid.Bool().Draw(rt, "merged")}})
		if err != nil {
			rt.Fatal(err)
		}
		defer r.close()
		maxRx := 1514
		if features&fakedev.NetMrgRxbuf != 0 {
			maxRx = 5000
		}
		if r.dev.Caps().LRO {
			maxRx = ipMax
		}
		var want, sent [][]byte
		var in []*pkt.Buf
		recv := func() {
			for _, b := range r.recv(0, rapid.IntRange(1, 40).Draw(rt, "batch")) {
				if len(want) == 0 || !bytes.Equal(flat(b), want[0]) {
					rt.Fatal("a frame came in that was not sent, or out of order")
				}
				want = want[1:]
				b.Put()
			}
		}
		for i := range rapid.IntRange(1, 100).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "do") {
			case 0:
				f := frame(rapid.IntRange(14, maxRx).Draw(rt, "size"), i)
				want = append(want, f)
				in := fakedev.Frame{Data: f}
				if r.dev.Caps().LRO && len(f) > 2000 {
					in.Hdr = merged
				}
				r.nic.Deliver(0, in)
			case 1:
				recv()
			case 2:
				for range rapid.IntRange(1, 10).Draw(rt, "frames") {
					f := frame(rapid.IntRange(14, 1514).Draw(rt, "size"), i)
					if b := r.dev.TxBuf(0); b != nil {
						copy(b.Append(len(f)), f)
						in, sent = append(in, b), append(sent, f)
					}
				}
				in = in[r.dev.TxBatch(0, in):]
			case 3:
				r.nic.StepRx(0)
			case 4:
				r.nic.StepTx(0)
			}
		}
		for range 200 {
			r.nic.Step()
			recv()
			in = in[r.dev.TxBatch(0, in):]
		}
		if len(want) != 0 || len(in) != 0 || r.dev.Err() != nil {
			rt.Fatalf("%d frames never came in, %d never went out: %v", len(want), len(in), r.dev.Err())
		}
		got := r.nic.Sent[0]
		if len(got) != len(sent) {
			rt.Fatalf("the card saw %d frames of %d", len(got), len(sent))
		}
		for i := range got {
			if !bytes.Equal(got[i].Data, sent[i]) {
				rt.Fatalf("frame %d differs", i)
			}
		}
	})
}
