/* Processes, threads, futexes, signals. */
#include "conf.h"
#include <grp.h>

static void wait_show(pid_t p)
{
	int st;
	pid_t r = waitpid(p, &st, 0);
	if (r < 0)
		out("wait: %s", strerrorname_np(errno));
	else if (WIFEXITED(st))
		out("exited %d", WEXITSTATUS(st));
	else
		out("signalled %d", WTERMSIG(st));
}

#define CHILD(...) ({ pid_t p_ = fork(); if (!p_) { __VA_ARGS__; _exit(0); } p_; })

CASE(proc_fork_wait)
{
	wait_show(CHILD(_exit(7)));
	wait_show(CHILD(raise(SIGTERM)));
	wait_show(CHILD(abort()));
	wait_show(CHILD(*(volatile int *)0 = 1));
	R(waitpid(-1, 0, 0));
	R(waitpid(1, 0, 0));
	R(waitpid(-1, 0, 0x1000000 | 64));
	pid_t p = CHILD(pause());
	R(waitpid(p, 0, WNOHANG));
	kill(p, SIGKILL);
	wait_show(p);
	R(kill(p, 0));
}

CASE(proc_fork_copies)
{
	int x = 1, fd = Q(open("f", O_RDWR | O_CREAT, 0644));
	wait_show(CHILD(x = 2; write(fd, "child", 5); close(fd)));
	out("x %d", x);
	R(lseek(fd, 0, SEEK_CUR));
	R(fcntl(fd, F_GETFD));
}

CASE(proc_wait_stop)
{
	int st;
	pid_t p = CHILD(raise(SIGSTOP); _exit(3));
	Q(waitpid(p, &st, WUNTRACED));
	out("stopped %d by %d", WIFSTOPPED(st), WSTOPSIG(st));
	kill(p, SIGCONT);
	Q(waitpid(p, &st, WCONTINUED));
	if (WIFCONTINUED(st)) {
		out("continued");
		Q(waitpid(p, &st, 0));
	} else
		out("continued");
	out("exited %d", WEXITSTATUS(st));
}

CASE(proc_waitid)
{
	siginfo_t i = {0};
	pid_t p = CHILD(_exit(9));
	R(waitid(P_PID, p, &i, WEXITED | WNOWAIT));
	out("signal %d code %d status %d pid %d", i.si_signo, i.si_code, i.si_status, i.si_pid == p);
	R(waitid(P_PID, p, &i, WEXITED));
	R(waitid(P_PID, p, &i, WEXITED));
	R(waitid(P_ALL, 0, &i, 0));
}

CASE(proc_orphan)
{
	int p[2];
	char c;
	Q(pipe(p));
	pid_t mid = CHILD(if (fork() == 0) { sleep_ms(100); write(p[1], getppid() == getpid() ? "?" : "o", 1); _exit(0); });
	wait_show(mid);
	close(p[1]);
	R(read(p[0], &c, 1));
	R(read(p[0], &c, 1));
}

CASE(proc_ids)
{
	out("ppid of child %d", ({ pid_t me = getpid(); int st; pid_t p = CHILD(_exit(getppid() == me)); waitpid(p, &st, 0); WEXITSTATUS(st); }));
	out("tid of leader %d", gettid() == getpid());
	out("group leader %d", getpgrp() == getpid());
	R(setpgid(0, 99999));
	R(setsid());
	pid_t p = CHILD(R(setsid() == getpid()); R(getsid(0) == getpid()));
	wait_show(p);
	R(getpgid(99999));
	R(getsid(99999));
}

