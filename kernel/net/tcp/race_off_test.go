//go:build !race

package tcp

// raceEnabled: nothing in this package runs beside anything else, so the slow
// tests are left out where each step costs ten times as much.
const raceEnabled = false
