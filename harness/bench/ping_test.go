package bench

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func TestWaitReply(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var d net.Dialer
	if _, err := WaitReply(ctx, d.DialContext, "tcp:80", "tcp", "127.0.0.1:1", nil); err == nil || !strings.Contains(err.Error(), "no reply on tcp:80") {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("220 not memcached\r\n"))
			c.Close()
		}
	}()
	if _, err := WaitReply(context.Background(), d.DialContext, "tcp:5201", "tcp", l.Addr().String(), nil); err != nil {
		t.Error(err)
	}
	if err := ping(context.Background(), d.DialContext, "tcp:11211", "tcp", l.Addr().String(), time.Second); err == nil {
		t.Error("a server of something else is taken for memcached")
	}
}
