package e1000_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"

	"osv/kernel/drivers/e1000"
	"osv/kernel/ktest/nicsoak"
	"osv/kernel/ktest/qtest"
	"osv/kernel/pkt"
)

var soak = flag.Int("soak", 600, "packets each way on each of QEMU's cards")

// qemuKinds are the cards of a real QEMU and all their ways to interrupt.
var qemuKinds = []struct {
	name    string
	machine string
	device  string
	vectors int
}{
	{"82540EM pin", "pc", "e1000", 0},
	{"82545EM pin", "q35", "e1000-82545em", 0},
	{"82574L pin", "q35", "e1000e", 0},
	{"82574L MSI", "q35", "e1000e", qtest.MSIOnly},
	{"82574L MSI-X", "q35", "e1000e", 2},
}

// onQEMU starts QEMU with the card and joins the driver to it, and a socket that
// is the card's wire.
func onQEMU(t *testing.T, machine, device string, vectors int) (*qtest.Machine, *e1000.Device, *pkt.Pool, *net.UnixConn) {
	t.Helper()
	m := qtest.Start(t, "-machine", machine+",memory-backend=ram", "-device", device+",netdev=n,mac=52:54:00:12:34:56",
		"-netdev", "dgram,id=n,local.type=unix,local.path=DIR/guest,remote.type=unix,remote.path=DIR/wire")
	wire, err := net.DialUnix("unixgram", &net.UnixAddr{Name: filepath.Join(m.Dir, "wire"), Net: "unixgram"},
		&net.UnixAddr{Name: filepath.Join(m.Dir, "guest"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wire.Close() })
	pool, err := pkt.NewPool(m, 1024, e1000.RxBufBytes(4096))
	if err != nil {
		t.Fatal(err)
	}
	var model e1000.Model
	f := m.Function(vectors, func(v, d uint16, _ uint32) bool {
		var ok bool
		model, ok = e1000.Lookup(v, d)
		return ok
	})
	d, err := e1000.New(f.BARs[0], m, f.Lines, e1000.Config{Model: model, RxPool: pool, MTU: 9000, MSIX: vectors > 0})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return m, d, pool, wire
}

func closeOnQEMU(t *testing.T, m *qtest.Machine, d *e1000.Device, pool *pkt.Pool) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := pool.Close(m); err != nil || m.Live() != 0 {
		t.Error(err, m.Live())
	}
}

// receive waits for one frame.
func receive(t *testing.T, d *e1000.Device) *pkt.Buf {
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
func chainOf(t *testing.T, d *e1000.Device, f []byte, size int) (first *pkt.Buf) {
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

// The cards of a real QEMU: frames of 60 to 9014 bytes pass both ways, in order
// and whole, the receive loop is woken for each, and a reset in between changes
// nothing. More with -soak N.
func TestOnQEMU(t *testing.T) {
	for _, c := range qemuKinds {
		t.Run(c.name, func(t *testing.T) {
			m, d, pool, wire := onQEMU(t, c.machine, c.device, c.vectors)
			if !d.LinkUp() || d.Caps().MAC != [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56} || d.Fault() != nil {
				t.Fatal(d.LinkUp(), d.Caps(), d.Fault())
			}
			rnd := rand.New(rand.NewPCG(3, 3))
			in := make([]byte, 16384)
			for i := range *soak {
				out := frame(60+rnd.IntN(8955), i)
				chain := chainOf(t, d, out, 600+rnd.IntN(2400))
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
			m, d, pool, wire := onQEMU(t, c.machine, c.device, c.vectors)
			in, out, resets := nicsoak.Run(t, d, wire, nicsoak.Options{Packets: *soak, Every: min(max(*soak/12, 50), 10_000), SetLink: func(up bool) { m.SetLink("n", up) }})
			t.Logf("of %d each way %d came in and %d went out, %d resets", *soak, in, out, resets)
			if s := d.Stats(); s.RxErrors != 0 || d.Fault() != nil {
				t.Errorf("%+v %v", s, d.Fault())
			}
			closeOnQEMU(t, m, d, pool)
		})
	}
}
