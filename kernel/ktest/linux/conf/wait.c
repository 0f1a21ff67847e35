/* Waiting by several threads and for several things: epoll's modes, timerfd, signalfd,
 * pidfd, waitid, limits of others. */
#include "conf.h"

enum { WORKERS = 4, EVENTS = 200 };

static int shared_epoll, source[2];
static atomic_int handled, twice;
static uint32_t mode;

/* worker takes what epoll gives it, one byte for one event, until a '!'. */
static void *worker(void *x)
{
	struct epoll_event ev;
	char b;
	for (;;) {
		if (epoll_wait(shared_epoll, &ev, 1, -1) != 1)
			continue;
		int n = read(source[0], &b, 1);
		if (n == 1 && b == '!') {
			write(source[1], "!", 1); /* the next one's turn */
			struct epoll_event again = {mode, {.fd = source[0]}};
			if (mode & EPOLLONESHOT)
				epoll_ctl(shared_epoll, EPOLL_CTL_MOD, source[0], &again);
			return 0;
		}
		if (n == 1)
			handled++;
		else
			twice++; /* woken for nothing */
		struct epoll_event again = {mode, {.fd = source[0]}};
		if (mode & EPOLLONESHOT)
			epoll_ctl(shared_epoll, EPOLL_CTL_MOD, source[0], &again);
	}
}

static void crowd(uint32_t m)
{
	pthread_t t[WORKERS];
	mode = m;
	shared_epoll = Q(epoll_create1(0));
	Q(pipe2(source, O_NONBLOCK));
	Q(epoll_ctl(shared_epoll, EPOLL_CTL_ADD, source[0], &(struct epoll_event){m, {.fd = source[0]}}));
	for (int i = 0; i < WORKERS; i++)
		Q(-pthread_create(&t[i], 0, worker, 0));
	for (int i = 0; i < EVENTS; i++)
		Q(write(source[1], "x", 1));
	for (int i = 0; i < 2000 && handled < EVENTS; i++)
		sleep_ms(1);
	Q(write(source[1], "!", 1));
	for (int i = 0; i < WORKERS; i++)
		pthread_join(t[i], 0);
	out("%d events", handled);
}

CASE(wait_oneshot_threads)
{
	crowd(EPOLLIN | EPOLLONESHOT);
	out("woken for nothing %d", twice); /* who has it has it alone */
}

CASE(wait_level_threads)
{
	crowd(EPOLLIN);
}

static void *once(void *x)
{
	struct epoll_event ev;
	long r = epoll_wait((long)x, &ev, 1, 2000);
	if (r == 1)
		handled++;
	return 0;
}

CASE(wait_exclusive)
{
	enum { N = 3 };
	int p[2], e[N];
	pthread_t t[N];
	Q(pipe(p));
	struct epoll_event ev = {EPOLLIN | EPOLLEXCLUSIVE, {.u64 = 1}};
	for (int i = 0; i < N; i++) {
		e[i] = Q(epoll_create1(0));
		Q(epoll_ctl(e[i], EPOLL_CTL_ADD, p[0], &ev));
		Q(-pthread_create(&t[i], 0, once, (void *)(long)e[i]));
	}
	sleep_ms(100);
	Q(write(p[1], "x", 1));
	for (int i = 0; i < N; i++)
		pthread_join(t[i], 0);
	out("at least one %d", handled >= 1);
	R(epoll_ctl(e[0], EPOLL_CTL_MOD, p[0], &ev));
	ev.events = EPOLLIN;
	R(epoll_ctl(e[0], EPOLL_CTL_MOD, p[0], &ev));
	R(epoll_ctl(e[0], EPOLL_CTL_DEL, p[0], 0));
	ev.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
	R(epoll_ctl(e[0], EPOLL_CTL_ADD, p[0], &ev));
	ev.events = EPOLLIN | EPOLLEXCLUSIVE;
	R(epoll_ctl(e[0], EPOLL_CTL_ADD, e[1], &ev));
	ev.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLET;
	R(epoll_ctl(e[0], EPOLL_CTL_ADD, p[0], &ev));
}

