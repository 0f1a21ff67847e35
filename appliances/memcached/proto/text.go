package proto

// command runs one command line, without its "\n". rest are the bytes after it;
// a storage command may take its value from there and says so in c.set.took.
func (c *Conn) command(line, rest []byte, o *Out) {
	if n := len(line); n > 1 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	c.lastCmd = c.srv.Store.Now()
	c.noreply = false
	line = cString(line)
	if len(line) > 4 && line[3] == ' ' && string(line[:4]) == "get " {
		c.get(line[4:], o, false)
		return
	}
	t := &c.tok
	t.split(line)
	if t.n == 0 || t.at[0].to-t.at[0].from < 2 {
		o.str(rError)
		return
	}
	name := t.get(0)
	if len(name) == 2 && name[0] == 'm' {
		c.meta(name[1], rest, o)
		return
	}
	switch string(name) {
	case "get", "gets", "gat", "gats", "bget":
		if t.n < 2 {
			o.str(rError)
			return
		}
		c.getTokens(o)
	case "set":
		c.storage(modeSet, 5, rest, o)
	case "add":
		c.storage(modeAdd, 5, rest, o)
	case "replace":
		c.storage(modeReplace, 5, rest, o)
	case "append":
		c.storage(modeAppend, 5, rest, o)
	case "prepend":
		c.storage(modePrepend, 5, rest, o)
	case "cas":
		c.storage(modeCAS, 6, rest, o)
	case "incr":
		c.arith(false, o)
	case "decr":
		c.arith(true, o)
	case "delete":
		c.delete(o)
	case "touch":
		c.touch(o)
	case "stats":
		c.stats(o)
	case "flush_all":
		c.flushAll(o)
	case "version":
		o.str("VERSION " + Version + "\r\n")
	case "quit":
		c.state = stateClosed
	case "verbosity":
		c.verbosity(o)
	case "cache_memlimit":
		c.memlimit(o)
	case "shutdown":
		c.shutdown(o)
	case "slabs":
		c.slabs(o)
	case "lru":
		c.lru(o)
	case "lru_crawler":
		c.lruCrawler(o)
	case "watch":
		c.noreplyMaybe()
		c.reply(o, "CLIENT_ERROR watch commands not allowed\r\n")
	default:
		if last := t.get(t.n - 1); len(last) >= 5 && string(last[:5]) == "HTTP/" {
			// A browser, or a page that makes one do it: not a client.
			c.state = stateClosed
			return
		}
		o.str(rError)
	}
}

// count reports whether the line has a or b tokens, and says ERROR if not.
func (c *Conn) count(o *Out, a, b int) bool {
	n := c.tok.n
	if c.tok.more >= 0 {
		n++
	}
	if n < a || n > b {
		o.str(rError)
		return false
	}
	return true
}

// noreplyMaybe looks for noreply as the last token.
func (c *Conn) noreplyMaybe() {
	if c.tok.is(c.tok.n-1, "noreply") {
		c.noreply = true
	}
}
