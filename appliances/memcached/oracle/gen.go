package oracle

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Gen makes random text and meta commands.
type Gen struct {
	*rand.Rand
	// NKeys is the number of keys; a small one makes commands meet.
	NKeys int
	// Alone is set while the command has a connection of its own, so that a get
	// may have a key that is too long (README, "dropped replies").
	Alone bool
	// Arith is set while numbers are changed; then they are not read, as the
	// padding of a number that gets shorter depends on who reads it (README).
	Arith bool
	// cas is about the highest CAS that was given out.
	cas uint64
}

// NewGen makes a generator with that seed.
func NewGen(seed uint64) *Gen {
	return &Gen{Rand: rand.New(rand.NewPCG(seed, 0x6d63)), NKeys: 60}
}

func (g *Gen) pick(s ...string) string { return s[g.IntN(len(s))] }

// one is true once in n times.
func (g *Gen) one(n int) bool { return g.IntN(n) == 0 }

func (g *Gen) key() string {
	switch g.IntN(400) {
	case 0:
		return strings.Repeat("k", 249+g.IntN(4))
	case 1:
		return "tab\tkey"
	case 2:
		return "\xff\xfe"
	case 3:
		return g.pick("a==", "=", "!", "noreply", "0", "-1")
	}
	return "key" + strconv.Itoa(g.IntN(g.NKeys))
}

// numKey is a key that holds a number more often than not.
func (g *Gen) numKey() string { return "num" + strconv.Itoa(g.IntN(8)) }

// readKey is a key that may be read, writeKey one that may be stored.
func (g *Gen) readKey() string {
	if !g.Arith && g.one(8) {
		return g.numKey()
	}
	return g.key()
}

func (g *Gen) writeKey() string {
	if g.one(4) {
		return g.numKey()
	}
	return g.key()
}

// b64 is a key in base64, mostly one that decodes.
func (g *Gen) b64() string {
	return g.pick("a2V5MQ==", "a2V5Mg==", "a2V5", "AAEC", "a2V5MQ", "a2V=", "====", "a!2!V!5!", "a===", "a2V5MQ==a2V5", "AA==")
}

func (g *Gen) num() string {
	switch g.IntN(12) {
	case 0:
		// None from 2^63 to 2^64: see README, "numbers".
		return g.pick("18446744073709551616", "4294967295", "4294967296", "2147483648", "99999999999999999999999")
	case 1:
		return g.pick("-1", "+5", "abc", "1x", "0x10", "", "1.5", "-0", "--1", "5\t6", "-9223372036854775808")
	}
	return strconv.Itoa(g.IntN(1000))
}

// exptime is one whose effect does not depend on the second.
func (g *Gen) exptime() string {
	switch g.IntN(24) {
	case 0:
		return "-1"
	case 1:
		return "1" // see README: becomes 100 in storage commands
	case 2:
		return "2592000"
	case 3:
		return "2592001" // Unix time in 1970
	case 4:
		return "2000000000"
	case 5:
		return g.pick("4294967295", "2147483647", "2147483648", "-2147483649", "99999999999", "x", "1e3", "+100", "1000\t")
	case 6, 7, 8:
		return strconv.Itoa(100 + g.IntN(10000))
	}
	return "0"
}

func (g *Gen) safeExptime() string {
	for {
		if e := g.exptime(); e != "1" {
			return e
		}
	}
}

func (g *Gen) flags() string {
	if g.one(3) {
		return g.num()
	}
	return "0"
}

// value is a value and the length that is declared for it.
func (g *Gen) value() (string, string) {
	var v string
	switch g.IntN(16) {
	case 0, 1, 2, 3, 4:
		v = g.num()
	case 5:
		v = ""
	case 6:
		// Lines, as a value that is taken for a command must not be a long one.
		v = strings.Repeat("large large large large large large large\n", g.IntN(60))
	case 7:
		if g.one(100) {
			v = strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n", 1<<14)[g.IntN(400):]
		} else if g.one(20) {
			v = strings.Repeat("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", 400+g.IntN(400))
		}
	case 8:
		v = g.pick("\r\n.", "get a\r\n", "END\r\n", "\x00\x80", " 12", "12 ", "12 x", ".\n", "8\t\r\n 7\n")
	default:
		b := make([]byte, g.IntN(40))
		for i := range b {
			b[i] = byte(g.IntN(256))
		}
		if len(b) > 0 && g.one(2) {
			b[0] = byte('0' + g.IntN(10))
		} else if len(b) > 0 {
			b[0] |= 0x80 // not all white space; see README, "numbers"
		}
		v = string(b)
	}
	n := strconv.Itoa(len(v))
	switch g.IntN(200) {
	case 0:
		n = strconv.Itoa(len(v) + 1 + g.IntN(5))
	case 1:
		n = strconv.Itoa(max(len(v)-1-g.IntN(5), 0))
	case 2:
		n = g.pick("-1", "x", "4294967296", "4294967297", "+3", "2147483647")
	}
	return v, n
}

