/* Bytes that go from file to file: sendfile, splice, tee, vmsplice, copy_file_range; and
 * holes. */
#include "conf.h"

static void show(int fd, int n)
{
	char b[100] = {0};
	int k = read(fd, b, n);
	out("%d \"%s\"", k, k > 0 ? b : "");
}

CASE(copy_splice_file)
{
	int p[2];
	put_file("f", "0123456789");
	int f = Q(open("f", O_RDWR));
	Q(pipe(p));
	R(splice(f, 0, p[1], 0, 4, 0));
	show(p[0], 10);
	loff_t off = 2;
	R(splice(f, &off, p[1], 0, 3, 0));
	out("offset %ld position %ld", (long)off, (long)lseek(f, 0, SEEK_CUR));
	off = 8;
	R(splice(p[0], 0, f, &off, 10, 0));
	out("offset %ld", (long)off);
	show_file("f");
	off = 100;
	R(splice(f, &off, p[1], 0, 5, 0));
	R(splice(f, 0, p[1], &off, 5, 0));
	R(splice(p[0], &off, f, 0, 5, 0));
	R(splice(f, 0, f, 0, 5, 0));
	R(splice(p[0], 0, f, 0, 5, SPLICE_F_NONBLOCK));
	R(splice(f, 0, p[1], 0, 5, 0x100));
	R(splice(f, 0, p[0], 0, 5, 0));
	R(splice(f, 0, p[1], 0, 0, 0));
	off = -1;
	R(splice(f, &off, p[1], 0, 5, 0));
	int a = Q(open("f", O_WRONLY | O_APPEND));
	Q(write(p[1], "x", 1));
	R(splice(p[0], 0, a, 0, 5, 0));
	close(p[1]);
	R(splice(p[0], 0, f, 0, 5, 0));
	R(splice(p[0], 0, f, 0, 5, 0));
}

CASE(copy_tee)
{
	int p[2], q[2];
	Q(pipe(p));
	Q(pipe(q));
	Q(write(p[1], "abcdef", 6));
	R(tee(p[0], q[1], 4, 0));
	show(q[0], 10);
	R(tee(p[0], q[1], 100, 0));
	show(p[0], 10);
	show(q[0], 10);
	R(tee(p[0], q[1], 4, SPLICE_F_NONBLOCK));
	R(tee(p[0], p[1], 4, 0));
	R(tee(p[1], q[0], 4, 0));
	int f = Q(open("f", O_RDWR | O_CREAT, 0644));
	R(tee(p[0], f, 4, 0));
	Q(write(p[1], "move", 4));
	R(splice(p[0], 0, q[1], 0, 10, 0));
	show(q[0], 10);
	R(splice(p[0], 0, p[1], 0, 10, SPLICE_F_NONBLOCK));
	close(p[1]);
	R(tee(p[0], q[1], 4, 0));
	close(q[0]);
	int r[2];
	Q(pipe(r));
	Q(write(r[1], "x", 1));
	signal(SIGPIPE, SIG_IGN);
	R(tee(r[0], q[1], 4, 0));
}

