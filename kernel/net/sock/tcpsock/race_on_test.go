//go:build race

package tcpsock

const raceEnabled = true