CASE(proc_creds)
{
	uid_t a, b, c;
	R(getuid());
	R(setresuid(1000, 1001, 0));
	Q(getresuid(&a, &b, &c));
	out("%d %d %d", a, b, c);
	R(seteuid(55));
	R(seteuid(0));
	R(setgroups(2, (gid_t[]){7, 3}));
	gid_t g[5];
	R(getgroups(5, g));
	out("%d %d", g[0], g[1]);
	R(getgroups(1, g));
	R(setresgid(5, 6, 7));
	R(getegid());
	R(setuid(1000));
	Q(getresuid(&a, &b, &c));
	out("%d %d %d", a, b, c);
	R(setuid(0));
	R(setgid(0));
	R(setgroups(0, 0));
}

CASE(proc_rlimits)
{
	struct rlimit r;
	Q(getrlimit(RLIMIT_NOFILE, &r));
	r.rlim_cur = 20;
	R(setrlimit(RLIMIT_NOFILE, &r));
	int n = 0, fd;
	while ((fd = open("/", O_RDONLY)) >= 0)
		n = fd;
	out("last descriptor %d, then %s", n, strerrorname_np(errno));
	R(dup2(0, 20));
	R(fcntl(0, F_DUPFD, 20));
	r.rlim_cur = r.rlim_max + 1;
	if (r.rlim_max != RLIM_INFINITY)
		R(setrlimit(RLIMIT_NOFILE, &r));
	R(getrlimit(99, &r));
	struct rlimit old;
	R(prlimit(0, RLIMIT_CORE, &(struct rlimit){0, 0}, &old));
	Q(prlimit(0, RLIMIT_CORE, 0, &r));
	out("%ld %ld", (long)r.rlim_cur, (long)r.rlim_max);
	Q(getrlimit(RLIMIT_STACK, &r));
	out("stack %ld", (long)r.rlim_cur);
}

extern char **environ;

CASE(exec_self)
{
	char self[4096];
	int n = Q(readlink("/proc/self/exe", self, sizeof self - 1));
	self[n] = 0;
	int a = Q(open("/", O_RDONLY));
	Q(dup3(a, 10, 0));
	Q(dup3(a, 11, O_CLOEXEC));
	struct sigaction sa = {.sa_handler = (void (*)(int))wait_show};
	Q(sigaction(SIGUSR1, &sa, 0));
	signal(SIGUSR2, SIG_IGN);
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGHUP);
	sigprocmask(SIG_BLOCK, &s, 0);
	pid_t p = CHILD(char *argv[] = {"conf", "exec-helper", "one", "two words", "", 0};
			char *env[] = {"X=y", 0}; execve(self, argv, env); _exit(99));
	wait_show(p);
}

CASE(exec_errors)
{
	char *argv[] = {"x", 0};
	R(execve("none", argv, environ));
	R(execve("/", argv, environ));
	put_file("text", "not a program\n");
	R(execve("text", argv, environ));
	Q(chmod("text", 0755));
	R(execve("text", argv, environ));
	put_file("empty", "");
	Q(chmod("empty", 0755));
	R(execve("empty", argv, environ));
	put_file("short", "\177ELF");
	Q(chmod("short", 0755));
	R(execve("short", argv, environ));
	put_file("script", "#!/no/such/interpreter\n");
	Q(chmod("script", 0755));
	R(execve("script", argv, environ));
	R(execve((void *)8, argv, environ));
	R(execve("text", (void *)8, environ));
}

CASE(exec_script)
{
	char self[4096], text[5000];
	int n = Q(readlink("/proc/self/exe", self, sizeof self - 1));
	self[n] = 0;
	snprintf(text, sizeof text, "#!%s exec-helper\n", self);
	put_file("script", text);
	Q(chmod("script", 0755));
	pid_t p = CHILD(char *argv[] = {"ignored", "arg", 0}; char *env[] = {0}; execve("./script", argv, env); _exit(99));
	wait_show(p);
}

CASE(exec_vfork)
{
	char self[4096];
	int n = Q(readlink("/proc/self/exe", self, sizeof self - 1));
	self[n] = 0;
	char *argv[] = {"conf", "exec-helper", 0}, *env[] = {0};
	volatile int before = 0;
	pid_t p = vfork();
	if (p == 0) {
		before = 1;
		execve(self, argv, env);
		_exit(99);
	}
	wait_show(p);
	out("shared memory until exec %d", before);
}

