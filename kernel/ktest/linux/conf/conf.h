/* conf.h: what the cases of the conformance set share.
 *
 * A case is a function CASE(topic_name) that prints what it finds with out, R and F:
 * the same on every run and every kernel that keeps the contract. It runs in a child
 * process of its own, in an empty directory. No pids, addresses, times or file
 * system sizes may be printed. */
#ifndef CONF_H
#define CONF_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

struct conf_case {
	const char *name;
	void (*run)(void);
	struct conf_case *next;
};

void conf_register(struct conf_case *c);

#define CASE(n)                                                              \
	static void case_##n(void);                                          \
	static struct conf_case conf_##n = {#n, case_##n, 0};                \
	__attribute__((constructor)) static void reg_##n(void)               \
	{                                                                    \
		conf_register(&conf_##n);                                    \
	}                                                                    \
	static void case_##n(void)

/* out prints one line of a case. */
void out(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* result prints a call and what it returned: the number, or the error's name. */
long result(const char *call, long r, int err);

/* R prints a call with its result; F prints only whether it failed, and how. */
#define R(x) ({ errno = 0; long r_ = (long)(x); result(#x, r_, errno); })
#define F(x) ({ errno = 0; long r_ = (long)(x); int e_ = errno; result(#x, r_ < 0 ? -1 : 0, e_); r_; })
/* Q does not print: for what has to work. */
#define Q(x) ({ errno = 0; long r_ = (long)(x); if (r_ < 0) { result(#x, r_, errno); _exit(3); } r_; })

long ms_now(void);
void sleep_ms(long ms);
void put_file(const char *path, const char *text);
void show_file(const char *path);

#endif
