package load

import "osv/harness/load/dist"

// Req is one request as an engine remembers it until the reply is checked.
type Req struct {
	Key   uint32
	Op    uint8 // meaning is the codec's
	Epoch uint8
}

// Verdict is what a codec says of bytes that should be a reply.
type Verdict uint8

// The verdicts.
const (
	More  Verdict = iota // a good beginning; more bytes are needed
	Hit                  // right, with data
	Done                 // right, without data (STORED)
	Miss                 // the key is not there, though it was stored
	Wrong                // not what this request must give
)

// Codec makes requests and checks replies of one protocol. It belongs to one
// engine, is called from its thread only and must not allocate.
type Codec interface {
	// Next chooses a request; false when there are no more (a finite job such
	// as storing every key). A measuring codec never ends.
	Next(r dist.Rand) (Req, bool)
	// Append writes the request to dst, whose capacity is at least MaxRequest.
	Append(dst []byte, q Req) []byte
	// Check looks at the bytes received so far for q and says how many of them
	// are its reply; the count matters for Hit, Done and Miss only.
	Check(buf []byte, q Req) (int, Verdict)
	// MaxRequest and MaxReply bound the sizes in bytes.
	MaxRequest() int
	MaxReply() int
}
