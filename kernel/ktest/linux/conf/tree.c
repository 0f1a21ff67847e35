/* Names and what is told of them: getdents, renameat2, statx, inotify, files without a
 * name. */
#include "conf.h"

CASE(tree_getdents)
{
	char b[4096] __attribute__((aligned(8))), name[40];
	Q(mkdir("d", 0755));
	Q(mkdir("d/dir", 0755));
	Q(symlink("x", "d/link"));
	Q(mkfifo("d/fifo", 0644));
	put_file("d/file", "");
	int fd = Q(open("d", O_RDONLY | O_DIRECTORY)), types = 0, n, k = 0;
	while ((n = Q(syscall(SYS_getdents64, fd, b, 64))) > 0) { /* one or two at a time */
		for (int i = 0; i < n; k++) {
			struct dirent64 *e = (void *)(b + i);
			types += e->d_type * !strcmp(e->d_name, "dir") + 100 * e->d_type * !strcmp(e->d_name, "link") + 10000 * e->d_type * !strcmp(e->d_name, "fifo") +
				 1000000 * e->d_type * !strcmp(e->d_name, "file");
			i += e->d_reclen;
		}
	}
	out("%d entries, types %d", k, types);
	R(syscall(SYS_getdents64, fd, b, sizeof b));
	R(lseek(fd, 0, SEEK_SET));
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof name, "d/many%d", i);
		put_file(name, "");
	}
	/* Those that are there all the time come once, whatever goes meanwhile. */
	int seen = 0, half = 0;
	while ((n = Q(syscall(SYS_getdents64, fd, b, 512))) > 0) {
		for (int i = 0; i < n;) {
			struct dirent64 *e = (void *)(b + i);
			int x;
			if (sscanf(e->d_name, "many%d", &x) == 1 && x % 2)
				seen++;
			i += e->d_reclen;
		}
		if (!half++)
			for (int i = 0; i < 200; i += 2) {
				snprintf(name, sizeof name, "d/many%d", i);
				Q(unlink(name));
			}
	}
	out("%d of those that stayed", seen);
	R(syscall(SYS_getdents64, fd, (void *)8, sizeof b) < 0);
	Q(lseek(fd, 0, SEEK_SET));
	R(syscall(SYS_getdents64, fd, (void *)8, sizeof b));
	int gone = (Q(mkdir("e", 0755)), Q(open("e", O_RDONLY)));
	Q(rmdir("e"));
	R(syscall(SYS_getdents64, gone, b, sizeof b));
}

CASE(tree_rename_exchange)
{
	struct stat st;
	put_file("f", "file");
	Q(mkdir("d", 0755));
	Q(mkdir("d/sub", 0755));
	R(renameat2(AT_FDCWD, "f", AT_FDCWD, "d", RENAME_EXCHANGE));
	show_file("d");
	Q(stat("f", &st));
	out("directory %d", S_ISDIR(st.st_mode));
	R(renameat2(AT_FDCWD, "f/sub", AT_FDCWD, "f", RENAME_EXCHANGE));
	R(renameat2(AT_FDCWD, "f", AT_FDCWD, "f/sub", RENAME_EXCHANGE));
	R(renameat2(AT_FDCWD, "d", AT_FDCWD, "f/sub", RENAME_EXCHANGE));
	Q(stat("f", &st));
	out("links %d", (int)st.st_nlink);
	Q(stat(".", &st));
	out("links %d", (int)st.st_nlink);
	R(renameat2(AT_FDCWD, "d", AT_FDCWD, "new", RENAME_NOREPLACE));
	R(renameat2(AT_FDCWD, "new", AT_FDCWD, "f", RENAME_NOREPLACE));
	R(renameat2(AT_FDCWD, "f/sub", AT_FDCWD, "f/sub", RENAME_NOREPLACE));
	R(renameat2(AT_FDCWD, "new", AT_FDCWD, "none/x", RENAME_NOREPLACE));
	R(renameat2(AT_FDCWD, "new", AT_FDCWD, "x", 0x80));
	R(renameat2(AT_FDCWD, "new", AT_FDCWD, "x", RENAME_EXCHANGE | RENAME_WHITEOUT));
	int fd = Q(open("f/sub", O_RDONLY));
	char b[10] = {0};
	R(rename("new", "f/sub"));
	R(rename("f/sub", "f/"));
	R(rename("f/sub/", "y"));
	put_file("a", "1");
	Q(link("a", "b"));
	R(rename("a", "b")); /* two names of one file: nothing happens */
	R(access("a", F_OK));
}

CASE(tree_statx)
{
	struct statx x, y;
	struct stat st;
	put_file("f", "12345");
	Q(symlink("f", "l"));
	Q(stat("f", &st));
	R(statx(AT_FDCWD, "l", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x));
	out("link %d size %lld", S_ISLNK(x.stx_mode), (long long)x.stx_size);
	R(statx(AT_FDCWD, "l", 0, STATX_BASIC_STATS, &x));
	out("same inode %d device %d", x.stx_ino == st.st_ino, makedev(x.stx_dev_major, x.stx_dev_minor) == st.st_dev);
	out("same times %d %d", x.stx_mtime.tv_sec == st.st_mtim.tv_sec && x.stx_mtime.tv_nsec == st.st_mtim.tv_nsec,
	    x.stx_ctime.tv_sec == st.st_ctim.tv_sec);
	out("same blocks %d", (long)x.stx_blocks == (long)st.st_blocks && x.stx_blksize == (unsigned)st.st_blksize);
	int fd = Q(open("f", O_RDONLY)), p[2];
	R(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &y));
	out("same %d", y.stx_ino == x.stx_ino);
	R(statx(fd, "", 0, STATX_BASIC_STATS, &y));
	R(statx(fd, "x", 0, STATX_BASIC_STATS, &y));
	R(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &y));
	R(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &y));
	R(statx(AT_FDCWD, (char *)8, 0, STATX_BASIC_STATS, &y));
	Q(pipe(p));
	R(statx(p[0], "", AT_EMPTY_PATH, STATX_BASIC_STATS, &y));
	out("pipe %d mode %o nlink %u", S_ISFIFO(y.stx_mode), y.stx_mode & 0777, y.stx_nlink);
	R(statx(AT_FDCWD, "/dev/null", 0, STATX_BASIC_STATS, &y));
	out("%u,%u", y.stx_rdev_major, y.stx_rdev_minor);
}

