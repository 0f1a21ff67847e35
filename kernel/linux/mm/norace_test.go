//go:build !race

package mm_test

const raceEnabled = false
