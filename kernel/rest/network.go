package rest

import (
	"osv/kernel/rest/machine"
)

func interfaces(c *call) ([]machine.Interface, error) {
	if c.s.m.Network == nil {
		return nil, machine.Unavailable("this machine has no network")
	}
	return c.s.m.Network.Interfaces()
}

func listIfconfig(c *call) error {
	l, err := interfaces(c)
	if err != nil {
		return err
	}
	return c.json(list(l))
}

func getIfconfig(c *call) error {
	l, err := interfaces(c)
	if err != nil {
		return err
	}
	for _, i := range l {
		if i.Config.Name == c.arg("intf") {
			return c.json(i)
		}
	}
	return errorf(404, "there is no interface %s", c.arg("intf"))
}

func getRoute(c *call) error {
	if c.s.m.Network == nil {
		return machine.Unavailable("this machine has no network")
	}
	l, err := c.s.m.Network.Routes()
	if err != nil {
		return err
	}
	return c.json(list(l))
}
