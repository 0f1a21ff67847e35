package tcp

// Discard is a Recv of all received octets without a copy, of which only the
// number is wanted. It returns the end of the stream as Recv does.
func (c *Conn) Discard(now int64) (int, error) {
	c.now = now
	n := c.rcv.len
	if n == 0 {
		return 0, c.recvEnd()
	}
	c.rcv.release()
	c.consumed(n)
	c.charge()
	c.afterRead()
	return n, nil
}
