package tcp

// bucket bounds how many segments go out in answer to segments that should not
// be there (RFC 5961 §7): a burst of bucketSize, then one each bucketTick. It is
// per connection, so that it tells nobody of other connections.
type bucket struct {
	used int
	at   int64 // ns, when used was last lowered
}

const (
	bucketSize = 10
	bucketTick = 1e8 // ns
)

// take reports whether one more may go.
func (b *bucket) take(now int64) bool {
	if n := (now - b.at) / bucketTick; n > 0 {
		b.used = max(0, b.used-int(min(n, bucketSize)))
		b.at = now
	}
	if b.used >= bucketSize {
		return false
	}
	b.used++
	return true
}

// challengeAck answers a segment that may be forged: a true peer will find out
// from the ACK what is wrong (RFC 5961 §3.2, §4.2, §5.2).
func (c *Conn) challengeAck() {
	if c.challenge.take(c.now) {
		c.sendAck()
	}
}
