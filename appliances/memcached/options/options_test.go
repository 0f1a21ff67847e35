package options

import (
	"reflect"
	"strings"
	"testing"

	"osv/appliances/memcached/proto"
)

func none(string) string { return "" }

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want func(o *Options)
	}{
		{"", func(o *Options) {}},
		{"-p 11311 -U 11312", func(o *Options) { o.Port, o.UDPPort = 11311, 11312 }},
		{"-p11311 --udp-port=11312", func(o *Options) { o.Port, o.UDPPort = 11311, 11312 }},
		{"--port 11311", func(o *Options) { o.Port = 11311 }},
		{"-m 1024 -I 2m -c 10 -t 4", func(o *Options) { o.MemoryMB, o.ItemMax, o.MaxConns, o.Threads = 1024, 2<<20, 10, 4 }},
		{"-m all", func(o *Options) { o.MemoryMB = 0 }},
		{"-I 512k", func(o *Options) { o.ItemMax = 512 << 10 }},
		{"-I 4096", func(o *Options) { o.ItemMax = 4096 }},
		{"-vv", func(o *Options) { o.Verbose = 2 }},
		{"-v -v -v", func(o *Options) { o.Verbose = 3 }},
		{"-vM -C -FXA", func(o *Options) {
			o.Verbose, o.NoEvict, o.NoCAS, o.NoFlush, o.NoDump, o.Shutdown = 1, true, true, true, true, true
		}},
		{"-l 1.2.3.4,[::1]:99 -l host", func(o *Options) { o.Listen = []string{"1.2.3.4", "[::1]:99", "host"} }},
		{"-f 2 -n 100 -R 5 -b 10", func(o *Options) { o.Factor, o.MinChunk, o.ReqsPerEvent, o.Backlog = 2, 100, 5, 10 }},
		{"-B ascii", func(o *Options) { o.Protocol = proto.ASCII }},
		{"-B binary", func(o *Options) { o.Protocol = proto.Binary }},
		{"--protocol=auto", func(o *Options) {}},
		{"-s /tmp/x -a 750", func(o *Options) { o.UnixSocket, o.UnixMask = "/tmp/x", 0o750 }},
		{"-D / -L -P /tmp/pid", func(o *Options) { o.Delimiter, o.LargePages, o.PIDFile = '/', true, "/tmp/pid" }},
		{"-d -r -k -u nobody -W -N 3", func(o *Options) {}},
		{"-h", func(o *Options) { o.Help = true }},
		{"--version", func(o *Options) { o.Version = true }},
		{"-i", func(o *Options) { o.License = true }},
		{"-engine=batch -tap=t0 -tap-addr=10.1.0.2/16", func(o *Options) { o.Engine, o.Tap, o.TapAddr = Batch, "t0", "10.1.0.2/16" }},
		{"--engine channel -shards 8", func(o *Options) { o.Engine, o.Shards = Channel, 8 }},
		{"-o modern,lru_crawler,slab_reassign,hash_algorithm=murmur3", func(o *Options) {}},
		{"-o no_maxconns_fast,idle_timeout=30 -o lru_crawler_sleep=5", func(o *Options) { o.MaxConnsFast, o.IdleTimeout, o.CrawlerSleep = false, 30, 5 }},
		{"-o hot_lru_pct=10,warm_lru_pct=30,hot_max_factor=0.5,warm_max_factor=3", func(o *Options) { o.HotPct, o.WarmPct, o.HotFactor, o.WarmFactor = 10, 30, 0.5, 3 }},
		{"-o temporary_ttl=60,no_lru_crawler,no_lru_maintainer,track_sizes", func(o *Options) { o.TempTTL, o.NoCrawler, o.FlatLRU, o.TrackSizes = 60, true, true, true }},
		{"-o slab_automove=2,slab_chunk_max=256,hashpower=20,lru_crawler_tocrawl=7", func(o *Options) { o.Automove, o.ChunkMax, o.HashPower, o.Tocrawl = 2, 256<<10, 20, 7 }},
		{"-o no_slab_automove,slab_automove,maxconns_fast,,udp_amplification=10", func(o *Options) { o.UDPFactor = 10 }},
		{"-- ignored", func(o *Options) {}},
	} {
		want := Defaults()
		c.want(&want)
		got, err := Parse(strings.Fields(c.args), none)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", c.args, err, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for args, want := range map[string]string{
		"--bogus":                           "memcached: unrecognized option '--bogus'",
		"-Q":                                "memcached: invalid option -- 'Q'",
		"-p":                                "memcached: option requires an argument -- 'p'",
		"--port":                            "memcached: option '--port' requires an argument",
		"--help=3":                          "memcached: option '--help' doesn't allow an argument",
		"word":                              `memcached: unexpected argument "word"`,
		"-p abc":                            "-p abc: need a number from 0 to 65535",
		"-p 65536":                          "-p 65536: need a number from 0 to 65535",
		"-I 100":                            "Item max size cannot be less than 1024 bytes.",
		"-I 2000m -m 10000":                 "Cannot set item size limit higher than a gigabyte.",
		"-I 40m":                            "Cannot set item size limit higher than 1/2 of memory max.",
		"-I xm":                             "-I xm: need a number",
		"-t 0":                              "Number of threads must be greater than 0",
		"-f 0.5":                            "Factor must be greater than 1",
		"-n 0":                              "Chunk size must be greater than 0",
		"-c 0":                              "Maximum connections must be greater than 0",
		"-B foo":                            "Invalid value for binding protocol: foo",
		"-a 999":                            "-a 999: need an octal number",
		"-D ab":                             "-D ab: need one character",
		"-o foo":                            `Illegal suboption "foo"`,
		"-o idle_timeout":                   "Missing idle_timeout argument",
		"-o idle_timeout=x":                 "-o idle_timeout=x: need a number",
		"-o hot_max_factor=0":               "-o hot_max_factor=0: need a number above 0",
		"-o temporary_ttl=x":                "-o temporary_ttl=x: need",
		"-o slab_chunk_max=2048":            "-o slab_chunk_max=2048: need",
		"-o hot_lru_pct=50,warm_lru_pct=50": "hot_lru_pct + warm_lru_pct",
		"-o ext_path=/x":                    "memcached: -o ext_path is not supported",
		"-Z":                                "memcached: TLS (-Z) is not supported",
		"-S":                                "memcached: SASL (-S) is not supported",
		"-Y file":                           "memcached: authentication (-Y) is not supported",
		"-e file":                           "memcached: a restartable cache (-e) is not supported",
		"-engine=warp":                      "-engine warp: should be one of",
		"-engine=batch -s /x":               "-s /x: a UNIX socket needs -engine=socket",
		"-shards 3":                         "--shards 3: need a power of two",
		"-l 1.2.3.4:99999":                  `-l 1.2.3.4:99999: port "99999"`,
	} {
		_, err := Parse(strings.Fields(args), none)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
		if _, ok := err.(UsageError); !ok {
			t.Errorf("%s: %T", args, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{"MEMCACHED_MEMORY_LIMIT": "512", "MEMCACHED_UDP_PORT": "11211", "MEMCACHED_DISABLE_CAS": "1", "MEMCACHED_DISABLE_FLUSH_ALL": "no", "MEMCACHED_ENGINE": "batch"}
	o, err := Parse([]string{"-m", "128"}, func(k string) string { return env[k] })
	if err != nil || o.MemoryMB != 128 || o.UDPPort != 11211 || !o.NoCAS || o.NoFlush || o.Engine != Batch {
		t.Errorf("%+v %v", o, err)
	}
	env["MEMCACHED_PORT"] = "x"
	if _, err := Parse(nil, func(k string) string { return env[k] }); err == nil || !strings.HasPrefix(err.Error(), "MEMCACHED_PORT: ") {
		t.Errorf("%v", err)
	}
}

// TestHelpNamesEverything: each option that does something is in --help.
func TestHelpNamesEverything(t *testing.T) {
	h := HelpText()
	for _, o := range table {
		if o.help != "" && o.long != "" && !strings.Contains(h, o.long) {
			t.Errorf("help does not mention %s", o.long)
		}
	}
	for _, s := range suboptions {
		if !strings.Contains(h, "- "+s.name+":") {
			t.Errorf("help does not mention %s", s.name)
		}
	}
	for _, l := range strings.Split(h, "\n") {
		if len(l) > 110 {
			t.Errorf("line of %d: %s", len(l), l)
		}
	}
}

func TestSplitListen(t *testing.T) {
	for l, want := range map[string]struct {
		host string
		port int
	}{"": {"", 7}, "1.2.3.4": {"1.2.3.4", 7}, "1.2.3.4:8": {"1.2.3.4", 8}, "::1": {"::1", 7}, "[::1]": {"::1", 7}, "[::1]:8": {"::1", 8}, "notls:h:8": {"h", 8}} {
		h, p, err := SplitListen(l, 7)
		if h != want.host || p != want.port || err != nil {
			t.Errorf("%s: %q %d %v", l, h, p, err)
		}
	}
}