CASE(copy_splice_socket)
{
	int p[2], s[2];
	Q(pipe(p));
	Q(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	Q(write(p[1], "to the socket", 13));
	R(splice(p[0], 0, s[0], 0, 100, 0));
	show(s[1], 50);
	Q(write(s[1], "from the socket", 15));
	R(splice(s[0], 0, p[1], 0, 4, 0));
	show(p[0], 50);
	R(splice(s[0], 0, p[1], 0, 100, SPLICE_F_MORE));
	show(p[0], 50);
	R(splice(s[0], 0, p[1], 0, 100, SPLICE_F_NONBLOCK) < 0);
	close(s[1]);
	R(splice(s[0], 0, p[1], 0, 100, 0));
	Q(write(p[1], "x", 1));
	signal(SIGPIPE, SIG_IGN);
	R(splice(p[0], 0, s[0], 0, 100, 0));
}

CASE(copy_vmsplice)
{
	int p[2];
	char a[5] = {0}, b[10] = {0};
	struct iovec v[] = {{"one", 3}, {"two", 3}}, r[] = {{a, 4}, {b, 9}};
	Q(pipe(p));
	R(vmsplice(p[1], v, 2, 0));
	R(vmsplice(p[0], r, 2, 0));
	out("%s %s", a, b);
	R(vmsplice(p[0], r, 1, SPLICE_F_NONBLOCK));
	R(vmsplice(p[1], v, 0, 0));
	R(vmsplice(p[1], v, 2, 0x100));
	R(vmsplice(Q(open("f", O_RDWR | O_CREAT, 0644)), v, 1, 0));
	v[0].iov_base = (void *)8;
	R(vmsplice(p[1], v, 1, 0));
}

CASE(copy_file_range)
{
	put_file("a", "0123456789");
	int a = Q(open("a", O_RDWR)), b = Q(open("b", O_RDWR | O_CREAT, 0644));
	R(copy_file_range(a, 0, b, 0, 4, 0));
	out("positions %ld %ld", (long)lseek(a, 0, SEEK_CUR), (long)lseek(b, 0, SEEK_CUR));
	loff_t i = 6, o = 2;
	R(copy_file_range(a, &i, b, &o, 100, 0));
	out("offsets %ld %ld", (long)i, (long)o);
	show_file("b");
	i = 20;
	R(copy_file_range(a, &i, b, 0, 5, 0));
	i = 0, o = 3;
	R(copy_file_range(a, &i, a, &o, 5, 0));
	i = 0, o = 5;
	R(copy_file_range(a, &i, a, &o, 5, 0));
	show_file("a");
	R(copy_file_range(a, 0, b, 0, 5, 1));
	R(copy_file_range(a, 0, Q(open("b", O_RDONLY)), 0, 5, 0));
	R(copy_file_range(a, 0, Q(open("b", O_WRONLY | O_APPEND)), 0, 5, 0));
	R(copy_file_range(Q(open(".", O_RDONLY)), 0, b, 0, 5, 0));
	int p[2];
	Q(pipe(p));
	R(copy_file_range(a, 0, p[1], 0, 5, 0));
	R(copy_file_range(99, 0, b, 0, 5, 0));
}

CASE(copy_sendfile_sockets)
{
	int s[2], p[2];
	put_file("f", "0123456789");
	int f = Q(open("f", O_RDWR));
	Q(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	Q(pipe(p));
	off_t off = 4;
	R(sendfile(s[0], f, &off, 100));
	out("offset %ld position %ld", (long)off, (long)lseek(f, 0, SEEK_CUR));
	show(s[1], 50);
	R(sendfile(s[0], f, &off, 100));
	R(sendfile(p[1], f, 0, 3));
	show(p[0], 50);
	out("position %ld", (long)lseek(f, 0, SEEK_CUR));
	off = -1;
	R(sendfile(s[0], f, &off, 1));
	R(sendfile(s[0], s[1], 0, 1));
	R(sendfile(s[0], p[0], 0, 1));
	R(sendfile(f, Q(open("f", O_WRONLY)), 0, 1));
	R(sendfile(Q(open("f", O_RDONLY)), f, 0, 1));
	close(s[1]);
	off = 0;
	signal(SIGPIPE, SIG_IGN);
	R(sendfile(s[0], f, &off, 5));
	out("offset %ld", (long)off);
}

CASE(copy_holes)
{
	struct stat st;
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	static char b[64 << 10], z[64 << 10];
	memset(b, 'x', sizeof b);
	Q(pwrite(fd, b, sizeof b, 0));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 16 << 10, 16 << 10));
	Q(fsync(fd));
	R(lseek(fd, 0, SEEK_HOLE));
	R(lseek(fd, 16 << 10, SEEK_DATA));
	R(lseek(fd, 40 << 10, SEEK_HOLE));
	R(lseek(fd, 64 << 10, SEEK_DATA));
	Q(pread(fd, b, sizeof b, 0));
	out("zero %d, kept %c %c", !memcmp(b + (16 << 10), z, 16 << 10), b[(16 << 10) - 1], b[32 << 10]);
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 60 << 10, 1 << 20));
	Q(fstat(fd, &st));
	out("size %ld", (long)st.st_size);
	Q(pread(fd, b, 1, (64 << 10) - 1));
	out("%d", b[0]);
	R(fallocate(fd, FALLOC_FL_ZERO_RANGE, 100, 1 << 17));
	Q(fstat(fd, &st));
	out("size %ld", (long)st.st_size);
	Q(pread(fd, b, 200, 0));
	out("%c %d", b[99], b[100]);
	R(ftruncate(fd, 1 << 20));
	char *m = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	m[500000] = 'm';
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 499712, 4096));
	out("mapped %d", m[500000]);
	R(fallocate(Q(open("f", O_RDONLY)), 0, 0, 1));
	int p[2];
	Q(pipe(p));
	R(fallocate(p[1], 0, 0, 1));
	R(fallocate(Q(open(".", O_RDONLY)), 0, 0, 1));
}
