//go:build !amd64

package dma

import "sync/atomic"

var barrierWord atomic.Uint32

// Barrier makes all earlier stores visible to devices before any later load.
func Barrier() { barrierWord.Add(1) }
