package proto

import (
	"fmt"
	"strings"
	"testing"

	"osv/appliances/memcached/store"
)

// exchange is a request and what memcached 1.6.18 answers, as measured on the
// real one or told by protocol.txt.
type exchange struct{ in, out string }

// check runs the exchanges one after the other on one connection each, whole and
// byte by byte.
func check(t *testing.T, s func() *Server, xs []exchange) {
	t.Helper()
	for _, n := range []int{1 << 20, 1, 7} {
		srv := s()
		for _, x := range xs {
			if got, _ := talk(srv, x.in, n); got != x.out {
				t.Errorf("in pieces of %d: %.200q: %.300q, want %.300q", n, x.in, got, x.out)
			}
		}
	}
}

func TestText(t *testing.T) {
	long := strings.Repeat("k", 251)
	ok250 := strings.Repeat("k", 250)
	check(t, func() *Server { return newServer(t, store.Config{}) }, []exchange{
		{"get\r\n", "ERROR\r\n"},
		{"bogus\r\n", "ERROR\r\n"},
		{"\r\n", "ERROR\r\n"},
		{"g\r\n", "ERROR\r\n"},
		{"GET a\r\n", "ERROR\r\n"},
		{"get a\r\n", "END\r\n"},
		{"set a 5 0 3\r\nabc\r\n", "STORED\r\n"},
		{"get a\r\n", "VALUE a 5 3\r\nabc\r\nEND\r\n"},
		{"get a\n", "VALUE a 5 3\r\nabc\r\nEND\r\n"},
		{"get  a  b a \r\n", "VALUE a 5 3\r\nabc\r\nVALUE a 5 3\r\nabc\r\nEND\r\n"},
		{"bget a\r\n", "VALUE a 5 3\r\nabc\r\nEND\r\n"},
		{"gets a\r\n", "VALUE a 5 3 1\r\nabc\r\nEND\r\n"},
		{"get " + long + "\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"get a " + long + " a\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"get " + ok250 + "\r\n", "END\r\n"},
		{"get a\x00b\r\n", "VALUE a 5 3\r\nabc\r\nEND\r\n"},
		{"set x 0 0 -1\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"set x 0 0 abc noreply\r\n", ""},
		{"set x 0 0\r\n", "ERROR\r\n"},
		{"set " + long + " 0 0 1\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"set x 0 0 3\r\nabcdef\r\n", "CLIENT_ERROR bad data chunk\r\nERROR\r\n"},
		{"set x 0 0 3 noreply\r\nabc\r\nget x\r\n", "VALUE x 0 3\r\nabc\r\nEND\r\n"},
		{"set x 4294967296 0 1\r\nq\r\nget x\r\n", "STORED\r\nVALUE x 0 1\r\nq\r\nEND\r\n"},
		{"set x 0 -1 1\r\nq\r\nget x\r\n", "STORED\r\nEND\r\n"},
		{"set e 0 0 0\r\n\r\nget e\r\n", "STORED\r\nVALUE e 0 0\r\n\r\nEND\r\n"},
		{"set big 0 0 1048576\r\n" + strings.Repeat("x", 1048576) + "\r\nget big\r\n", "SERVER_ERROR object too large for cache\r\nEND\r\n"},
		{"add a 0 0 1\r\nz\r\n", "NOT_STORED\r\n"},
		{"add b 0 0 1\r\nz\r\n", "STORED\r\n"},
		{"replace c 0 0 1\r\nz\r\n", "NOT_STORED\r\n"},
		{"replace b 0 0 1\r\ny\r\nappend b 0 0 1\r\nz\r\nprepend b 9 9 1\r\nx\r\nget b\r\n", "STORED\r\nSTORED\r\nSTORED\r\nVALUE b 0 3\r\nxyz\r\nEND\r\n"},
		{"cas none 0 0 1 1\r\nx\r\n", "NOT_FOUND\r\n"},
		{"cas a 0 0 1 99\r\nx\r\n", "EXISTS\r\n"},
		{"cas a 0 0 1 0\r\nx\r\n", "EXISTS\r\n"},
		{"cas a 0 0 1 1\r\nx\r\n", "STORED\r\n"},
		{"cas a 0 0 1 x\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"delete none\r\n", "NOT_FOUND\r\n"},
		{"delete b 0\r\n", "DELETED\r\n"},
		{"delete b 5\r\n", "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"},
		{"delete b 0 noreply\r\n", ""},
		{"delete " + long + "\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"delete\r\n", "ERROR\r\n"},
		{"set n 0 0 1\r\n6\r\nincr n 18446744073709551615\r\n", "STORED\r\n5\r\n"},
		{"decr n 6\r\n", "0\r\n"},
		{"incr n abc\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n"},
		{"incr a 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"},
		{"incr none 1\r\n", "NOT_FOUND\r\n"},
		{"decr none 1 noreply\r\n", ""},
		{"incr " + long + " 1\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"incr n\r\n", "ERROR\r\n"},
		{"touch n 100\r\ntouch none 0\r\ntouch n x\r\ntouch n\r\n", "TOUCHED\r\nNOT_FOUND\r\nCLIENT_ERROR invalid exptime argument\r\nERROR\r\n"},
		{"touch " + long + " 1\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"mg n t\r\n", "HD t100\r\n"},
		{"gat 0 n none\r\nmg n t\r\n", "VALUE n 0 1\r\n0\r\nEND\r\nHD t-1\r\n"},
		{"gats x n\r\n", "CLIENT_ERROR invalid exptime argument\r\n"},
		{"gat 1\r\n", "END\r\n"},
		{"gat\r\n", "ERROR\r\n"},
		{"version\r\n", "VERSION 1.6.18\r\n"},
		{"version foo\r\n", "VERSION 1.6.18\r\n"},
		{"verbosity\r\n", "ERROR\r\n"},
		{"verbosity x\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"verbosity 0\r\nverbosity 0 noreply\r\nverbosity noreply\r\n", "OK\r\n"},
		{"flush_all -1\r\n", "OK\r\n"},
		{"flush_all x\r\n", "CLIENT_ERROR invalid exptime argument\r\n"},
		{"flush_all 0 noreply\r\nflush_all noreply\r\n", ""},
		{"flush_all 1 2 3\r\n", "ERROR\r\n"},
		{"cache_memlimit 64\r\ncache_memlimit 7\r\ncache_memlimit x\r\n", "OK\r\nMEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\nERROR\r\n"},
		{"cache_memlimit 1000000001\r\ncache_memlimit 100000\r\n", "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\nMEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n"},
		{"shutdown\r\n", "ERROR: shutdown not enabled\r\n"},
		{"watch\r\n", "CLIENT_ERROR watch commands not allowed\r\n"},
		{"slabs\r\nslabs reassign 1 1\r\nslabs reassign 1 99\r\nslabs reassign x 1\r\nslabs reassign 5 6\r\n", "ERROR\r\nSAME src and dst class are identical\r\nBADCLASS invalid src or dst class id\r\nCLIENT_ERROR bad command line format\r\nNOSPARE source class has no spare pages\r\n"},
		{"slabs automove 0\r\nslabs automove 3\r\nslabs automove x\r\nslabs automove ratio 0.5\r\nslabs automove ratio x\r\nslabs automove ratio\r\n", "OK\r\nERROR\r\nCLIENT_ERROR bad command line format\r\nOK\r\nERROR\r\nERROR\r\n"},
		{"lru\r\nlru tune 10 20 0.1 2\r\nlru tune 50 40 1 1\r\nlru tune 1 1 0 1\r\nlru tune x 1 1 1\r\n", "ERROR\r\nOK\r\nERROR hot and warm pcts must not exceed 80\r\nERROR hot/warm age factors must be greater than 0\r\nERROR\r\n"},
		{"lru mode flat\r\nlru mode segmented\r\nlru mode x\r\nlru temp_ttl 10\r\nlru temp_ttl -1\r\nlru temp_ttl x\r\n", "OK\r\nOK\r\nERROR\r\nOK\r\nOK\r\nERROR\r\n"},
		{"lru_crawler crawl all\r\nlru_crawler crawl 1,2\r\nlru_crawler crawl 99\r\nlru_crawler crawl x\r\n", "OK\r\nOK\r\nBADCLASS invalid class id\r\nBADCLASS invalid class id\r\n"},
		{"lru_crawler sleep 5\r\nlru_crawler sleep 1000001\r\nlru_crawler sleep x\r\nlru_crawler tocrawl 5\r\nlru_crawler tocrawl x\r\n", "OK\r\nCLIENT_ERROR sleep must be one second or less\r\nCLIENT_ERROR bad command line format\r\nOK\r\nCLIENT_ERROR bad command line format\r\n"},
		{"lru_crawler disable\r\nlru_crawler crawl all\r\nlru_crawler enable\r\nlru_crawler x y\r\n", "OK\r\nCLIENT_ERROR lru crawler disabled\r\nOK\r\nERROR\r\n"},
		{"stats bogus\r\nstats reset\r\nstats detail\r\nstats detail dump\r\nstats sizes\r\n", "ERROR\r\nRESET\r\nCLIENT_ERROR usage: stats detail on|off|dump\r\nEND\r\nSTAT sizes_status disabled\r\nEND\r\n"},
		{"stats cachedump\r\nstats cachedump x 1\r\nstats cachedump 99 1\r\n", "CLIENT_ERROR bad command line\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR Illegal slab id\r\n"},
	})
}

func TestMeta(t *testing.T) {
	check(t, func() *Server { return newServer(t, store.Config{}) }, []exchange{
		{"mn\r\nmn x\r\n", "MN\r\nMN\r\n"},
		{"mg\r\nms\r\nmd\r\nma\r\nmx a\r\nmm\r\n", strings.Repeat("ERROR\r\n", 6)},
		{"me\r\nmg " + strings.Repeat("k", 251) + " v\r\n", "CLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\n"},
		{"mg miss\r\nmg miss q\r\nmg miss k O1\r\n", "EN\r\nEN kmiss O1\r\n"},
		{"ms a S2\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"ms a 2 S2\r\nhi\r\n", "CLIENT_ERROR invalid flag\r\n"},
		{"ms a\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"ms a 3 T100 F5 c\r\nabc\r\n", "HD c1\r\n"},
		{"mg a v f t s c k O123\r\n", "VA 3 f5 t100 s3 c1 ka O123\r\nabc\r\n"},
		{"mg a\r\nmg a h l\r\nmg a u h\r\n", "HD\r\nHD h1 l0\r\nHD h1\r\n"},
		{"mg a !\r\nmg a v v\r\nmg a \x80\r\n", "CLIENT_ERROR invalid flag\r\nCLIENT_ERROR duplicate flag\r\nCLIENT_ERROR duplicate flag\r\n"},
		{"mg a Tx\r\nmg a N\r\nmg a Cx\r\n", strings.Repeat("CLIENT_ERROR bad token in command line format\r\n", 3)},
		{"mg a O" + strings.Repeat("1", 31) + "\r\nmg a O" + strings.Repeat("1", 32) + "\r\n", "HD O" + strings.Repeat("1", 31) + "\r\nCLIENT_ERROR opaque token too long\r\n"},
		{"mg a" + strings.Repeat(" v", 20) + "\r\n", "CLIENT_ERROR options flags are too long\r\n"},
		{"md a" + strings.Repeat(" v", 20) + "\r\n", "CLIENT_ERROR options flags too long\r\n"},
		{"ma a" + strings.Repeat(" v", 20) + "\r\n", "CLIENT_ERROR options flags too long\r\n"},
		{"ms a 1" + strings.Repeat(" v", 20) + "\r\n", "CLIENT_ERROR options flags too long\r\n"},
		{"mg a t T30 t\r\n", "CLIENT_ERROR duplicate flag\r\n"},
		{"mg a t T30\r\nmg a t\r\nmg a T60 t\r\n", "HD t100\r\nHD t30\r\nHD t60\r\n"},
		{"mg n N30 t v\r\nmg n N30 t v\r\nmg n2 t N30\r\nmg n3 T60 t N30\r\nmg n3 t\r\n", "VA 0 t30 W\r\n\r\nVA 0 t30 Z\r\n\r\nHD t-1 W\r\nHD t60 W\r\nHD t30 Z\r\n"},
		{"mg a R100 t\r\nmg a R100 t\r\n", "HD t60 W\r\nHD t60 Z\r\n"},
		{"me a\r\n", "ME a exp=-60 la=0 cas=1 fetch=yes cls=1 size=67\r\n"},
		{"me none\r\nme a b\r\nme YQ== b\r\n", "EN\r\nCLIENT_ERROR bad command line format\r\nME a exp=-60 la=0 cas=1 fetch=yes cls=1 size=67\r\n"},
		{"ms a 1 C9 k O1 c\r\nz\r\n", "EX ka O1 c0\r\n"},
		{"ms a 1 C0\r\nz\r\n", "EX\r\n"},
		{"ms a 1 C0 I\r\nz\r\n", "EX\r\n"},
		{"ms b 1 C1\r\nz\r\nms b 1 MR C1\r\nz\r\nms b 1 MR\r\nz\r\nms b 1 MA\r\nz\r\nms b 1 MP\r\nz\r\n", "NF\r\nNF\r\nNS\r\nNS\r\nNS\r\n"},
		{"ms b 1 ME q\r\ny\r\nms b 1 ME\r\nz\r\nms b 1 MA\r\nz\r\nms b 1 MP\r\nx\r\nms b 1 MX\r\nz\r\nms b 1 M\r\nz\r\nmg b v\r\n", "NS\r\nHD\r\nHD\r\nCLIENT_ERROR invalid mode for ms M token\r\nCLIENT_ERROR incorrect length for M token\r\nVA 3\r\nxyz\r\n"},
		{"ms b 1 MS Fx\r\nz\r\nms b 1 F4294967296\r\nz\r\nms b 9 O" + strings.Repeat("1", 40) + "\r\n123456789\r\n", "CLIENT_ERROR bad command line format\r\nHD\r\nCLIENT_ERROR opaque token too long\r\n"},
		{"ms b 2 q\r\nabc\r\n", "CLIENT_ERROR bad data chunk\r\nERROR\r\n"},
		{"ms b -1\r\nms b x\r\n", "CLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\n"},
		{"ms b 2000000 q\r\n" + strings.Repeat("x", 2000000) + "\r\nmg b\r\n", "SERVER_ERROR object too large for cache\r\nEN\r\n"},
		{"ms YQ== 2 b k O9\r\nhi\r\nmg YQ== b k v\r\nmg a k v\r\nme a\r\n", "HD kYQ== b O9\r\nVA 2 kYQ== b\r\nhi\r\nVA 2 kYQ== b\r\nhi\r\nME YQ== exp=-1 la=0 cas=9 fetch=yes cls=1 size=62\r\n"},
		{"mg ! b v\r\nmg YQ= b\r\nmg Y=== b\r\n", strings.Repeat("CLIENT_ERROR error decoding key\r\n", 3)},
		{"md none\r\nmd none q k O1\r\nmd a C1\r\nmd a C0\r\nmd a x\r\nmd a q q\r\nmd a O" + strings.Repeat("1", 40) + "\r\n", "NF\r\nNF knone O1\r\nEX\r\nEX\r\nCLIENT_ERROR invalid or duplicate flag\r\nCLIENT_ERROR invalid or duplicate flag\r\nCLIENT_ERROR opaque token too long\r\n"},
		{"md a I T30\r\nmg a c t\r\nmg a t\r\nmd a q\r\nmg a\r\n", "HD\r\nHD c10 t30 X W\r\nHD t30 Z X\r\nEN\r\n"},
		{"ma none\r\nma none N0 J5 v\r\nma none D10 v c t\r\nma none MD D100 v\r\nma none M+ q\r\nma none\r\n", "NF\r\nVA 1\r\n5\r\nVA 2 c12 t-1\r\n15\r\nVA 1\r\n0\r\nHD\r\n"},
		{"ma none C1\r\nma none Dx\r\nma none Mx\r\nma none T40 t k O1\r\nma none O" + strings.Repeat("1", 40) + "\r\n", "EX\r\nCLIENT_ERROR invalid or duplicate flag\r\nCLIENT_ERROR invalid mode for ma M token\r\nHD t40 knone O1\r\nCLIENT_ERROR opaque token too long\r\n"},
		{"ms t 1\r\nx\r\nma t\r\nma n9 N100 q t\r\nma n9 q\r\nma n9 T5 N3 t M-\r\n", "HD\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\nHD t100\r\nHD t5\r\n"},
		{"ma n8 N100 T50 t\r\nma n7 t T50 N100\r\nmg n7 t\r\n", "HD t50\r\nHD t-1\r\nHD t100\r\n"},
	})
}

// TestEverySplit: a stream gives the same replies wherever it is cut in two.
func TestEverySplit(t *testing.T) {
	stream := "set a 1 0 5\r\nhello\r\nget a b a\r\nms c 3 c k\r\nxyz\r\nmg c v k\r\nincr n 1\r\nset x 0 0 3\r\nabcdef\r\nms d 9999999 q\r\nmn\r\nappend a 0 0 6 noreply\r\n world\r\ngets a\r\nquit\r\nignored"
	stream = strings.Replace(stream, "ms d 9999999 q\r\n", "ms d 9999999 q\r\n"+strings.Repeat("z", 9999999)+"\r\n", 1)
	cut := strings.Index(stream, "zzz")
	whole, st := talk(newServer(t, store.Config{}), stream, len(stream))
	if st != Close {
		t.Fatalf("status %d after quit", st)
	}
	for i := 1; i < len(stream); i++ {
		if i == cut+10 {
			i = strings.LastIndex(stream, "zzz")
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := newServer(t, store.Config{})
			c := NewConn(s, 0)
			o := &Out{B: make([]byte, 0, 4096)}
			if c.Feed([]byte(stream[:i]), o) == Open {
				c.Feed([]byte(stream[i:]), o)
			}
			c.End()
			if got := string(o.B); got != whole {
				t.Fatalf("cut at %d: %q, want %q", i, got, whole)
			}
		})
	}
}

func TestConnectionEnds(t *testing.T) {
	s := newServer(t, store.Config{})
	for _, c := range []struct {
		in  string
		out string
		st  Status
	}{
		{"quit\r\nget a\r\n", "", Close},
		{"GET / HTTP/1.1\r\n", "", Close},
		{strings.Repeat("x", 3000), "", Close},
		{strings.Repeat("x", 2000), "", Open},
		{"get " + strings.Repeat("a ", 5000) + "\r\n", "END\r\n", Open},
		{"get " + strings.Repeat("a ", 600000), "", Close}, // more than bigLineMax
		{strings.Repeat(" ", 101) + "get " + strings.Repeat("a ", 5000), "", Close},
	} {
		if got, st := talk(s, c.in, 1000); got != c.out || st != c.st {
			t.Errorf("%.40q: %q, status %d; want %q, status %d", c.in, got, st, c.out, c.st)
		}
	}
}

// TestProtocolFlag: -B ascii does not take binary, -B binary nothing else.
func TestProtocolFlag(t *testing.T) {
	s := newServer(t, store.Config{})
	noop := string(binReq(opNoop, nil, "", ""))
	s.Protocol = ASCII
	// The opcode is a line feed.
	if got, _ := talk(s, noop+"\r\n", 100); got != "ERROR\r\nERROR\r\n" {
		t.Errorf("binary at -B ascii: %q", got)
	}
	s.Protocol = Binary
	if got, st := talk(s, "version\r\n", 100); got != "" || st != Close {
		t.Errorf("text at -B binary: %q, %d", got, st)
	}
	if got, _ := talk(s, noop, 100); len(got) != 24 {
		t.Errorf("binary at -B binary: %q", got)
	}
}

func TestShutdownCommand(t *testing.T) {
	s := newServer(t, store.Config{})
	var called []bool
	s.Shutdownok, s.Shutdown = true, func(g bool) { called = append(called, g) }
	for _, c := range []struct {
		in, out string
		st      Status
	}{{"shutdown\r\n", "", Close}, {"shutdown graceful\r\n", "", Close}, {"shutdown x\r\n", "CLIENT_ERROR invalid shutdown mode\r\n", Open}} {
		if got, st := talk(s, c.in, 100); got != c.out || st != c.st {
			t.Errorf("%q: %q, %d", c.in, got, st)
		}
	}
	if fmt.Sprint(called) != "[false true]" {
		t.Errorf("called with %v", called)
	}
}

func TestDisabledCommands(t *testing.T) {
	s := newServer(t, store.Config{})
	s.NoFlush, s.NoDump = true, true
	check(t, func() *Server { return s }, []exchange{
		{"flush_all\r\n", "CLIENT_ERROR flush_all not allowed\r\n"},
		{"stats cachedump 1 0\r\n", "CLIENT_ERROR stats cachedump not allowed\r\n"},
		{"lru_crawler metadump all\r\n", "ERROR metadump not allowed\r\n"},
	})
	if got, _ := talk(s, string(binReq(opFlush, nil, "", "")), 100); !strings.HasSuffix(got, "Out of memory") {
		t.Errorf("binary flush: %q", got)
	}
}

func TestNoMemory(t *testing.T) {
	s := newServer(t, store.Config{Limit: 3 << 20, NoEvict: true})
	var last string
	for i := 0; i < 100000 && !strings.HasPrefix(last, "SERVER_ERROR"); i++ {
		last, _ = talk(s, fmt.Sprintf("set key%d 0 0 100\r\n%s\r\n", i, strings.Repeat("x", 100)), 1000)
	}
	if last != "SERVER_ERROR out of memory storing object\r\n" {
		t.Fatalf("last reply %q", last)
	}
	// What cannot be stored must not leave the old value behind.
	check(t, func() *Server { return s }, []exchange{
		{"set key1 0 0 100\r\n" + strings.Repeat("y", 100) + "\r\nget key1\r\n", "SERVER_ERROR out of memory storing object\r\nEND\r\n"},
	}[:0])
	if got, _ := talk(s, "set key1 0 0 100\r\n"+strings.Repeat("y", 100)+"\r\nget key1\r\n", 1000); got != "SERVER_ERROR out of memory storing object\r\nEND\r\n" {
		t.Errorf("got %q", got)
	}
	for _, c := range []exchange{
		{"ms new 100\r\n" + strings.Repeat("y", 100) + "\r\n", "HD\r\n"}, // key1's room
		{"ms new2 100\r\n" + strings.Repeat("y", 100) + "\r\n", "SERVER_ERROR out of memory storing object\r\n"},
		{"mg stub N0\r\n", "EN\r\n"},
		{"ma num N0\r\n", "SERVER_ERROR Out of memory allocating new item\r\n"},
	} {
		if c.in[:2] == "mg" || c.in[:2] == "ma" {
			// Fill the small class too.
			for i := range 20000 {
				talk(s, fmt.Sprintf("set s%d 0 0 1\r\nx\r\n", i), 1000)
			}
		}
		if got, _ := talk(s, c.in, 1000); got != c.out {
			t.Errorf("%.20q: %q, want %q", c.in, got, c.out)
		}
	}
}

func TestDetail(t *testing.T) {
	s := newServer(t, store.Config{})
	check(t, func() *Server { s.Detail.reset(); s.Detail.on.Store(false); s.Store.Flush(0); return s }, []exchange{
		{"stats detail on\r\n", "OK\r\n"},
		{"set a:1 0 0 1\r\nx\r\nget a:1 a:2 b:1 plain\r\ndelete a:1\r\n", "STORED\r\nVALUE a:1 0 1\r\nx\r\nEND\r\nDELETED\r\n"},
		{"stats detail dump\r\n", "PREFIX a get 2 hit 1 set 1 del 1\r\nPREFIX b get 1 hit 0 set 0 del 0\r\nEND\r\n"},
		{"stats detail off\r\n", "OK\r\n"},
	})
	s.Detail.SetDelimiter('/')
	if !s.Detail.On() || s.Detail.Delimiter() != '/' {
		t.Error("delimiter")
	}
}

func TestDumps(t *testing.T) {
	s := newServer(t, store.Config{Now: 1_700_000_000})
	talk(s, "set a 0 0 1\r\nx\r\nset b%,c 0 100 2\r\nyy\r\nms YQ== 1 b\r\nz\r\n", 1000)
	got, _ := talk(s, "stats cachedump 1 0\r\n", 100)
	if got != "ITEM b%,c [2 b; 1700000100 s]\r\nEND\r\n" {
		t.Errorf("cachedump: %q", got)
	}
	got, _ = talk(s, "lru_crawler metadump all\r\n", 100)
	want := "key=b%25%2Cc exp=1700000100 la=1700000000 cas=2 fetch=no cls=1 size=65\nkey=a exp=-1 la=1700000000 cas=3 fetch=no cls=1 size=61\nEND\r\n"
	if got != want {
		t.Errorf("metadump: %q, want %q", got, want)
	}
	if got, _ := talk(s, "lru_crawler metadump 2\r\nlru_crawler metadump 1\r\nlru_crawler metadump x\r\n", 100); got != "END\r\n"+want+"BADCLASS invalid class id\r\n" {
		t.Errorf("metadump by class: %q", got)
	}
	s.TrackSizes(true)
	if got, _ := talk(s, "stats sizes\r\nstats sizes_disable\r\nstats sizes_enable\r\n", 100); got != "STAT 64 1\r\nSTAT 96 1\r\nEND\r\nSTAT sizes_status disabled\r\nEND\r\nSTAT sizes_status enabled\r\nEND\r\n" {
		t.Errorf("sizes: %q", got)
	}
}

// TestStatsNames: what exporters read is there, once each.
func TestStatsNames(t *testing.T) {
	s := newServer(t, store.Config{})
	talk(s, "set a 0 0 1\r\nx\r\nget a b\r\n", 100)
	got, _ := talk(s, "stats\r\n", 100)
	for _, n := range strings.Fields("cmd_get cmd_set cmd_flush cmd_touch cmd_meta get_hits get_misses get_expired get_flushed delete_hits delete_misses incr_hits incr_misses decr_hits decr_misses cas_hits cas_misses cas_badval touch_hits touch_misses evictions reclaimed bytes_read bytes_written limit_maxbytes curr_items total_items bytes hash_power_level hash_bytes") {
		if strings.Count(got, "STAT "+n+" ") != 1 {
			t.Errorf("%s is there %d times", n, strings.Count(got, "STAT "+n+" "))
		}
	}
	for _, want := range []string{"cmd_get 2\r", "cmd_set 1\r", "get_hits 1\r", "get_misses 1\r", "curr_items 1\r", "bytes 61\r"} {
		if !strings.Contains(got, "STAT "+want) {
			t.Errorf("no %q", want)
		}
	}
	items, _ := talk(s, "stats items\r\n", 100)
	slabs, _ := talk(s, "stats slabs\r\n", 100)
	for _, n := range strings.Fields("number number_hot number_warm number_cold age mem_requested evicted evicted_nonzero evicted_time outofmemory tailrepairs reclaimed expired_unfetched evicted_unfetched crawler_reclaimed direct_reclaims") {
		if strings.Count(items, "STAT items:1:"+n+" ") != 1 {
			t.Errorf("items: no %s", n)
		}
	}
	for _, n := range strings.Fields("chunk_size chunks_per_page total_pages total_chunks used_chunks free_chunks free_chunks_end get_hits cmd_set delete_hits incr_hits decr_hits cas_hits cas_badval touch_hits") {
		if strings.Count(slabs, "STAT 1:"+n+" ") != 1 {
			t.Errorf("slabs: no %s", n)
		}
	}
}
