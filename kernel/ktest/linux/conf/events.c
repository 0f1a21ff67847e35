/* Pipes and what can be waited for: eventfd, timerfd, signalfd, epoll, poll, select. */
#include "conf.h"

CASE(pipe_basic)
{
	int p[2];
	char b[10] = {0};
	R(pipe(p));
	R(write(p[1], "abc", 3));
	R(read(p[0], b, 2));
	R(read(p[0], b, 10));
	R(read(p[1], b, 1));
	R(write(p[0], b, 1));
	close(p[1]);
	R(read(p[0], b, 1));
	R(pipe((int *)8));
	R(pipe2(p, 0x7));
	R(pipe2(p, O_CLOEXEC | O_NONBLOCK));
	R(fcntl(p[0], F_GETFD));
	R(fcntl(p[1], F_GETFL) & (O_NONBLOCK | O_ACCMODE));
	R(read(p[0], b, 1));
}

CASE(pipe_sigpipe)
{
	int p[2];
	Q(pipe(p));
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	R(write(p[1], "x", 1));
	signal(SIGPIPE, SIG_DFL);
	if (fork() == 0) {
		write(p[1], "x", 1);
		out("not reached");
		_exit(0);
	}
	int st;
	wait(&st);
	out("signalled %d by %d", WIFSIGNALED(st), WTERMSIG(st));
}

CASE(pipe_full)
{
	int p[2];
	static char b[1 << 17];
	Q(pipe2(p, O_NONBLOCK));
	R(write(p[1], b, sizeof b));
	R(write(p[1], b, 1));
	struct pollfd f = {p[1], POLLOUT, 0};
	R(poll(&f, 1, 0));
	R(read(p[0], b, 4096));
	R(poll(&f, 1, 0));
	R(write(p[1], b, 4096));
	R(fcntl(p[0], F_GETPIPE_SZ));
	R(ioctl(p[0], FIONREAD, &(int){0}));
	int n;
	ioctl(p[0], FIONREAD, &n);
	out("FIONREAD %d", n);
	R(fcntl(p[1], F_SETPIPE_SZ, 4096));
	R(fcntl(p[1], F_SETPIPE_SZ, 1 << 18));
	R(write(p[1], b, sizeof b));
}

CASE(pipe_blocking)
{
	int p[2], q[2];
	char b[100];
	Q(pipe(p));
	Q(pipe(q));
	if (fork() == 0) {
		close(p[1]);
		long sum = 0, n;
		static char big[5000];
		while ((n = read(p[0], big, sizeof big)) > 0)
			sum += n;
		dprintf(q[1], "%ld", sum);
		_exit(0);
	}
	static char big[300000];
	R(write(p[1], big, sizeof big));
	R(write(p[1], big, sizeof big));
	close(p[1]);
	int n = read(q[0], b, 99);
	b[n] = 0;
	out("child read %s", b);
	wait(0);
}

CASE(pipe_eof_order)
{
	int p[2];
	char b[10];
	struct pollfd f;
	Q(pipe(p));
	f = (struct pollfd){p[0], POLLIN, 0};
	R(poll(&f, 1, 0));
	Q(write(p[1], "x", 1));
	R(poll(&f, 1, 0));
	out("revents %x", f.revents);
	close(p[1]);
	R(poll(&f, 1, 0));
	out("revents %x", f.revents);
	R(read(p[0], b, 10));
	R(poll(&f, 1, 0));
	out("revents %x", f.revents);
	R(read(p[0], b, 10));
	Q(pipe(p));
	close(p[0]);
	f = (struct pollfd){p[1], POLLOUT, 0};
	R(poll(&f, 1, 0));
	out("revents %x", f.revents);
}

CASE(eventfd_counter)
{
	uint64_t v;
	int fd = Q(eventfd(3, EFD_NONBLOCK));
	R(read(fd, &v, 8));
	out("%llu", (unsigned long long)v);
	R(read(fd, &v, 8));
	v = 5;
	R(write(fd, &v, 8));
	R(write(fd, &v, 8));
	R(read(fd, &v, 8));
	out("%llu", (unsigned long long)v);
	R(write(fd, &v, 4));
	R(read(fd, &v, 4));
	v = -1;
	R(write(fd, &v, 8));
	v = -2;
	R(write(fd, &v, 8));
	v = 1;
	R(write(fd, &v, 8));
	struct pollfd f = {fd, POLLIN | POLLOUT, 0};
	R(poll(&f, 1, 0));
	out("revents %x", f.revents);
	R(eventfd(0, 0x10));
	R(lseek(fd, 0, SEEK_SET));
}

