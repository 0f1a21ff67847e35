/* sysbench [ROUNDS [NAME...]]: what system calls cost, in ns per operation: the least of
 * ROUNDS rounds, each of some 20 ms, and the median; of all operations or of those named,
 * in the table's order. One line per operation:
 *
 *   sysbench: NAME LEAST MEDIAN ns/op */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static char buf[4096];
static int p[2], q[2], ep, ev, zero, file;

static void getpid_(long n)
{
	while (n--)
		syscall(SYS_getpid);
}

static void clock_vdso(long n)
{
	struct timespec t;
	while (n--)
		clock_gettime(CLOCK_MONOTONIC, &t);
}

static void clock_call(long n)
{
	struct timespec t;
	while (n--)
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
}

static void pipe_rw(long n)
{
	while (n--) {
		write(p[1], buf, 1);
		read(p[0], buf, 1);
	}
}

static void pipe_rw_4k(long n)
{
	while (n--) {
		write(p[1], buf, 4096);
		read(p[0], buf, 4096);
	}
}

static void read_zero(long n)
{
	while (n--)
		read(zero, buf, 1);
}

static void pread_file_4k(long n)
{
	while (n--)
		pread(file, buf, 4096, 0);
}

static void pwrite_file_4k(long n)
{
	while (n--)
		pwrite(file, buf, 4096, 0);
}

static void stat_file(long n)
{
	struct stat st;
	while (n--)
		stat("/usr/../tmp", &st);
}

static void readlink_no_link(long n)
{
	while (n--)
		readlink("/tmp", buf, 100);
}

static void open_close(long n)
{
	while (n--)
		close(open("/tmp", O_RDONLY));
}

static void epoll_round(long n)
{
	struct epoll_event e;
	unsigned long v = 1;
	while (n--) {
		write(ev, &v, 8);
		epoll_wait(ep, &e, 1, -1);
		read(ev, &v, 8);
	}
}

static void unix_socket(long n)
{
	while (n--) {
		write(q[0], buf, 100);
		read(q[1], buf, 100);
	}
}

static void mmap_touch_munmap(long n)
{
	while (n--) {
		char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		*m = 1;
		munmap(m, 4096);
	}
}

static void mmap_touch_1m(long n)
{
	while (n--) {
		char *m = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (int i = 0; i < 1 << 20; i += 4096)
			m[i] = 1;
		munmap(m, 1 << 20);
	}
}

