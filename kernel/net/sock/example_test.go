package sock_test

import (
	"fmt"
	"io"
	"net/http"

	"osv/kernel/hw/dma"
	"osv/kernel/net/sock"
	"osv/kernel/net/stack"
)

// The standard library's HTTP on the kernel's own sockets.
func Example() {
	mem := &dma.Host{}
	s, err := stack.New(stack.Config{Mem: mem})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	n, err := sock.New(s, sock.Config{Mem: mem})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Close()
	l, err := n.Listen("tcp", ":80")
	if err != nil {
		fmt.Println(err)
		return
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s", r.Host)
	}))
	client := http.Client{Transport: &http.Transport{DialContext: n.DialContext, DisableKeepAlives: true}}
	resp, err := client.Get("http://localhost/")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	l.Close()
	fmt.Println(string(body), err)
	// Output: hello from localhost <nil>
}
