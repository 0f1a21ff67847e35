package rest

import (
	"osv/kernel/rest/machine"
)

func runApp(c *call) error {
	if c.s.m.Apps == nil {
		return machine.Unavailable("this image runs no other programs")
	}
	id, err := c.s.m.Apps.Run(c.r.Context(), c.arg("command"))
	if err != nil {
		return err
	}
	return c.json(id)
}

// finishedApp answers with a string, as OSv does.
func finishedApp(c *call) error {
	if c.s.m.Apps == nil {
		return machine.Unavailable("this image runs no other programs")
	}
	if c.s.m.Apps.Finished(c.arg("tid")) {
		return c.json("true")
	}
	return c.json("false")
}

// noJVM answers the paths of OSv's Java plugin.
func noJVM(c *call) error { return machine.Unavailable("no JVM runs in this guest") }
