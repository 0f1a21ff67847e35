//go:build race

package fd

// raceEnabled: the detector allocates by itself.
const raceEnabled = true
