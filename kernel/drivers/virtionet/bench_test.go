package virtionet_test

import (
	"testing"
	"time"

	"osv/kernel/ktest/fakedev"
	"osv/kernel/pkt"
)

// The benchmarks time the driver alone: the fake's turns, between batches, are
// taken out of the ns/frame that they report (ns/op is with them).

const benchBatch = 32

func BenchmarkTxBatch(b *testing.B) {
	for _, c := range []struct {
		name     string
		size     int
		features uint64
	}{{"plain", 60, fakedev.NetAll}, {"noEventIdx", 60, fakedev.NetAll &^ fakedev.FeatureEventIdx}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, rigOpt{features: c.features, lines: 2})
			var own time.Duration
			var frames [benchBatch]*pkt.Buf
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				for i := range frames {
					frames[i] = r.dev.TxBuf(0)
					frames[i].Tail += c.size
				}
				start := time.Now()
				n := r.dev.TxBatch(0, frames[:])
				own += time.Since(start)
				if n != benchBatch {
					b.Fatal(n)
				}
				r.nic.TxQueue(0).Complete(benchBatch, 0)
			}
			b.ReportMetric(float64(own.Nanoseconds())/float64(b.N)/benchBatch, "ns/frame")
		})
	}
}

func BenchmarkRxBatch(b *testing.B) {
	r := newRig(b, rigOpt{features: fakedev.NetAll, lines: 2})
	var own time.Duration
	var frames [benchBatch]*pkt.Buf
	r.nic.RxQueue(0).Answer = oneBuffer
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		r.nic.RxQueue(0).Complete(benchBatch, 12+60)
		start := time.Now()
		n := r.dev.RxBatch(0, frames[:])
		own += time.Since(start)
		if n != benchBatch {
			b.Fatal(n)
		}
		pkt.PutBatch(frames[:])
	}
	b.ReportMetric(float64(own.Nanoseconds())/float64(b.N)/benchBatch, "ns/frame")
}
