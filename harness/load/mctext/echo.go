package mctext

import (
	"bytes"

	"osv/harness/load"
)

// Echo is a codec for a server that sends every request back as it is: the least
// that a server can do, and so the bound of what a cache could reach.
type Echo struct {
	*Mix
	room []byte
}

var _ load.Codec = (*Echo)(nil)

// NewEcho makes a codec that asks as m does.
func NewEcho(m *Mix) *Echo { return &Echo{Mix: m} }

// Check wants the request.
func (e *Echo) Check(buf []byte, q load.Req) (int, load.Verdict) {
	e.room = e.Mix.Append(e.room[:0], q)
	n := min(len(buf), len(e.room))
	switch {
	case !bytes.Equal(buf[:n], e.room[:n]):
		return 0, load.Wrong
	case n < len(e.room):
		return 0, load.More
	}
	return n, load.Done
}
