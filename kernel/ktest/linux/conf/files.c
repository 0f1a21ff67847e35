/* Files: open, read, write, seek, names, attributes. */
#include "conf.h"

CASE(file_open_flags)
{
	R(open("none", O_RDONLY));
	F(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644));
	R(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644));
	R(open("f", O_RDONLY | O_DIRECTORY));
	R(open("f/x", O_RDONLY));
	R(open(".", O_WRONLY));
	R(open("", O_RDONLY));
	R(open((char *)8, O_RDONLY));
	Q(symlink("f", "l"));
	R(open("l", O_RDONLY | O_NOFOLLOW));
	F(open("l", O_PATH | O_NOFOLLOW));
	R(open("new/", O_WRONLY | O_CREAT, 0644));
}

CASE(file_modes)
{
	struct stat st;
	umask(027);
	close(Q(open("f", O_WRONLY | O_CREAT, 0666)));
	Q(stat("f", &st));
	out("mode %o", st.st_mode);
	Q(mkdir("d", 0777));
	Q(stat("d", &st));
	out("mode %o nlink %d", st.st_mode, (int)st.st_nlink);
	R(chmod("f", 04755));
	Q(stat("f", &st));
	out("mode %o", st.st_mode);
	R(fchmodat(AT_FDCWD, "none", 0, 0));
	R(chown("f", 5, 6));
	Q(stat("f", &st));
	out("mode %o owner %d:%d", st.st_mode, st.st_uid, st.st_gid);
}

CASE(file_read_write)
{
	char b[20] = {0};
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	R(write(fd, "hello world", 11));
	R(lseek(fd, 6, SEEK_SET));
	R(read(fd, b, 20));
	out("%s", b);
	R(read(fd, b, 20));
	R(read(fd, b, 0));
	R(pread(fd, b, 5, 0));
	R(pwrite(fd, "J", 1, 0));
	R(pread(fd, b, 5, 100));
	R(pread(fd, b, 5, -1));
	R(lseek(fd, 0, SEEK_CUR));
	R(write(fd, (void *)8, 3));
	R(read(fd, (void *)8, 0));
	int r = Q(open("f", O_RDONLY));
	R(write(r, "x", 1));
	R(ftruncate(r, 1));
	int w = Q(open("f", O_WRONLY));
	R(read(w, b, 1));
	show_file("f");
}

CASE(file_append)
{
	int a = Q(open("f", O_WRONLY | O_CREAT | O_APPEND, 0644));
	int b = Q(open("f", O_RDWR));
	R(write(a, "one", 3));
	R(write(b, "X", 1));
	R(write(a, "two", 3));
	R(lseek(a, 0, SEEK_CUR));
	R(pwrite(a, "end", 3, 0));
	R(fcntl(a, F_GETFL) & (O_APPEND | O_ACCMODE));
	R(fcntl(a, F_SETFL, 0));
	R(pwrite(a, "!", 1, 0));
	show_file("f");
}

CASE(file_seek)
{
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	R(lseek(fd, 1 << 20, SEEK_SET));
	R(write(fd, "x", 1));
	R(lseek(fd, -1, SEEK_END));
	R(lseek(fd, -5, SEEK_SET));
	R(lseek(fd, 0, 99));
	R(lseek(99, 0, SEEK_SET));
	R(lseek(fd, 1LL << 40, SEEK_SET));
	char b[8];
	R(read(fd, b, 8));
	int p[2];
	Q(pipe(p));
	R(lseek(p[0], 0, SEEK_SET));
	R(pread(p[0], b, 1, 0));
	R(lseek(fd, 0, SEEK_DATA) >= 0);
	R(lseek(fd, 1 << 21, SEEK_DATA));
	R(lseek(fd, 1 << 20, SEEK_HOLE));
}

