package rest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"osv/kernel/ktest/restcheck"
	"osv/kernel/rest/apps"
	"osv/kernel/rest/hosted"
	"osv/kernel/rest/machine"
)

const testToken = "correct-horse"

// testConfig is a server of this process, with an empty folder.
func testConfig(t testing.TB) Config {
	t.Helper()
	m, err := hosted.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m.System = endless{m.System, make(chan machine.Action, 1)}
	m.Apps = &apps.Runner{Commands: map[string]apps.Command{"echo": echo}}
	o := Defaults()
	o.Token = testToken
	o.Rate, o.ChangeRate = 0, 0
	return Config{Options: o, Machine: m, ProfileTimer: true}
}

// endless tells of an end, and goes on.
type endless struct {
	machine.System
	ended chan machine.Action
}

func (e endless) End(a machine.Action) (func(), error) {
	if _, err := e.System.End(a); err != nil {
		return nil, err
	}
	return func() { e.ended <- a }, nil
}

// served is a server that runs.
type served struct {
	*Server
	url   string
	ended chan machine.Action
	done  chan error
}

// serve starts a server on the loopback interface.
func serve(t testing.TB, cfg Config) *served {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &served{Server: s, url: "http://" + l.Addr().String(), done: make(chan error, 1)}
	if s.tls != nil {
		v.url = "https://" + l.Addr().String()
	}
	if e, ok := cfg.Machine.System.(endless); ok {
		v.ended = e.ended
	}
	go func() { v.done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-v.done; err != nil {
			t.Error(err)
		}
	})
	return v
}

// Each method of each path, as the document has it.
func TestAPI(t *testing.T) {
	s := serve(t, testConfig(t))
	restcheck.Run(t, restcheck.Target{URL: s.url, Token: testToken}, func(t *testing.T) restcheck.Target {
		f := serve(t, testConfig(t))
		return restcheck.Target{URL: f.url, Token: testToken, Client: &http.Client{}, Ended: func(t *testing.T, op string) {
			switch op {
			case "os_reboot": // a process cannot
			case "stop_api":
				err := <-f.done
				f.done <- err
				if err != nil {
					t.Error(err)
				}
			default:
				want := map[string]machine.Action{"os_shutdown": machine.Shutdown, "os_poweroff": machine.PowerOff}[op]
				if got := <-f.ended; got != want {
					t.Errorf("%s: action %d, want %d", op, got, want)
				}
			}
		}}
	})
}

func echo(_ context.Context, args []string, out io.Writer) error {
	_, err := fmt.Fprintln(out, strings.Join(args[1:], " "))
	return err
}