CASE(proc_prctl)
{
	char b[17] = {0};
	R(prctl(PR_SET_NAME, "a name that is too long"));
	R(prctl(PR_GET_NAME, b));
	out("%s", b);
	show_file("/proc/self/comm");
	R(prctl(PR_SET_PDEATHSIG, SIGUSR1));
	int s;
	R(prctl(PR_GET_PDEATHSIG, &s));
	out("%d", s);
	R(prctl(PR_SET_PDEATHSIG, 99));
	R(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	R(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	R(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
	R(prctl(PR_GET_DUMPABLE));
	R(prctl(9999));
}

CASE(proc_pdeathsig)
{
	int p[2];
	char c;
	Q(pipe(p));
	pid_t m = CHILD(if (fork() == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); write(p[1], "r", 1); pause(); } Q(read(p[0], &c, 1)));
	wait_show(m);
	close(p[1]);
	R(read(p[0], &c, 1)); /* the end: nobody is left who could write */
}

CASE(proc_affinity)
{
	cpu_set_t c;
	CPU_ZERO(&c);
	CPU_SET(0, &c);
	R(sched_setaffinity(0, sizeof c, &c));
	R(sched_getcpu());
}

CASE(proc_sched)
{
	cpu_set_t c;
	R(sched_getaffinity(0, sizeof c, &c) == 0 && CPU_COUNT(&c) > 0);
	CPU_ZERO(&c);
	CPU_SET(0, &c);
	R(sched_setaffinity(0, sizeof c, &c));
	CPU_ZERO(&c);
	R(sched_setaffinity(0, sizeof c, &c));
	R(syscall(SYS_sched_getaffinity, 0, 4, &c));
	R(sched_yield());
	R(sched_getscheduler(0));
	R(getpriority(PRIO_PROCESS, 0));
	R(setpriority(PRIO_PROCESS, 0, 5));
	R(getpriority(PRIO_PROCESS, 0));
	R(sched_get_priority_max(SCHED_FIFO));
	R(sched_get_priority_min(SCHED_OTHER));
	R(getpriority(PRIO_PROCESS, 99999));
}

static atomic_int counter;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int plain;

static void *add(void *n)
{
	for (long i = 0; i < (long)n; i++) {
		counter++;
		pthread_mutex_lock(&mu);
		plain++;
		pthread_mutex_unlock(&mu);
	}
	return n;
}

CASE(thread_mutex)
{
	pthread_t t[8];
	for (int i = 0; i < 8; i++)
		Q(-pthread_create(&t[i], 0, add, (void *)2000));
	long sum = 0;
	for (int i = 0; i < 8; i++) {
		void *r;
		pthread_join(t[i], &r);
		sum += (long)r;
	}
	out("%d %d %ld", counter, plain, sum);
}

static int stage;

static void *cond_side(void *x)
{
	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&mu);
		while (stage % 2 == 0)
			pthread_cond_wait(&cond, &mu);
		stage++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mu);
	}
	return 0;
}

CASE(thread_cond)
{
	pthread_t t;
	pthread_create(&t, 0, cond_side, 0);
	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&mu);
		while (stage % 2 == 1)
			pthread_cond_wait(&cond, &mu);
		stage++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mu);
	}
	pthread_join(t, 0);
	out("%d", stage);
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec--;
	pthread_mutex_lock(&mu);
	R(pthread_cond_timedwait(&cond, &mu, &ts));
}

CASE(thread_rwlock_barrier_sem)
{
	pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER;
	R(pthread_rwlock_rdlock(&l));
	R(pthread_rwlock_tryrdlock(&l));
	R(pthread_rwlock_trywrlock(&l));
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_t m;
	pthread_mutex_init(&m, &a);
	R(pthread_mutex_lock(&m));
	R(pthread_mutex_lock(&m));
	R(pthread_mutex_unlock(&m));
	R(pthread_mutex_unlock(&m));
}

