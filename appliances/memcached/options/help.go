package options

import (
	"fmt"
	"strings"

	"osv/appliances/memcached/proto"
)

// VersionText is what --version prints.
const VersionText = "memcached " + proto.Version

// LicenseText is what --license prints.
const LicenseText = "memcached-compatible cache of OSv in Go. Written from scratch; the licence is in\nthe file LICENSE of the source tree."

// HelpText is what --help prints, made from the tables.
func HelpText() string {
	var b strings.Builder
	b.WriteString(VersionText + " (OSv in Go)\n")
	for _, own := range []bool{false, true} {
		if own {
			b.WriteString("Of this appliance (one or two dashes):\n")
		}
		for _, t := range table {
			if t.help == "" || t.own != own {
				continue
			}
			var left string
			switch {
			case own:
				left = "-" + t.long
			case t.long == "":
				left = fmt.Sprintf("-%c", t.short)
			default:
				left = fmt.Sprintf("-%c, --%s", t.short, t.long)
			}
			if t.arg != "" {
				left += "=<" + t.arg + ">"
			}
			line(&b, left, t.help)
		}
	}
	b.WriteString("Extended options (-o):\n")
	for _, s := range suboptions {
		line(&b, "   - "+s.name+":", s.help)
	}
	b.WriteString("Each long option can also be set by the environment: MEMCACHED_MEMORY_LIMIT=512\n")
	var ign []string
	for _, t := range table {
		if t.help == "" && strings.HasPrefix(fmt.Sprint(t.set(&Options{}, "")), "<nil>") {
			ign = append(ign, fmt.Sprintf("-%c", t.short))
		}
	}
	b.WriteString("Accepted, without a meaning here: " + strings.Join(ign, " ") + "\n")
	return b.String()
}

func line(b *strings.Builder, left, help string) {
	const col = 32
	for i, h := range strings.Split(help, "\n") {
		if i > 0 {
			left = ""
		}
		if len(left) >= col {
			fmt.Fprintf(b, "%s\n%*s%s\n", left, col, "", h)
			continue
		}
		fmt.Fprintf(b, "%-*s%s\n", col, left, h)
	}
}
