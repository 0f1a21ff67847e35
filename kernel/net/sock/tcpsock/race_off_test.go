//go:build !race

package tcpsock

// raceEnabled says that the race detector slows everything down: tests of scale do
// less then.
const raceEnabled = false