func (g *Gen) eol() string {
	switch g.IntN(100) {
	case 0:
		return "\n"
	case 1:
		return " \r\n"
	case 2:
		return "\r\r\n"
	case 3:
		return "\x00\r\n"
	}
	return "\r\n"
}

func (g *Gen) noreply() string {
	switch g.IntN(20) {
	case 0, 1, 2:
		return " noreply"
	case 3:
		return g.pick(" norepl", " x", " noreply x", "  noreply")
	}
	return ""
}

func (g *Gen) casUnique() string {
	switch g.IntN(8) {
	case 0:
		return g.num()
	case 1:
		return "0"
	}
	return strconv.FormatUint(g.cas-min(g.cas, uint64(g.IntN(60))), 10)
}

// SetCAS tells the generator what CAS was seen.
func (g *Gen) SetCAS(c uint64) { g.cas = c }

// Text is one text command with its data.
func (g *Gen) Text() string {
	switch g.IntN(30) {
	case 0, 1, 2, 3, 4, 5, 6:
		v, n := g.value()
		g.cas++
		cmd, key := g.pick("set", "set", "set", "add", "replace", "append", "prepend"), g.writeKey()
		if cmd == "append" || cmd == "prepend" {
			key = g.key()
		}
		return cmd + " " + key + " " + g.flags() + " " + g.safeExptime() + " " + n + g.noreply() + "\r\n" + v + g.dataEnd()
	case 7, 8:
		v, n := g.value()
		return "cas " + g.writeKey() + " " + g.flags() + " " + g.safeExptime() + " " + n + " " + g.casUnique() + g.noreply() + "\r\n" + v + g.dataEnd()
	case 9, 10, 11, 12, 13:
		return g.pick("get", "gets", "get", "bget") + g.keys() + g.eol()
	case 14:
		return g.pick("gat ", "gats ") + g.safeExptime() + g.keys() + g.eol()
	case 15, 16, 17:
		if !g.Arith {
			return "touch " + g.numKey() + " 0\r\n"
		}
		g.cas++
		return g.pick("incr ", "decr ") + g.numKey() + " " + g.num() + g.noreply() + g.eol()
	case 18, 19:
		return "delete " + g.key() + g.pick("", "", "", "", " 0", " 5", " 0 noreply", " noreply", " noreply 0") + g.eol()
	case 20:
		return "touch " + g.key() + " " + g.safeExptime() + g.noreply() + g.eol()
	case 21:
		if g.one(40) {
			return "flush_all" + g.pick("", " 0", " -1", " noreply", " 0 noreply", " x", " x noreply", " 0 0 0") + g.eol()
		}
		return g.pick("version", "verbosity 0", "verbosity 0 noreply", "verbosity", "verbosity x", "verbosity 1 2 3", "mn", "mn x", "version x") + g.eol()
	case 22:
		return g.junk() + g.eol()
	case 23:
		return g.pick("cache_memlimit 64", "cache_memlimit 7", "cache_memlimit x", "cache_memlimit", "cache_memlimit 64 noreply", "cache_memlimit 1000000001",
			"slabs", "slabs reassign", "slabs reassign 1 1", "slabs reassign x 2", "slabs reassign 1 99", "slabs automove 1", "slabs automove 5", "slabs automove x", "slabs automove ratio 0.9", "slabs automove ratio",
			"lru", "lru tune 20 40 0.2 2.0", "lru tune 50 40 0.2 2.0", "lru tune 10 40 0 2.0", "lru tune x", "lru mode x", "lru temp_ttl x",
			"lru_crawler", "lru_crawler tocrawl 5", "lru_crawler tocrawl 0", "lru_crawler tocrawl x", "lru_crawler sleep 100", "lru_crawler sleep 1000001", "lru_crawler sleep x", "lru_crawler x", "lru_crawler crawl 99", "lru_crawler crawl x",
			"shutdown", "shutdown x", "stats bogus", "stats detail", "stats detail x", "stats detail off", "stats cachedump", "stats cachedump 1", "stats cachedump x 1", "stats cachedump 99 1", "stats sizes", "stats reset", "stats reset noreply") + g.eol()
	case 24:
		return g.pick("get", "gets", "gat", "gat 10", "gat x key1", "set", "set a", "set a 0", "set a 0 0", "add a 0 0 1 noreply x", "cas a 0 0 1", "cas a 0 0 1 2 noreply x", "incr", "incr a", "incr a 1 x y", "decr a", "delete", "delete a 0 noreply x", "touch", "touch a", "touch a 1 2 3", "replace a 0 0", "append", "prepend a") + g.eol()
	}
	return g.Meta()
}