CASE(eventfd_semaphore)
{
	uint64_t v;
	int fd = Q(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC));
	for (int i = 0; i < 3; i++) {
		R(read(fd, &v, 8));
		out("%llu", (unsigned long long)v);
	}
	R(fcntl(fd, F_GETFD));
}

static void *write_event(void *fd)
{
	sleep_ms(30);
	uint64_t v = 9;
	write((long)fd, &v, 8);
	return 0;
}

CASE(eventfd_blocks)
{
	uint64_t v = 0;
	pthread_t t;
	int fd = Q(eventfd(0, 0));
	pthread_create(&t, 0, write_event, (void *)(long)fd);
	R(read(fd, &v, 8));
	out("%llu", (unsigned long long)v);
	pthread_join(t, 0);
}

CASE(timerfd_basic)
{
	uint64_t n;
	int fd = Q(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	R(read(fd, &n, 8));
	struct itimerspec t = {{0, 0}, {0, 20000000}}, o;
	R(timerfd_settime(fd, 0, &t, 0));
	R(timerfd_gettime(fd, &o));
	out("armed %d", o.it_value.tv_nsec > 0);
	struct pollfd f = {fd, POLLIN, 0};
	R(poll(&f, 1, 5000));
	R(read(fd, &n, 8));
	out("%llu", (unsigned long long)n);
	R(read(fd, &n, 8));
	R(timerfd_gettime(fd, &o));
	out("disarmed %d", !o.it_value.tv_nsec && !o.it_value.tv_sec);
	t = (struct itimerspec){{0, 5000000}, {0, 5000000}};
	Q(timerfd_settime(fd, 0, &t, 0));
	sleep_ms(50);
	Q(read(fd, &n, 8));
	out("several %d", n >= 5 && n < 100);
	R(timerfd_create(99, 0));
	R(timerfd_create(CLOCK_MONOTONIC, 0x1));
	t.it_value.tv_nsec = 1000000000;
	R(timerfd_settime(fd, 0, &t, 0));
	R(timerfd_settime(0, 0, &o, 0));
}

CASE(timerfd_absolute)
{
	uint64_t n;
	int fd = Q(timerfd_create(CLOCK_REALTIME, 0));
	struct itimerspec t = {{0, 0}, {1, 0}}; /* long ago */
	R(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, 0));
	R(read(fd, &n, 8));
	out("%llu", (unsigned long long)n);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_nsec += 20000000;
	if (now.tv_nsec >= 1000000000)
		now.tv_sec++, now.tv_nsec -= 1000000000;
	t.it_value = now;
	Q(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, 0));
	R(read(fd, &n, 8));
}

CASE(signalfd_basic)
{
	sigset_t s;
	struct signalfd_siginfo i;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGRTMIN);
	Q(sigprocmask(SIG_BLOCK, &s, 0));
	int fd = Q(signalfd(-1, &s, SFD_NONBLOCK));
	R(read(fd, &i, sizeof i));
	Q(kill(getpid(), SIGUSR1));
	sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 77});
	struct pollfd f = {fd, POLLIN, 0};
	R(poll(&f, 1, 0));
	R(read(fd, &i, sizeof i) / sizeof i);
	out("signal %d code %d me %d", i.ssi_signo, i.ssi_code, i.ssi_pid == (unsigned)getpid());
	R(read(fd, &i, sizeof i) / sizeof i);
	out("signal is SIGRTMIN %d value %d code %d", i.ssi_signo == (unsigned)SIGRTMIN, i.ssi_int, i.ssi_code);
	R(read(fd, &i, 10));
	R(poll(&f, 1, 0));
}

