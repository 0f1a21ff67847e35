/* Memory: mmap and its kin, faults, brk. */
#include "conf.h"

static sigjmp_buf jump;
static volatile int got_sig, got_code;
static void *volatile got_addr;

static void on_fault(int s, siginfo_t *i, void *u)
{
	got_sig = s;
	got_code = i->si_code;
	got_addr = i->si_addr;
	siglongjmp(jump, 1);
}

static void catch_faults(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
	sigaction(SIGSEGV, &sa, 0);
	sigaction(SIGBUS, &sa, 0);
}

/* touch says what a write (or read) of p does. */
static void touch(const char *what, volatile char *p, int wr)
{
	if (sigsetjmp(jump, 1)) {
		out("%s: signal %d code %d at the address %d", what, got_sig, got_code, got_addr == (void *)p);
		return;
	}
	if (wr)
		*p = 1;
	else
		(void)*p;
	out("%s: fine", what);
}

#define MAP(n, prot, flags) mmap(0, n, prot, (flags), -1, 0)
#define RW (PROT_READ | PROT_WRITE)
#define PRIV (MAP_PRIVATE | MAP_ANONYMOUS)

CASE(mem_anonymous)
{
	char *p = MAP(1 << 20, RW, PRIV);
	int zero = 1;
	for (int i = 0; i < 1 << 20; i += 511)
		zero &= p[i] == 0;
	out("zero %d", zero);
	memset(p, 7, 1 << 20);
	R(munmap(p + 4096, 4096));
	catch_faults();
	touch("hole", p + 4096, 0);
	touch("before", p, 1);
	touch("after", p + 8192, 1);
	R(munmap(p, 1 << 20));
	R(munmap(p, 1 << 20));
	R(munmap(p + 1, 4096));
	R(munmap(p, 0));
}

CASE(mem_mmap_errors)
{
	int fd = Q(open("f", O_RDWR | O_CREAT, 0644)), ro = Q(open("f", O_RDONLY)), wo = Q(open("f", O_WRONLY));
#define M(...) R(mmap(__VA_ARGS__) == MAP_FAILED ? -1 : 0)
	M(0, 0, RW, PRIV, -1, 0);
	M(0, 4096, RW, MAP_ANONYMOUS, -1, 0);
	M(0, 4096, RW, MAP_PRIVATE, 99, 0);
	M(0, 4096, RW, MAP_PRIVATE, fd, 1);
	M(0, 4096, RW, MAP_SHARED, ro, 0);
	M(0, 4096, PROT_READ, MAP_SHARED, ro, 0);
	M(0, 4096, RW, MAP_PRIVATE, ro, 0);
	M(0, 4096, PROT_READ, MAP_PRIVATE, wo, 0);
	M((void *)4097, 4096, RW, PRIV | MAP_FIXED, -1, 0);
	M(0, -4096UL, RW, PRIV, -1, 0);
	M((void *)(1UL << 62), 4096, RW, PRIV | MAP_FIXED, -1, 0);
	M(0, 4096, PROT_READ, MAP_PRIVATE, Q(open(".", O_RDONLY)), 0);
}

CASE(mem_protect)
{
	char *p = MAP(3 * 4096, RW, PRIV);
	catch_faults();
	p[4096] = 5;
	R(mprotect(p + 4096, 4096, PROT_READ));
	touch("write of read-only", p + 4096, 1);
	touch("read", p + 4096, 0);
	R(mprotect(p + 4096, 4096, PROT_NONE));
	touch("read of none", p + 4096, 0);
	touch("neighbour", p, 1);
	R(mprotect(p, 3 * 4096, RW));
	touch("write again", p + 4096, 1);
	R(mprotect(p + 1, 4096, RW));
	munmap(p + 4096, 4096);
	R(mprotect(p, 3 * 4096, PROT_READ));
	touch("part before the hole", p, 1);
	R(mprotect(p, 4096, 0x40));
}

CASE(mem_exec)
{
	unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
	char *p = MAP(4096, RW, PRIV);
	memcpy(p, code, sizeof code);
	catch_faults();
	if (!sigsetjmp(jump, 1))
		((int (*)(void))p)();
	out("signal %d code %d", got_sig, got_code);
	R(mprotect(p, 4096, PROT_READ | PROT_EXEC));
	out("%d", ((int (*)(void))p)());
}