CASE(file_vectors)
{
	char a[3], b[5], c[10];
	struct iovec w[] = {{"one", 3}, {"", 0}, {"twothree", 8}};
	struct iovec r[] = {{a, 3}, {b, 5}, {c, 10}};
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	R(writev(fd, w, 3));
	Q(lseek(fd, 0, SEEK_SET));
	R(readv(fd, r, 3));
	out("%.3s %.5s %.3s", a, b, c);
	R(preadv(fd, r, 2, 3));
	out("%.3s %.5s", a, b);
	R(pwritev(fd, w, 1, 2));
	R(writev(fd, w, -1));
	R(writev(fd, w, 1025));
	R(readv(fd, (void *)8, 1));
	struct iovec bad[] = {{a, 3}, {(void *)8, 5}};
	R(preadv(fd, bad, 2, 0));
	struct iovec huge[] = {{a, 3}, {b, -1UL}};
	R(readv(fd, huge, 2));
	show_file("f");
}

CASE(file_truncate)
{
	struct stat st;
	put_file("f", "hello world");
	R(truncate("f", 5));
	show_file("f");
	R(truncate("f", 8));
	Q(stat("f", &st));
	out("size %ld", (long)st.st_size);
	R(truncate("f", -1));
	R(truncate("none", 0));
	Q(mkdir("d", 0755));
	R(truncate("d", 0));
	close(Q(open("f", O_WRONLY | O_TRUNC)));
	Q(stat("f", &st));
	out("size %ld", (long)st.st_size);
}

CASE(file_fallocate)
{
	struct stat st;
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	R(fallocate(fd, 0, 0, 10000));
	Q(fstat(fd, &st));
	out("size %ld", (long)st.st_size);
	R(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000));
	Q(fstat(fd, &st));
	out("size %ld", (long)st.st_size);
	Q(pwrite(fd, "abcdefgh", 8, 4096));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4098, 3));
	char b[9] = {0};
	Q(pread(fd, b, 8, 4096));
	for (int i = 0; i < 8; i++)
		if (!b[i])
			b[i] = '.';
	out("%s", b);
	R(fallocate(fd, 0, -1, 1));
	R(fallocate(fd, 0, 0, 0));
	R(fallocate(99, 0, 0, 1));
	R(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	R(posix_fadvise(fd, 0, 0, 99));
	R(fsync(fd));
	R(fdatasync(fd));
	R(fsync(99));
	R(sync_file_range(fd, 0, 0, 2));
}

CASE(file_hardlinks)
{
	struct stat a, b;
	put_file("a", "x");
	R(link("a", "b"));
	R(link("a", "b"));
	R(link("none", "c"));
	Q(stat("a", &a));
	Q(stat("b", &b));
	out("same inode %d nlink %d", a.st_ino == b.st_ino, (int)a.st_nlink);
	Q(mkdir("d", 0755));
	R(link("d", "e"));
	R(unlink("a"));
	Q(stat("b", &b));
	out("nlink %d", (int)b.st_nlink);
	Q(symlink("b", "s"));
	R(linkat(AT_FDCWD, "s", AT_FDCWD, "t", 0));
	Q(lstat("t", &a));
	out("link to the link: %d", S_ISLNK(a.st_mode));
	R(linkat(AT_FDCWD, "s", AT_FDCWD, "u", AT_SYMLINK_FOLLOW));
	Q(lstat("u", &a));
	out("link to the file: %d", S_ISREG(a.st_mode));
}

CASE(file_symlinks)
{
	char b[100];
	R(symlink("target/of/it", "l"));
	R(symlink("x", "l"));
	R(symlink("", "e"));
	ssize_t n = readlink("l", b, sizeof b);
	out("%ld %.*s", (long)n, (int)n, b);
	R(readlink("l", b, 3));
	R(readlink("l", b, 0));
	put_file("f", "x");
	R(readlink("f", b, 10));
	R(readlink(".", b, 10));
	R(readlink("none", b, 10));
	R(readlink("f/x", b, 10));
	Q(symlink("loop", "loop"));
	R(open("loop", O_RDONLY));
	R(readlink("loop", b, 10));
	struct stat st;
	R(stat("l", &st));
	R(lstat("l", &st));
	out("size %ld", (long)st.st_size);
}

CASE(file_symlink_depth)
{
	char a[20], b[20];
	put_file("n0", "deep");
	for (int i = 1; i <= 42; i++) {
		snprintf(a, sizeof a, "n%d", i - 1);
		snprintf(b, sizeof b, "n%d", i);
		Q(symlink(a, b));
	}
	F(open("n40", O_RDONLY));
	R(open("n41", O_RDONLY));
}