CASE(epoll_basic)
{
	int p[2], e = Q(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event ev = {EPOLLIN, {.u64 = 42}}, got[4];
	Q(pipe(p));
	R(epoll_wait(e, got, 4, 0));
	R(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
	R(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
	R(epoll_wait(e, got, 4, 0));
	Q(write(p[1], "x", 1));
	R(epoll_wait(e, got, 4, -1));
	out("events %x data %llu", got[0].events, (unsigned long long)got[0].data.u64);
	R(epoll_wait(e, got, 4, 0));
	ev.data.u64 = 43;
	R(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev));
	R(epoll_wait(e, got, 4, 0));
	out("data %llu", (unsigned long long)got[0].data.u64);
	R(epoll_ctl(e, EPOLL_CTL_DEL, p[0], 0));
	R(epoll_ctl(e, EPOLL_CTL_DEL, p[0], 0));
	R(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev));
	R(epoll_wait(e, got, 4, 0));
	R(epoll_wait(e, got, 0, 0));
	R(epoll_wait(p[0], got, 4, 0));
	R(epoll_ctl(e, EPOLL_CTL_ADD, e, &ev));
	R(epoll_ctl(e, EPOLL_CTL_ADD, 99, &ev));
	R(epoll_ctl(e, 99, p[0], &ev));
	int f = Q(open("f", O_RDWR | O_CREAT, 0644));
	R(epoll_ctl(e, EPOLL_CTL_ADD, f, &ev));
	R(epoll_create(0));
	R(epoll_create1(1));
	R(read(e, got, 4));
}

CASE(epoll_edge)
{
	int p[2], e = Q(epoll_create1(0));
	char b[10];
	struct epoll_event ev = {EPOLLIN | EPOLLET, {.u64 = 1}}, got[4];
	Q(pipe(p));
	Q(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
	Q(write(p[1], "ab", 2));
	R(epoll_wait(e, got, 4, 0));
	R(epoll_wait(e, got, 4, 0));
	R(read(p[0], b, 1));
	R(epoll_wait(e, got, 4, 0));
	Q(write(p[1], "c", 1));
	R(epoll_wait(e, got, 4, 0));
	R(epoll_wait(e, got, 4, 0));
	Q(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev));
	R(epoll_wait(e, got, 4, 0));
	close(p[1]);
	R(epoll_wait(e, got, 4, 0));
	out("events %x", got[0].events);
}

CASE(epoll_oneshot)
{
	int p[2], e = Q(epoll_create1(0));
	struct epoll_event ev = {EPOLLIN | EPOLLONESHOT, {.u64 = 1}}, got[4];
	Q(pipe(p));
	Q(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
	Q(write(p[1], "ab", 2));
	R(epoll_wait(e, got, 4, 0));
	R(epoll_wait(e, got, 4, 0));
	Q(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev));
	R(epoll_wait(e, got, 4, 0));
}

CASE(epoll_many)
{
	enum { N = 100 };
	int p[N][2], e = Q(epoll_create1(0)), seen[N] = {0};
	struct epoll_event got[7];
	for (int i = 0; i < N; i++) {
		Q(pipe(p[i]));
		struct epoll_event ev = {EPOLLIN, {.u32 = i}};
		Q(epoll_ctl(e, EPOLL_CTL_ADD, p[i][0], &ev));
		Q(write(p[i][1], "x", 1));
	}
	int rounds = 0, total = 0;
	char b;
	for (;;) {
		int n = Q(epoll_wait(e, got, 7, 0));
		if (!n)
			break;
		rounds++;
		for (int i = 0; i < n; i++) {
			seen[got[i].data.u32]++;
			total++;
			Q(read(p[got[i].data.u32][0], &b, 1));
		}
	}
	int all = 1;
	for (int i = 0; i < N; i++)
		all &= seen[i] == 1;
	out("total %d rounds %d all once %d", total, rounds, all);
}

CASE(epoll_close_and_dup)
{
	int p[2], e = Q(epoll_create1(0));
	struct epoll_event ev = {EPOLLIN, {.u64 = 5}}, got[4];
	Q(pipe(p));
	Q(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
	Q(write(p[1], "x", 1));
	int d = Q(dup(p[0]));
	close(p[0]);
	R(epoll_wait(e, got, 4, 0)); /* the open file lives on in d */
	close(d);
	R(epoll_wait(e, got, 4, 0));
}

CASE(epoll_nested)
{
	int p[2], a = Q(epoll_create1(0)), b = Q(epoll_create1(0));
	struct epoll_event ev = {EPOLLIN, {.u64 = 1}}, got[4];
	Q(pipe(p));
	R(epoll_ctl(a, EPOLL_CTL_ADD, p[0], &ev));
	R(epoll_ctl(b, EPOLL_CTL_ADD, a, &ev));
	R(epoll_ctl(a, EPOLL_CTL_ADD, b, &ev));
	R(epoll_wait(b, got, 4, 0));
	Q(write(p[1], "x", 1));
	R(epoll_wait(b, got, 4, 100));
	struct pollfd f = {b, POLLIN, 0};
	R(poll(&f, 1, 0));
}

CASE(epoll_hup_and_out)
{
	int s[2], e = Q(epoll_create1(0));
	struct epoll_event ev = {EPOLLIN | EPOLLOUT | EPOLLRDHUP, {.u64 = 1}}, got[4];
	Q(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	Q(epoll_ctl(e, EPOLL_CTL_ADD, s[0], &ev));
	R(epoll_wait(e, got, 4, 0));
	out("events %x", got[0].events);
	shutdown(s[1], SHUT_WR);
	R(epoll_wait(e, got, 4, 0));
	out("events %x", got[0].events);
	close(s[1]);
	R(epoll_wait(e, got, 4, 0));
	out("events %x", got[0].events);
}

CASE(epoll_timeout)
{
	int e = Q(epoll_create1(0));
	struct epoll_event got[1];
	long t = ms_now();
	R(epoll_wait(e, got, 1, 50));
	t = ms_now() - t;
	out("waited %d", t >= 49 && t < 2000);
	struct timespec ts = {0, 30000000};
	R(syscall(441, e, got, 1, &ts, 0, 8)); /* epoll_pwait2 */
	ts.tv_nsec = -1;
	R(syscall(441, e, got, 1, &ts, 0, 8));
}

static void *epoll_waker(void *fd)
{
	sleep_ms(30);
	write((long)fd, "x", 1);
	return 0;
}

CASE(epoll_wakes)
{
	int p[2], e = Q(epoll_create1(0));
	struct epoll_event ev = {EPOLLIN, {.u64 = 1}}, got[4];
	pthread_t t;
	Q(pipe(p));
	pthread_create(&t, 0, epoll_waker, (void *)(long)p[1]);
	struct epoll_event ev2 = ev;
	Q(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev2));
	R(epoll_wait(e, got, 4, -1));
	pthread_join(t, 0);
}

static void ignore_it(int s)
{
}

CASE(epoll_pwait_mask)
{
	int e = Q(epoll_create1(0));
	sigset_t none, usr;
	struct epoll_event got[1];
	sigemptyset(&none);
	sigemptyset(&usr);
	sigaddset(&usr, SIGUSR1);
	Q(sigprocmask(SIG_BLOCK, &usr, 0));
	struct sigaction sa = {.sa_handler = ignore_it};
	Q(sigaction(SIGUSR1, &sa, 0));
	Q(kill(getpid(), SIGUSR1));
	R(epoll_wait(e, got, 1, 10));
	R(epoll_pwait(e, got, 1, 1000, &none));
	sigset_t p;
	Q(sigpending(&p));
	out("pending %d", sigismember(&p, SIGUSR1));
}

CASE(poll_basic)
{
	int p[2];
	Q(pipe(p));
	struct pollfd f[] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {-1, POLLIN, 9}, {99, POLLIN, 0}};
	R(poll(f, 4, 0));
	for (int i = 0; i < 4; i++)
		out("revents %x", f[i].revents);
	R(poll(0, 0, 10));
	R(poll((void *)8, 1, 0));
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	struct pollfd g = {fd, POLLIN | POLLOUT, 0};
	R(poll(&g, 1, -1));
	out("revents %x", g.revents);
	struct timespec t = {0, 10000000};
	R(ppoll(f, 1, &t, 0));
	t.tv_nsec = 2000000000;
	R(ppoll(f, 1, &t, 0));
}

CASE(select_basic)
{
	int p[2];
	fd_set r, w;
	struct timeval t = {0, 20000};
	Q(pipe(p));
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(p[0], &r);
	FD_SET(p[1], &w);
	R(select(p[1] + 1, &r, &w, 0, &t));
	out("r %d w %d", FD_ISSET(p[0], &r) != 0, FD_ISSET(p[1], &w) != 0);
	FD_SET(p[0], &r);
	R(select(p[0] + 1, &r, 0, 0, &t));
	out("left %ld.%06ld r %d", (long)t.tv_sec, (long)t.tv_usec, FD_ISSET(p[0], &r) != 0);
	Q(write(p[1], "x", 1));
	FD_SET(p[0], &r);
	R(select(p[0] + 1, &r, 0, 0, 0));
	FD_ZERO(&r);
	FD_SET(500, &r);
	R(select(501, &r, 0, 0, &(struct timeval){0, 0}));
	R(select(-1, 0, 0, 0, 0));
	struct timespec ts = {0, 1000};
	R(pselect(0, 0, 0, 0, &ts, 0));
	t.tv_sec = -1;
	R(select(0, 0, 0, 0, &t));
}
