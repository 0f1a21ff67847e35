//go:build race

package mm_test

// raceEnabled: a word that two threads of a program share is a race to the detector.
const raceEnabled = true