CASE(file_unlink)
{
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	Q(write(fd, "still here", 10));
	R(unlink("f"));
	R(unlink("f"));
	char b[11] = {0};
	R(pread(fd, b, 10, 0));
	out("%s", b);
	struct stat st;
	Q(fstat(fd, &st));
	out("nlink %d", (int)st.st_nlink);
	Q(mkdir("d", 0755));
	R(unlink("d"));
	R(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
	R(unlink("/"));
	R(unlink("none/x"));
	char name[300];
	memset(name, 'n', sizeof name);
	name[299] = 0;
	R(unlink(name));
}

CASE(file_rename)
{
	put_file("a", "A");
	put_file("b", "B");
	R(rename("a", "b"));
	show_file("b");
	R(rename("a", "c"));
	Q(mkdir("d", 0755));
	Q(mkdir("d/e", 0755));
	R(rename("d", "d/e/f"));
	R(rename("b", "d"));
	R(rename("d", "b"));
	Q(mkdir("g", 0755));
	R(rename("g", "d"));
	R(rename("d/e", "g"));
	R(rename(".", "x"));
	R(renameat2(AT_FDCWD, "b", AT_FDCWD, "g", RENAME_NOREPLACE));
	put_file("h", "H");
	R(renameat2(AT_FDCWD, "b", AT_FDCWD, "h", RENAME_EXCHANGE));
	show_file("b");
	show_file("h");
	R(renameat2(AT_FDCWD, "b", AT_FDCWD, "none", RENAME_EXCHANGE));
	R(renameat2(AT_FDCWD, "b", AT_FDCWD, "h", 3));
}

CASE(file_mkdir)
{
	R(mkdir("d", 0755));
	R(mkdir("d", 0755));
	R(mkdir("d/e/", 0755));
	R(mkdir("x/y", 0755));
	R(rmdir("d"));
	R(rmdir("d/e"));
	R(rmdir("d/."));
	R(rmdir("d/.."));
	R(rmdir("d"));
	R(rmdir("d"));
	put_file("f", "");
	R(rmdir("f"));
	R(mkdir("f/g", 0755));
}

CASE(file_getdents)
{
	char n[20];
	Q(mkdir("d", 0755));
	for (int i = 0; i < 300; i++) {
		snprintf(n, sizeof n, "d/file%03d", i);
		put_file(n, "");
	}
	DIR *d = opendir("d");
	int count = 0, seen[300] = {0}, dots = 0;
	long tell = 0;
	struct dirent *e;
	char at[256] = "";
	while ((e = readdir(d))) {
		int k;
		if (sscanf(e->d_name, "file%d", &k) == 1) {
			seen[k]++;
			count++;
		} else
			dots++;
		if (count == 100 && !tell) {
			tell = telldir(d);
			e = readdir(d);
			strcpy(at, e->d_name);
			seekdir(d, tell);
		}
	}
	int once = 1;
	for (int i = 0; i < 300; i++)
		once &= seen[i] >= 1 && seen[i] <= 1;
	out("%d files, %d dots, each once %d", count, dots, once);
	seekdir(d, tell);
	e = readdir(d);
	out("same after seekdir %d", e && !strcmp(e->d_name, at));
	rewinddir(d);
	count = 0;
	while (readdir(d))
		count++;
	out("%d after rewind", count);
	closedir(d);
	int fd = Q(open("d", O_RDONLY | O_DIRECTORY));
	char b[16];
	R(syscall(SYS_getdents64, fd, b, 10));
	R(syscall(SYS_getdents64, 99, b, 10));
	R(read(fd, b, 1));
	put_file("f", "");
	int f = Q(open("f", O_RDONLY));
	R(syscall(SYS_getdents64, f, b, 16));
}

CASE(file_dirfd)
{
	Q(mkdir("d", 0755));
	int d = Q(open("d", O_RDONLY | O_DIRECTORY));
	F(openat(d, "f", O_WRONLY | O_CREAT, 0644));
	struct stat st;
	R(fstatat(d, "f", &st, 0));
	R(fstatat(d, "", &st, AT_EMPTY_PATH));
	out("dir %d", S_ISDIR(st.st_mode));
	R(fstatat(d, "", &st, 0));
	R(fstatat(99, "f", &st, 0));
	R(fstatat(99, "/", &st, 0));
	R(mkdirat(d, "e", 0755));
	R(unlinkat(d, "f", 0));
	R(symlinkat("x", d, "l"));
	R(fchdir(d));
	R(access("l", F_OK));
	R(faccessat(AT_FDCWD, "l", F_OK, AT_SYMLINK_NOFOLLOW));
	int f = Q(open("g", O_RDWR | O_CREAT, 0644));
	R(openat(f, "x", O_RDONLY));
	R(fchdir(f));
	R(fstatat(d, "g", &st, 0x40000));
}

CASE(file_getcwd)
{
	char b[4096], c[4096];
	Q(mkdir("deep", 0755));
	Q(chdir("deep"));
	out("ends with deep %d", getcwd(b, sizeof b) && strlen(b) > 5 && !strcmp(b + strlen(b) - 5, "/deep"));
	R(syscall(SYS_getcwd, c, 3));
	R(syscall(SYS_getcwd, c, sizeof c) == (long)strlen(b) + 1);
	Q(rmdir("../deep"));
	R(syscall(SYS_getcwd, c, sizeof c));
	R(mkdir("x", 0755));
	R(chdir(".."));
	R(chdir("none"));
	put_file("f", "");
	R(chdir("f"));
}

CASE(file_access)
{
	put_file("f", "x");
	Q(chmod("f", 0604));
	R(access("f", R_OK | W_OK));
	R(access("f", X_OK));
	R(access("none", F_OK));
	R(access("f", 8));
	R(access("f/x", F_OK));
	Q(setegid(1000));
	Q(seteuid(1000));
	R(access("f", W_OK));
	R(faccessat(AT_FDCWD, "f", W_OK, AT_EACCESS));
	R(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
	R(open("f", O_RDWR));
	F(open("f", O_RDONLY));
	R(open("new", O_WRONLY | O_CREAT, 0644));
	R(chmod("f", 0777));
	R(unlink("f"));
	R(chown("f", 1000, 1000));
}

CASE(file_sticky)
{
	Q(mkdir("d", 0777));
	Q(chmod("d", 01777));
	put_file("d/root", "x");
	Q(setresgid(1000, 1000, 1000));
	Q(setresuid(1000, 1000, 1000));
	R(unlink("d/root"));
	R(rename("d/root", "d/x"));
	F(open("d/mine", O_WRONLY | O_CREAT, 0644));
	R(unlink("d/mine"));
}

CASE(file_setgid_dir)
{
	struct stat st;
	Q(mkdir("d", 0755));
	Q(chown("d", 0, 77));
	Q(chmod("d", 02755));
	put_file("d/f", "");
	Q(mkdir("d/e", 0755));
	Q(stat("d/f", &st));
	out("file %o gid %d", st.st_mode, st.st_gid);
	Q(stat("d/e", &st));
	out("dir %o gid %d", st.st_mode, st.st_gid);
}

CASE(file_times)
{
	struct stat st;
	put_file("f", "x");
	struct timespec t[2] = {{1000, 5}, {2000, 7}};
	R(utimensat(AT_FDCWD, "f", t, 0));
	Q(stat("f", &st));
	out("atime %ld.%09ld mtime %ld.%09ld", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	t[0].tv_nsec = UTIME_OMIT;
	t[1].tv_nsec = UTIME_NOW;
	R(utimensat(AT_FDCWD, "f", t, 0));
	Q(stat("f", &st));
	out("atime %ld mtime is later %d", st.st_atim.tv_sec, st.st_mtim.tv_sec > 2000);
	t[0].tv_nsec = 1000000000;
	R(utimensat(AT_FDCWD, "f", t, 0));
	R(utimensat(AT_FDCWD, "none", 0, 0));
	int fd = Q(open("f", O_RDONLY));
	R(futimens(fd, 0));
	Q(symlink("f", "l"));
	t[0] = t[1] = (struct timespec){3, 0};
	R(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW));
	Q(lstat("l", &st));
	out("link %ld", st.st_mtim.tv_sec);
	struct timespec before;
	Q(utimensat(AT_FDCWD, "f", t, 0));
	Q(stat("f", &st));
	before = st.st_ctim;
	sleep_ms(20);
	Q(chmod("f", 0600));
	Q(stat("f", &st));
	out("ctime moves %d", st.st_ctim.tv_sec > before.tv_sec || st.st_ctim.tv_nsec > before.tv_nsec);
}

CASE(file_statx)
{
	struct statx x;
	put_file("f", "12345");
	R(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
	out("mode %o size %lld nlink %u mask %x", x.stx_mode, (long long)x.stx_size, x.stx_nlink, x.stx_mask & STATX_BASIC_STATS);
	R(statx(AT_FDCWD, "none", 0, STATX_BASIC_STATS, &x));
	R(statx(AT_FDCWD, "", AT_EMPTY_PATH, STATX_MODE, &x));
	out("dir %d", S_ISDIR(x.stx_mode));
	R(statx(AT_FDCWD, "f", 0x10000, 0, &x));
	R(statx(AT_FDCWD, "f", 0, 0x80000000, &x));
	R(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, (void *)8));
}

CASE(file_dup)
{
	int a = Q(open("f", O_RDWR | O_CREAT, 0644));
	int b = Q(dup(a));
	Q(write(a, "ab", 2));
	Q(write(b, "cd", 2));
	show_file("f");
	R(dup2(a, 50));
	R(dup2(a, a) == a);
	R(dup3(a, a, 0));
	R(dup3(a, 51, O_CLOEXEC));
	R(fcntl(51, F_GETFD));
	R(fcntl(50, F_GETFD));
	R(fcntl(a, F_DUPFD, 60));
	R(fcntl(a, F_DUPFD_CLOEXEC, 60));
	R(fcntl(61, F_GETFD));
	R(dup(99));
	R(dup2(99, 5));
	R(dup2(a, 1 << 30));
	R(close(b));
	R(close(b));
	R(fcntl(b, F_GETFL));
	R(syscall(SYS_close_range, 50, 70, 0));
	R(fcntl(50, F_GETFD));
}

CASE(file_lowest_fd)
{
	int a = Q(open("/", O_RDONLY)), b = Q(open("/", O_RDONLY)), c = Q(open("/", O_RDONLY));
	Q(close(b));
	R(open("/", O_RDONLY) == b);
	Q(close(a));
	Q(close(c));
	R(dup(0) == a);
	R(dup(0) == c);
}

CASE(file_fcntl)
{
	int fd = Q(open("f", O_RDWR | O_CREAT | O_NONBLOCK, 0644));
	R(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND));
	R(fcntl(fd, F_SETFL, O_APPEND));
	R(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND));
	R(fcntl(fd, F_SETFD, FD_CLOEXEC));
	R(fcntl(fd, F_GETFD));
	R(fcntl(fd, 9999));
	R(fcntl(99, F_GETFD));
	R(fcntl(fd, F_DUPFD, -1));
	R(ioctl(fd, FIONREAD, (int[1]){0}));
	R(ioctl(fd, TCGETS, (char[100]){0}));
	R(isatty(fd));
}

