package rest

import (
	"strings"
)

func hwFlags(c *call) error      { return c.json(strings.Join(c.s.m.Hardware.Flags(), " ")) }
func hwCount(c *call) error      { return c.json(c.s.m.Hardware.CPUs()) }
func hwHypervisor(c *call) error { return c.json(c.s.m.Hardware.Hypervisor()) }

func hwProcessors(c *call) error { return c.json(list(c.s.m.Hardware.Processors())) }

func hwFirmware(c *call) error {
	v, err := c.s.m.Hardware.Firmware()
	if err != nil {
		return err
	}
	return c.json(v)
}

func hwDisks(c *call) error {
	d, err := c.s.m.Hardware.Disks()
	if err != nil {
		return err
	}
	return c.json(list(d))
}

// list makes an empty JSON list of a nil slice.
func list[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}
