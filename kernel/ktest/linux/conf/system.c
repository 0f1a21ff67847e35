/* Time, system information, /proc, /sys, /dev, odds and ends. */
#include "conf.h"

CASE(time_clocks)
{
	struct timespec a, b, r;
	for (int *c = (int[]){CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW,
			      CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI, -1}; *c >= 0; c++) {
		Q(clock_gettime(*c, &a));
		for (volatile int i = 0; i < 100000; i++)
			;
		Q(clock_gettime(*c, &b));
		out("clock %d forward %d resolution %d", *c,
		    b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec), clock_getres(*c, &r));
	}
	R(clock_gettime(99, &a));
	R(clock_getres(99, 0));
	R(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8));
	out("after 2020 %d", time(0) > 1577836800);
	struct timeval tv;
	R(gettimeofday(&tv, 0));
	out("the same second %d", labs(tv.tv_sec - time(0)) <= 1);
	clock_gettime(CLOCK_MONOTONIC, &a);
	R(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b));
	out("vDSO and call agree %d", (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec >= 0 && b.tv_sec - a.tv_sec < 2);
}

CASE(time_sleep)
{
	struct timespec t = {0, 30000000}, left;
	long m = ms_now();
	R(nanosleep(&t, 0));
	m = ms_now() - m;
	out("slept %d", m >= 29 && m < 3000);
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += 20000000;
	if (t.tv_nsec >= 1000000000)
		t.tv_sec++, t.tv_nsec -= 1000000000;
	R(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0));
	R(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0));
	R(clock_nanosleep(99, 0, &t, 0));
	t = (struct timespec){0, 1000000000};
	R(nanosleep(&t, &left));
	t = (struct timespec){-1, 0};
	R(nanosleep(&t, &left));
}

CASE(time_cpu)
{
	struct rusage a, b;
	struct tms t;
	Q(getrusage(RUSAGE_SELF, &a));
	for (volatile long i = 0; i < 100000000; i++)
		;
	Q(getrusage(RUSAGE_SELF, &b));
	out("user time moves %d", b.ru_utime.tv_sec * 1000000 + b.ru_utime.tv_usec > a.ru_utime.tv_sec * 1000000 + a.ru_utime.tv_usec);
	out("rss %d", b.ru_maxrss > 0);
	R(getrusage(RUSAGE_THREAD, &a));
	R(getrusage(RUSAGE_CHILDREN, &a));
	R(getrusage(9, &a));
	R(times(&t) > 0);
	clockid_t c;
	R(pthread_getcpuclockid(pthread_self(), &c));
	struct timespec ts;
	R(clock_gettime(c, &ts));
	R(clock_getcpuclockid(0, &c));
	R(clock_gettime(c, &ts));
	R(clock_settime(CLOCK_MONOTONIC, &ts));
}

CASE(sys_info)
{
	struct utsname u;
	struct sysinfo s;
	R(uname(&u));
	out("%s %s", u.sysname, u.machine);
	out("release begins with a number %d", u.release[0] >= '3' && u.release[0] <= '9');
	R(sysinfo(&s));
	out("memory %d, free of it %d, processes %d, unit %d", s.totalram > 0, s.freeram <= s.totalram, s.procs > 0, s.mem_unit);
	R(sysconf(_SC_PAGESIZE));
	R(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
	R(sysconf(_SC_CLK_TCK));
	R(getpagesize());
	R(sethostname("conf", -1));
	char h[100];
	R(gethostname(h, 100));
}

CASE(sys_random)
{
	char a[64] = {0}, b[64] = {0};
	R(getrandom(a, 64, 0));
	R(getrandom(b, 64, GRND_NONBLOCK));
	out("differ %d", memcmp(a, b, 64) != 0);
	R(getrandom(a, 1, 0xff));
	int fd = Q(open("/dev/urandom", O_RDONLY));
	R(read(fd, a, 64));
	out("differ %d", memcmp(a, b, 64) != 0);
}

CASE(sys_devices)
{
	char b[100];
	struct stat st;
	memset(b, 7, sizeof b);
	int n = Q(open("/dev/null", O_RDWR)), z = Q(open("/dev/zero", O_RDWR)), f = Q(open("/dev/full", O_RDWR));
	R(read(n, b, 100));
	R(write(n, b, 100));
	R(read(z, b, 100));
	out("%d %d", b[0], b[99]);
	R(write(f, b, 1));
	R(read(f, b, 10));
	R(lseek(n, 5, SEEK_SET));
	Q(fstat(n, &st));
	out("%d %d,%d", S_ISCHR(st.st_mode), major(st.st_rdev), minor(st.st_rdev));
	char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, z, 0);
	out("mapped %d", p != MAP_FAILED && p[5] == 0 && (p[5] = 1));
	R(ioctl(n, TCGETS, b));
	R(open("/dev/none", O_RDONLY));
}