CASE(file_xattr)
{
	char b[100];
	put_file("f", "x");
	R(setxattr("f", "user.a", "value", 5, 0));
	R(setxattr("f", "user.a", "v", 1, XATTR_CREATE));
	R(setxattr("f", "user.b", "v", 1, XATTR_REPLACE));
	R(getxattr("f", "user.a", b, sizeof b));
	R(getxattr("f", "user.a", b, 2));
	R(getxattr("f", "user.a", 0, 0));
	R(getxattr("f", "user.none", b, 10));
	R(setxattr("f", "nope", "v", 1, 0));
	R(listxattr("f", b, sizeof b));
	out("%s", b);
	R(listxattr("f", b, 1));
	R(removexattr("f", "user.a"));
	R(removexattr("f", "user.a"));
	R(listxattr("f", b, sizeof b));
}

CASE(file_path_limits)
{
	static char p[5000], n[300];
	memset(n, 'n', 256);
	R(open(n, O_RDONLY));
	n[255] = 0;
	R(open(n, O_RDONLY));
	F(open(n, O_WRONLY | O_CREAT, 0644));
	for (int i = 0; i < 4095; i += 2)
		p[i] = '.', p[i + 1] = '/';
	p[4094] = 0;
	F(open(p, O_RDONLY));
	p[4094] = '.';
	p[4095] = 0;
	F(open(p, O_RDONLY));
	p[4095] = '/';
	p[4096] = 0;
	R(open(p, O_RDONLY));
	R(open("./././//.", O_RDONLY) >= 0);
	R(open("../../../../../../../../../..", O_RDONLY) >= 0);
}

