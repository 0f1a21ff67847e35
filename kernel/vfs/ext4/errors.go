package ext4

import (
	"fmt"
	"syscall"

	"osv/kernel/trace"
)

var log = trace.For("ext4")

// corrupt reports what the medium should not hold, makes the file system read-only
// and returns EUCLEAN, which is what Linux calls EFSCORRUPTED. ino and block are 0
// where they say nothing.
func (fs *fileSystem) corrupt(ino uint32, block uint64, format string, a ...any) error {
	where := ""
	if ino != 0 {
		where += fmt.Sprintf("inode %d: ", ino)
	}
	if block != 0 {
		where += fmt.Sprintf("block %d: ", block)
	}
	fs.fail(ino, block, where+fmt.Sprintf(format, a...))
	return syscall.EUCLEAN
}

func (fs *fileSystem) ioError(op string, n int, off int64, err error) {
	fs.report(fmt.Sprintf("%s of %d bytes at byte %d (block %d): %v", op, n, off, off>>fs.sb.blockShift, err))
}

// fail makes the file system read-only for good and notes it on the medium, so that
// e2fsck looks at it.
func (fs *fileSystem) fail(ino uint32, block uint64, msg string) {
	if fs.probing {
		fs.report(msg) // Mount fails by itself
		return
	}
	if fs.failed.Swap(true) || fs.readOnly.Load() {
		fs.report(msg)
		return
	}
	fs.readOnly.Store(true)
	fs.report(msg + "; the file system is read-only now")
	fs.noteError(ino, block)
}

// report writes a message, the first ones of a file system only: a broken one could
// go on for ever.
func (fs *fileSystem) report(msg string) {
	switch n := fs.reports.Add(1); {
	case n < 20:
		fs.warn(fs.name + ": " + msg)
	case n == 20:
		fs.warn(fs.name + ": " + msg + "; further messages are left out")
	}
}

// writable is nil where changes are taken.
func (fs *fileSystem) writable() error {
	if fs.readOnly.Load() {
		return syscall.EROFS
	}
	return nil
}