static void mprotect_page(long n)
{
	static char *m;
	if (!m) {
		m = mmap(0, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memset(m, 1, 12288);
	}
	while (n--) {
		mprotect(m + 4096, 4096, PROT_READ);
		mprotect(m + 4096, 4096, PROT_READ | PROT_WRITE);
	}
}

static volatile int handled;

static void on_signal(int s) { handled++; }

static void signal_self(long n)
{
	long pid = getpid(), tid = syscall(SYS_gettid);
	while (n--)
		syscall(SYS_tgkill, pid, tid, SIGUSR1);
}

static void sigprocmask_(long n)
{
	sigset_t s;
	sigemptyset(&s);
	while (n--)
		sigprocmask(SIG_BLOCK, &s, 0);
}

static void yield(long n)
{
	while (n--)
		sched_yield();
}

static void futex_wake_nobody(long n)
{
	static int w;
	while (n--)
		syscall(SYS_futex, &w, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

/* Two threads that wake each other: one round is two wakes and two switches. */
static int ball;
static volatile int over;

static void to(int from, int next)
{
	while (__atomic_load_n(&ball, __ATOMIC_ACQUIRE) != from && !over)
		syscall(SYS_futex, &ball, FUTEX_WAIT_PRIVATE, next, 0, 0, 0);
	__atomic_store_n(&ball, next, __ATOMIC_RELEASE);
	syscall(SYS_futex, &ball, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

static void *futex_side(void *n)
{
	for (long i = (long)n; i > 0; i--)
		to(1, 0);
	return 0;
}

static void futex_ping_pong(long n)
{
	pthread_t t;
	ball = 0;
	pthread_create(&t, 0, futex_side, (void *)n);
	for (long i = n; i > 0; i--)
		to(0, 1);
	pthread_join(t, 0);
}

static int a[2], b[2];

static void *pipe_side(void *n)
{
	char c;
	for (long i = (long)n; i > 0; i--) {
		read(a[0], &c, 1);
		write(b[1], &c, 1);
	}
	return 0;
}

/* The classical switch: a byte there and back between two threads. */
static void pipe_ping_pong(long n)
{
	pthread_t t;
	char c = 0;
	pthread_create(&t, 0, pipe_side, (void *)n);
	for (long i = n; i > 0; i--) {
		write(a[1], &c, 1);
		read(b[0], &c, 1);
	}
	pthread_join(t, 0);
}

static void *nothing(void *x) { return 0; }

static void thread_create_join(long n)
{
	pthread_t t;
	while (n--) {
		pthread_create(&t, 0, nothing, 0);
		pthread_join(t, 0);
	}
}

static void fork_wait(long n)
{
	while (n--) {
		pid_t c = fork();
		if (c == 0)
			_exit(0);
		waitpid(c, 0, 0);
	}
}

#define T(f) {#f, f}
static struct {
	const char *name;
	void (*run)(long);
} all[] = {{"getpid", getpid_}, T(clock_vdso), T(clock_call), T(pipe_rw), T(pipe_rw_4k), T(read_zero), T(pread_file_4k), T(pwrite_file_4k), T(stat_file),
	T(readlink_no_link), T(open_close), T(epoll_round), T(unix_socket), T(mmap_touch_munmap), T(mmap_touch_1m), T(mprotect_page), T(signal_self),
	{"sigprocmask", sigprocmask_}, T(yield), T(futex_wake_nobody), T(futex_ping_pong), T(pipe_ping_pong), T(thread_create_join), T(fork_wait)};

static int less(const void *x, const void *y)
{
	double d = *(double *)x - *(double *)y;
	return d < 0 ? -1 : d > 0;
}

static int wanted(const char *name, int n, char **names)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(name, names[i]))
			return 1;
	return n <= 0;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 5;
	if (rounds < 1 || rounds > 100) {
		fprintf(stderr, "usage: sysbench [ROUNDS [NAME...]]\n");
		return 2;
	}
	signal(SIGUSR1, on_signal);
	if (pipe(p) || pipe(a) || pipe(b) || socketpair(AF_UNIX, SOCK_STREAM, 0, q))
		return 1;
	ep = epoll_create1(0);
	ev = eventfd(0, 0);
	struct epoll_event e = {EPOLLIN};
	epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e);
	zero = open("/dev/zero", O_RDONLY);
	file = open("/var/tmp/sysbench", O_RDWR | O_CREAT, 0600);
	write(file, buf, sizeof buf);
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
		if (!wanted(all[i].name, argc - 2, argv + 2))
			continue;
		double best[100];
		long n = 1;
		for (;;) { /* how many make 20 ms */
			long t = ns();
			all[i].run(n);
			t = ns() - t;
			if (t > 20000000 || n > 1 << 26)
				break;
			n *= t < 2000000 ? 10 : 2;
		}
		printf("sysbench: %s\n", all[i].name);
		fflush(stdout);
		for (int k = 0; k < rounds; k++) {
			long t = ns();
			all[i].run(n);
			best[k] = (double)(ns() - t) / n;
		}
		qsort(best, rounds, sizeof *best, less);
		printf("sysbench: %-20s %10.1f %10.1f ns/op\n", all[i].name, best[0], best[rounds / 2]);
		fflush(stdout);
	}
	unlink("/var/tmp/sysbench");
	printf("sysbench: done\n");
	return 0;
}
