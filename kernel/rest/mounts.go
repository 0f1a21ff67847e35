package rest

import (
	"strings"

	"osv/kernel/rest/machine"
)

func fileSystems(c *call) ([]machine.FileSystem, error) {
	if c.s.m.Mounts == nil {
		return nil, machine.Unavailable("this machine has no file systems")
	}
	return c.s.m.Mounts.FileSystems()
}

func listDF(c *call) error {
	l, err := fileSystems(c)
	if err != nil {
		return err
	}
	return c.json(list(l))
}

// getDF answers with a list, as OSv does: several file systems may have been mounted
// over each other.
func getDF(c *call) error {
	l, err := fileSystems(c)
	if err != nil {
		return err
	}
	mount := "/" + strings.Trim(c.arg("mount"), "/")
	var out []machine.FileSystem
	for _, f := range l {
		if f.Mount == mount {
			out = append(out, f)
		}
	}
	if out == nil {
		return errorf(404, "there is no file system mounted at %s", mount)
	}
	return c.json(out)
}
