package programs

import (
	"fmt"
	"strings"

	"osv/kernel/platform"
)

// options are what the kernel's command line says of the program.
var options Program

func init() {
	platform.Extend(platform.Extension{
		Usage: `Linux programs:

  --root=DISK               disk with the program's files (blk0, blk1, …): ext4, or a
                            tar archive that is unpacked into memory; the first disk
                            without it
  --strace                  print every system call of the program
  --hostname=NAME           name of the node; "osv" without it
`,
		Set: set,
	})
}

func set(word string) (known bool, err error) {
	name, value, has := strings.Cut(word, "=")
	switch name {
	case "--strace":
		if has {
			return true, fmt.Errorf("option --strace takes no value, has %q", value)
		}
		options.Strace = true
		return true, nil
	case "--root":
		options.Root = value
	case "--hostname":
		options.Hostname = value
	default:
		return false, nil
	}
	if value == "" {
		return true, fmt.Errorf("option %s needs a value (%s=…)", name, name)
	}
	return true, nil
}

// FromOptions is the program that the command line asks for: its own arguments, with
// the environment that is given and the least that programs rely on.
func FromOptions(o platform.Options, argv []string) Program {
	p := options
	p.Argv, p.Cwd, p.Env = argv, o.Cwd, environment(o.Env)
	return p
}

func environment(given []string) []string {
	env := append([]string(nil), given...)
	for _, d := range []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux"} {
		name, _, _ := strings.Cut(d, "=")
		found := false
		for _, e := range given {
			found = found || strings.HasPrefix(e, name+"=")
		}
		if !found {
			env = append(env, d)
		}
	}
	return env
}