CASE(file_openat2)
{
	struct { uint64_t flags, mode, resolve; } how = {O_RDONLY, 0, 0};
	Q(mkdir("d", 0755));
	put_file("d/f", "x");
	Q(symlink("f", "d/in"));
	Q(symlink("../d/f", "d/up"));
	Q(symlink("/", "d/abs"));
	int d = Q(open("d", O_PATH));
#define TRY(p, r) how.resolve = r; F(syscall(SYS_openat2, d, p, &how, sizeof how))
	TRY("in", 0x08);
	TRY("up", 0x08);
	TRY("abs", 0x08);
	TRY("..", 0x08);
	TRY("/", 0x08);
	TRY("in", 0x04);
	TRY("f", 0x04);
	TRY("../../../f", 0x10);
	TRY("abs", 0x10);
	TRY("f", 0x100);
	how.resolve = 0;
	R(syscall(SYS_openat2, d, "f", &how, 3));
	how.mode = 0644;
	R(syscall(SYS_openat2, d, "f", &how, sizeof how));
}

CASE(file_sendfile)
{
	char big[70000], b[100] = {0};
	memset(big, 'z', sizeof big);
	put_file("a", "0123456789");
	int in = Q(open("a", O_RDONLY)), o = Q(open("b", O_RDWR | O_CREAT, 0644));
	off_t off = 3;
	R(sendfile(o, in, &off, 4));
	R(off);
	R(lseek(in, 0, SEEK_CUR));
	R(sendfile(o, in, 0, 100));
	R(lseek(in, 0, SEEK_CUR));
	R(sendfile(o, in, 0, 100));
	show_file("b");
	int p[2];
	Q(pipe(p));
	off = 0;
	R(sendfile(p[1], in, &off, 10));
	R(read(p[0], b, 100));
	R(sendfile(p[1], p[0], 0, 1));
	R(sendfile(in, o, 0, 1));
	off = -1;
	R(sendfile(o, in, &off, 1));
	R(sendfile(99, in, 0, 1));
	loff_t x = 0, y = 20;
	R(copy_file_range(in, &x, o, &y, 10, 0));
	R(lseek(o, 0, SEEK_END));
	R(copy_file_range(in, &x, o, &y, 10, 1));
}

