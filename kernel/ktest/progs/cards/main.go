// Command cards has the network cards of one machine, joined by a hub, send to one
// another in a ring: frames of 60 bytes to the MTU, each byte checked. First all
// must arrive; then cards are reset under load, and what arrives must be whole and
// in order; then all must arrive again. Its argument is the number of packets; a
// million is the soak. In the case pins none has messages and four share two pins.
//
// The hub has more than two cards: with two, frames that QEMU's hub held back for
// one that does not receive overtake those that wait in the card's own queue.
//
//boot:want ^cards: passed
//boot:reject ^cards: .* differs
//boot:append --mtu=9000 --verbose
//boot:machine q35,pc
//boot:cpus 1,2
//boot:timeout 120s
//boot:want ^cards: eth0 52:54:00:00:00:01 eth1 52:54:00:00:00:02 eth2 52:54:00:00:00:03 eth3 52:54:00:00:00:04
//boot:qemu -netdev hubport,id=a,hubid=0 -netdev hubport,id=b,hubid=0 -netdev hubport,id=c,hubid=0 -netdev hubport,id=d,hubid=0
//boot:test kinds
//boot:append 6000
//boot:qemu -device e1000,netdev=a,mac=52:54:00:00:00:01 -device vmxnet3,netdev=b,mac=52:54:00:00:00:02
//boot:qemu -device virtio-net-pci,netdev=c,mac=52:54:00:00:00:03,host_mtu=9000 -device e1000e,netdev=d,mac=52:54:00:00:00:04
//boot:test pins
//boot:append 2000
//boot:reject is used by another device
//boot:qemu -device e1000,netdev=a,mac=52:54:00:00:00:01,addr=8 -device e1000,netdev=b,mac=52:54:00:00:00:02,addr=9
//boot:qemu -device virtio-net-pci,netdev=c,mac=52:54:00:00:00:03,host_mtu=9000,vectors=0,addr=0xc
//boot:qemu -device e1000-82545em,netdev=d,mac=52:54:00:00:00:04,addr=0xd
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/pkt"
	"osv/kernel/platform"
)

const (
	window = 24 // frames on their way from one card to the next
	header = 22 // addresses, type, sequence number
	giveUp = 20 * time.Second
	lost   = 200 * time.Millisecond
	settle = 1500 * time.Millisecond
)

// pair is one card and the next, to which it sends.
type pair struct {
	from, to pkt.Link
	max      int // bytes of a frame
	pattern  []byte

	sent uint64 // sequence number of the next frame

	got      atomic.Uint64 // frames that arrived
	next     atomic.Uint64 // sequence number after the last of them
	mismatch atomic.Pointer[string]
}

func main() {
	s := platform.Start()
	total := 6000
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil || n < 1 {
			fail("%q is no number of packets", os.Args[1])
		}
		total = n
	}
	fmt.Print("cards:")
	for _, l := range s.Links {
		c := l.Caps()
		fmt.Printf(" %s %02x:%02x:%02x:%02x:%02x:%02x", l.Name(), c.MAC[0], c.MAC[1], c.MAC[2], c.MAC[3], c.MAC[4], c.MAC[5])
	}
	fmt.Println()
	n := len(s.Links)
	if n < 2 {
		fail("%d network cards, want two or more", n)
	}
	var pairs []*pair
	for i, l := range s.Links {
		to := s.Links[(i+1)%n]
		p := &pair{from: l, to: to, max: 14 + min(l.Caps().MTU, to.Caps().MTU), pattern: make([]byte, 1<<15)}
		for k := range p.pattern {
			p.pattern[k] = byte(k*7 + k>>8*13 + i)
		}
		pairs = append(pairs, p)
		for q := range to.Caps().RxQueues {
			go p.receive(q)
		}
	}
	each := total / n / 3
	run(pairs, each, nil)
	resets := run(pairs, each, s.Links)
	run(pairs, total/n-2*each, nil)
	for _, p := range pairs {
		st := p.from.Stats()
		fmt.Printf("cards: %s to %s: %d sent, %d arrived, up to %d bytes; %+v\n", p.from.Name(), p.to.Name(), p.sent, p.got.Load(), p.max, st)
	}
	fmt.Printf("cards: passed, %d resets\n", resets)
}

func fail(format string, a ...any) {
	fmt.Printf("cards: "+format+"\n", a...)
	os.Exit(1)
}

