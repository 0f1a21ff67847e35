//go:build !rest

package main

import "osv/kernel/platform"

// managed does nothing: this image has no management API (-tags rest has).
func managed(*platform.System) error { return nil }