static __thread int tls = 5;

static void *tls_side(void *x)
{
	int was = tls;
	tls = 9;
	return (void *)(long)(was * 10 + tls);
}

CASE(thread_tls)
{
	pthread_t t;
	void *r;
	tls = 6;
	pthread_create(&t, 0, tls_side, 0);
	pthread_join(t, &r);
	out("other %ld own %d", (long)r, tls);
}

static void *tid_side(void *x)
{
	*(pid_t *)x = gettid();
	return (void *)(long)getpid();
}

CASE(thread_ids)
{
	pthread_t t;
	pid_t tid;
	void *r;
	pthread_create(&t, 0, tid_side, &tid);
	pthread_join(t, &r);
	out("tid differs %d, pid the same %d", tid != getpid(), (long)r == getpid());
	int n = 0;
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	out("tasks %d", n);
}

static void *sleeper(void *x)
{
	sleep(100);
	return 0;
}

CASE(thread_exit_group)
{
	pid_t p = CHILD(pthread_t t; pthread_create(&t, 0, sleeper, 0); pthread_create(&t, 0, sleeper, 0); exit(4));
	wait_show(p);
}

static void *exit_side(void *x)
{
	_exit(6);
}

CASE(thread_exit_by_other)
{
	pid_t p = CHILD(pthread_t t; pthread_create(&t, 0, exit_side, 0); pause());
	wait_show(p);
	p = CHILD(pthread_t t; pthread_create(&t, 0, sleeper, 0); pthread_exit(0));
	sleep_ms(50);
	R(waitpid(p, 0, WNOHANG));
	kill(p, SIGKILL);
	wait_show(p);
}

CASE(thread_cancel)
{
	pthread_t t;
	void *r;
	pthread_create(&t, 0, sleeper, 0);
	sleep_ms(20);
	R(pthread_cancel(t));
	pthread_join(t, &r);
	out("cancelled %d", r == PTHREAD_CANCELED);
}

static long futex(void *u, int op, int v, void *t, void *u2, int v3)
{
	return syscall(SYS_futex, u, op, v, t, u2, v3);
}

CASE(futex_basic)
{
	int w = 5, w2 = 0;
	struct timespec t = {0, 20000000};
	R(futex(&w, FUTEX_WAIT, 4, 0, 0, 0));
	R(futex(&w, FUTEX_WAIT, 5, &t, 0, 0));
	R(futex(&w, FUTEX_WAKE, 1, 0, 0, 0));
	R(futex(&w, FUTEX_WAIT_PRIVATE, 4, 0, 0, 0));
	R(futex((char *)&w + 1, FUTEX_WAKE, 1, 0, 0, 0));
	R(futex((void *)4096, FUTEX_WAIT, 1, 0, 0, 0));
	R(futex(&w, FUTEX_WAIT_BITSET, 5, 0, 0, 0));
	R(futex(&w, FUTEX_CMP_REQUEUE, 1, (void *)1, &w2, 4));
	R(futex(&w, FUTEX_CMP_REQUEUE, 1, (void *)1, &w2, 5));
	R(futex(&w, 99, 0, 0, 0, 0));
	t.tv_nsec = -1;
	R(futex(&w, FUTEX_WAIT, 5, &t, 0, 0));
	clock_gettime(CLOCK_MONOTONIC, &t);
	R(futex(&w, FUTEX_WAIT_BITSET, 5, &t, 0, -1));
	R(futex(&w, FUTEX_WAKE_OP, 1, (void *)1, &w2, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 0)));
	out("%d", w2);
}

static int fword, fword2, woken;