// keys is one or more keys, each with a space before it.
func (g *Gen) keys() string {
	var b strings.Builder
	n := 1
	switch g.IntN(10) {
	case 0:
		n = 30 + g.IntN(30) // more than the tokenizer takes at once
	case 1, 2, 3:
		n = 2 + g.IntN(4)
	}
	for range n {
		k := g.readKey()
		if len(k) > 248 && !g.Alone {
			k = k[:248] // an odd end of line may add to it
		}
		b.WriteString(g.pick(" ", " ", " ", "  ") + k)
	}
	return b.String()
}

func (g *Gen) dataEnd() string {
	if g.one(200) {
		return g.pick("\n", "\r", "xx\r\n", "")
	}
	return "\r\n"
}

func (g *Gen) junk() string {
	switch g.IntN(6) {
	case 0:
		return g.pick("", " ", "x", "GET a", "gett a", "ge", "\x00", "get\x00a", " get key1", "   ", "\t", "m", "mx", "mg", "ms", "md", "ma", "me", "mm a", "STAT", "END")
	case 1:
		b := make([]byte, 1+g.IntN(60))
		for i := range b {
			for b[i] = byte(g.IntN(256)); b[i] == '\n'; {
				b[i] = byte(g.IntN(256))
			}
		}
		return "#" + string(b)
	}
	n := g.IntN(30)
	w := make([]string, n)
	for i := range w {
		w[i] = g.pick("get", "set", "key1", "0", "1", "noreply", "", "k", "q", "v", "b", g.num())
	}
	return g.pick("get", "set", "incr", "touch", "delete", "mg", "md", "ma", "me", "verbosity", "lru") + " " + strings.Join(w, " ")
}

// Meta is one meta command with its data.
func (g *Gen) Meta() string {
	cmd := g.pick("mg", "mg", "mg", "ms", "ms", "md", "ma", "ma", "me")
	if cmd == "ma" && !g.Arith {
		cmd = "md"
	}
	var fl []string
	key := g.writeKey()
	switch cmd {
	case "mg":
		key = g.readKey()
	case "ma":
		key = g.numKey()
	}
	b64 := g.one(12) && cmd != "ma"
	if b64 {
		fl = append(fl, "b")
		key = g.b64()
	}
	any := func(f string) {
		switch f {
		case "N", "T":
			f += g.safeExptime()
		case "R":
			// Far from any TTL: a second more or less must not decide.
			f += g.pick("0", "-1", "30", "50000", "2592001", "x")
		case "O":
			f += g.pick("opaque", "1", "", "123456789012345678901234567890", "1234567890123456789012345678901", "12345678901234567890123456789012")
			if (cmd == "mg" || cmd == "ma") && len(f) > 31 {
				f = "O" // see README, "opaque"
			}
		case "F", "J", "D":
			f += g.num()
		case "C":
			f += g.casUnique()
		case "L", "P":
			f += "path/x"
		}
		fl = append(fl, f)
	}
	set := map[string][]string{
		"mg": {"c", "f", "h", "k", "l", "O", "q", "s", "t", "u", "v", "v", "N", "R", "T", "L", "P"},
		"ms": {"c", "C", "F", "I", "k", "O", "q", "T", "M", "L"},
		"md": {"C", "I", "k", "O", "q", "T", "P"},
		"ma": {"C", "N", "J", "D", "M", "q", "t", "c", "v", "k", "O"}, // T: see README
		"me": {"b"},
	}[cmd]
	for range g.IntN(6) {
		f := set[g.IntN(len(set))]
		if f == "M" {
			modes := []string{"E", "A", "P", "R", "S"}
			if cmd == "ma" {
				modes = []string{"I", "+", "D", "-"}
			}
			if g.one(20) {
				modes = []string{"", "X", "EE"}
			}
			f += modes[g.IntN(len(modes))]
		}
		any(f)
	}
	if g.one(60) {
		any(g.pick("x", "\x80", "N", "Z", "S2", "v", "q", "b", "1", "C", "M"))
	}
	if cmd == "md" && g.one(2) {
		g.cas++
	}
	for _, f := range fl {
		if cmd == "ms" && (f == "MA" || f == "MP") {
			key = g.key()
		}
	}
	g.Shuffle(len(fl), func(i, j int) { fl[i], fl[j] = fl[j], fl[i] })
	tail := ""
	if len(fl) > 0 {
		tail = " " + strings.Join(fl, " ")
	}
	if cmd == "ms" {
		v, n := g.value()
		g.cas++
		return fmt.Sprintf("ms %s %s%s\r\n%s%s", key, n, tail, v, g.dataEnd())
	}
	return cmd + " " + key + tail + g.eol()
}

// Probe asks for all that is stored under the usual keys, and for the next CAS.
func (g *Gen) Probe() string {
	var b strings.Builder
	for i := range g.NKeys {
		fmt.Fprintf(&b, "me key%d\r\n", i)
	}
	for i := range 8 {
		fmt.Fprintf(&b, "me num%d\r\nmg num%d v u\r\n", i, i)
	}
	b.WriteString("me key\r\nms probe 1 c\r\nx\r\n")
	return b.String()
}