// run has each card send count frames. With links given, those that can be are
// reset meanwhile, and frames may be lost; else all must arrive.
func run(pairs []*pair, count int, links []pkt.Link) (resets int) {
	var wg sync.WaitGroup
	var done atomic.Bool
	for _, p := range pairs {
		wg.Go(func() { p.send(count, links != nil) })
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		for i := 0; !done.Load() && len(links) > 0; i++ {
			if r, ok := links[i%len(links)].(interface{ Reset() error }); ok {
				if err := r.Reset(); err != nil {
					fail("reset: %v", err)
				}
				resets++
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	wg.Wait()
	done.Store(true)
	<-end
	// What is on its way still: QEMU's e1000 holds all frames back for a second after
	// receive was set up, and then hands over more than a ring's worth.
	if links != nil {
		time.Sleep(settle)
	}
	for _, p := range pairs {
		if !p.to.LinkUp() {
			fail("%s has no link", p.to.Name())
		}
	}
	return resets
}

// size is how long frame seq is.
func (p *pair) size(seq uint64) int {
	h := seq * 0x9E3779B97F4A7C15 >> 33
	return 60 + int(h%uint64(p.max-60+1))
}

// body is what frame seq has behind its header.
func (p *pair) body(seq uint64) []byte {
	at := int(seq * 131 & 0x3FFF)
	return p.pattern[at : at+p.size(seq)-header]
}

// send sends count frames, no more than window of them on their way.
func (p *pair) send(count int, lossy bool) {
	src, dst := p.from.Caps().MAC, p.to.Caps().MAC
	start, before := p.sent, p.got.Load()
	floor := p.sent // frames before it have arrived, or are lost
	last := time.Now()
	for p.sent < start+uint64(count) {
		if n := p.next.Load(); n > floor {
			floor, last = n, time.Now()
		}
		if why := p.mismatch.Load(); why != nil {
			fail("%s", *why)
		}
		if p.sent-floor >= window {
			wait := giveUp
			if lossy {
				wait = lost
			}
			if time.Since(last) > wait {
				if !lossy {
					fail("%s to %s: frame %d does not arrive: %+v, %+v", p.from.Name(), p.to.Name(), floor, p.from.Stats(), p.to.Stats())
				}
				floor, last = p.sent, time.Now()
			}
			time.Sleep(100 * time.Microsecond)
			continue
		}
		f := p.frame(src, dst, p.sent)
		if f == nil || p.from.TxBatch(0, []*pkt.Buf{f}) == 0 {
			if f != nil {
				f.Put()
			}
			time.Sleep(100 * time.Microsecond)
			continue
		}
		p.sent++
	}
	for !lossy && p.got.Load()-before < uint64(count) {
		if time.Since(last) > giveUp {
			fail("%s to %s: %d of %d frames arrived", p.from.Name(), p.to.Name(), p.got.Load()-before, count)
		}
		time.Sleep(time.Millisecond)
	}
}

// frame makes frame seq, of as many buffers as it takes; nil where there are none.
func (p *pair) frame(src, dst [6]byte, seq uint64) (first *pkt.Buf) {
	b := p.from.TxBuf(0)
	if b == nil {
		return nil
	}
	first = b
	h := b.Append(header)
	copy(h, dst[:])
	copy(h[6:], src[:])
	h[12], h[13] = 0x88, 0xB5 // local experiments, IEEE 802 §9.2.4
	binary.LittleEndian.PutUint64(h[14:], seq)
	for rest := p.body(seq); len(rest) > 0; {
		k := min(len(rest), b.Tailroom())
		copy(b.Append(k), rest)
		if rest = rest[k:]; len(rest) > 0 {
			n := p.from.TxBuf(0)
			if n == nil {
				first.Put()
				return nil
			}
			b.Next, b = n, n
		}
	}
	return first
}

// receive takes what arrives on one queue and checks it.
func (p *pair) receive(q int) {
	var in [32]*pkt.Buf
	for {
		n := p.to.RxBatch(q, in[:])
		for _, b := range in[:n] {
			p.check(b)
		}
		pkt.PutBatch(in[:n])
		if n == 0 {
			if err := p.to.RxWait(q); err != nil {
				fail("%s: %v", p.to.Name(), err)
			}
		}
	}
}

func (p *pair) check(b *pkt.Buf) {
	h := b.Bytes()
	if len(h) < header || h[12] != 0x88 || h[13] != 0xB5 {
		return // the hub has nobody else, but the card may
	}
	seq := binary.LittleEndian.Uint64(h[14:])
	wrong := func(format string, a ...any) {
		s := fmt.Sprintf("%s to %s: frame %d of %d bytes differs: ", p.from.Name(), p.to.Name(), seq, b.TotalLen()) + fmt.Sprintf(format, a...)
		p.mismatch.CompareAndSwap(nil, &s)
	}
	if to := p.to.Caps().MAC; !bytes.Equal(h[:6], to[:]) {
		return // a card may hand up what is for another
	}
	if next := p.next.Load(); seq < next {
		wrong("%d came before it", next-1)
		return
	}
	if b.TotalLen() != p.size(seq) {
		wrong("want %d", p.size(seq))
		return
	}
	want := p.body(seq)
	for c, off := b, header; c != nil; c, off = c.Next, 0 {
		got := c.Bytes()[off:]
		if !bytes.Equal(got, want[:len(got)]) {
			wrong("%d bytes before its end", len(want))
			return
		}
		want = want[len(got):]
	}
	p.next.Store(seq + 1)
	p.got.Add(1)
}
