package lint

import (
	"maps"
	"strings"
	"testing"
)

// banners of a small path that is right.
var rightPath = map[string]string{
	"kernel/drivers/nic/rx.go": `package nic

// Packet path, receive, step 1 of 3.
// From: the used ring.  To: net/demux/demux.go, by way of
// RxBatch.
// May not: block.

var X int
`,
	"kernel/drivers/other/rx.go": `package other

// Packet path, receive, step 1 of 3.
// From: the ring.  To: net/demux/demux.go.
// May not: block.
`,
	"kernel/net/demux/demux.go": `// Package demux.
//
// Packet path, receive, step 2 of 3.
// From: a driver (kernel/drivers/nic/rx.go).  To: tcp/input.go.
// May not: block.
//
// More text that names nothing.go.
package demux
`,
	"kernel/net/loop/rx.go": `package loop

// Packet path, receive, between steps 1 and 2 of 3: the loop.
// From: drivers/nic/rx.go.  To: demux/demux.go.
// May not: block.
`,
	"kernel/net/tcp/input.go": `package tcp

// Packet path, receive, last step.
// From: demux/demux.go.  To: the user.
// May not: block.
`,
	"kernel/net/tcp/plain.go": "package tcp\n\n// The packet path is elsewhere.\n",
}

func TestPacketPath(t *testing.T) {
	for _, test := range []struct {
		name, file, old, new string
		want                 string // in the first finding, "" = none
	}{
		{"right", "", "", "", ""},
		{"no such step", "kernel/net/demux/demux.go", "step 2 of 3", "step 4 of 3", "step 4 to 4 of 3"},
		{"steps in a row", "kernel/net/tcp/input.go", "last step", "steps 2 and 3 of 3", "From: demux/demux.go is step 2, this is step 2"},
		{"steps backwards", "kernel/net/tcp/input.go", "last step", "steps 3 and 2 of 3", "step 3 to 2 of 3"},
		{"two steps at once", "kernel/net/demux/demux.go", "step 2 of 3", "steps 2 and 3 of 3", ""},
		{"other length", "kernel/net/demux/demux.go", "step 2 of 3", "step 2 of 4", "has 4 steps here and 3 in"},
		{"other direction", "kernel/net/tcp/input.go", "receive, last", "transmit, last", "no file says how many steps the transmit path has"},
		{"no direction", "kernel/net/tcp/input.go", "receive, last", "sideways, last", "banner reads"},
		{"no place", "kernel/net/tcp/input.go", "last step", "somewhere", `banner says "somewhere."`},
		{"From is gone", "kernel/net/tcp/input.go", "demux/demux.go", "demux/classify.go", "From: there is no demux/classify.go"},
		{"To is gone", "kernel/net/demux/demux.go", "tcp/input.go", "udp/input.go", "To: there is no udp/input.go"},
		{"To goes back", "kernel/net/demux/demux.go", "To: tcp/input.go", "To: drivers/nic/rx.go", "To: drivers/nic/rx.go is step 1, this is step 2"},
		{"From is ahead", "kernel/drivers/nic/rx.go", "From: the used ring", "From: net/demux/demux.go", "From: net/demux/demux.go is step 2, this is step 1"},
		{"lines missing", "kernel/net/tcp/input.go", "// May not: block.\n", "", "lacks From:, To: and May not:"},
		{"step missing", "kernel/net/demux/demux.go", "step 2 of 3", "between steps 1 and 3 of 3", "warning: receive path has 3 steps, but no file is step 2"},
		{"does not parse", "kernel/net/demux/demux.go", "package demux", "package", "expected"},
	} {
		files := maps.Clone(rightPath)
		if test.file != "" {
			if files[test.file] = strings.Replace(files[test.file], test.old, test.new, 1); files[test.file] == rightPath[test.file] {
				t.Fatalf("%s: nothing to replace", test.name)
			}
		}
		wantFinding(t, test.name, PacketPath, tree(t, files), test.want)
	}
	files := maps.Clone(rightPath)
	files["kernel/net/demux/second.go"] = strings.Replace(files["kernel/net/demux/demux.go"], "// Package demux.\n", "// x\n", 1)
	wantFinding(t, "two files of a package", PacketPath, tree(t, files), "step 2 is also that of kernel/net/demux/demux.go")
}

// wantFinding runs a check and wants one finding that contains want, or none if
// want is empty.
func wantFinding(t *testing.T, name string, check func(string) (*Report, error), dir, want string) {
	t.Helper()
	r, err := check(dir)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	var all []string
	found := false
	for _, f := range r.Findings {
		all = append(all, f.String())
		found = found || strings.Contains(f.String(), want)
	}
	if want == "" && len(all) > 0 || want != "" && !found {
		t.Errorf("%s: found:\n%s\nwant: %q", name, strings.Join(all, "\n"), want)
	}
	if warn := strings.HasPrefix(want, "warning: "); want != "" && r.Failed() == warn {
		t.Errorf("%s: failed is %v", name, r.Failed())
	}
}
