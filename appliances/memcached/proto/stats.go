package proto

import (
	"fmt"
	"strconv"

	"osv/appliances/memcached/store"
)

// Statistics. The names and their order are upstream's, as exporters read them;
// what has no meaning here is left out rather than made up.

// adder takes one statistic.
type adder func(name, value string)

func (a adder) num(name string, v uint64) { a(name, strconv.FormatUint(v, 10)) }

// stats answers the text command.
func (c *Conn) stats(o *Out) {
	t := &c.tok
	add := func(name, value string) {
		o.str("STAT ")
		o.str(name)
		o.str(" ")
		o.str(value)
		o.str("\r\n")
	}
	if t.n == 1 {
		c.srv.general(add)
		o.str(rEnd)
		return
	}
	switch string(t.get(1)) {
	case "reset":
		c.srv.resetStats()
		o.str("RESET\r\n")
	case "detail":
		arg := ""
		if t.n > 2 {
			arg = string(t.get(2))
		}
		c.statsDetail(arg, o)
	case "cachedump":
		c.cachedump(o)
	default:
		if !c.srv.group(string(t.get(1)), add) {
			o.str(rError)
			return
		}
		o.str(rEnd)
	}
}

// binStats answers the binary STAT: one response per statistic, then an empty
// one.
func (c *Conn) binStats(key []byte, o *Out) {
	add := func(name, value string) { c.binReply(o, 0, []byte(name), []byte(value)) }
	switch g := string(key); {
	case g == "":
		c.srv.general(add)
	case g == "reset":
		c.srv.resetStats()
	case len(g) >= 6 && g[:6] == "detail":
		switch g {
		case "detail dump":
			c.binReply(o, 0, key, []byte(c.srv.Detail.dump()))
		case "detail on":
			c.srv.Detail.on.Store(true)
		case "detail off":
			c.srv.Detail.on.Store(false)
		default:
			c.binError(o, binKeyNotFound)
			return
		}
	case !c.srv.group(g, add):
		c.binError(o, binKeyNotFound)
		return
	}
	c.binReply(o, 0, nil, nil)
}

func (c *Conn) statsDetail(arg string, o *Out) {
	d := &c.srv.Detail
	switch arg {
	case "on", "off":
		d.on.Store(arg == "on")
		o.str(rOK)
	case "dump":
		o.str(d.dump())
	default:
		o.str("CLIENT_ERROR usage: stats detail on|off|dump\r\n")
	}
}

func (s *Server) resetStats() {
	s.Store.ResetStats()
	s.Detail.reset()
	if s.StatsReset != nil {
		s.StatsReset()
	}
}

// group adds the statistics of a sub-command; false where there is none of that
// name.
func (s *Server) group(name string, add adder) bool {
	switch name {
	case "items":
		s.items(add)
	case "slabs":
		s.slabs(add)
	case "sizes":
		s.sizes(add)
	case "sizes_enable", "sizes_disable":
		s.sizesOn.Store(name == "sizes_enable")
		if name == "sizes_enable" {
			add("sizes_status", "enabled")
		} else {
			add("sizes_status", "disabled")
		}
	case "settings", "conns":
		if s.MoreStats != nil {
			s.MoreStats(name, add)
		}
	default:
		return false
	}
	return true
}

