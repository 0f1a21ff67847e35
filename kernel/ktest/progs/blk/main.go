// Command blk reads and writes each disk at random, 4 KiB to 1 MiB a request,
// 64 requests at a time, and compares each byte read with a model. Errors that the
// host injects must surface as errors, and nothing that was acknowledged may
// differ. In the end the disks are shut down. Arguments: "errors" where errors are
// injected; "resets" to reset the controller again and again meanwhile; "total=MIB"
// for how much is moved on each disk, 1024 if not said.
//
//boot:want ^blk: ok$
//boot:timeout 180s
//boot:test plain
//boot:disk 64M
//boot:test eio
//boot:disk 64M,eio=write_aio@8192,eio=read_aio@20480
//boot:append errors
//boot:want ^blk: [1-9]\d* errors
//boot:machine q35,microvm
//boot:cpus 1,2
//boot:test nvme
//boot:disk 64M,bus=nvme
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test nvme-eio
//boot:disk 64M,bus=nvme,eio=write_aio@8192,eio=read_aio@20480
//boot:append errors total=512
//boot:want ^blk: [1-9]\d* errors
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test nvme-reset
//boot:disk 64M,bus=nvme
//boot:append resets total=512
//boot:want ^blk: [1-9]\d* resets
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test ahci-reset
//boot:disk 64M,bus=ahci
//boot:append resets total=512
//boot:want ^blk: [1-9]\d* resets
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test mixed
//boot:disk 16M,bus=nvme
//boot:disk 16M
//boot:disk 32M,bus=ahci
//boot:append total=128
//boot:want ^blk: 3 disks
//boot:machine q35,pc
//boot:cpus 1,4
//boot:test ahci
//boot:disk 64M,bus=ahci
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test ahci-eio
//boot:disk 64M,bus=ahci,eio=write_aio@8192,eio=read_aio@20480
//boot:append errors total=512
//boot:want ^blk: [1-9]\d* errors
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test virtio-scsi
//boot:disk 64M,bus=virtio-scsi
//boot:machine q35,pc,microvm
//boot:cpus 1,2
//boot:test virtio-scsi-eio
//boot:disk 64M,bus=virtio-scsi,eio=write_aio@8192,eio=read_aio@20480
//boot:append errors total=512
//boot:want ^blk: [1-9]\d* errors
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test virtio-scsi-reset
//boot:disk 64M,bus=virtio-scsi
//boot:append resets total=512
//boot:want ^blk: [1-9]\d* resets
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test pvscsi
//boot:disk 64M,bus=pvscsi
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test pvscsi-eio
//boot:disk 64M,bus=pvscsi,eio=write_aio@8192,eio=read_aio@20480
//boot:append errors total=512
//boot:want ^blk: [1-9]\d* errors
//boot:machine q35,pc
//boot:cpus 1,2
//boot:test pvscsi-reset
//boot:disk 64M,bus=pvscsi
//boot:append resets total=512
//boot:want ^blk: [1-9]\d* resets
//boot:machine q35,pc
//boot:cpus 1,2
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"osv/kernel/blk"
	"osv/kernel/platform"
)

const (
	block    = 4096
	maxBytes = 1 << 20
	depth    = 64
)

// model is what the disk must hold: for each block the generation written last,
// from which its bytes follow. unknown marks blocks whose write failed: either
// the old or the new contents may be there, so they are not compared until they
// are written again.
type model struct {
	mu      sync.Mutex
	gen     []uint32
	busy    []bool // a request is in flight on the block
	unknown []bool
}

func fill(b []byte, n int, gen uint32) {
	x := uint64(n)<<32 | uint64(gen)
	for i := 0; i < len(b); i += 8 {
		x = x*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(b[i:], x)
	}
	if gen == 0 {
		clear(b) // a fresh disk
	}
}

// claim picks a random extent that no other request touches.
func (m *model) claim(r *rand.Rand) (first, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		n = 1 + int(r.ExpFloat64()*12)
		n = min(n, maxBytes/block)
		first = r.IntN(len(m.gen) - n + 1)
		if !slices.Contains(m.busy[first:first+n], true) {
			for i := range n {
				m.busy[first+i] = true
			}
			return first, n
		}
	}
}

func (m *model) release(first, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range n {
		m.busy[first+i] = false
	}
}

type tally struct {
	mu            sync.Mutex
	bytes, failed int
	total         int // bytes wanted
}

func (t *tally) add(n int, failed bool) (done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes += n
	if failed {
		t.failed++
	}
	return t.bytes >= t.total
}

