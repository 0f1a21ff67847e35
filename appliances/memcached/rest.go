//go:build rest

package main

import (
	"fmt"

	"osv/kernel/platform"
	"osv/kernel/platform/manage"
)

// managed starts the management API where --rest asks for it. Only images built with
// -tags rest have it: it would double the size of the others.
func managed(sys *platform.System) error {
	if _, err := manage.Start(sys, manage.Config{}); err != nil {
		return fmt.Errorf("memcached: %w", err)
	}
	return nil
}