CASE(wait_edge_both_ways)
{
	int s[2], e = Q(epoll_create1(0));
	static char b[1 << 20];
	struct epoll_event ev = {EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, {.u64 = 1}}, got[2];
	Q(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
	Q(epoll_ctl(e, EPOLL_CTL_ADD, s[0], &ev));
	R(epoll_wait(e, got, 2, 0));
	out("events %x", got[0].events);
	R(epoll_wait(e, got, 2, 0));
	Q(write(s[1], "x", 1));
	R(epoll_wait(e, got, 2, 0));
	out("events %x", got[0].events);
	while (write(s[0], b, sizeof b) > 0)
		;
	R(epoll_wait(e, got, 2, 0));
	while (read(s[1], b, sizeof b) > 0)
		;
	R(epoll_wait(e, got, 2, 0));
	out("events %x", got[0].events);
	Q(shutdown(s[1], SHUT_WR));
	R(epoll_wait(e, got, 2, 0));
	out("events %x", got[0].events);
	close(s[1]);
	R(epoll_wait(e, got, 2, 0));
	out("events %x", got[0].events);
	R(epoll_wait(e, got, 2, 0));
}

CASE(wait_timerfd_kinds)
{
	uint64_t n;
	struct timespec now;
	int fd = Q(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK));
	struct itimerspec t = {{1000, 0}, {0, 1000000}}, o;
	R(timerfd_settime(fd, 0, &t, 0));
	sleep_ms(20);
	R(timerfd_gettime(fd, &o));
	out("interval %ld left %d", (long)o.it_interval.tv_sec, o.it_value.tv_sec >= 998);
	R(read(fd, &n, 8));
	out("%llu", (unsigned long long)n);
	t = (struct itimerspec){{0, 0}, {50, 0}};
	R(timerfd_settime(fd, 0, &t, &o));
	out("old interval %ld", (long)o.it_interval.tv_sec);
	t = (struct itimerspec){{0, 0}, {0, 0}};
	R(timerfd_settime(fd, 0, &t, &o));
	out("old left %d", o.it_value.tv_sec >= 49);
	R(read(fd, &n, 8));
	/* An absolute time long gone, with an interval: at once, and with all that was missed. */
	clock_gettime(CLOCK_BOOTTIME, &now);
	t = (struct itimerspec){{0, 100000000}, {now.tv_sec, now.tv_nsec}};
	t.it_value.tv_sec -= 1;
	if (t.it_value.tv_sec > 0) {
		R(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, 0));
		Q(read(fd, &n, 8));
		out("missed %d", n >= 10 && n < 40);
	}
	R(timerfd_settime(fd, 0x100, &t, 0));
	t.it_interval.tv_nsec = -1;
	R(timerfd_settime(fd, 0, &t, 0));
	R(timerfd_settime(fd, 0, (void *)8, 0));
	R(timerfd_gettime(fd, (void *)8));
	R(timerfd_gettime(99, &o));
	R(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
	int r = Q(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
	t = (struct itimerspec){{0, 0}, {1 << 30, 0}};
	R(timerfd_settime(r, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &t, 0));
	R(read(r, &n, 8)); /* gone by, or to come: not cancelled in any case */
	R(write(fd, &n, 8));
}

static void *wait_read(void *fd)
{
	struct signalfd_siginfo i;
	long r = read((long)fd, &i, sizeof i);
	out("read %ld signal %d", r, i.ssi_signo);
	return 0;
}

CASE(wait_signalfd_sets)
{
	sigset_t s;
	struct signalfd_siginfo i[4];
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGCHLD);
	sigaddset(&s, SIGRTMIN);
	Q(sigprocmask(SIG_BLOCK, &s, 0));
	sigdelset(&s, SIGCHLD);
	int fd = Q(signalfd(-1, &s, SFD_NONBLOCK | SFD_CLOEXEC)), e = Q(epoll_create1(0));
	struct epoll_event ev = {EPOLLIN, {.u64 = 1}}, got[2];
	Q(epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev));
	for (int k = 0; k < 3; k++) {
		kill(getpid(), SIGUSR1); /* one only */
		sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = k});
	}
	R(epoll_wait(e, got, 2, 0));
	long n = read(fd, i, sizeof i);
	out("%ld of them", n / (long)sizeof i[0]);
	for (int k = 0; k < n / (long)sizeof i[0]; k++)
		out("%s %d", i[k].ssi_signo == SIGUSR1 ? "USR1" : "RTMIN", i[k].ssi_signo == SIGUSR1 ? 0 : i[k].ssi_int);
	R(epoll_wait(e, got, 2, 0));
	pid_t p = fork();
	if (p == 0)
		_exit(9);
	while (waitpid(p, 0, WNOHANG) == 0)
		sleep_ms(1);
	R(read(fd, i, sizeof i)); /* SIGCHLD waits, and is not in the set */
	sigaddset(&s, SIGCHLD);
	R(signalfd(fd, &s, 0) == fd);
	R(epoll_wait(e, got, 2, 0));
	R(read(fd, i, sizeof i) / sizeof i[0]);
	out("%d status %d the child %d", i[0].ssi_signo, i[0].ssi_status, i[0].ssi_pid == p);
	R(signalfd(fd, &s, 0x10));
	R(signalfd(e, &s, 0));
	R(syscall(SYS_signalfd4, -1, &s, 4, 0));
	int b = Q(signalfd(-1, &s, 0));
	pthread_t t;
	pthread_create(&t, 0, wait_read, (void *)(long)b);
	sleep_ms(30);
	kill(getpid(), SIGUSR1);
	pthread_join(t, 0);
}

