package tcpsock

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"testing"
)

// exampleTB lets examples use the tests' world.
type exampleTB struct{ testing.TB }

func (exampleTB) Helper()        {}
func (exampleTB) Cleanup(func()) {}
func (exampleTB) Fatal(a ...any) { panic(fmt.Sprint(a...)) }
func (exampleTB) Error(a ...any) { fmt.Println(a...) }

func (w *world) closeExample() {
	for _, h := range w.host {
		h.Close()
	}
	for _, s := range w.stack {
		s.Close()
	}
	w.net.Close()
}

// lines answers each line with the same in upper case, in the receive loop.
type lines struct{}

func (lines) Data(f *Flow, p []byte) int {
	done := 0
	for {
		n := bytes.IndexByte(p[done:], '\n') + 1
		if n == 0 || f.Room() < n {
			return done // the rest of the line is to come, or room for the answer
		}
		f.Write(bytes.ToUpper(p[done : done+n]))
		done += n
	}
}

func (lines) End(f *Flow, err error) { f.Close() }

func ExampleHost_Serve() {
	w := newWorld(exampleTB{}, worldConfig{})
	defer w.closeExample()
	_, err := w.host[1].Serve(netip.MustParseAddrPort("10.0.0.2:7"), ListenConfig{}, func(*Flow) Handler { return lines{} })
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := w.host[0].Dial(context.Background(), netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.2:7"))
	if err != nil {
		fmt.Println(err)
		return
	}
	io.WriteString(c, "first\nsec")
	io.WriteString(c, "ond\n")
	c.CloseWrite()
	answer, _ := io.ReadAll(c)
	fmt.Printf("%s", answer)
	c.Close()
	// Output:
	// FIRST
	// SECOND
}