static void *fwait(void *x)
{
	while (futex(&fword, FUTEX_WAIT, 0, 0, 0, 0) < 0 && errno == EINTR)
		;
	__atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void until(int *p, int v)
{
	for (int i = 0; i < 2000 && __atomic_load_n(p, __ATOMIC_SEQ_CST) != v; i++)
		sleep_ms(1);
}

CASE(futex_requeue)
{
	pthread_t t[5];
	for (int i = 0; i < 5; i++)
		pthread_create(&t[i], 0, fwait, 0);
	sleep_ms(200);
	R(futex(&fword, FUTEX_WAKE, 1, 0, 0, 0));
	until(&woken, 1);
	R(futex(&fword, FUTEX_CMP_REQUEUE, 1, (void *)10, &fword2, 0));
	until(&woken, 2);
	R(futex(&fword, FUTEX_WAKE, 10, 0, 0, 0));
	R(futex(&fword2, FUTEX_WAKE, 10, 0, 0, 0));
	for (int i = 0; i < 5; i++)
		pthread_join(t[i], 0);
	out("woken %d", woken);
}

static void *fwait_bits(void *b)
{
	futex(&fword, FUTEX_WAIT_BITSET, 0, 0, 0, (long)b);
	__atomic_add_fetch(&woken, (long)b, __ATOMIC_SEQ_CST);
	return 0;
}

CASE(futex_bitset)
{
	pthread_t a, b;
	pthread_create(&a, 0, fwait_bits, (void *)1);
	pthread_create(&b, 0, fwait_bits, (void *)2);
	sleep_ms(100);
	R(futex(&fword, FUTEX_WAKE_BITSET, 10, 0, 0, 4));
	R(futex(&fword, FUTEX_WAKE_BITSET, 10, 0, 0, 2));
	until(&woken, 2);
	out("%d", woken);
	R(futex(&fword, FUTEX_WAKE, 10, 0, 0, 0));
	pthread_join(a, 0);
	pthread_join(b, 0);
}

CASE(futex_shared_processes)
{
	int *w = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t p = CHILD(while (*(volatile int *)w == 0) futex(w, FUTEX_WAIT, 0, 0, 0, 0); _exit(*w));
	sleep_ms(50);
	*w = 8;
	R(futex(w, FUTEX_WAKE, 1, 0, 0, 0));
	wait_show(p);
}

CASE(futex_robust)
{
	pthread_mutexattr_t a;
	pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(m, &a);
	wait_show(CHILD(pthread_mutex_lock(m)));
	int r = pthread_mutex_lock(m);
	out("%s", r ? strerrorname_np(r) : "0");
	R(pthread_mutex_consistent(m));
	R(pthread_mutex_unlock(m));
	R(pthread_mutex_lock(m));
}

/* Signals. */

static volatile int sig_n, sig_last, sig_code, sig_value, sig_depth, sig_max;
static volatile pid_t sig_pid;

static void on_sig(int s, siginfo_t *i, void *u)
{
	sig_n++;
	sig_last = s;
	sig_code = i->si_code;
	sig_value = i->si_value.sival_int;
	sig_pid = i->si_pid;
}

static void handle(int s, int flags)
{
	struct sigaction sa = {.sa_sigaction = on_sig, .sa_flags = SA_SIGINFO | flags};
	Q(sigaction(s, &sa, 0));
}

CASE(signal_basic)
{
	handle(SIGUSR1, 0);
	R(kill(getpid(), SIGUSR1));
	out("n %d signal %d code %d from me %d", sig_n, sig_last, sig_code, sig_pid == getpid());
	R(raise(SIGUSR1));
	out("n %d code %d", sig_n, sig_code);
	R(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
	out("n %d", sig_n);
	R(syscall(SYS_tgkill, getpid(), 999999, SIGUSR1));
	R(kill(getpid(), 0));
	R(kill(getpid(), 99));
	R(kill(999999, SIGUSR1));
	struct sigaction sa = {.sa_handler = SIG_IGN};
	R(sigaction(SIGKILL, &sa, 0));
	R(sigaction(SIGSTOP, &sa, 0));
	R(sigaction(99, &sa, 0));
	R(sigaction(SIGKILL, 0, &sa));
}

CASE(signal_mask)
{
	sigset_t s, o;
	handle(SIGUSR1, 0);
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGKILL);
	R(sigprocmask(SIG_BLOCK, &s, 0));
	raise(SIGUSR1);
	raise(SIGUSR1);
	Q(sigpending(&o));
	out("n %d pending %d", sig_n, sigismember(&o, SIGUSR1));
	R(sigprocmask(SIG_SETMASK, 0, &o));
	out("blocked %d %d", sigismember(&o, SIGUSR1), sigismember(&o, SIGKILL));
	R(sigprocmask(SIG_UNBLOCK, &s, 0));
	out("n %d", sig_n);
	R(sigprocmask(99, &s, 0));
}

CASE(signal_queue)
{
	sigset_t s;
	handle(SIGRTMIN + 1, 0);
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN + 1);
	Q(sigprocmask(SIG_BLOCK, &s, 0));
	for (int i = 0; i < 5; i++)
		Q(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}));
	siginfo_t i;
	struct timespec t = {0, 0};
	R(sigtimedwait(&s, &i, &t) == SIGRTMIN + 1);
	out("value %d code %d", i.si_value.sival_int, i.si_code);
	R(sigtimedwait(&s, &i, &t) == SIGRTMIN + 1);
	out("value %d", i.si_value.sival_int);
	Q(sigprocmask(SIG_UNBLOCK, &s, 0));
	out("n %d last value %d", sig_n, sig_value);
	Q(sigprocmask(SIG_BLOCK, &s, 0));
	R(sigtimedwait(&s, &i, &t));
	t.tv_nsec = -1;
	R(sigtimedwait(&s, &i, &t));
}