CASE(wait_pidfd_kinds)
{
	siginfo_t i = {0};
	pid_t p = fork();
	if (p == 0) {
		pause();
		_exit(0);
	}
	int fd = Q(syscall(434, p, 0));
	R(fcntl(fd, F_GETFD));
	R(syscall(434, p, 1));
	R(syscall(434, -1, 0));
	R(waitid(3 /* P_PIDFD */, fd, &i, WEXITED | WNOHANG));
	out("pid %d", i.si_pid);
	int e = Q(epoll_create1(0));
	struct epoll_event ev = {EPOLLIN, {.u64 = 1}}, got[2];
	Q(epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev));
	R(epoll_wait(e, got, 2, 0));
	R(syscall(424, fd, SIGKILL, 0, 0));
	R(epoll_wait(e, got, 2, 5000));
	out("events %x", got[0].events);
	R(waitid(3, fd, &i, WEXITED | WNOWAIT));
	R(waitid(3, fd, &i, WEXITED));
	out("code %d status %d the child %d", i.si_code, i.si_status, i.si_pid == p);
	R(waitid(3, fd, &i, WEXITED));
	R(waitid(3, 0, &i, WEXITED));
	R(syscall(424, fd, SIGTERM, 0, 0));
	R(syscall(424, 0, SIGTERM, 0, 0));
	char b[8];
	R(read(fd, b, 8));
}

static void exit_5(int s)
{
	_exit(5);
}

CASE(wait_waitid)
{
	siginfo_t i;
	signal(SIGUSR1, exit_5);
	pid_t p = fork();
	if (p == 0) {
		raise(SIGSTOP);
		for (;;)
			pause();
	}
#define SHOW(...) memset(&i, 0, sizeof i); R(waitid(__VA_ARGS__)); out("signal %d code %d status %d the child %d", i.si_signo, i.si_code, i.si_status, i.si_pid == p)
	SHOW(P_PID, p, &i, WSTOPPED);
	SHOW(P_PID, p, &i, WSTOPPED | WEXITED | WNOHANG);
	kill(p, SIGCONT);
	SHOW(P_ALL, 0, &i, WCONTINUED);
	kill(p, SIGUSR1);
	SHOW(P_PGID, 0, &i, WEXITED | WNOWAIT);
	SHOW(P_PGID, getpgrp(), &i, WEXITED | WNOWAIT);
	SHOW(P_PID, p, &i, WEXITED);
	SHOW(P_PID, p, &i, WEXITED);
	R(waitid(P_PID, p, &i, 0));
	R(waitid(P_PID, p, &i, WEXITED | 0x100));
	R(waitid(9, p, &i, WEXITED));
	p = fork();
	if (p == 0)
		_exit(300);
	struct rusage u;
	R(syscall(SYS_waitid, P_PID, p, 0, WEXITED, &u));
	int st;
	p = fork();
	if (p == 0)
		abort();
	R(wait4(p, &st, __WALL, &u) == p);
	out("signal %d", WTERMSIG(st));
	R(wait4(-1, &st, 0x100, 0));
}

CASE(wait_prlimit)
{
	struct rlimit r, o;
	R(prlimit(0, RLIMIT_NOFILE, 0, &o));
	r = (struct rlimit){20, 30};
	R(prlimit(0, RLIMIT_NOFILE, &r, 0));
	R(fcntl(0, F_DUPFD, 19));
	R(fcntl(0, F_DUPFD, 20));
	R(dup2(0, 20));
	while (dup(0) >= 0)
		;
	out("%s", strerrorname_np(errno));
	int p[2];
	R(pipe(p));
	r = (struct rlimit){31, 30};
	R(prlimit(0, RLIMIT_NOFILE, &r, 0));
	R(prlimit(0, 99, &r, 0));
	R(prlimit(999999, RLIMIT_NOFILE, 0, &r));
	R(prlimit(0, RLIMIT_NOFILE, (void *)8, 0));
	R(prlimit(getppid(), RLIMIT_NOFILE, 0, &r));
	out("the parent's is another %d", r.rlim_cur != 20);
	Q(setresuid(1000, 1000, 1000));
	r = (struct rlimit){20, 50};
	R(prlimit(0, RLIMIT_NOFILE, &r, 0));
	r = (struct rlimit){10, 40};
	R(prlimit(0, RLIMIT_NOFILE, &r, 0));
	R(prlimit(getppid(), RLIMIT_NOFILE, 0, &r));
}
