package rest

import (
	"strings"

	"osv/kernel/rest/machine"
)

func env(c *call) (machine.Env, error) {
	if c.s.m.Env == nil {
		return nil, machine.Unavailable("this machine has no environment")
	}
	return c.s.m.Env, nil
}

func listEnv(c *call) error {
	e, err := env(c)
	if err != nil {
		return err
	}
	return c.json(list(e.List()))
}

func getEnv(c *call) error {
	e, err := env(c)
	if err != nil {
		return err
	}
	v, ok := e.Lookup(c.arg("var"))
	if !ok {
		return errorf(400, "there is no environment variable %s", c.arg("var"))
	}
	return c.json(v)
}

// validVariable keeps out what setenv(3) does.
func validVariable(name string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return errorf(400, "parameter var: %q is not a name", name)
	}
	return nil
}

func setEnv(c *call) error {
	e, err := env(c)
	if err != nil {
		return err
	}
	if err := validVariable(c.arg("var")); err != nil {
		return err
	}
	if strings.IndexByte(c.arg("val"), 0) >= 0 {
		return errorf(400, "parameter val has a NUL")
	}
	if err := e.Set(c.arg("var"), c.arg("val")); err != nil {
		return err
	}
	return c.done()
}

func unsetEnv(c *call) error {
	e, err := env(c)
	if err != nil {
		return err
	}
	if err := validVariable(c.arg("var")); err != nil {
		return err
	}
	if err := e.Unset(c.arg("var")); err != nil {
		return err
	}
	return c.done()
}
