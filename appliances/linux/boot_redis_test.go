//go:build boot

package main

import (
	"regexp"
	"strings"
	"testing"

	"osv/harness/rootfs"
)

// TestBootRedis: redis-benchmark's tests, and what is on the disk after snapshots and
// logs by forked children, a shutdown and another boot.
func TestBootRedis(t *testing.T) {
	s := describe(t, "linux-redis")
	disk := makeDisk(t, s)
	tool := fromDisk(t, disk)
	g := boot(t, s, disk)
	g.waitPort("6379")
	cli := func(g *guest, args ...string) string {
		t.Helper()
		return strings.TrimSpace(g.must(tool("redis-cli", append([]string{"-h", g.addr}, args...)...)...))
	}
	if got := cli(g, "ping"); got != "PONG" {
		t.Fatalf("ping: %q", got)
	}
	for _, args := range []string{"-n 2000 -c 20 -q", "-n 5000 -c 50 -P 16 -q -t set,get,incr,lpush,sadd,zadd -r 1000", "-n 500 -d 10000 -q -t set,get"} {
		out := g.must(tool("redis-benchmark", append([]string{"-h", g.addr}, strings.Fields(args)...)...)...)
		rates := regexp.MustCompile(`(?m)([A-Z_]+[^:\r\n]*): ([\d.]+) requests per second`).FindAllStringSubmatch(out, -1)
		if len(rates) < 2 || strings.Contains(out, "Error") || strings.Contains(out, "ERR ") {
			t.Errorf("redis-benchmark %s: %d results\n%s", args, len(rates), out)
		}
		t.Logf("redis-benchmark %s: %d operations", args, len(rates))
	}
	g.healthy()
}

// waitInfo asks INFO until field has value.
func waitInfo(g *guest, cli func(*guest, ...string) string, field, value string) {
	g.t.Helper()
	for range 3000 {
		for _, l := range strings.Fields(cli(g, "info", "persistence")) {
			if l == field+":"+value {
				return
			}
		}
	}
	g.t.Fatalf("never %s:%s\n%s", field, value, cli(g, "info", "persistence"))
}

func TestBootRedisPersistence(t *testing.T) {
	s := describe(t, "linux-redis")
	s.Files = append(s.Files, rootfs.File{Dst: "/etc/redis/keep.conf", Text: "bind 0.0.0.0\nprotected-mode no\ndir /var/lib/redis\n" +
		"save 3600 1\nappendonly yes\nappendfsync always\nenable-debug-command yes\n"})
	s.Run = []string{"/usr/bin/redis-server", "/etc/redis/keep.conf"}
	disk := makeDisk(t, s)
	tool := fromDisk(t, disk)
	cli := func(g *guest, args ...string) string {
		g.t.Helper()
		return strings.TrimSpace(g.must(tool("redis-cli", append([]string{"-h", g.addr}, args...)...)...))
	}
	g := boot(t, s, disk)
	g.waitPort("6379")
	cli(g, "debug", "populate", "20000", "key", "100")
	if got := cli(g, "save"); got != "OK" {
		t.Errorf("save: %q", got)
	}
	g.must(tool("redis-benchmark", "-h", g.addr, "-q", "-n", "2000", "-c", "10", "-r", "500", "-t", "set,lpush,sadd,hset,zadd")...)
	cli(g, "bgsave")
	cli(g, "set", "during", "the snapshot")
	waitInfo(g, cli, "rdb_bgsave_in_progress", "0")
	waitInfo(g, cli, "rdb_last_bgsave_status", "ok")
	cli(g, "bgrewriteaof")
	waitInfo(g, cli, "aof_rewrite_in_progress", "0")
	waitInfo(g, cli, "aof_last_bgrewrite_status", "ok")
	cli(g, "set", "last", "words")
	size, digest := cli(g, "dbsize"), cli(g, "debug", "digest")
	g.healthy()
	g.run(tool("redis-cli", "-h", g.addr, "shutdown", "nosave")...) //nolint:errcheck // the connection ends without an answer
	g.ends(0)
	clean(t, disk)

	g = boot(t, s, disk)
	g.waitPort("6379")
	waitInfo(g, cli, "loading", "0")
	if got := cli(g, "get", "last"); got != "words" {
		t.Errorf("after another boot: %q", got)
	}
	if s, d := cli(g, "dbsize"), cli(g, "debug", "digest"); s != size || d != digest || s == "0" {
		t.Errorf("after another boot: %s keys, digest %s; were %s, %s", s, d, size, digest)
	}
	// Without a farewell: what was answered is on the disk (appendfsync always).
	cli(g, "set", "sudden", "end")
	g.healthy()
	g.Kill()

	g = boot(t, s, disk)
	g.waitPort("6379")
	waitInfo(g, cli, "loading", "0")
	if got := cli(g, "get", "sudden"); got != "end" {
		t.Errorf("after a power cut: %q", got)
	}
	g.healthy()
}
