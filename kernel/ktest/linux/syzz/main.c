/* syzz SEED CALLS [safe]: random system calls with random arguments.
 *
 * Children make them, each with a seed of its own that is printed before: a child that
 * dies is nothing; a kernel that dies is found by the last seed on the console. "safe"
 * (for the host) leaves out calls that change the machine, its files or other
 * processes. "syzz: done" is the end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/eventfd.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t r;

static uint64_t next(void)
{
	r ^= r << 13;
	r ^= r >> 7;
	r ^= r << 17;
	return r;
}

static char *buf;
static const char *paths[] = {"/", "/tmp", "/tmp/syzz", "/proc/self/stat", "/dev/zero", "/proc/self/fd/0", "", "none", "/tmp/syzz/../syzz/x", "/sys"};

/* arg is an argument: small numbers, descriptors, pointers good and bad, limits. */
static uint64_t arg(void)
{
	switch (next() % 16) {
	case 0:
	case 1:
	case 2:
		return next() % 10;
	case 3:
	case 4:
		return next() % 20;
	case 5:
	case 6:
	case 7:
		return (uint64_t)buf + next() % 60000;
	case 8:
		return (uint64_t)paths[next() % 10];
	case 9:
		return 1ULL << next() % 64;
	case 10:
		return -1ULL;
	case 11:
		return (uint64_t)buf + 65536 - next() % 8; /* over the end */
	case 12:
		return 0xffff800000000000ULL + next() % 65536;
	case 13:
		return next() & 0xffff;
	case 14:
		return (uint64_t)-(int64_t)(next() % 4096);
	}
	return next();
}

/* barred calls end or stop the child for good, or wait for what never comes. */
static int barred(long n, int safe)
{
	static const long always[] = {SYS_exit, SYS_exit_group, SYS_pause, SYS_rt_sigsuspend, SYS_vfork, SYS_fork, SYS_clone, 435, SYS_kill,
		SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, 297, SYS_reboot, SYS_rt_sigreturn, 424, SYS_setpgid, SYS_setsid, -1};
	static const long host[] = {SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_swapon, SYS_swapoff, SYS_sethostname, SYS_setdomainname,
		SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, 305, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, 320,
		SYS_unlink, SYS_unlinkat, SYS_rmdir, SYS_rename, SYS_renameat, SYS_renameat2, SYS_truncate, SYS_chmod, SYS_fchmodat, SYS_chown, SYS_lchown,
		SYS_fchownat, SYS_ptrace, SYS_process_vm_writev, SYS_iopl, SYS_ioperm, SYS_quotactl, SYS_bpf, SYS_syslog, SYS_vhangup, SYS_acct,
		SYS_setpriority, SYS_ioprio_set, SYS_sched_setscheduler, SYS_sched_setparam, 314, SYS_mknod, SYS_mknodat, SYS_open_by_handle_at, 428, 429, 430, 431, 432, 433, 442, 443,
		SYS_add_key, SYS_request_key, SYS_keyctl, SYS_mlockall, SYS_prlimit64, SYS_setrlimit, SYS_fchmod, SYS_fchown, SYS_ioctl, SYS_link, SYS_linkat,
		SYS_symlink, SYS_symlinkat, SYS_mkdir, SYS_mkdirat, SYS_creat, SYS_open, SYS_openat, 437, SYS_setxattr, SYS_lsetxattr, SYS_utime, SYS_utimes, SYS_utimensat,
		SYS_execve, SYS_execveat, SYS_unshare, SYS_setns, SYS_sync, SYS_syncfs, SYS_perf_event_open, 272, 323, 425, 426, 427, SYS_move_pages, SYS_migrate_pages, -1};
	for (const long *p = always; *p >= 0; p++)
		if (*p == n)
			return 1;
	for (const long *p = host; safe && *p >= 0; p++)
		if (*p == n)
			return 1;
	return 0;
}

static void child(uint64_t seed, int calls, int safe)
{
	r = seed * 2654435761u + 88172645463325252ULL;
	buf = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 65536; i += 8)
		*(uint64_t *)(buf + i) = next() % 3 ? next() % 16 : arg();
	int p[2];
	pipe2(p, O_NONBLOCK);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p);
	socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	eventfd(0, EFD_NONBLOCK);
	epoll_create1(0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(2); /* whatever waits is left here */
	for (int i = 0; i < calls; i++) {
		long n = next() % 64 ? next() % 462 : next();
		uint64_t a[6];
		for (int k = 0; k < 6; k++)
			a[k] = arg();
		if (!barred(n, safe))
			syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: syzz SEED CALLS [safe]\n");
		return 2;
	}
	uint64_t seed = strtoull(argv[1], 0, 10);
	long calls = atol(argv[2]);
	int safe = argc > 3, round = 0, ended = 0, died = 0;
	signal(SIGPIPE, SIG_IGN);
	while (calls > 0) {
		if (round % 50 == 0) {
			printf("syzz: seed %llu\n", (unsigned long long)seed);
			fflush(stdout);
		}
		pid_t p = fork();
		if (p < 0) {
			perror("syzz: fork");
			return 1;
		}
		if (p == 0) {
			int out = open("/dev/null", O_RDWR);
			for (int i = 0; i < 3; i++)
				dup2(out, i);
			setpgid(0, 0);
			child(seed, 100, safe);
		}
		int st = 0;
		/* One that has blocked its alarm and waits is killed; that has to work. */
		for (int ms = 0; waitpid(p, &st, __WALL | WNOHANG) == 0; ms++) {
			if (ms == 4000)
				kill(p, SIGKILL);
			if (ms > 20000) {
				printf("syzz: FAILED: the child of seed %llu cannot be killed\n", (unsigned long long)seed);
				return 1;
			}
			usleep(1000);
		}
		kill(-p, SIGKILL);
		WIFSIGNALED(st) ? died++ : ended++;
		seed++;
		calls -= 100;
		round++;
	}
	printf("syzz: done: %d children ended, %d were killed\n", ended, died);
	return 0;
}