CASE(file_splice)
{
	char b[100] = {0};
	int p[2], q[2];
	put_file("a", "splice me");
	int f = Q(open("a", O_RDWR));
	Q(pipe(p));
	Q(pipe(q));
	R(splice(f, 0, p[1], 0, 6, 0));
	R(tee(p[0], q[1], 100, 0));
	R(read(p[0], b, 100));
	R(read(q[0], b, 100));
	out("%.6s", b);
	loff_t off = 7;
	R(splice(f, &off, p[1], 0, 10, 0));
	R(off);
	off = 0;
	R(splice(p[0], 0, f, &off, 10, 0));
	show_file("a");
	R(splice(f, 0, f, 0, 1, 0));
	R(splice(p[0], 0, q[1], 0, 1, SPLICE_F_NONBLOCK));
	struct iovec v = {"vm", 2};
	R(vmsplice(p[1], &v, 1, 0));
	R(read(p[0], b, 100));
}

CASE(file_statfs)
{
	struct statfs s;
	R(statfs(".", &s));
	out("namelen %ld blocksize is a power %d", (long)s.f_namelen, s.f_bsize >= 512 && !(s.f_bsize & (s.f_bsize - 1)));
	R(statfs("none", &s));
	R(fstatfs(99, &s));
	R(statfs("/proc", &s));
	out("proc %lx", (long)s.f_type);
}

