/* Locks of files: POSIX's, open file descriptions' and flock's. */
#include "conf.h"

static struct flock range(int type, int whence, long start, long len)
{
	return (struct flock){.l_type = type, .l_whence = whence, .l_start = start, .l_len = len};
}

#define SETLK(fd, ...) R(fcntl(fd, F_SETLK, &(struct flock[]){range(__VA_ARGS__)}[0]))

/* ask says what another process would be told of a range. */
static void ask(int fd, long start, long len)
{
	if (fork() == 0) {
		struct flock l = range(F_WRLCK, SEEK_SET, start, len);
		Q(fcntl(fd, F_GETLK, &l));
		if (l.l_type == F_UNLCK)
			out("[%ld, %ld) is free", start, start + len);
		else
			out("[%ld, %ld): type %d from %ld, %ld bytes, the parent's %d", start, start + len, l.l_type, (long)l.l_start, (long)l.l_len,
			    l.l_pid == getppid());
		_exit(0);
	}
	wait(0);
}

CASE(lock_posix_ranges)
{
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	Q(ftruncate(fd, 100));
	SETLK(fd, F_WRLCK, SEEK_SET, 10, 50);
	SETLK(fd, F_UNLCK, SEEK_SET, 20, 10);
	ask(fd, 0, 100);
	ask(fd, 20, 10);
	ask(fd, 25, 10);
	SETLK(fd, F_RDLCK, SEEK_SET, 35, 5);
	ask(fd, 35, 1);
	ask(fd, 40, 1);
	SETLK(fd, F_WRLCK, SEEK_SET, 20, 20);
	ask(fd, 0, 100);
	SETLK(fd, F_UNLCK, SEEK_SET, 0, 0);
	SETLK(fd, F_WRLCK, SEEK_END, -10, 5);
	ask(fd, 0, 1000);
	Q(lseek(fd, 50, SEEK_SET));
	SETLK(fd, F_WRLCK, SEEK_CUR, 10, -5);
	ask(fd, 0, 60);
	SETLK(fd, F_WRLCK, SEEK_SET, 5, -10);
	SETLK(fd, F_WRLCK, 9, 0, 1);
	SETLK(fd, 9, SEEK_SET, 0, 1);
	int r = Q(open("f", O_RDONLY)), w = Q(open("f", O_WRONLY));
	SETLK(r, F_WRLCK, SEEK_SET, 0, 1);
	SETLK(w, F_RDLCK, SEEK_SET, 0, 1);
}

CASE(lock_posix_deadlock)
{
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644)), p[2], q[2];
	char b;
	Q(pipe(p));
	Q(pipe(q));
	SETLK(fd, F_WRLCK, SEEK_SET, 0, 1);
	pid_t c = fork();
	if (c == 0) {
		struct flock l = range(F_WRLCK, SEEK_SET, 1, 1);
		Q(fcntl(fd, F_SETLK, &l));
		write(p[1], "x", 1);
		l = range(F_WRLCK, SEEK_SET, 0, 1);
		long r = fcntl(fd, F_SETLKW, &l);
		read(q[0], &b, 1); /* after the parent has said what it got */
		out("the child's lock = %ld", r);
		_exit(0);
	}
	Q(read(p[0], &b, 1));
	sleep_ms(100);
	struct flock l = range(F_WRLCK, SEEK_SET, 1, 1);
	R(fcntl(fd, F_SETLKW, &l));
	SETLK(fd, F_UNLCK, SEEK_SET, 0, 1);
	write(q[1], "x", 1);
	wait(0);
}

static void nothing(int s)
{
}

CASE(lock_posix_interrupted)
{
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644)), p[2];
	char b;
	Q(pipe(p));
	pid_t c = fork();
	if (c == 0) {
		struct flock l = range(F_WRLCK, SEEK_SET, 0, 0);
		Q(fcntl(fd, F_SETLK, &l));
		write(p[1], "x", 1);
		pause();
	}
	Q(read(p[0], &b, 1));
	struct sigaction sa = {.sa_handler = nothing};
	Q(sigaction(SIGALRM, &sa, 0));
	Q(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 30000}}, 0));
	struct flock l = range(F_RDLCK, SEEK_SET, 5, 5);
	R(fcntl(fd, F_SETLKW, &l));
	Q(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 30000}}, 0));
	R(flock(fd, LOCK_EX)); /* another kind: it is free */
	kill(c, SIGKILL);
	wait(0);
	R(fcntl(fd, F_SETLKW, &l)); /* the child's went with it */
}

CASE(lock_ofd_shared)
{
	int a = Q(open("f", O_RDWR | O_CREAT, 0644)), b = Q(open("f", O_RDWR));
	struct flock l = range(F_WRLCK, SEEK_SET, 0, 10);
	R(fcntl(a, F_OFD_SETLK, &l));
	int d = Q(dup(a));
	R(fcntl(d, F_OFD_SETLK, &l));
	l = range(F_RDLCK, SEEK_SET, 5, 1);
	R(fcntl(b, F_OFD_GETLK, &l));
	out("type %d start %ld length %ld pid %d", l.l_type, (long)l.l_start, (long)l.l_len, l.l_pid);
	SETLK(b, F_WRLCK, SEEK_SET, 0, 10); /* a process's lock is not its description's */
	if (fork() == 0) {
		l = range(F_WRLCK, SEEK_SET, 3, 3);
		R(fcntl(a, F_OFD_SETLK, &l)); /* its own, by inheritance */
		_exit(0);
	}
	wait(0);
	close(a);
	l = range(F_WRLCK, SEEK_SET, 0, 1);
	R(fcntl(b, F_OFD_SETLK, &l));
	close(d);
	R(fcntl(b, F_OFD_SETLK, &l));
	l.l_pid = 7;
	R(fcntl(b, F_OFD_SETLK, &l));
}

CASE(lock_flock_kinds)
{
	int a = Q(open("f", O_RDWR | O_CREAT, 0644)), b = Q(open("f", O_RDONLY)), d = Q(dup(a));
	R(flock(a, LOCK_SH));
	R(flock(b, LOCK_SH | LOCK_NB));
	R(flock(a, LOCK_EX | LOCK_NB)); /* gives up its own first */
	R(flock(b, LOCK_UN));
	R(flock(a, LOCK_EX | LOCK_NB));
	R(flock(d, LOCK_SH | LOCK_NB)); /* the same description */
	R(flock(b, LOCK_EX | LOCK_NB));
	close(a);
	R(flock(b, LOCK_EX | LOCK_NB)); /* d still has it */
	R(flock(d, LOCK_UN));
	R(flock(b, LOCK_EX | LOCK_NB));
	SETLK(d, F_WRLCK, SEEK_SET, 0, 0);
	R(flock(b, 16));
	R(flock(99, LOCK_SH));
	int p[2];
	Q(pipe(p));
	R(flock(p[0], LOCK_EX));
}

CASE(lock_flock_waits)
{
	int a = Q(open("f", O_RDWR | O_CREAT, 0644)), p[2];
	char c;
	Q(pipe(p));
	R(flock(a, LOCK_EX));
	if (fork() == 0) {
		int b = Q(open("f", O_RDWR));
		write(p[1], "x", 1);
		R(flock(b, LOCK_EX));
		_exit(0);
	}
	Q(read(p[0], &c, 1));
	sleep_ms(50);
	out("unlocking");
	Q(flock(a, LOCK_UN));
	wait(0);
}