CASE(mem_null)
{
	catch_faults();
	touch("null", (char *)0, 0);
	touch("small", (char *)100, 1);
	touch("kernel half", (char *)0xffff800000000000UL, 0);
}

CASE(mem_noncanonical)
{
	catch_faults();
	if (!sigsetjmp(jump, 1))
		*(volatile char *)0x8000000000000000UL;
	out("signal %d code %d address %lx", got_sig, got_code, (long)got_addr);
}

CASE(mem_fixed)
{
	char *p = MAP(4 * 4096, RW, PRIV);
	memset(p, 1, 4 * 4096);
	char *q = mmap(p + 4096, 8192, RW, PRIV | MAP_FIXED, -1, 0);
	out("there %d, contents %d %d %d %d", q == p + 4096, p[0], p[4096], p[8192], p[12288]);
	q = mmap(p, 4096, RW, PRIV | MAP_FIXED_NOREPLACE, -1, 0);
	out("NOREPLACE %s", q == MAP_FAILED ? strerrorname_np(errno) : "mapped");
	munmap(p, 4096);
	q = mmap(p, 4096, RW, PRIV | MAP_FIXED_NOREPLACE, -1, 0);
	out("free again %d", q == p);
	munmap(p, 4096);
	q = mmap(p, 4096, RW, PRIV, -1, 0);
	out("hint honoured %d", q == p);
}

CASE(mem_reserve_huge)
{
	char *p = mmap(0, 1UL << 36, PROT_NONE, PRIV | MAP_NORESERVE, -1, 0);
	out("64 GiB reserved %d", p != MAP_FAILED);
	catch_faults();
	touch("reserved", p + (1UL << 35), 1);
	char *q = mmap(p + (1UL << 35), 1 << 20, RW, PRIV | MAP_FIXED | MAP_NORESERVE, -1, 0);
	out("committed %d", q == p + (1UL << 35));
	touch("committed", q, 1);
	q = mmap(q, 1 << 20, PROT_NONE, PRIV | MAP_FIXED | MAP_NORESERVE, -1, 0);
	touch("uncommitted", p + (1UL << 35), 0);
	R(munmap(p, 1UL << 36));
}

CASE(mem_file_private)
{
	put_file("f", "original");
	int fd = Q(open("f", O_RDWR));
	char *p = mmap(0, 4096, RW, MAP_PRIVATE, fd, 0);
	out("%.8s, then %d", p, p[8]);
	memcpy(p, "PRIVATE!", 8);
	show_file("f");
	Q(pwrite(fd, "written", 7, 0));
	out("%.8s", p);
	catch_faults();
	touch("behind the end, same page", p + 4095, 1);
	p = mmap(0, 8192, RW, MAP_PRIVATE, fd, 0);
	touch("behind the end, next page", p + 4096, 0);
}

CASE(mem_file_shared)
{
	put_file("f", "original");
	int fd = Q(open("f", O_RDWR));
	char *p = mmap(0, 4096, RW, MAP_SHARED, fd, 0);
	memcpy(p, "MAPPED", 6);
	show_file("f");
	Q(pwrite(fd, "write", 5, 0));
	out("%.8s", p);
	R(msync(p, 4096, MS_SYNC));
	R(msync(p, 4096, MS_ASYNC));
	R(msync(p + 1, 4096, MS_SYNC));
	R(msync(p, 4096, MS_SYNC | MS_ASYNC));
	if (fork() == 0) {
		memcpy(p, "child", 5);
		_exit(0);
	}
	wait(0);
	out("%.8s", p);
	close(fd);
	out("%.8s", p);
	munmap(p, 4096);
	R(msync(p, 4096, MS_SYNC));
	show_file("f");
}

CASE(mem_file_truncated)
{
	put_file("f", "");
	int fd = Q(open("f", O_RDWR));
	Q(ftruncate(fd, 3 * 4096));
	char *p = mmap(0, 3 * 4096, RW, MAP_SHARED, fd, 0);
	catch_faults();
	touch("page 2", p + 8192, 1);
	p[100] = 9;
	Q(ftruncate(fd, 50));
	touch("page 2 after truncation", p + 8192, 0);
	touch("page 1 after truncation", p + 4096, 1);
	touch("page 0 after truncation", p, 1);
	Q(ftruncate(fd, 3 * 4096));
	out("the tail is zero %d", p[100] == 0);
	touch("page 2 again", p + 8192, 0);
}

