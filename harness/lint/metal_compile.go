package lint

import (
	"bufio"
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

// What the compiler says of an allocation (cmd/compile/internal/escape) and of a
// write barrier (cmd/compile/internal/ssagen, -d=wb=1).
var (
	remark       = regexp.MustCompile(`^(.+?\.go):(\d+):(?:\d+:)? (.*)$`)
	allocates    = regexp.MustCompile(`escapes to heap|moved to heap`)
	writeBarrier = "write barrier"
)

// compile reports what the compiler would put on the heap and where it would
// write a pointer through a barrier.
func (m Metal) compile(r *Report, pkgs []*metalPkg) error {
	out, err := m.goCommand("build", append(m.Flags, "-gcflags="+metalPath+"...=-m -d=wb=1", metalDirs)...)
	if err != nil {
		return err
	}
	exempt := map[string]map[int]string{}
	used := map[string]map[int]bool{}
	for _, p := range pkgs {
		for file, lines := range p.exempt {
			exempt[file], used[file] = lines, map[int]bool{}
		}
	}
	remarks := 0
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		parts := remark.FindStringSubmatch(s.Text())
		if parts == nil {
			continue
		}
		remarks++
		file, text := strings.TrimPrefix(parts[1], "./"), parts[3]
		line, _ := strconv.Atoi(parts[2])
		if !allocates.MatchString(text) && text != writeBarrier {
			continue
		}
		if _, ok := exempt[file][line]; ok {
			used[file][line] = true
			continue
		}
		if text == writeBarrier {
			text = "write barrier: a pointer is stored where the garbage collector would want to know"
		}
		r.add(file, line, "%s (say why at the end of the line, %q, if it must be)", text, exemption+" reason")
	}
	// Silence from the compiler must mean that there is nothing, not that the
	// flags no longer do what they did.
	if remarks == 0 {
		r.add("", 0, "go build -gcflags=-m says nothing at all about kernel/metal: the check sees nothing")
	}
	for file, lines := range exempt {
		for line, reason := range lines {
			if reason == "" {
				r.add(file, line, "%q without a reason", exemption)
			}
			if !used[file][line] {
				r.add(file, line, "%q on a line that does not allocate", exemption)
			}
		}
	}
	r.note("compiler: %d packages, %d remarks read", len(pkgs), remarks)
	return nil
}
