// Command http runs the standard library's HTTP server and client against each
// other over an in-memory listener, with keep-alive and concurrent clients.
//
//boot:want ^http: ok
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	_ "osv/kernel/metal/boot"
)

// pipeListener hands one end of a net.Pipe to Accept for each dial.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func main() {
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	srv := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			a, b := net.Pipe()
			l.conns <- b
			return a, nil
		},
	}}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				want := strings.Repeat(fmt.Sprintf("%d.%d ", w, i), 1+i*10)
				resp, err := client.Post("http://guest/echo", "text/plain", strings.NewReader(want))
				if err != nil {
					fmt.Println("http:", err)
					os.Exit(1)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != want || resp.StatusCode != 200 {
					fmt.Println("http: status", resp.Status, "got", len(got), "bytes, want", len(want), err)
					os.Exit(1)
				}
			}
		})
	}
	wg.Wait()
	if resp, err := client.Get("http://guest/none"); err != nil || resp.StatusCode != 404 {
		fmt.Println("http: want 404:", resp, err)
		os.Exit(1)
	}
	srv.Shutdown(context.Background())
	if err := <-served; err != http.ErrServerClosed {
		fmt.Println("http: Serve:", err)
		os.Exit(1)
	}
	fmt.Println("http: ok")
}