CASE(file_mknod)
{
	struct stat st;
	R(mkfifo("p", 0644));
	Q(stat("p", &st));
	out("fifo %d", S_ISFIFO(st.st_mode));
	R(mkfifo("p", 0644));
	R(open("p", O_WRONLY | O_NONBLOCK));
	int r = F(open("p", O_RDONLY | O_NONBLOCK));
	int w = F(open("p", O_WRONLY | O_NONBLOCK));
	char b[5];
	R(read(r, b, 5));
	R(write(w, "abc", 3));
	R(read(r, b, 5));
	close(w);
	R(read(r, b, 5));
	R(mknod("n", S_IFCHR | 0666, makedev(1, 3)));
	int n = Q(open("n", O_RDWR));
	R(write(n, "x", 1));
	R(read(n, b, 1));
	R(mknod("x", S_IFDIR | 0755, 0));
	R(mknod("y", 0644, 0));
	Q(stat("y", &st));
	out("file %d", S_ISREG(st.st_mode));
}

CASE(file_fifo_blocks)
{
	Q(mkfifo("p", 0644));
	if (fork() == 0) {
		int w = open("p", O_WRONLY);
		write(w, "through", 7);
		_exit(0);
	}
	char b[10] = {0};
	int r = Q(open("p", O_RDONLY));
	R(read(r, b, 9));
	out("%s", b);
	R(read(r, b, 9));
	wait(0);
}

CASE(file_flock)
{
	int a = Q(open("f", O_RDWR | O_CREAT, 0644)), b = Q(open("f", O_RDWR));
	R(flock(a, LOCK_EX));
	R(flock(b, LOCK_EX | LOCK_NB));
	R(flock(b, LOCK_SH | LOCK_NB));
	R(flock(a, LOCK_SH));
	R(flock(b, LOCK_SH | LOCK_NB));
	R(flock(a, LOCK_EX | LOCK_NB));
	R(flock(b, LOCK_UN));
	int c = Q(dup(a));
	Q(close(a));
	R(flock(b, LOCK_EX | LOCK_NB));
	Q(close(c));
	R(flock(b, LOCK_EX | LOCK_NB));
	R(flock(b, 16));
	R(flock(99, LOCK_EX));
}

CASE(file_posix_locks)
{
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	struct flock l = {F_WRLCK, SEEK_SET, 10, 10, 0};
	R(fcntl(fd, F_SETLK, &l));
	if (fork() == 0) {
		struct flock k = {F_WRLCK, SEEK_SET, 0, 15, 0};
		R(fcntl(fd, F_SETLK, &k));
		R(fcntl(fd, F_GETLK, &k));
		out("held type %d from %ld for %ld by parent %d", k.l_type, (long)k.l_start, (long)k.l_len, k.l_pid == getppid());
		k = (struct flock){F_WRLCK, SEEK_SET, 0, 10, 0};
		R(fcntl(fd, F_SETLK, &k));
		_exit(0);
	}
	wait(0);
	l = (struct flock){F_UNLCK, SEEK_SET, 12, 2, 0};
	R(fcntl(fd, F_SETLK, &l));
	if (fork() == 0) {
		struct flock k = {F_RDLCK, SEEK_SET, 12, 2, 0};
		R(fcntl(fd, F_SETLK, &k));
		k.l_start = 11;
		R(fcntl(fd, F_SETLK, &k));
		_exit(0);
	}
	wait(0);
	l = (struct flock){9, SEEK_SET, 0, 0, 0};
	R(fcntl(fd, F_SETLK, &l));
	int again = Q(open("f", O_RDWR));
	close(again); /* any close of the file drops the process's locks */
	if (fork() == 0) {
		struct flock k = {F_WRLCK, SEEK_SET, 0, 0, 0};
		R(fcntl(fd, F_SETLK, &k));
		_exit(0);
	}
	wait(0);
}

CASE(file_lock_waits)
{
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644)), p[2];
	Q(pipe(p));
	struct flock l = {F_WRLCK, SEEK_SET, 0, 0, 0};
	Q(fcntl(fd, F_SETLK, &l));
	if (fork() == 0) {
		struct flock k = {F_WRLCK, SEEK_SET, 0, 0, 0};
		write(p[1], "r", 1);
		R(fcntl(fd, F_SETLKW, &k));
		_exit(0);
	}
	char b;
	Q(read(p[0], &b, 1));
	sleep_ms(50);
	out("unlocking");
	l.l_type = F_UNLCK;
	Q(fcntl(fd, F_SETLK, &l));
	wait(0);
}

