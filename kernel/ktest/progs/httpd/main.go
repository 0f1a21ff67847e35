// Command httpd is the standard library's HTTP server, unmodified, on the guest's
// own sockets: port 80. Clients of the host test TCP and sockets with it.
//
//	GET /n/N      N and a newline, N at most 20 digits
//	GET /bytes/N  N octets of "x", N up to 1 GiB
//	POST /echo    the body
//	GET /memory   what the guest's memory and connections are, as JSON;
//	              with ?gc after a collection
//
// With the build tag hosted it is the same server for Linux: the bench compares the
// two systems under it.
//
//boot:skip a server; harness/cmd/soak drives it
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
)

// memory is the answer to GET /memory. Sizes are in bytes; those of the machine are 0
// on Linux.
type memory struct {
	Total      uint64 `json:"total"`      // RAM that the kernel manages
	Free       uint64 `json:"free"`       // of it
	LeastFree  uint64 `json:"least_free"` // since boot
	HeapInUse  uint64 `json:"heap_in_use"`
	HeapIdle   uint64 `json:"heap_idle"` // without objects, of it given back:
	Released   uint64 `json:"heap_released"`
	StackInUse uint64 `json:"stack_in_use"`
	Goroutines int    `json:"goroutines"`
	Conns      int64  `json:"conns"`    // open at the server
	Accepted   int64  `json:"accepted"` // since boot
	Requests   int64  `json:"requests"`
}

const maxBody = 1 << 30

var open, accepted, requests atomic.Int64

func main() {
	l, err := listen(":80")
	if err != nil {
		fmt.Fprintln(os.Stderr, "httpd:", err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /n/{n}", number)
	mux.HandleFunc("GET /bytes/{n}", octets)
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("GET /memory", showMemory)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			mux.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				open.Add(1)
				accepted.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
	}
	fmt.Println("httpd: ready")
	fmt.Fprintln(os.Stderr, "httpd:", srv.Serve(l))
	os.Exit(1)
}

func number(w http.ResponseWriter, r *http.Request) {
	n := r.PathValue("n")
	if _, err := strconv.ParseUint(n, 10, 64); err != nil || len(n) > 20 {
		http.Error(w, "not a number", http.StatusBadRequest)
		return
	}
	io.WriteString(w, n+"\n")
}

var block = []byte(strings.Repeat("x", 32<<10))

func octets(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n > maxBody {
		http.Error(w, "not a size", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	for n > 0 {
		m, err := w.Write(block[:min(n, len(block))])
		if err != nil {
			return
		}
		n -= m
	}
}

func showMemory(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("gc") {
		debug.FreeOSMemory()
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	m := memory{
		HeapInUse: ms.HeapInuse, HeapIdle: ms.HeapIdle, Released: ms.HeapReleased, StackInUse: ms.StackInuse,
		Goroutines: runtime.NumGoroutine(), Conns: open.Load(), Accepted: accepted.Load(), Requests: requests.Load(),
	}
	m.machine()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(m)
}
