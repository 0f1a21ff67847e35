package repo

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFile locks an open file against other processes; wait or fail. The range is
// beyond any end, so that the data stays readable.
func lockFile(f *os.File, wait bool) (unlock func(), err error) {
	flags := uint32(windows.LOCKFILE_EXCLUSIVE_LOCK)
	if !wait {
		flags |= windows.LOCKFILE_FAIL_IMMEDIATELY
	}
	at := func() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }
	if err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, at()); err != nil {
		return nil, err
	}
	return func() { windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, at()) }, nil //nolint:errcheck // the close that follows does it too
}