CASE(file_ofd_locks)
{
	int a = Q(open("f", O_RDWR | O_CREAT, 0644)), b = Q(open("f", O_RDWR));
	struct flock l = {F_WRLCK, SEEK_SET, 0, 10, 0};
	R(fcntl(a, F_OFD_SETLK, &l));
	R(fcntl(b, F_OFD_SETLK, &l));
	l.l_start = 20;
	R(fcntl(b, F_OFD_SETLK, &l));
	close(a);
	l.l_start = 0;
	R(fcntl(b, F_OFD_SETLK, &l));
}

CASE(file_inotify)
{
	char b[4096] __attribute__((aligned(8)));
	int fd = Q(inotify_init1(IN_NONBLOCK));
	Q(mkdir("d", 0755));
	R(inotify_add_watch(fd, "d", IN_ALL_EVENTS) > 0);
	R(inotify_add_watch(fd, "none", IN_ALL_EVENTS));
	R(read(fd, b, sizeof b));
	put_file("d/f", "x");
	Q(rename("d/f", "d/g"));
	Q(chmod("d/g", 0600));
	Q(unlink("d/g"));
	Q(mkdir("d/sub", 0755));
	Q(rmdir("d/sub"));
	Q(rmdir("d"));
	ssize_t n = read(fd, b, sizeof b);
	for (char *p = b; n > 0 && p < b + n;) {
		struct inotify_event *e = (void *)p;
		out("mask %x cookie %d name %s", e->mask, e->cookie != 0, e->len ? e->name : "-");
		p += sizeof *e + e->len;
	}
	R(inotify_rm_watch(fd, 99));
	R(inotify_add_watch(0, ".", IN_CREATE));
}

CASE(file_tmpfile)
{
	int fd = F(open(".", O_TMPFILE | O_RDWR, 0600));
	if (fd < 0)
		return;
	R(write(fd, "anonymous", 9));
	struct stat st;
	Q(fstat(fd, &st));
	out("nlink %d", (int)st.st_nlink);
	char p[50];
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	R(linkat(AT_FDCWD, p, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	show_file("named");
}

CASE(file_memfd)
{
	int fd = Q(syscall(SYS_memfd_create, "name", 2 /* MFD_ALLOW_SEALING */));
	R(write(fd, "memory", 6));
	R(ftruncate(fd, 4096));
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	out("%.6s", m);
	R(fcntl(fd, 1033 /* F_ADD_SEALS */, 2 /* F_SEAL_SHRINK */));
	R(ftruncate(fd, 0));
	R(ftruncate(fd, 8192));
	R(fcntl(fd, 1033, 8 /* F_SEAL_WRITE */));
	munmap(m, 4096);
	R(fcntl(fd, 1033, 8));
	R(write(fd, "x", 1));
	R(fcntl(fd, 1034 /* F_GET_SEALS */));
	R(syscall(SYS_memfd_create, "name", 0x8000));
}

CASE(file_rlimit_fsize)
{
	struct rlimit r = {1000, 1000};
	signal(SIGXFSZ, SIG_IGN);
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	Q(setrlimit(RLIMIT_FSIZE, &r));
	char b[2000] = {0};
	R(write(fd, b, 2000));
	R(write(fd, b, 1));
	R(ftruncate(fd, 2000));
	R(ftruncate(fd, 500));
	signal(SIGXFSZ, SIG_DFL);
	R(pwrite(fd, b, 1, 5000));
}

CASE(file_suid_cleared)
{
	struct stat st;
	put_file("f", "x");
	Q(chown("f", 1000, 1000));
	Q(chmod("f", 06777));
	int fd = Q(open("f", O_WRONLY));
	Q(setresgid(1001, 1001, 1001));
	Q(setresuid(1001, 1001, 1001));
	Q(write(fd, "y", 1));
	Q(fstat(fd, &st));
	out("mode %o", st.st_mode);
}