static void on_nested(int s)
{
	if (++sig_depth > sig_max)
		sig_max = sig_depth;
	if (++sig_n < 4)
		raise(SIGUSR1);
	sig_depth--;
}

CASE(signal_nodefer)
{
	struct sigaction sa = {.sa_handler = on_nested};
	Q(sigaction(SIGUSR1, &sa, 0));
	raise(SIGUSR1);
	out("deferred: n %d depth %d", sig_n, sig_max);
	sig_n = sig_max = 0;
	sa.sa_flags = SA_NODEFER;
	Q(sigaction(SIGUSR1, &sa, 0));
	raise(SIGUSR1);
	out("not deferred: n %d depth %d", sig_n, sig_max);
	sa.sa_flags = SA_RESETHAND;
	sig_n = 4;
	Q(sigaction(SIGUSR1, &sa, 0));
	raise(SIGUSR1);
	Q(sigaction(SIGUSR1, 0, &sa));
	out("reset %d", sa.sa_handler == SIG_DFL);
}

CASE(signal_interrupts)
{
	int p[2];
	char b;
	struct itimerval t = {{0, 0}, {0, 30000}};
	Q(pipe(p));
	handle(SIGALRM, 0);
	Q(setitimer(ITIMER_REAL, &t, 0));
	R(read(p[0], &b, 1));
	Q(setitimer(ITIMER_REAL, &t, 0));
	R(poll(0, 0, 5000));
	Q(setitimer(ITIMER_REAL, &t, 0));
	struct timespec s = {5, 0}, left;
	R(nanosleep(&s, &left));
	out("left %d", left.tv_sec == 4);
	Q(setitimer(ITIMER_REAL, &t, 0));
	R(pause());
	Q(setitimer(ITIMER_REAL, &t, 0));
	R(wait(0));
	pid_t c = CHILD(pause());
	Q(setitimer(ITIMER_REAL, &t, 0));
	R(waitpid(c, 0, 0));
	kill(c, SIGKILL);
	handle(SIGALRM, SA_RESTART);
	Q(setitimer(ITIMER_REAL, &t, 0));
	pid_t w = CHILD(sleep_ms(150); write(p[1], "x", 1));
	R(read(p[0], &b, 1)); /* goes on after the handler */
	waitpid(w, 0, 0);
	Q(setitimer(ITIMER_REAL, &t, 0));
	R(poll(0, 0, 5000)); /* never goes on */
	out("n %d", sig_n);
}

