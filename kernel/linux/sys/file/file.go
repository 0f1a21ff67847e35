// Package file is the system calls of files, paths and descriptors: opening, reading
// and writing, names and attributes, fcntl and ioctl, pipes, events, and waiting for
// any number of files.
//
// Spec: Linux 6.1 (the order in which errors are found too) and man-pages 6.03,
// section 2. It decodes arguments, calls kernel/vfs and kernel/linux/fd, and encodes
// results. Who may use it: kernel/linux, which joins Calls into the table.
//
// Start reading at Calls, then rw.go.
package file

import "osv/kernel/linux/sys"

const (
	full    = sys.Full
	partial = sys.Partial
)

// Calls are the entries of this topic.
var Calls = []sys.Entry{
	// Reading and writing.
	{Nr: 0, Name: "read", Level: full, Fn: read, Sig: "fBu"},
	{Nr: 1, Name: "write", Level: full, Fn: write, Sig: "fbu"},
	{Nr: 8, Name: "lseek", Level: full, Fn: lseek, Sig: "flw"},
	{Nr: 17, Name: "pread64", Level: full, Fn: pread64, Sig: "fBul"},
	{Nr: 18, Name: "pwrite64", Level: full, Fn: pwrite64, Sig: "fbul"},
	{Nr: 19, Name: "readv", Level: full, Fn: readv, Sig: "fpd"},
	{Nr: 20, Name: "writev", Level: full, Fn: writev, Sig: "fpd"},
	{Nr: 295, Name: "preadv", Level: full, Fn: preadv, Sig: "fpdl"},
	{Nr: 296, Name: "pwritev", Level: full, Fn: pwritev, Sig: "fpdl"},
	{Nr: 327, Name: "preadv2", Level: partial, Note: "RWF_HIPRI does nothing, RWF_NOWAIT does not wait for pipes and sockets but may for a disk", Fn: preadv2, Sig: "fpdlxx"},
	{Nr: 328, Name: "pwritev2", Level: partial, Note: "as preadv2", Fn: pwritev2, Sig: "fpdlxx"},
	{Nr: 40, Name: "sendfile", Level: full, Fn: sendfile, Sig: "ffpu"},
	{Nr: 275, Name: "splice", Level: partial, Note: "pages are copied, not moved; SPLICE_F_MOVE, _MORE and _GIFT do nothing", Fn: splice, Sig: "fpfpux"},
	{Nr: 276, Name: "tee", Level: full, Fn: tee, Sig: "ffux"},
	{Nr: 278, Name: "vmsplice", Level: partial, Note: "copies", Fn: vmsplice, Sig: "fpux"},
	{Nr: 326, Name: "copy_file_range", Level: full, Fn: copyFileRange, Sig: "fpfpux"},

	// Opening and descriptors.
	{Nr: 2, Name: "open", Level: full, Fn: open, Sig: "som"},
	{Nr: 257, Name: "openat", Level: full, Fn: openat, Sig: "asom"},
	{Nr: 437, Name: "openat2", Level: full, Fn: openat2, Sig: "aspu"},
	{Nr: 85, Name: "creat", Level: full, Fn: creat, Sig: "sm"},
	{Nr: 3, Name: "close", Level: full, Fn: closeFile, Sig: "f"},
	{Nr: 436, Name: "close_range", Level: full, Fn: closeRange, Sig: "uux"},
	{Nr: 32, Name: "dup", Level: full, Fn: dup, Sig: "f"},
	{Nr: 33, Name: "dup2", Level: full, Fn: dup2, Sig: "ff"},
	{Nr: 292, Name: "dup3", Level: full, Fn: dup3, Sig: "ffo"},
	{Nr: 72, Name: "fcntl", Level: partial, Note: "no O_ASYNC signals, leases or directory notification; deadlocks of POSIX locks are found", Fn: fcntl, Sig: "fcx"},
	{Nr: 16, Name: "ioctl", Level: partial, Note: "FIONREAD, FIONBIO, FIOCLEX, terminals, and what each file knows", Fn: ioctl, Sig: "fix"},
	{Nr: 73, Name: "flock", Level: full, Fn: flock, Sig: "fx"},

	// Names.
	{Nr: 83, Name: "mkdir", Level: full, Fn: mkdir, Sig: "sm"},
	{Nr: 258, Name: "mkdirat", Level: full, Fn: mkdirat, Sig: "asm"},
	{Nr: 84, Name: "rmdir", Level: full, Fn: rmdir, Sig: "s"},
	{Nr: 87, Name: "unlink", Level: full, Fn: unlink, Sig: "s"},
	{Nr: 263, Name: "unlinkat", Level: full, Fn: unlinkat, Sig: "ast"},
	{Nr: 82, Name: "rename", Level: full, Fn: rename, Sig: "ss"},
	{Nr: 264, Name: "renameat", Level: full, Fn: renameat, Sig: "asas"},
	{Nr: 316, Name: "renameat2", Level: partial, Note: "no RENAME_WHITEOUT", Fn: renameat2, Sig: "asasx"},
	{Nr: 86, Name: "link", Level: full, Fn: link, Sig: "ss"},
	{Nr: 265, Name: "linkat", Level: full, Fn: linkat, Sig: "asast"},
	{Nr: 88, Name: "symlink", Level: full, Fn: symlink, Sig: "ss"},
	{Nr: 266, Name: "symlinkat", Level: full, Fn: symlinkat, Sig: "sas"},
	{Nr: 89, Name: "readlink", Level: full, Fn: readlink, Sig: "sBu"},
	{Nr: 267, Name: "readlinkat", Level: full, Fn: readlinkat, Sig: "asBu"},
	{Nr: 133, Name: "mknod", Level: full, Fn: mknod, Sig: "smx"},
	{Nr: 259, Name: "mknodat", Level: full, Fn: mknodat, Sig: "asmx"},
	{Nr: 78, Name: "getdents", Level: full, Fn: getdentsOld, Sig: "fpu"},
	{Nr: 217, Name: "getdents64", Level: full, Fn: getdents64, Sig: "fpu"},
	{Nr: 79, Name: "getcwd", Level: full, Fn: getcwd, Sig: "Bu"},
	{Nr: 80, Name: "chdir", Level: full, Fn: chdir, Sig: "s"},
	{Nr: 81, Name: "fchdir", Level: full, Fn: fchdir, Sig: "f"},
	{Nr: 161, Name: "chroot", Level: full, Fn: chroot, Sig: "s"},
	{Nr: 95, Name: "umask", Level: full, Fn: umask, Sig: "m"},
	{Nr: 165, Name: "mount", Level: partial, Note: "new file systems, bind and remount; propagation flags do nothing, no MS_MOVE", Fn: mount, Sig: "sssxp"},
	{Nr: 166, Name: "umount2", Level: partial, Note: "MNT_FORCE does not force, no MNT_EXPIRE", Fn: umount2, Sig: "sx"},

	// Attributes.
	{Nr: 4, Name: "stat", Level: full, Fn: stat, Sig: "sp"},
	{Nr: 5, Name: "fstat", Level: full, Fn: fstat, Sig: "fp"},
	{Nr: 6, Name: "lstat", Level: full, Fn: lstat, Sig: "sp"},
	{Nr: 262, Name: "newfstatat", Level: full, Fn: newfstatat, Sig: "aspt"},
	{Nr: 332, Name: "statx", Level: full, Fn: statx, Sig: "astxp"},
	{Nr: 137, Name: "statfs", Level: full, Fn: statfs, Sig: "sp"},
	{Nr: 138, Name: "fstatfs", Level: full, Fn: fstatfs, Sig: "fp"},
	{Nr: 21, Name: "access", Level: full, Fn: access, Sig: "sx"},
	{Nr: 269, Name: "faccessat", Level: full, Fn: faccessat, Sig: "asx"},
	{Nr: 439, Name: "faccessat2", Level: full, Fn: faccessat2, Sig: "asxt"},
	{Nr: 90, Name: "chmod", Level: full, Fn: chmod, Sig: "sm"},
	{Nr: 91, Name: "fchmod", Level: full, Fn: fchmod, Sig: "fm"},
	{Nr: 268, Name: "fchmodat", Level: full, Fn: fchmodat, Sig: "asm"},
	{Nr: 452, Name: "fchmodat2", Level: full, Fn: fchmodat2, Sig: "asmt"},
	{Nr: 92, Name: "chown", Level: full, Fn: chown, Sig: "sdd"},
	{Nr: 93, Name: "fchown", Level: full, Fn: fchown, Sig: "fdd"},
	{Nr: 94, Name: "lchown", Level: full, Fn: lchown, Sig: "sdd"},
	{Nr: 260, Name: "fchownat", Level: full, Fn: fchownat, Sig: "asddt"},
	{Nr: 280, Name: "utimensat", Level: full, Fn: utimensat, Sig: "aspt"},
	{Nr: 261, Name: "futimesat", Level: full, Fn: futimesat, Sig: "asp"},
	{Nr: 235, Name: "utimes", Level: full, Fn: utimesOld, Sig: "sp"},
	{Nr: 132, Name: "utime", Level: full, Fn: utime, Sig: "sp"},
	{Nr: 76, Name: "truncate", Level: full, Fn: truncate, Sig: "sl"},
	{Nr: 77, Name: "ftruncate", Level: full, Fn: ftruncate, Sig: "fl"},
	{Nr: 285, Name: "fallocate", Level: full, Fn: fallocate, Sig: "fxll"},
	{Nr: 188, Name: "setxattr", Level: full, Fn: byPath(setXattr, 0), Sig: "sspux"},
	{Nr: 189, Name: "lsetxattr", Level: full, Fn: byPath(setXattr, atSymlinkNofollow), Sig: "sspux"},
	{Nr: 190, Name: "fsetxattr", Level: full, Fn: byFD(setXattr), Sig: "fspux"},
	{Nr: 191, Name: "getxattr", Level: full, Fn: byPath(getXattr, 0), Sig: "sspu"},
	{Nr: 192, Name: "lgetxattr", Level: full, Fn: byPath(getXattr, atSymlinkNofollow), Sig: "sspu"},
	{Nr: 193, Name: "fgetxattr", Level: full, Fn: byFD(getXattr), Sig: "fspu"},
	{Nr: 194, Name: "listxattr", Level: full, Fn: byPath(listXattr, 0), Sig: "spu"},
	{Nr: 195, Name: "llistxattr", Level: full, Fn: byPath(listXattr, atSymlinkNofollow), Sig: "spu"},
	{Nr: 196, Name: "flistxattr", Level: full, Fn: byFD(listXattr), Sig: "fpu"},
	{Nr: 197, Name: "removexattr", Level: full, Fn: byPath(removeXattr, 0), Sig: "ss"},
	{Nr: 198, Name: "lremovexattr", Level: full, Fn: byPath(removeXattr, atSymlinkNofollow), Sig: "ss"},
	{Nr: 199, Name: "fremovexattr", Level: full, Fn: byFD(removeXattr), Sig: "fs"},

	// To the medium.
	{Nr: 74, Name: "fsync", Level: full, Fn: fsync, Sig: "f"},
	{Nr: 75, Name: "fdatasync", Level: full, Fn: fdatasync, Sig: "f"},
	{Nr: 162, Name: "sync", Level: full, Fn: syncAll},
	{Nr: 306, Name: "syncfs", Level: full, Fn: syncfs, Sig: "f"},
	{Nr: 277, Name: "sync_file_range", Level: partial, Note: "writes and waits for the whole file", Fn: syncFileRange, Sig: "fllx"},
	{Nr: 221, Name: "fadvise64", Level: partial, Note: "passed to files that make use of it, else nothing", Fn: fadvise64, Sig: "flld"},
	{Nr: 187, Name: "readahead", Level: partial, Note: "as fadvise64", Fn: readahead, Sig: "flu"},

	// Events.
	{Nr: 22, Name: "pipe", Level: full, Fn: pipe, Sig: "p"},
	{Nr: 293, Name: "pipe2", Level: full, Fn: pipe2, Sig: "po"},
	{Nr: 284, Name: "eventfd", Level: full, Fn: eventfd, Sig: "u"},
	{Nr: 290, Name: "eventfd2", Level: full, Fn: eventfd2, Sig: "uo"},
	{Nr: 283, Name: "timerfd_create", Level: full, Fn: timerfdCreate, Sig: "ko"},
	{Nr: 286, Name: "timerfd_settime", Level: partial, Note: "the clock is never set: TFD_TIMER_CANCEL_ON_SET cancels nothing", Fn: timerfdSettime, Sig: "fxpp"},
	{Nr: 287, Name: "timerfd_gettime", Level: full, Fn: timerfdGettime, Sig: "fp"},
	{Nr: 282, Name: "signalfd", Level: partial, Note: "poll and epoll wait for signals of the thread that made it", Fn: signalfd, Sig: "fpu"},
	{Nr: 289, Name: "signalfd4", Level: partial, Note: "as signalfd", Fn: signalfd4, Sig: "fpuo"},
	{Nr: 319, Name: "memfd_create", Level: partial, Note: "MFD_HUGETLB gives small pages; a file opened anew by /proc/self/fd knows no seals", Fn: memfdCreate, Sig: "sx"},
	{Nr: 253, Name: "inotify_init", Level: full, Fn: inotifyInit},
	{Nr: 294, Name: "inotify_init1", Level: full, Fn: inotifyInit1, Sig: "o"},
	{Nr: 254, Name: "inotify_add_watch", Level: full, Fn: inotifyAddWatch, Sig: "fsx"},
	{Nr: 255, Name: "inotify_rm_watch", Level: full, Fn: inotifyRmWatch, Sig: "fd"},

	// Waiting.
	{Nr: 7, Name: "poll", Level: full, Fn: pollCall, Sig: "pud"},
	{Nr: 271, Name: "ppoll", Level: full, Fn: ppoll, Sig: "puppu"},
	{Nr: 23, Name: "select", Level: full, Fn: selectOld, Sig: "dpppp"},
	{Nr: 270, Name: "pselect6", Level: full, Fn: pselect6, Sig: "dppppp"},
	{Nr: 213, Name: "epoll_create", Level: full, Fn: epollCreate, Sig: "d"},
	{Nr: 291, Name: "epoll_create1", Level: full, Fn: epollCreate1, Sig: "o"},
	{Nr: 233, Name: "epoll_ctl", Level: full, Fn: epollCtl, Sig: "fefp"},
	{Nr: 232, Name: "epoll_wait", Level: full, Fn: epollWait, Sig: "fpdd"},
	{Nr: 281, Name: "epoll_pwait", Level: full, Fn: epollPwait, Sig: "fpddpu"},
	{Nr: 441, Name: "epoll_pwait2", Level: full, Fn: epollPwait2, Sig: "fpdppu"},
}