CASE(mem_shared_anonymous)
{
	int *p = MAP(8192, RW, MAP_SHARED | MAP_ANONYMOUS);
	p[0] = 1;
	if (fork() == 0) {
		p[0]++;
		p[1024] = 5;
		_exit(0);
	}
	wait(0);
	out("%d %d", p[0], p[1024]);
}

CASE(mem_cow)
{
	char *p = MAP(1 << 20, RW, PRIV);
	memset(p, 'a', 1 << 20);
	if (fork() == 0) {
		memset(p, 'b', 1 << 19);
		out("child %c %c", p[0], p[1 << 19]);
		_exit(0);
	}
	wait(0);
	out("parent %c %c", p[0], p[1 << 19]);
	if (fork() == 0) {
		if (fork() == 0) {
			p[0] = 'c';
			_exit(p[0] == 'c' ? 0 : 1);
		}
		wait(0);
		out("middle %c", p[0]);
		_exit(0);
	}
	wait(0);
	out("parent %c", p[0]);
}

CASE(mem_mremap)
{
	char *p = MAP(4 * 4096, RW, PRIV);
	strcpy(p, "moves along");
	char *q = mremap(p, 4 * 4096, 4096, 0);
	out("shrunk in place %d", q == p);
	catch_faults();
	touch("cut off", p + 4096, 0);
	q = mremap(p, 4096, 1 << 20, MREMAP_MAYMOVE);
	out("%s", q);
	touch("grown", q + (1 << 20) - 1, 1);
	char *to = MAP(1 << 20, PROT_NONE, PRIV);
	q = mremap(q, 1 << 20, 1 << 20, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	out("%s, there %d", q, q == to);
	R(mremap(q, 4096, 0, 0) == MAP_FAILED ? -1 : 0);
	R(mremap(q + 1, 4096, 8192, 0) == MAP_FAILED ? -1 : 0);
	R(mremap((void *)0x1000, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
	R(mremap(q, 4096, 4096, 0x100) == MAP_FAILED ? -1 : 0);
}

CASE(mem_madvise)
{
	char *p = MAP(1 << 20, RW, PRIV);
	memset(p, 1, 1 << 20);
	R(madvise(p, 1 << 20, MADV_DONTNEED));
	out("%d %d", p[0], p[500000]);
	R(madvise(p, 4096, MADV_WILLNEED));
	R(madvise(p, 4096, MADV_SEQUENTIAL));
	R(madvise(p, 4096, MADV_HUGEPAGE));
	R(madvise(p, 4096, MADV_NOHUGEPAGE));
	R(madvise(p, 4096, MADV_FREE));
	R(madvise(p + 1, 4096, MADV_DONTNEED));
	R(madvise(p, 4096, 999));
	munmap(p, 1 << 20);
	R(madvise(p, 4096, MADV_DONTNEED));
	put_file("f", "file");
	p = mmap(0, 4096, RW, MAP_PRIVATE, Q(open("f", O_RDONLY)), 0);
	p[0] = 'X';
	R(madvise(p, 4096, MADV_DONTNEED));
	out("%.4s", p);
	char *q = MAP(4096, RW, PRIV);
	q[0] = 3;
	R(madvise(q, 4096, MADV_DONTFORK));
	if (fork() == 0) {
		catch_faults();
		touch("not forked", q, 0);
		_exit(0);
	}
	wait(0);
	R(madvise(q, 4096, 18 /* MADV_WIPEONFORK */));
}

CASE(mem_mincore)
{
	unsigned char v[4];
	char *p = MAP(4 * 4096, RW, PRIV);
	p[0] = p[8192] = 1;
	R(mincore(p, 4 * 4096, v));
	out("%d %d", v[0] & 1, v[2] & 1); /* a kernel may have mapped the neighbours too */
	R(mincore(p + 1, 4096, v));
	R(mincore((void *)0x1000, 4096, v));
}

CASE(mem_lock)
{
	char *p = MAP(4 * 4096, RW, PRIV);
	unsigned char v[4];
	R(mlock(p, 8192));
	Q(mincore(p, 4 * 4096, v));
	out("%d %d", v[0] & 1, v[1] & 1);
	R(munlock(p, 8192));
	R(mlockall(MCL_CURRENT));
	R(munlockall());
	R(mlockall(99));
	R(mlock((void *)0x1000, 4096));
	p = mmap(0, 8192, RW, PRIV | MAP_POPULATE, -1, 0);
	Q(mincore(p, 8192, v));
	out("populated %d %d", v[0] & 1, v[1] & 1);
}

CASE(mem_brk)
{
	char *b = sbrk(0);
	out("page aligned or not, it moves %d", sbrk(100000) == b);
	b[99999] = 1;
	out("%d", (char *)sbrk(0) == b + 100000);
	out("back %d", brk(b) == 0 && sbrk(0) == b);
	out("zero again %d", sbrk(100000) == b && b[99999] == 0);
	struct rlimit r = {1 << 20, RLIM_INFINITY};
	Q(setrlimit(RLIMIT_DATA, &r));
	out("limited %d", sbrk(64 << 20) == (void *)-1);
}

CASE(mem_rlimit_as)
{
	struct rlimit r = {256 << 20, RLIM_INFINITY};
	Q(setrlimit(RLIMIT_AS, &r));
	out("512 MiB %s", MAP(512 << 20, RW, PRIV) == MAP_FAILED ? strerrorname_np(errno) : "mapped");
	out("16 MiB %d", MAP(16 << 20, RW, PRIV) != MAP_FAILED);
}

static int deep(int n)
{
	volatile char b[4096];
	b[0] = n;
	return n ? deep(n - 1) + b[0] : 0;
}

CASE(mem_stack_grows)
{
	out("%d", deep(1000) != 1);
}

CASE(mem_stack_overflow)
{
	stack_t s = {.ss_sp = malloc(65536), .ss_size = 65536};
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct rlimit r = {1 << 20, 1 << 20};
	Q(setrlimit(RLIMIT_STACK, &r));
	Q(sigaltstack(&s, 0));
	Q(sigaction(SIGSEGV, &sa, 0));
	if (!sigsetjmp(jump, 1))
		deep(1000000);
	out("signal %d code %d", got_sig, got_code);
}

CASE(mem_efault)
{
	char *p = MAP(8192, RW, PRIV);
	int fds[2];
	munmap(p + 4096, 4096);
	Q(pipe2(fds, O_NONBLOCK));
	memset(p, 'x', 4096);
	R(write(fds[1], p + 4096, 100));
	R(read(fds[0], p + 4096, 1));
	R(uname((void *)(p + 4095)));
	R(stat(p + 4096, (struct stat *)p));
	strcpy(p + 4092, "abc");
	R(stat(p + 4092, (struct stat *)p));
	memset(p + 4090, 'z', 6);
	R(stat(p + 4090, (struct stat *)p));
	R(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, p + 4096));
	mprotect(p, 4096, PROT_READ);
	R(read(fds[0], p, 1));
	R(getrandom(p, 10, 0));
	R(getrandom(p + 4096, 10, 0));
}

CASE(mem_maps_file)
{
	char *p = MAP(1 << 20, RW, PRIV), b[300];
	int found = 0, stack = 0, heap = 0, ours = 0;
	mprotect(p + 4096, 4096, PROT_NONE);
	malloc(10);
	sbrk(4096);
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long lo, hi, last = 0;
	int sorted = 1;
	char perm[5];
	while (fgets(b, sizeof b, f)) {
		if (sscanf(b, "%lx-%lx %4s", &lo, &hi, perm) != 3)
			continue;
		sorted &= lo >= last;
		last = hi;
		if (lo == (unsigned long)p + 4096 && hi == (unsigned long)p + 8192 && !strcmp(perm, "---p"))
			found = 1;
		stack |= strstr(b, "[stack]") != 0;
		heap |= strstr(b, "[heap]") != 0;
		ours |= strstr(b, "conf") != 0;
	}
	out("sorted %d, hole %d, stack %d, heap %d, program %d", sorted, found, stack, heap, ours);
}

CASE(mem_process_vm)
{
	char a[] = "of the other", b[20] = {0};
	struct iovec l = {b, 12}, r = {a, 12};
	R(process_vm_readv(getpid(), &l, 1, &r, 1, 0));
	out("%s", b);
	memcpy(b, "ours", 4);
	l.iov_len = r.iov_len = 4;
	R(process_vm_writev(getpid(), &l, 1, &r, 1, 0));
	out("%s", a);
	r.iov_base = (void *)8;
	R(process_vm_readv(getpid(), &l, 1, &r, 1, 0));
	R(process_vm_readv(getpid(), &l, 1, &r, 1, 1));
}