func main() {
	s := platform.Start()
	injected, resets, total := false, false, 1<<30
	for _, a := range os.Args[1:] {
		if mib, ok := strings.CutPrefix(a, "total="); ok {
			n, err := strconv.Atoi(mib)
			if err != nil || n < 1 {
				fmt.Println("blk: bad argument", a)
				os.Exit(1)
			}
			total = n << 20
		}
		injected = injected || a == "errors"
		resets = resets || a == "resets"
	}
	if len(s.Disks) == 0 {
		fmt.Println("blk: no disk")
		os.Exit(1)
	}
	fmt.Printf("blk: %d disks\n", len(s.Disks))
	for _, d := range s.Disks {
		stop := make(chan struct{})
		if resets {
			go resetMeanwhile(d, stop)
		}
		run(d, total, injected)
		if resets {
			stop <- struct{}{}
		}
	}
	if err := s.CloseDisks(); err != nil {
		fmt.Println("blk: close:", err)
		os.Exit(1)
	}
	for _, d := range s.Disks {
		if _, err := d.ReadAt(make([]byte, 1), 0); err == nil {
			fmt.Println("blk: a closed disk reads")
			os.Exit(1)
		}
	}
	fmt.Println("blk: ok")
}

// resetMeanwhile resets the controller of d every now and then.
func resetMeanwhile(d blk.Disk, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			fmt.Printf("blk: %d resets\n", n)
			return
		case <-time.After(100 * time.Millisecond):
		}
		if err := d.(interface{ Reset() error }).Reset(); err != nil {
			fmt.Println("blk: reset:", err)
			os.Exit(1)
		}
	}
}

// run moves total bytes to and from a disk of zeroes.
func run(d blk.Disk, total int, injected bool) {
	t := tally{total: total}
	blocks := int(d.Size() / block)
	m := &model{gen: make([]uint32, blocks), busy: make([]bool, blocks), unknown: make([]bool, blocks)}
	seed := rand.Uint64()
	id, _ := d.ID()
	fmt.Printf("blk: %s %q, %d MiB, blocks of %d bytes, depth %d, seed %#x\n", d.Name(), id, d.Size()>>20, d.BlockSize(), depth, seed)
	var wg sync.WaitGroup
	for w := range depth {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			buf, want := make([]byte, maxBytes), make([]byte, block)
			for {
				first, n := m.claim(r)
				var err error
				if r.IntN(3) == 0 {
					err = m.write(d, buf, first, n)
				} else {
					err = m.read(d, buf, want, first, n)
				}
				m.release(first, n)
				if err != nil && !expected(err, injected) {
					fmt.Println("blk:", err)
					os.Exit(1)
				}
				if t.add(n*block, err != nil) {
					return
				}
				if r.IntN(200) == 0 {
					if err := d.Flush(); err != nil {
						fmt.Println("blk: flush:", err)
						os.Exit(1)
					}
				}
			}
		})
	}
	wg.Wait()
	fmt.Printf("blk: %d errors\n", t.failed)
	if injected == (t.failed == 0) {
		fmt.Println("blk: injected errors:", injected)
		os.Exit(1)
	}
	fmt.Printf("blk: %s: %d MiB as they should be\n", d.Name(), t.bytes>>20)
}

// expected says whether err is what an injected EIO looks like.
func expected(err error, injected bool) bool {
	var e *blk.Error
	return injected && errors.As(err, &e) && errors.Is(err, blk.ErrIO)
}

func (m *model) write(d blk.Disk, buf []byte, first, n int) error {
	for i := range n {
		fill(buf[i*block:(i+1)*block], first+i, m.gen[first+i]+1)
	}
	_, err := d.WriteAt(buf[:n*block], int64(first)*block)
	for i := range n {
		m.gen[first+i]++
		m.unknown[first+i] = err != nil
	}
	return err
}

func (m *model) read(d blk.Disk, buf, want []byte, first, n int) error {
	_, err := d.ReadAt(buf[:n*block], int64(first)*block)
	if err != nil {
		return err
	}
	for i := range n {
		if m.unknown[first+i] {
			continue
		}
		fill(want, first+i, m.gen[first+i])
		if got := buf[i*block : (i+1)*block]; string(got) != string(want) {
			k := 0
			for got[k] == want[k] {
				k++
			}
			fmt.Printf("blk: block %d differs at byte %d: %#x, want %#x (generation %d)\n", first+i, k, got[k], want[k], m.gen[first+i])
			os.Exit(1)
		}
	}
	return nil
}
