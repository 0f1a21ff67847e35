/* stress [SECONDS [THREADS]]: threads in a storm of futexes, mappings and signals.
 *
 * Each thread picks at random: a lock that all want, a condition, a mapping made,
 * touched, protected and unmapped, a signal to another thread, a pipe, a yield, a
 * thread of its own, a child process. A watchdog sees that all of them get on; what
 * is counted under the lock has to add up. Exit status 0 and "stress: done" are good. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX = 256, STALL = 60 };

static int threads = 64;
static atomic_int stop;
static pthread_t tid[MAX];
static atomic_int up[MAX];
static atomic_long beats[MAX], handled, sent;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long under_lock, turns;
static atomic_long added;
static __thread volatile int in_handler;

static void die(const char *what)
{
	fprintf(stderr, "stress: FAILED: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void on_signal(int s)
{
	in_handler = 1;
	handled++;
	in_handler = 0;
}

static uint64_t next(uint64_t *r)
{
	*r ^= *r << 13;
	*r ^= *r >> 7;
	*r ^= *r << 17;
	return *r;
}

static void mapping(uint64_t *r)
{
	size_t n = (1 + next(r) % 64) * 4096;
	char *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < n; i += 4096) {
		if (p[i])
			die("a new page is not zero");
		p[i] = i >> 12 | 1;
	}
	size_t cut = next(r) % (n / 4096) * 4096;
	if (mprotect(p, cut + 4096, PROT_READ) < 0)
		die("mprotect");
	if (next(r) % 2 && madvise(p + cut, 4096, MADV_DONTNEED) < 0)
		die("madvise");
	for (size_t i = 0; i < n; i += 4096)
		if (i != cut && p[i] != (char)(i >> 12 | 1))
			die("a page lost its contents");
	if (next(r) % 2) {
		char *q = mremap(p, n, 2 * n, MREMAP_MAYMOVE);
		if (q == MAP_FAILED && errno != EFAULT) /* two mappings: not to be moved at once */
			die("mremap");
		if (q != MAP_FAILED) {
			munmap(q, 2 * n);
			return;
		}
	}
	if (munmap(p, n) < 0)
		die("munmap");
}

static void *short_lived(void *x)
{
	added++;
	return x;
}

static void *work(void *arg)
{
	long me = (long)arg;
	uint64_t r = 88172645463325252ULL + me * 7919;
	int p[2];
	if (pipe(p) < 0)
		die("pipe");
	up[me] = 1;
	while (!stop) {
		beats[me]++;
		switch (next(&r) % 12) {
		case 0:
		case 1:
		case 2:
			pthread_mutex_lock(&mu);
			under_lock++;
			if (next(&r) % 16 == 0)
				sched_yield();
			pthread_mutex_unlock(&mu);
			added++;
			break;
		case 3: {
			struct timespec t;
			clock_gettime(CLOCK_REALTIME, &t);
			t.tv_nsec += 2000000;
			if (t.tv_nsec >= 1000000000)
				t.tv_sec++, t.tv_nsec -= 1000000000;
			pthread_mutex_lock(&mu);
			pthread_cond_timedwait(&cond, &mu, &t);
			pthread_mutex_unlock(&mu);
			break;
		}
		case 4:
			pthread_mutex_lock(&mu);
			turns++;
			pthread_mutex_unlock(&mu);
			pthread_cond_broadcast(&cond);
			break;
		case 5:
		case 6:
			mapping(&r);
			break;
		case 7:
		case 8: {
			int k = next(&r) % threads;
			if (up[k] && pthread_kill(tid[k], SIGUSR1) == 0)
				sent++;
			break;
		}
		case 9: {
			char b[512];
			for (int i = 0; i < 4; i++)
				if (write(p[1], b, 100) < 0 && errno != EINTR)
					die("write");
			while (read(p[0], b, sizeof b) < 0)
				if (errno != EINTR)
					die("read");
			break;
		}
		case 10:
			if (next(&r) % 8 == 0) {
				pthread_t t;
				long before = under_lock;
				if (pthread_create(&t, 0, short_lived, 0) == 0) {
					pthread_join(t, 0);
					pthread_mutex_lock(&mu);
					under_lock++;
					pthread_mutex_unlock(&mu);
				}
				(void)before;
			}
			break;
		case 11:
			if (next(&r) % 64 == 0) {
				pid_t c = fork();
				if (c == 0)
					_exit(9);
				int st;
				while (c > 0 && waitpid(c, &st, 0) < 0)
					if (errno != EINTR)
						die("waitpid");
				if (c > 0 && (!WIFEXITED(st) || WEXITSTATUS(st) != 9))
					die("a child's status");
			}
			break;
		}
	}
	up[me] = 0;
	close(p[0]);
	close(p[1]);
	return 0;
}

int main(int argc, char **argv)
{
	long seconds = argc > 1 ? atol(argv[1]) : 10;
	if (argc > 2)
		threads = atoi(argv[2]);
	if (seconds < 1 || threads < 1 || threads > MAX) {
		fprintf(stderr, "usage: stress [SECONDS [THREADS]], at most %d threads\n", MAX);
		return 2;
	}
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigaction(SIGUSR1, &sa, 0);
	for (long i = 0; i < threads; i++)
		if (pthread_create(&tid[i], 0, work, (void *)i))
			die("pthread_create");
	struct timespec from, now;
	clock_gettime(CLOCK_MONOTONIC, &from);
	long last[MAX] = {0}, since[MAX] = {0};
	for (long t = 0; t < seconds;) {
		usleep(200000);
		clock_gettime(CLOCK_MONOTONIC, &now);
		t = now.tv_sec - from.tv_sec;
		for (int i = 0; i < threads; i++) {
			long b = beats[i];
			if (b != last[i]) {
				last[i] = b;
				since[i] = t;
			} else if (t - since[i] > STALL) {
				fprintf(stderr, "stress: FAILED: thread %d has stood still for %ld s\n", i, t - since[i]);
				_exit(1);
			}
		}
	}
	stop = 1;
	for (int i = 0; i < threads; i++)
		pthread_join(tid[i], 0);
	long all = 0;
	for (int i = 0; i < threads; i++)
		all += beats[i];
	if (under_lock != added)
		die("the count under the lock");
	printf("stress: done: %d threads, %ld s, %ld steps, %ld signals sent, %ld handled\n", threads, seconds, all, (long)sent, (long)handled);
	return 0;
}
