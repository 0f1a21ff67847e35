//go:build boot

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"osv/harness/image"
	"osv/harness/vm"
)

// TestBootMemory boots the appliance as it comes with 48 MiB, fills the cache, and
// then makes the Go heap need most of that memory: 250 connections, each with 32 KiB
// of a command that does not end. The cache must give memory back instead of the
// guest running out of it, and go on serving.
//
//	go test -tags boot -run TestBootMemory ./appliances/memcached
func TestBootMemory(t *testing.T) {
	elf := filepath.Join(t.TempDir(), "memcached.elf")
	if err := image.Build(".", elf); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	nic, err := vm.ParseNIC(fmt.Sprintf("user,fwd=tcp:127.0.0.1:%d-:11211", port))
	if err != nil {
		t.Fatal(err)
	}
	v, err := vm.Start(t.Context(), vm.Spec{CPUs: 1, MemMiB: 48, Kernel: elf, RNG: true, NICs: []vm.NIC{nic}}, vm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Kill()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	say(t, addr, "version\r\n", "VERSION 1.6.18\r\n")

	const items, conns, part = 30000, 250, 32 << 10
	nc := dial(t, addr)
	value := strings.Repeat("x", 1000)
	w := bufio.NewWriterSize(nc, 64<<10)
	for i := range items {
		fmt.Fprintf(w, "set k%d 0 0 1000 noreply\r\n%s\r\n", i, value)
	}
	fmt.Fprintf(w, "get k%d\r\n", items-1)
	if err := w.Flush(); err != nil {
		t.Fatal(err, v.Tail(20))
	}
	want := fmt.Sprintf("VALUE k%d 0 1000\r\n%s\r\nEND\r\n", items-1, value)
	if got := make([]byte, len(want)); true {
		if _, err := io.ReadFull(nc, got); err != nil || string(got) != want {
			t.Fatalf("%v: %.60q\n%s", err, got, v.Tail(20))
		}
	}
	full := counts(t, addr)
	if full["evictions"] == 0 || full["limit_maxbytes"] >= 48<<20 {
		t.Errorf("full: %d evictions, limit %d", full["evictions"], full["limit_maxbytes"])
	}

	open := make([]net.Conn, conns)
	for i := range open {
		open[i] = dial(t, addr)
		if _, err := io.WriteString(open[i], "get "+strings.Repeat("none ", part/5)); err != nil {
			t.Fatalf("connection %d: %v\n%s", i, err, v.Tail(20))
		}
	}
	for i, c := range open {
		got := make([]byte, 5)
		io.WriteString(c, "\r\n")
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "END\r\n" {
			t.Fatalf("connection %d: %q, %v\n%s", i, got, err, v.Tail(20))
		}
	}
	now := counts(t, addr)
	if gave := now["reclaimed_bytes"] - full["reclaimed_bytes"]; gave < conns*part/2 || now["curr_items"] == 0 {
		t.Errorf("the cache gave %d bytes and has %d items of %d", gave, now["curr_items"], full["curr_items"])
	}
	t.Logf("limit %d of %d, heap %d", now["limit_maxbytes"], full["limit_maxbytes"], now["go_heap_bytes"])
	say(t, addr, "set after 0 0 1\r\ny\r\nget after\r\n", "VALUE after 0 1\r\ny\r\n")
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(2 * time.Minute))
	return nc
}

// counts are the numbers in the guest's statistics.
func counts(t *testing.T, addr string) map[string]int {
	t.Helper()
	nc := dial(t, addr)
	io.WriteString(nc, "stats\r\nquit\r\n")
	out, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int{}
	for _, l := range strings.Split(string(out), "\r\n") {
		if f := strings.Fields(l); len(f) == 3 {
			m[f[1]], _ = strconv.Atoi(f[2])
		}
	}
	return m
}