static void events(int fd)
{
	char b[4096] __attribute__((aligned(8)));
	ssize_t n = read(fd, b, sizeof b);
	uint32_t cookie = 0;
	if (n < 0)
		out("nothing: %s", strerrorname_np(errno));
	for (char *p = b; n > 0 && p < b + n;) {
		struct inotify_event *e = (void *)p;
		out("wd %d mask %x name %s cookie %s", e->wd, e->mask, e->len ? e->name : "-",
		    !e->cookie ? "0" : e->cookie == cookie ? "the last one's" : "new");
		cookie = e->cookie;
		p += sizeof *e + e->len;
	}
}

CASE(tree_inotify_moves)
{
	int fd = Q(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	R(fcntl(fd, F_GETFD));
	Q(mkdir("a", 0755));
	Q(mkdir("b", 0755));
	put_file("a/f", "x");
	R(inotify_add_watch(fd, "a", IN_MOVE));
	R(inotify_add_watch(fd, "b", IN_MOVE | IN_CREATE));
	R(inotify_add_watch(fd, "a/f", IN_MOVE_SELF | IN_ATTRIB | IN_DELETE_SELF));
	Q(rename("a/f", "b/g"));
	events(fd);
	Q(link("b/g", "b/h"));
	events(fd);
	Q(unlink("b/g"));
	Q(unlink("b/h"));
	events(fd);
	Q(rename("a", "b/a"));
	events(fd);
	struct pollfd f = {fd, POLLIN, 0};
	R(poll(&f, 1, 0));
}

CASE(tree_inotify_masks)
{
	int fd = Q(inotify_init1(IN_NONBLOCK)), n = 0;
	put_file("f", "x");
	Q(mkdir("d", 0755));
	R(inotify_add_watch(fd, "f", IN_OPEN));
	R(inotify_add_watch(fd, "f", IN_CLOSE_WRITE | IN_MASK_ADD));
	R(inotify_add_watch(fd, "f", IN_MODIFY | IN_MASK_CREATE));
	R(inotify_add_watch(fd, "f", IN_MODIFY | IN_MASK_CREATE | IN_MASK_ADD));
	R(inotify_add_watch(fd, "f", IN_OPEN | IN_ONLYDIR));
	R(inotify_add_watch(fd, "f", 0));
	R(inotify_add_watch(fd, "d", IN_CREATE | IN_ONESHOT));
	close(Q(open("f", O_WRONLY)));
	Q(ioctl(fd, FIONREAD, &n));
	out("%d bytes", n);
	char b[10];
	R(read(fd, b, 10)); /* no room for one */
	events(fd);
	close(Q(open("f", O_RDONLY)));
	events(fd);
	put_file("d/1", "");
	put_file("d/2", "");
	events(fd);
	R(inotify_rm_watch(fd, 2));
	for (int i = 0; i < 3; i++)
		close(Q(open("f", O_RDONLY))); /* equal events that follow each other are one */
	events(fd);
	R(inotify_rm_watch(fd, 1));
	events(fd);
	Q(symlink("f", "l"));
	R(inotify_add_watch(fd, "l", IN_OPEN | IN_DONT_FOLLOW) > 0);
	close(Q(open("l", O_RDONLY)));
	events(fd);
	R(write(fd, b, 1));
}

CASE(tree_nameless)
{
	struct stat st;
	char p[50], b[20] = {0};
	int fd = Q(open(".", O_TMPFILE | O_RDWR, 0640));
	Q(write(fd, "anonymous", 9));
	R(ftruncate(fd, 4));
	Q(fstat(fd, &st));
	out("nlink %d mode %o size %ld", (int)st.st_nlink, st.st_mode, (long)st.st_size);
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	int again = Q(open(p, O_RDONLY));
	R(read(again, b, 20));
	out("%s", b);
	R(linkat(fd, "", AT_FDCWD, "one", AT_EMPTY_PATH));
	R(linkat(AT_FDCWD, p, AT_FDCWD, "two", AT_SYMLINK_FOLLOW));
	Q(fstat(fd, &st));
	out("nlink %d", (int)st.st_nlink);
	Q(unlink("one"));
	Q(unlink("two"));
	R(linkat(AT_FDCWD, p, AT_FDCWD, "three", AT_SYMLINK_FOLLOW) < 0);
	fd = Q(open(".", O_TMPFILE | O_WRONLY | O_EXCL, 0600));
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	R(linkat(AT_FDCWD, p, AT_FDCWD, "four", AT_SYMLINK_FOLLOW));
	R(open(".", O_TMPFILE | O_RDONLY, 0600));
	R(open("none", O_TMPFILE | O_RDWR, 0600));
	put_file("f", "");
	R(open("f", O_TMPFILE | O_RDWR, 0600));
	DIR *d = opendir(".");
	int n = 0;
	while (readdir(d))
		n++;
	out("%d entries", n);
}
