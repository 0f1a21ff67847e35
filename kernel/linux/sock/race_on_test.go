//go:build race

package sock

import "testing"

// skipUnderRace leaves out what counts allocations: the detector makes pools forget.
func skipUnderRace(t *testing.T) { t.Skip("pools forget under the race detector") }
