package vhost

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// Any control stream: no panic, no hang, no touched memory outside.
func FuzzControl(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append(le32s(uint32(reqSetVringNum), 1, 8), le32s(0, 8)...))
	f.Add(append(le32s(uint32(reqSetMemTable), 1, 40), append(le32s(1, 0), make([]byte, 32)...)...))
	f.Add(append(le32s(uint32(reqSetVringKick), 1, 8), le64(kickNoFD)...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		dev, err := New(Options{Queues: 2})
		if err != nil {
			t.Fatal(err)
		}
		fd := connect(t, dev)
		unix.SetNonblock(fd, true)
		unix.Write(fd, stream[:min(len(stream), 60000)])
		unix.Shutdown(fd, unix.SHUT_WR)
		<-dev.done
		dev.Close()
		unix.Close(fd)
	})
}

// Any ring contents: no panic, no hang.
func FuzzRing(f *testing.F) {
	f.Add([]byte{0, 0, 16, 0, 0, 0, 0, 0, 72, 0, 0, 0, 0, 0, 0, 0}, uint16(3), uint16(1))
	f.Fuzz(func(t *testing.T, contents []byte, idx, event uint16) {
		mem := make([]byte, 1<<16)
		copy(mem, contents)
		m := &memory{regions: []mapping{{region: region{guest: 0x100000, user: 0x100000, size: 1 << 16}, data: mem}}}
		binary.LittleEndian.PutUint16(mem[16*8+2:], idx)
		a := vringAddr{desc: 0x100000, avail: 0x100000 + 16*8, used: 0x100000 + 512}
		for _, eventIdx := range []bool{false, true} {
			p := &Port{mem: m, hdr: hdrBytes, mrg: true, rxCall: -1, txCall: -1, txKick: -1}
			for i := range p.buf {
				p.buf[i] = make([]byte, frameMax)
			}
			var err error
			if p.tx, err = newRing(m, 8, a, 0, eventIdx); err != nil {
				t.Fatal(err)
			}
			if p.rx, err = newRing(m, 8, a, event, eventIdx); err != nil {
				t.Fatal(err)
			}
			out := make([][]byte, batch)
			for range 3 {
				if n, _ := p.Recv(out); n > batch {
					t.Fatal(n)
				}
				p.Send([][]byte{frameOf(60, 1), frameOf(1514, 2)})
				p.tx.arm()
			}
		}
	})
}