CASE(sys_unknown_call)
{
	R(syscall(9999));
	R(syscall(-1));
	R(syscall(511));
	R(syscall(156));
}

CASE(sys_syslog_and_old)
{
	R(syscall(SYS_getpid) == getpid());
	R(syscall(SYS_time, 0) > 0);
	R(syscall(SYS_arch_prctl, 0x9999, 0));
	R(syscall(SYS_set_robust_list, 0, 3));
	R(syscall(SYS_personality, 0xffffffff));
	R(syscall(SYS_membarrier, 0, 0, 0) >= 0);
	R(syscall(SYS_getcpu, (unsigned[1]){0}, 0, 0));
	R(syscall(SYS_umask, 077));
	R(syscall(SYS_umask, 022));
	R(syscall(SYS_sync));
}

CASE(sys_capabilities)
{
	struct { uint32_t version; int pid; } h = {0x20080522, 0};
	struct { uint32_t e, p, i; } d[2];
	R(syscall(SYS_capget, &h, d));
	out("chown %d", d[0].e & 1);
	h.version = 1;
	R(syscall(SYS_capget, &h, d));
	out("version %x", h.version);
	R(prctl(PR_CAPBSET_READ, 0));
	R(prctl(PR_CAPBSET_READ, 99));
}

static int count(const char *file, const char *word)
{
	char b[4096];
	int n = 0;
	FILE *f = fopen(file, "r");
	if (!f)
		return -1;
	while (fgets(b, sizeof b, f))
		n += !strncmp(b, word, strlen(word));
	fclose(f);
	return n;
}

CASE(procfs_global)
{
	out("processors %d", count("/proc/cpuinfo", "processor") == sysconf(_SC_NPROCESSORS_ONLN));
	out("MemTotal %d MemAvailable %d", count("/proc/meminfo", "MemTotal:"), count("/proc/meminfo", "MemAvailable:"));
	out("cpu lines %d", count("/proc/stat", "cpu") == sysconf(_SC_NPROCESSORS_ONLN) + 1);
	out("btime %d", count("/proc/stat", "btime "));
	out("version %d", count("/proc/version", "Linux version "));
	out("loadavg %d uptime %d", count("/proc/loadavg", ""), count("/proc/uptime", ""));
	out("proc is mounted %d", count("/proc/mounts", "proc ") > 0);
	out("mountinfo %d", count("/proc/self/mountinfo", "") > 0);
	show_file("/proc/sys/kernel/ostype");
	out("hostname %d", count("/proc/sys/kernel/hostname", ""));
	out("overcommit %d", count("/proc/sys/vm/overcommit_memory", ""));
	out("somaxconn %d", count("/proc/sys/net/core/somaxconn", ""));
	out("filesystems %d", count("/proc/filesystems", "nodev\tproc"));
	R(access("/proc/none", F_OK));
	R(open("/proc/cpuinfo", O_WRONLY | O_EXCL) >= 0 || errno == EACCES ? 0 : -1);
	R(mkdir("/proc/x", 0755) < 0);
}

CASE(procfs_self)
{
	char b[4096], c[100];
	int n = Q(readlink("/proc/self", b, sizeof b));
	b[n] = 0;
	out("self %d", atoi(b) == getpid());
	out("exe ends with conf %d", (n = readlink("/proc/self/exe", b, sizeof b)) > 4 && strstr(b, "conf") != 0);
	getcwd(c, sizeof c);
	n = Q(readlink("/proc/self/cwd", b, sizeof b));
	b[n] = 0;
	out("cwd %d", !strcmp(b, c));
	n = Q(readlink("/proc/self/root", b, sizeof b));
	out("root %.*s", n, b);
	FILE *f = fopen("/proc/self/stat", "r");
	int pid, ppid;
	char name[50], state;
	fscanf(f, "%d (%49[^)]) %c %d", &pid, name, &state, &ppid);
	fclose(f);
	out("stat pid %d name %s state %c ppid %d", pid == getpid(), name, state, ppid == getppid());
	out("status Name %d VmRSS %d Threads %d", count("/proc/self/status", "Name:\t"), count("/proc/self/status", "VmRSS:"),
	    count("/proc/self/status", "Threads:\t1\n"));
	out("SigBlk %d", count("/proc/self/status", "SigBlk:\t0000000000000000"));
	int fd = Q(open("/proc/self/cmdline", O_RDONLY));
	n = read(fd, b, sizeof b);
	out("cmdline %d", n > 0 && b[n - 1] == 0);
	f = fopen("/proc/self/statm", "r");
	long size, rss;
	fscanf(f, "%ld %ld", &size, &rss);
	out("statm %d", size > rss && rss > 0);
	out("limits %d", count("/proc/self/limits", "Max open files"));
	int w = Q(open("/proc/self/comm", O_WRONLY));
	R(write(w, "renamed", 7));
	show_file("/proc/self/comm");
	R(access("/proc/999999", F_OK));
	R(unlink("/proc/self/stat"));
}

