package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"--help", 0, "usage: xdpload [flags] INTERFACE"},
		{"", 2, "usage:"},
		{"a b", 2, "usage:"},
		{"-port 70000 lo", 2, "-settle"},
		{"-what", 2, "not defined: -what"},
		{"no-such-card", 1, "xdpload: xdpcache: interface no-such-card: "},
		{"-settle 3s lo", 1, "settle 3s: want"},
	} {
		var out, errOut bytes.Buffer
		if got := run(strings.Fields(c.args), &out, &errOut); got != c.status || !strings.Contains(errOut.String(), c.want) || out.Len() > 0 {
			t.Errorf("%s: status %d, %s%s; want %d, %s", c.args, got, &out, &errOut, c.status, c.want)
		}
	}
}