CASE(signal_altstack)
{
	static char st[65536];
	stack_t s = {.ss_sp = st, .ss_size = sizeof st}, o;
	R(sigaltstack(&s, 0));
	R(sigaltstack(0, &o));
	out("flags %d size %zu", o.ss_flags, o.ss_size);
	handle(SIGUSR1, SA_ONSTACK);
	raise(SIGUSR1);
	out("n %d", sig_n);
	s.ss_flags = SS_DISABLE;
	R(sigaltstack(&s, 0));
	R(sigaltstack(0, &o));
	out("flags %d", o.ss_flags);
	s.ss_flags = 0;
	s.ss_size = 100;
	R(sigaltstack(&s, 0));
	s.ss_flags = 99;
	R(sigaltstack(&s, 0));
}

static volatile int fault_code, fault_sig, fault_trap;

static void on_skip(int s, siginfo_t *i, void *u)
{
	ucontext_t *c = u;
	fault_sig = s;
	fault_code = i->si_code;
	fault_trap = c->uc_mcontext.gregs[REG_TRAPNO];
	c->uc_mcontext.gregs[REG_RIP] = c->uc_mcontext.gregs[REG_RBX]; /* where the test wants to go on */
}

#define FAULT(insn, ...)                                                                        \
	do {                                                                                    \
		fault_sig = 0;                                                                  \
		asm volatile("lea 1f(%%rip), %%rbx\n" insn "\n1:\n" : : __VA_ARGS__ : "rax", "rbx", "rdx", "memory", "cc"); \
		out("%s: signal %d code %d trap %d", insn, fault_sig, fault_code, fault_trap);  \
	} while (0)

CASE(signal_faults)
{
	struct sigaction sa = {.sa_sigaction = on_skip, .sa_flags = SA_SIGINFO};
	for (int *s = (int[]){SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS, 0}; *s; s++)
		Q(sigaction(*s, &sa, 0));
	FAULT("xor %%eax, %%eax; movl $1, (%%rax)", "c"(0));
	FAULT("mov $1, %%eax; xor %%edx, %%edx; div %%ecx", "c"(0));
	FAULT("ud2", "c"(0));
	FAULT("int3", "c"(0));
	FAULT("hlt", "c"(0));
	FAULT("movabs $0x8000000000000000, %%rax; movl (%%rax), %%eax", "c"(0));
	FAULT("int $0x21", "c"(0));
	FAULT("mov %%cr3, %%rax", "c"(0));
}

static void on_vec(int s, siginfo_t *i, void *u)
{
	asm volatile("pxor %%xmm7, %%xmm7; xor %%eax, %%eax" : : : "xmm7", "eax");
}

CASE(signal_keeps_vectors)
{
	struct sigaction sa = {.sa_sigaction = on_vec, .sa_flags = SA_SIGINFO};
	uint64_t in = 0x1122334455667788, lo = 0;
	Q(sigaction(SIGUSR1, &sa, 0));
	long r;
	asm volatile("movq %2, %%xmm7\nmovdqa %%xmm7, %%xmm15\nsyscall\nmovq %%xmm7, %1"
		     : "=a"(r), "=r"(lo) : "r"(in), "a"(SYS_tgkill), "D"((long)getpid()), "S"((long)gettid()), "d"((long)SIGUSR1)
		     : "rcx", "r11", "xmm7", "xmm15", "memory");
	out("%ld %d", r, lo == in);
}