CASE(procfs_fd)
{
	char b[100] = {0}, p[50];
	int fd = Q(open("file", O_RDWR | O_CREAT, 0644)), q[2];
	Q(write(fd, "contents", 8));
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	int n = Q(readlink(p, b, 99));
	b[n] = 0;
	out("ends with file %d", n > 5 && !strcmp(b + n - 5, "/file"));
	int again = F(open(p, O_RDONLY));
	memset(b, 0, sizeof b);
	R(read(again, b, 99));
	unlink("file");
	n = readlink(p, b, 99);
	b[n] = 0;
	out("deleted %d", n > 10 && !strcmp(b + n - 10, " (deleted)"));
	F(open(p, O_RDONLY));
	Q(pipe(q));
	snprintf(p, sizeof p, "/proc/self/fd/%d", q[0]);
	n = readlink(p, b, 99);
	out("pipe %.6s", b);
	snprintf(p, sizeof p, "/proc/self/fdinfo/%d", fd);
	out("fdinfo pos %d flags %d", count(p, "pos:\t8\n"), count(p, "flags:\t0"));
	DIR *d = opendir("/proc/self/fd");
	int k = 0, mine = 0;
	struct dirent *e;
	while ((e = readdir(d))) {
		k++;
		mine |= e->d_name[0] != '.' && atoi(e->d_name) == fd;
	}
	out("listed %d", mine && k > 5);
	R(readlink("/proc/self/fd/999", b, 99));
}

static void *named(void *x)
{
	char p[100];
	snprintf(p, sizeof p, "/proc/self/task/%d/comm", gettid());
	int fd = open(p, O_RDWR);
	R(write(fd, "worker", 6));
	char b[20] = {0};
	prctl(PR_GET_NAME, b);
	out("%s", b);
	return 0;
}

CASE(procfs_task)
{
	pthread_t t;
	pthread_create(&t, 0, named, 0);
	pthread_join(t, 0);
	char b[20] = {0};
	prctl(PR_GET_NAME, b);
	out("%s", b);
	out("thread-self %d", readlink("/proc/thread-self", b, 19) > 6);
}

CASE(procfs_net)
{
	out("tcp %d udp %d dev %d", count("/proc/net/tcp", "  sl  local_address"), count("/proc/net/udp", "   sl  local_address") + count("/proc/net/udp", "  sl  local_address"),
	    count("/proc/net/dev", "    lo:"));
	int s = Q(socket(AF_INET, SOCK_STREAM, 0)), n = 0;
	Q(listen(s, 1));
	struct sockaddr_in a;
	socklen_t l = sizeof a;
	Q(getsockname(s, (void *)&a, &l));
	char b[500], want[20];
	snprintf(want, sizeof want, "00000000:%04X ", ntohs(a.sin_port));
	FILE *f = fopen("/proc/net/tcp", "r");
	while (f && fgets(b, sizeof b, f))
		n += strstr(b, want) != 0;
	out("listener %d", n);
}

CASE(sysfs_files)
{
	out("online %d possible %d", count("/sys/devices/system/cpu/online", "0"), count("/sys/devices/system/cpu/possible", "0"));
	out("lo mtu %d", count("/sys/class/net/lo/mtu", ""));
	R(access("/sys/none", F_OK));
}

CASE(sys_stdio)
{
	FILE *f = fopen("f", "w+");
	fprintf(f, "line one\nline %d\n", 2);
	rewind(f);
	char b[100];
	while (fgets(b, sizeof b, f))
		out("%.*s", (int)strcspn(b, "\n"), b);
	fclose(f);
	char name[] = "tmpXXXXXX";
	F(mkstemp(name));
	R(remove(name));
}

CASE(sys_math)
{
	volatile double x = 2, z = 0;
	out("%.17g %g %g", x / 3, 1 / z, -1 / z);
	volatile float y = 16777216;
	out("%g", y + 1);
	volatile long double e = 1;
	out("%.20Lg", e / 3);
	unsigned mx;
	asm volatile("stmxcsr %0" : "=m"(mx));
	unsigned short cw;
	asm volatile("fnstcw %0" : "=m"(cw));
	out("mxcsr %x cw %x", mx & ~0x3f, cw);
}
