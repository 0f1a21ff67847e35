package typical

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
	"osv/harness/load/dist"
	"osv/harness/load/mctext"
)

func items(t *testing.T) *mctext.Items {
	t.Helper()
	k, _ := dist.Parse("20")
	v, _ := dist.Parse("40")
	it, err := mctext.NewItems(50, k, v, 1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// gets is the server's side of gomemcache: it reads with "gets".
func server(t *testing.T, it *mctext.Items, spoil bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					f := strings.Fields(line)
					i, _ := it.Find([]byte(f[1]))
					if f[0] == "set" {
						n := 0
						fmt.Sscan(f[4], &n)
						r.Discard(n + 2)
						c.Write([]byte("STORED\r\n"))
						continue
					}
					switch {
					case spoil && i%3 == 0:
						c.Write([]byte("END\r\n"))
					case spoil && i%3 == 1:
						fmt.Fprintf(c, "VALUE %s 0 1 5\r\nx\r\nEND\r\n", f[1])
					default:
						fmt.Fprintf(c, "VALUE %s %d %d 5\r\n%s\r\nEND\r\n", f[1], mctext.Flags(i), len(it.Value(i, 0)), it.Value(i, 0))
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func spec(target string) load.Spec {
	return load.Spec{Kind: load.GoMemcache, Target: target, Conns: 4, SetRatio: 0.3, Warmup: load.Duration(20 * time.Millisecond),
		Duration: load.Duration(100 * time.Millisecond)}.WithDefaults()
}

func TestMeasures(t *testing.T) {
	it := items(t)
	r, rec, at, err := Run(context.Background(), spec(server(t, it, false)), it, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := r.Clean(); !ok || r.Completed < 50 || r.Hits == 0 || r.Hits == r.Completed || rec == nil || at.IsZero() || r.ClientCPU <= 0 {
		t.Errorf("%s %+v", why, r)
	}
}

func TestCountsMissesAndWrongValues(t *testing.T) {
	it := items(t)
	r, _, _, err := Run(context.Background(), spec(server(t, it, true)), it, nil)
	if err != nil || r.Misses == 0 || r.Wrong == 0 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestRefusals(t *testing.T) {
	it := items(t)
	open := spec("x")
	open.Mode = load.Open
	if _, _, _, err := Run(context.Background(), open, it, nil); err == nil {
		t.Error("open loop accepted")
	}
	if _, _, _, err := Run(context.Background(), spec(netip.MustParseAddrPort("127.0.0.1:1").String()), it, nil); err == nil {
		t.Error("no server accepted")
	}
	bad := spec(server(t, it, false))
	bad.Popularity = "odd"
	if _, _, _, err := Run(context.Background(), bad, it, nil); err == nil {
		t.Error("bad popularity accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, _, err := Run(ctx, spec(server(t, it, false)), it, nil); err == nil {
		t.Error("a cancelled run has a result")
	}
}
