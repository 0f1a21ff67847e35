package server

import (
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"osv/appliances/memcached/options"
	"osv/appliances/memcached/proto"
)

// moreStats adds what the server knows to `stats` and its sub-commands, in
// upstream's order and words; engine and what follows it are ours.
func (s *Server) moreStats(group string, add func(name, value string)) {
	switch group {
	case "":
		s.general(add)
	case "settings":
		s.settings(add)
	case "conns":
		s.connStats(add)
	}
}

func (s *Server) general(add func(name, value string)) {
	num := func(name string, v int64) { add(name, strconv.FormatInt(v, 10)) }
	num("pid", int64(os.Getpid()))
	num("uptime", s.store.Uptime())
	num("time", s.store.Unix())
	add("version", proto.Version)
	num("pointer_size", 64)
	user, system := cpuTime()
	add("rusage_user", fmt.Sprintf("%d.%06d", user/1e6, user%1e6))
	add("rusage_system", fmt.Sprintf("%d.%06d", system/1e6, system%1e6))
	num("max_connections", int64(s.opt.MaxConns))
	n, peak := s.conns.len()
	num("curr_connections", int64(n))
	num("total_connections", int64(s.stats.total.Load()))
	num("rejected_connections", int64(s.stats.rejected.Load()))
	num("connection_structures", int64(peak))
	num("idle_kicks", int64(s.stats.idleKicks.Load()))
	num("accepting_conns", 1)
	num("listen_disabled_num", int64(s.stats.listenDisabled.Load()))
	num("time_in_listen_disabled_us", s.stats.disabledNS.Load()/1e3)
	num("threads", int64(s.opt.Threads))
	add("engine", s.engine)
	num("shards", int64(s.store.NumShards()))
	num("reclaimed_bytes", int64(s.store.Shrunk()))
	num("udp_replies_dropped", int64(s.stats.udpDropped.Load()))
	// Without stopping the world, as this may be the receive loop.
	m := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(m)
	num("go_heap_bytes", int64(m[0].Value.Uint64()))
	num("go_gc_cycles", int64(m[1].Value.Uint64()))
}

func (s *Server) resetStats() {
	s.stats.total.Store(0)
	s.stats.rejected.Store(0)
	s.stats.idleKicks.Store(0)
	s.stats.udpDropped.Store(0)
	s.stats.listenDisabled.Store(0)
	s.stats.disabledNS.Store(0)
}

func (s *Server) settings(add func(name, value string)) {
	o := &s.opt
	num := func(name string, v int64) { add(name, strconv.FormatInt(v, 10)) }
	yes := func(name string, v bool) {
		if v {
			add(name, "yes")
		} else {
			add(name, "no")
		}
	}
	orNull := func(v string) string {
		if v == "" {
			return "NULL"
		}
		return v
	}
	num("maxbytes", int64(s.store.Limit()))
	num("maxconns", int64(o.MaxConns))
	num("tcpport", int64(o.Port))
	num("udpport", int64(o.UDPPort))
	add("inter", orNull(strings.Join(o.Listen, ",")))
	num("verbosity", int64(s.proto.Verbosity.Load()))
	num("oldest", 0)
	if o.NoEvict {
		add("evictions", "off")
	} else {
		add("evictions", "on")
	}
	add("domain_socket", orNull(o.UnixSocket))
	add("umask", strconv.FormatUint(uint64(o.UnixMask), 8))
	yes("shutdown_command", o.Shutdown)
	add("growth_factor", strconv.FormatFloat(o.Factor, 'f', 2, 64))
	num("chunk_size", int64(o.MinChunk))
	num("num_threads", int64(o.Threads))
	num("num_threads_per_udp", int64(o.Threads))
	add("stat_key_prefix", string(s.proto.Detail.Delimiter()))
	yes("detail_enabled", s.proto.Detail.On())
	num("reqs_per_event", int64(o.ReqsPerEvent))
	yes("cas_enabled", !o.NoCAS)
	num("tcp_backlog", int64(o.Backlog))
	add("binding_protocol", [...]string{"auto-negotiate", "ascii", "binary"}[o.Protocol])
	add("auth_enabled_sasl", "no")
	add("auth_enabled_ascii", "no")
	num("item_size_max", int64(o.ItemMax))
	yes("maxconns_fast", o.MaxConnsFast)
	num("hashpower_init", int64(o.HashPower))
	yes("slab_reassign", true)
	num("slab_automove", int64(s.proto.Automove.Load()))
	num("slab_chunk_max", int64(o.ChunkMax))
	yes("lru_crawler", s.store.CrawlerOn())
	num("lru_crawler_sleep", int64(s.proto.CrawlerSleep.Load()))
	num("lru_crawler_tocrawl", int64(s.proto.Tocrawl.Load()))
	num("tail_repair_time", 0)
	yes("flush_enabled", !o.NoFlush)
	yes("dump_enabled", !o.NoDump)
	add("hash_algorithm", "folded128")
	yes("lru_maintainer_thread", true)
	hot, warm, hf, wf, flat, ttl := s.store.LRU()
	yes("lru_segmented", !flat)
	num("hot_lru_pct", int64(hot))
	num("warm_lru_pct", int64(warm))
	add("hot_max_factor", strconv.FormatFloat(hf, 'f', 2, 64))
	add("warm_max_factor", strconv.FormatFloat(wf, 'f', 2, 64))
	yes("temp_lru", ttl >= 0)
	if ttl < 0 {
		ttl = 61
	}
	num("temporary_ttl", ttl)
	num("idle_timeout", int64(o.IdleTimeout))
	yes("track_sizes", o.TrackSizes)
	num("udp_amplification", int64(o.UDPFactor))
	add("engine", s.engine)
}

func (s *Server) connStats(add func(name, value string)) {
	now := int64(s.store.Now())
	s.conns.each(func(c *conn) {
		p := strconv.Itoa(c.id) + ":"
		network := "tcp"
		if s.opt.UnixSocket != "" {
			network = "unix"
		}
		add(p+"addr", network+":"+c.remote)
		add(p+"listen_addr", network+":"+c.local)
		add(p+"state", connState(c.state.Load()).String())
		add(p+"secs_since_last_cmd", strconv.FormatInt(now-c.last.Load(), 10))
	})
}

// Banner is what the server says when it is up.
func (s *Server) Banner() string {
	o := &s.opt
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d MB, item limit %d, %d threads, %d shards, engine %s", options.VersionText, s.store.Limit()>>20, o.ItemMax, o.Threads, s.store.NumShards(), s.engine)
	if o.Port != 0 {
		fmt.Fprintf(&b, ", TCP port %d", o.Port)
	}
	if o.UDPPort != 0 {
		fmt.Fprintf(&b, ", UDP port %d", o.UDPPort)
	}
	return b.String() + fmt.Sprintf(" (up after %v)", time.Since(s.started).Round(10*time.Microsecond))
}
