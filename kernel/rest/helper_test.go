package rest

import (
	"testing"

	"osv/kernel/rest/hosted"
	"osv/kernel/rest/machine"
)

func mustFiles(t testing.TB, dir string) machine.Files {
	t.Helper()
	f, err := hosted.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// panicking is a network with a fault in it.
type panicking struct{}

func (panicking) Interfaces() ([]machine.Interface, error) { panic("boom") }
func (panicking) Routes() ([]machine.Route, error)         { panic("boom") }
