package vmxnet3_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"

	"osv/kernel/drivers/vmxnet3"
	"osv/kernel/ktest/nicsoak"
	"osv/kernel/ktest/qtest"
	"osv/kernel/pkt"
)

var soak = flag.Int("soak", 600, "packets each way by each way to interrupt")

// qemuKinds are the ways to interrupt of a real QEMU's device.
var qemuKinds = []struct {
	name    string
	machine string
	vectors int
}{
	{"pin", "pc", 0},
	{"MSI", "q35", qtest.MSIOnly},
	{"MSI-X", "q35", 3},
	{"MSI-X, four queues", "pc", 6},
}

// onQEMU starts QEMU with the device and joins the driver to it, and a socket that
// is the device's wire.
func onQEMU(t *testing.T, machine string, vectors int) (*qtest.Machine, *vmxnet3.Device, *pkt.Pool, *net.UnixConn) {
	t.Helper()
	m := qtest.Start(t, "-machine", machine+",memory-backend=ram", "-device", "vmxnet3,netdev=n,mac=00:0c:29:12:34:56",
		"-netdev", "dgram,id=n,local.type=unix,local.path=DIR/guest,remote.type=unix,remote.path=DIR/wire")
	wire, err := net.DialUnix("unixgram", &net.UnixAddr{Name: filepath.Join(m.Dir, "wire"), Net: "unixgram"},
		&net.UnixAddr{Name: filepath.Join(m.Dir, "guest"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wire.Close() })
	pool, err := pkt.NewPool(m, 4096, vmxnet3.RxBufBytes(4096))
	if err != nil {
		t.Fatal(err)
	}
	f := m.Function(vectors, func(v, d uint16, _ uint32) bool { return v == vmxnet3.VendorID && d == vmxnet3.DeviceID })
	d, err := vmxnet3.New(f.BARs[0], f.BARs[1], m, f.Lines, vmxnet3.Config{RxPools: []*pkt.Pool{pool}, MTU: 9000, MSIX: vectors > 0})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return m, d, pool, wire
}

func closeOnQEMU(t *testing.T, m *qtest.Machine, d *vmxnet3.Device, pool *pkt.Pool) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := pool.Close(m); err != nil || m.Live() != 0 {
		t.Error(err, m.Live())
	}
}

// receive waits for one frame.
func receive(t *testing.T, d *vmxnet3.Device) *pkt.Buf {
	t.Helper()
	var one [1]*pkt.Buf
	for d.RxBatch(0, one[:]) == 0 {
		if err := d.RxWait(0); err != nil {
			t.Fatal(err)
		}
	}
	return one[0]
}

// chainOf makes a frame of pieces of at most size bytes.
func chainOf(t *testing.T, d *vmxnet3.Device, f []byte, size int) (first *pkt.Buf) {
	t.Helper()
	var last *pkt.Buf
	for len(f) > 0 {
		b := d.TxBuf(0)
		if b == nil {
			t.Fatal("no transmit buffer")
		}
		k := min(len(f), size)
		copy(b.Append(k), f)
		f = f[k:]
		if first == nil {
			first = b
		} else {
			last.Next = b
		}
		last = b
	}
	return first
}

// The device of a real QEMU: frames of 60 to 9014 bytes pass both ways, in order
// and whole, the receive loop is woken for each, and a reset in between changes
// nothing. More with -soak N.
func TestOnQEMU(t *testing.T) {
	for _, c := range qemuKinds {
		t.Run(c.name, func(t *testing.T) {
			m, d, pool, wire := onQEMU(t, c.machine, c.vectors)
			if !d.LinkUp() || d.Caps().MAC != [6]byte{0x00, 0x0C, 0x29, 0x12, 0x34, 0x56} || d.Fault() != nil {
				t.Fatal(d.LinkUp(), d.Caps(), d.Fault())
			}
			rnd := rand.New(rand.NewPCG(3, 3))
			in := make([]byte, 16384)
			for i := range *soak {
				out := frame(60+rnd.IntN(8955), i)
				chain := chainOf(t, d, out, 700+rnd.IntN(2400))
				if d.TxBatch(0, []*pkt.Buf{chain}) != 1 {
					t.Fatalf("frame %d is not taken: %v", i, d.Err())
				}
				n, err := wire.Read(in)
				if err != nil || !bytes.Equal(in[:n], out) {
					t.Fatalf("frame %d of %d bytes came out as %d: %v", i, len(out), n, err)
				}
				back := frame(60+rnd.IntN(8955), i+1)
				if _, err := wire.Write(back); err != nil {
					t.Fatal(err)
				}
				got := receive(t, d)
				if !bytes.Equal(flat(got), back) {
					t.Fatalf("frame %d of %d bytes came in as %d: %v", i, len(back), got.TotalLen(), d.Fault())
				}
				got.Put()
				if i == *soak/2 {
					if err := d.Reset(); err != nil {
						t.Fatal(err)
					}
					if !d.LinkUp() {
						t.Fatal("no link after a reset")
					}
				}
			}
			s := d.Stats()
			if n := uint64(*soak); s.TxFrames != n || s.RxFrames != n || s.RxErrors+s.TxErrors+s.RxNoBuf != 0 {
				t.Errorf("%+v %v", s, d.Fault())
			}
			closeOnQEMU(t, m, d, pool)
		})
	}
}

// Frames on their way both ways while the card is reset and loses its link: what
// arrives is whole and in order, and at last all of it does. With -soak N, N of them.
func TestResetUnderLoadOnQEMU(t *testing.T) {
	for _, c := range qemuKinds {
		t.Run(c.name, func(t *testing.T) {
			m, d, pool, wire := onQEMU(t, c.machine, c.vectors)
			in, out, resets := nicsoak.Run(t, d, wire, nicsoak.Options{Packets: *soak, Every: min(max(*soak/12, 50), 10_000), SetLink: func(up bool) { m.SetLink("n", up) }})
			t.Logf("of %d each way %d came in and %d went out, %d resets", *soak, in, out, resets)
			if s := d.Stats(); s.RxErrors != 0 || d.Fault() != nil {
				t.Errorf("%+v %v", s, d.Fault())
			}
			closeOnQEMU(t, m, d, pool)
		})
	}
}