CASE(signal_child)
{
	handle(SIGCHLD, 0);
	pid_t p = CHILD(_exit(3));
	while (!sig_n)
		sleep_ms(1);
	out("signal %d code %d from the child %d", sig_last, sig_code, sig_pid == p);
	wait_show(p);
	signal(SIGCHLD, SIG_IGN);
	p = CHILD(_exit(3));
	R(waitpid(p, 0, 0));
}

CASE(signal_default_actions)
{
	wait_show(CHILD(raise(SIGUSR1)));
	wait_show(CHILD(raise(SIGCHLD); raise(SIGURG); raise(SIGWINCH); _exit(1)));
	wait_show(CHILD(signal(SIGTERM, SIG_IGN); raise(SIGTERM); _exit(2)));
	wait_show(CHILD(raise(SIGRTMAX)));
	int st;
	pid_t p = CHILD(raise(SIGQUIT));
	waitpid(p, &st, 0);
	out("SIGQUIT %d", WTERMSIG(st));
}

CASE(signal_suspend)
{
	sigset_t s, o;
	handle(SIGUSR1, 0);
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	Q(sigprocmask(SIG_BLOCK, &s, &o));
	raise(SIGUSR1);
	R(sigsuspend(&o));
	out("n %d", sig_n);
	Q(sigprocmask(SIG_SETMASK, 0, &o));
	out("blocked again %d", sigismember(&o, SIGUSR1));
}

CASE(signal_thread_directed)
{
	pthread_t t;
	handle(SIGUSR2, 0);
	pthread_create(&t, 0, sleeper, 0);
	sleep_ms(20);
	R(pthread_kill(t, SIGUSR2));
	for (int i = 0; i < 1000 && !sig_n; i++)
		sleep_ms(1);
	out("n %d", sig_n);
	R(pthread_kill(t, 0));
}

CASE(signal_itimer)
{
	struct itimerval t = {{0, 5000}, {0, 5000}}, o;
	handle(SIGALRM, SA_RESTART);
	R(setitimer(ITIMER_REAL, &t, 0));
	while (sig_n < 3)
		sleep_ms(1);
	R(getitimer(ITIMER_REAL, &o));
	out("interval %ld", (long)o.it_interval.tv_usec);
	t = (struct itimerval){0};
	R(setitimer(ITIMER_REAL, &t, &o));
	R(alarm(10));
	R(alarm(0));
	t.it_value.tv_usec = 1000000;
	R(setitimer(ITIMER_REAL, &t, 0));
	R(setitimer(9, &t, 0));
	handle(SIGVTALRM, 0);
	sig_n = 0;
	t = (struct itimerval){{0, 0}, {0, 10000}};
	R(setitimer(ITIMER_VIRTUAL, &t, 0));
	while (!sig_n)
		;
	out("virtual %d", sig_last);
}

CASE(signal_posix_timer)
{
	timer_t id;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 55};
	struct itimerspec t = {{0, 0}, {0, 10000000}};
	handle(SIGUSR1, 0);
	R(timer_create(CLOCK_MONOTONIC, &e, &id));
	R(timer_settime(id, 0, &t, 0));
	while (!sig_n)
		sleep_ms(1);
	out("code %d value %d", sig_code, sig_value);
	R(timer_getoverrun(id));
	R(timer_gettime(id, &t));
	out("%ld", (long)t.it_value.tv_nsec);
	R(timer_delete(id));
	R(timer_create(99, &e, &id));
}

CASE(signal_pidfd)
{
	pid_t p = CHILD(pause());
	int fd = Q(syscall(434, p, 0));
	struct pollfd f = {fd, POLLIN, 0};
	R(poll(&f, 1, 0));
	R(syscall(424, fd, SIGTERM, 0, 0));
	R(poll(&f, 1, 5000));
	wait_show(p);
	R(syscall(424, fd, 0, 0, 0));
	R(syscall(434, 999999, 0));
}