func (s *Server) general(add adder) {
	in := s.Store.Info()
	if s.MoreStats != nil {
		s.MoreStats("", add)
	}
	n := adder(add).num
	n("cmd_get", in.GetHits+in.GetMisses)
	n("cmd_set", in.Total.SetCmds)
	n("cmd_flush", in.User[countFlush])
	n("cmd_touch", in.TouchCmds)
	n("cmd_meta", in.User[countMeta])
	n("get_hits", in.GetHits)
	n("get_misses", in.GetMisses)
	n("get_expired", in.GetExpired)
	n("get_flushed", in.GetFlushed)
	n("delete_misses", in.DeleteMisses)
	n("delete_hits", in.Total.DeleteHits)
	n("incr_misses", in.IncrMisses)
	n("incr_hits", in.Total.IncrHits)
	n("decr_misses", in.DecrMisses)
	n("decr_hits", in.Total.DecrHits)
	n("cas_misses", in.CASMisses)
	n("cas_hits", in.Total.CASHits)
	n("cas_badval", in.Total.CASBadval)
	n("touch_hits", in.Total.TouchHits)
	n("touch_misses", in.TouchMisses)
	n("store_too_large", in.TooLarge)
	n("store_no_memory", in.NoMemory)
	n("auth_cmds", 0)
	n("auth_errors", 0)
	n("bytes_read", in.User[countBytesRead])
	n("bytes_written", in.User[countBytesWritten])
	n("limit_maxbytes", uint64(in.Limit))
	n("hash_power_level", uint64(in.HashPower))
	n("hash_bytes", uint64(in.IndexBytes))
	n("hash_is_expanding", b2u(in.Growing))
	n("slab_reassign_evictions_nomem", in.PageEvictions)
	n("slabs_moved", in.PagesMoved)
	n("lru_crawler_running", b2u(in.CrawlerRunning))
	n("lru_crawler_starts", in.CrawlerStarts)
	n("lru_maintainer_juggles", in.MaintainerJuggles)
	n("malloc_fails", in.GrowFailed)
	n("bytes", uint64(in.Bytes))
	n("curr_items", uint64(in.Items))
	n("total_items", in.TotalItems)
	n("slab_global_page_pool", uint64(in.FreePages))
	n("expired_unfetched", in.Total.ExpiredUnfetched)
	n("evicted_unfetched", in.Total.EvictedUnfetched)
	n("evicted_active", in.Total.EvictedActive)
	n("evictions", in.Total.Evicted)
	n("reclaimed", in.Total.Reclaimed)
	n("crawler_reclaimed", in.Total.CrawlerReclaimed)
	n("crawler_items_checked", in.Total.CrawlerItemsChecked)
	n("moves_to_cold", in.Total.MovesToCold)
	n("moves_to_warm", in.Total.MovesToWarm)
	n("moves_within_lru", in.Total.MovesWithinLRU)
	n("direct_reclaims", in.Total.DirectReclaims)
	n("udp_replies_capped", in.User[countUDPCapped])
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (s *Server) items(add adder) {
	for _, ci := range s.Store.Info().Classes {
		if ci.NumItems() == 0 {
			continue
		}
		p := fmt.Sprintf("items:%d:", ci.Class)
		n := func(name string, v uint64) { adder(add).num(p+name, v) }
		n("number", uint64(ci.NumItems()))
		n("number_hot", uint64(ci.Items[0]))
		n("number_warm", uint64(ci.Items[1]))
		n("number_cold", uint64(ci.Items[2]))
		if ci.Items[3] > 0 {
			n("number_temp", uint64(ci.Items[3]))
		}
		n("age_hot", uint64(ci.Age[0]))
		n("age_warm", uint64(ci.Age[1]))
		n("age", uint64(ci.Age[2]))
		n("mem_requested", uint64(ci.Requested))
		n("evicted", ci.Evicted)
		n("evicted_nonzero", ci.EvictedNonzero)
		n("evicted_time", ci.EvictedTime)
		n("outofmemory", ci.OutOfMemory)
		n("tailrepairs", 0)
		n("reclaimed", ci.Reclaimed)
		n("expired_unfetched", ci.ExpiredUnfetched)
		n("evicted_unfetched", ci.EvictedUnfetched)
		n("evicted_active", ci.EvictedActive)
		n("crawler_reclaimed", ci.CrawlerReclaimed)
		n("crawler_items_checked", ci.CrawlerItemsChecked)
		n("lrutail_reflocked", 0)
		n("moves_to_cold", ci.MovesToCold)
		n("moves_to_warm", ci.MovesToWarm)
		n("moves_within_lru", ci.MovesWithinLRU)
		n("direct_reclaims", ci.DirectReclaims)
		n("hits_to_hot", ci.Hits[0])
		n("hits_to_warm", ci.Hits[1])
		n("hits_to_cold", ci.Hits[2])
		n("hits_to_temp", ci.Hits[3])
	}
}

func (s *Server) slabs(add adder) {
	in := s.Store.Info()
	for _, ci := range in.Classes {
		p := fmt.Sprintf("%d:", ci.Class)
		n := func(name string, v uint64) { adder(add).num(p+name, v) }
		n("chunk_size", uint64(ci.ChunkSize))
		n("chunks_per_page", uint64(ci.PerPage))
		n("total_pages", uint64(ci.Pages))
		n("total_chunks", uint64(ci.Pages*ci.PerPage))
		n("used_chunks", uint64(ci.Used))
		n("free_chunks", uint64(ci.Free))
		n("free_chunks_end", 0)
		n("get_hits", ci.GetHits())
		n("cmd_set", ci.SetCmds)
		n("delete_hits", ci.DeleteHits)
		n("incr_hits", ci.IncrHits)
		n("decr_hits", ci.DecrHits)
		n("cas_hits", ci.CASHits)
		n("cas_badval", ci.CASBadval)
		n("touch_hits", ci.TouchHits)
	}
	adder(add).num("active_slabs", uint64(len(in.Classes)))
	adder(add).num("total_malloced", uint64(in.Pages)<<20)
}

// sizes makes the histogram when it is asked for, by walking the items.
func (s *Server) sizes(add adder) {
	if !s.sizesOn.Load() {
		add("sizes_status", "disabled")
		return
	}
	for i, n := range s.Store.Sizes() {
		if n > 0 {
			adder(add).num(strconv.Itoa(i*store.SizeStep), n)
		}
	}
}
