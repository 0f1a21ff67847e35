package dma

// Barrier makes all earlier stores of this CPU visible to devices before any
// later load: between publishing an index and reading the device's wish to be
// told (VIRTIO 1.2 §2.7.13.4.1), and between asking for an interrupt and looking
// once more.
//
// MFENCE alone is not enough under QEMU's TCG with one vCPU: it then leaves out
// the barriers of guest code (tcg_gen_mb without CF_PARALLEL) and compiles
// locked instructions as plain ones, while devices run in another host thread.
// The store and the load swap once in some ten thousand batches, and a
// notification is lost. RDTSC goes through a helper that takes a host lock, which
// is a barrier; elsewhere it costs a few nanoseconds.
func Barrier()
