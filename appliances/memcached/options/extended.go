package options

import (
	"fmt"
	"strconv"
	"strings"
)

// suboption is one -o option.
type suboption struct {
	name string
	help string
	own  bool
	set  func(o *Options, v string) error
}

func real(f func(o *Options) *float64) func(*Options, string) error {
	return func(o *Options, v string) error {
		x, err := strconv.ParseFloat(v, 64)
		if err != nil || !(x > 0) || x > 1e9 {
			return fmt.Errorf("need a number above 0")
		}
		*f(o) = x
		return nil
	}
}

var suboptions = []suboption{
	{"maxconns_fast", "immediately close new connections after limit (default)", false, flag(func(o *Options) { o.MaxConnsFast = true })},
	{"no_maxconns_fast", "let them wait", false, flag(func(o *Options) { o.MaxConnsFast = false })},
	{"idle_timeout", "timeout in seconds for idle connections (default: 0, none)", false, integer(func(o *Options) *int { return &o.IdleTimeout }, 0, big)},
	{"no_lru_crawler", "do not look for expired items in the background", false, flag(func(o *Options) { o.NoCrawler = true })},
	{"lru_crawler_sleep", "microseconds to sleep between steps of it (default: 100)", false, integer(func(o *Options) *int { return &o.CrawlerSleep }, 0, 1000000)},
	{"lru_crawler_tocrawl", "accepted; the crawler divides its work by time", false, integer(func(o *Options) *int { return &o.Tocrawl }, 0, big)},
	{"no_lru_maintainer", "one LRU list per slab class", false, flag(func(o *Options) { o.FlatLRU = true })},
	{"hot_lru_pct", "pct of slab memory to reserve for hot lru (default: 20)", false, integer(func(o *Options) *int { return &o.HotPct }, 1, 79)},
	{"warm_lru_pct", "pct of slab memory to reserve for warm lru (default: 40)", false, integer(func(o *Options) *int { return &o.WarmPct }, 1, 79)},
	{"hot_max_factor", "items idle > cold lru age * drop from hot lru (default: 0.20)", false, real(func(o *Options) *float64 { return &o.HotFactor })},
	{"warm_max_factor", "items idle > cold lru age * this drop from warm (default: 2.00)", false, real(func(o *Options) *float64 { return &o.WarmFactor })},
	{"temporary_ttl", "TTLs up to this get a separate LRU that is not evicted", false, func(o *Options, v string) error {
		var n int
		if err := number(&n, v, 0, big); err != nil {
			return err
		}
		o.TempTTL = int64(n)
		return nil
	}},
	{"slab_chunk_max", "maximum chunk size in kilobytes (default: 512)", false, func(o *Options, v string) error {
		if err := number(&o.ChunkMax, v, 1, 1024); err != nil {
			return err
		}
		o.ChunkMax <<= 10
		return nil
	}},
	{"slab_automove", "move pages between slab classes: 0, 1 or 2 (default: 1)", false, func(o *Options, v string) error {
		if v == "" {
			v = "1"
		}
		return number(&o.Automove, v, 0, 2)
	}},
	{"no_slab_automove", "do not", false, flag(func(o *Options) { o.Automove = 0 })},
	{"track_sizes", `enable "stats sizes"`, false, flag(func(o *Options) { o.TrackSizes = true })},
	{"hashpower", "accepted; the table grows as needed", false, integer(func(o *Options) *int { return &o.HashPower }, 0, 64)},
	{"udp_amplification", "UDP replies to senders without a TCP connection are at most this\nmany times the request (default: 0, no limit)", true, integer(func(o *Options) *int { return &o.UDPFactor }, 0, 1<<20)},
}

// Accepted without a meaning here: what they tune does not exist or is always so.
var ignoredSuboptions = map[string]bool{
	"modern": true, "no_modern": true, "lru_crawler": true, "lru_maintainer": true,
	"slab_reassign": true, "no_slab_reassign": true, "slab_automove_ratio": true,
	"slab_automove_window": true, "slab_automove_freeratio": true, "hash_algorithm": true,
	"tail_repair_time": true, "watcher_logbuf_size": true, "worker_logbuf_size": true,
	"read_buf_mem_limit": true, "resp_obj_mem_limit": true, "no_hashexpand": true,
	"hashexpand": true, "inline_ascii_resp": true, "no_inline_ascii_resp": true,
	"no_chunked_items": true, "sock_cookie_id": true, "drop_privileges": true,
	"no_drop_privileges": true, "relaxed_privileges": true, "meta_response_old": true,
	"no_track_sizes": true,
}

// extended takes a list of -o options.
func (o *Options) extended(list string) error {
next:
	for _, s := range strings.Split(list, ",") {
		name, v, has := strings.Cut(s, "=")
		if name == "" {
			continue
		}
		if ignoredSuboptions[name] {
			continue
		}
		if strings.HasPrefix(name, "ext_") || strings.HasPrefix(name, "ssl_") || strings.HasPrefix(name, "proxy_") {
			return usagef("memcached: -o %s is not supported by this appliance", name)
		}
		for i := range suboptions {
			so := &suboptions[i]
			if so.name != name {
				continue
			}
			if err := so.set(o, v); err != nil {
				if !has {
					return usagef("Missing %s argument", name)
				}
				return usagef("-o %s: %v", s, err)
			}
			continue next
		}
		return usagef("Illegal suboption \"%s\"", s)
	}
	return nil
}
