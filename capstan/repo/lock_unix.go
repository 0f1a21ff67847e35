//go:build unix

package repo

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile locks an open file against other processes; wait or fail.
func lockFile(f *os.File, wait bool) (unlock func(), err error) {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return func() { unix.Flock(int(f.Fd()), unix.LOCK_UN) }, nil //nolint:errcheck // the close that follows does it too
}
