package main

import (
	"bytes"
	"strings"
	"testing"

	"osv/kernel/linux/sys"
)

// Every call is served, or says what its lack costs.
func TestTableIsHonest(t *testing.T) {
	entries, err := table()
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 370 {
		t.Fatalf("%d calls", len(entries))
	}
	for _, e := range entries {
		if e.Level != sys.Full && e.Note == "" {
			t.Errorf("%d %s is %v without a note", e.Nr, e.Name, e.Level)
		}
	}
}

func TestPrint(t *testing.T) {
	entries, _ := table()
	var b bytes.Buffer
	print(&b, entries, false, false)
	if !strings.Contains(b.String(), "  0  read                     full") {
		t.Errorf("no line for read:\n%s", b.String()[:200])
	}
	b.Reset()
	print(&b, entries, true, true)
	if !strings.Contains(b.String(), "| 425 | io_uring_setup | none | ") || strings.Contains(b.String(), "| read |") {
		t.Error("the table of what is missing")
	}
}
