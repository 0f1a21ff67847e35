// Command syscalls prints the table of system calls: every number that Linux has, how
// far it is served, and what is missing. It is the table that the kernel dispatches by.
//
//	go run ./kernel/linux/cmd/syscalls             one line a call
//	go run ./kernel/linux/cmd/syscalls -markdown   for documents
//	go run ./kernel/linux/cmd/syscalls -none       those that are not served
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"

	"osv/kernel/linux/sock"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/sys/file"
	"osv/kernel/linux/sys/memory"
	"osv/kernel/linux/sys/net"
	"osv/kernel/linux/sys/proc"
)

func main() {
	markdown := flag.Bool("markdown", false, "print a Markdown table")
	none := flag.Bool("none", false, "print only what is not served in full")
	flag.Parse()
	entries, err := table()
	if err != nil {
		fmt.Fprintln(os.Stderr, "syscalls:", err)
		os.Exit(1)
	}
	w := bufio.NewWriter(os.Stdout)
	print(w, entries, *markdown, *none)
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "syscalls:", err)
		os.Exit(1)
	}
}

// table joins all topics.
func table() ([]sys.Entry, error) {
	t, err := sys.NewTable(sys.Options{}, proc.Calls, memory.Calls, file.Calls, net.Calls(&sock.Net{}))
	if err != nil {
		return nil, err
	}
	return t.Entries(), nil
}

func print(w io.Writer, entries []sys.Entry, markdown, less bool) {
	var n [sys.Full + 1]int
	row := "%3d  %-24s %-8s %s\n"
	if markdown {
		row = "| %d | %s | %s | %s |\n"
		fmt.Fprint(w, "| number | call | level | note |\n|--:|---|---|---|\n")
	}
	for _, e := range entries {
		n[e.Level]++
		if !less || e.Level != sys.Full {
			fmt.Fprintf(w, row, e.Nr, e.Name, e.Level, e.Note)
		}
	}
	fmt.Fprintf(w, "\n%d calls: %d full, %d partial, %d not served\n", len(entries), n[sys.Full], n[sys.Partial], n[sys.None])
}
