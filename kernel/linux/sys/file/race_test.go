//go:build race

package file_test

// raceEnabled: the detector allocates by itself.
const raceEnabled = true
