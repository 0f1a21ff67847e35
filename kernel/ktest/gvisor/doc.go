// Package gvisor joins the project's TCP with that of gVisor, which others have
// written from the same documents, over a wire that a seed makes bad. What two
// ends of one make believe about each other shows here.
//
// It is a module of its own, so that the project does not depend on gVisor:
// `go test ./...` at the top does not see it. It holds tests only. Run it by
//
//	cd kernel/ktest/gvisor && go test -race .
//
// Start reading at pair_test.go; world_test.go has the two stacks and the wire.
package gvisor
