/* Address spaces: mappings that move, that may not be replaced, and whose files change or
 * are sealed. */
#include "conf.h"

static sigjmp_buf jump;
static volatile int got_sig;

static void on_fault(int s)
{
	got_sig = s;
	siglongjmp(jump, 1);
}

/* probe says whether p can be read. */
static void probe(const char *what, volatile char *p)
{
	struct sigaction sa = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
	sigaction(SIGSEGV, &sa, 0);
	sigaction(SIGBUS, &sa, 0);
	if (sigsetjmp(jump, 1))
		out("%s: signal %d", what, got_sig);
	else
		out("%s: %d", what, *p);
}

#define ERR(p) ((p) == MAP_FAILED ? strerrorname_np(errno) : "mapped")
#define RW (PROT_READ | PROT_WRITE)
#define PRIV (MAP_PRIVATE | MAP_ANONYMOUS)

CASE(space_mremap_moves)
{
	char *p = mmap(0, 8 * 4096, RW, PRIV, -1, 0);
	p[0] = 'a', p[4096] = 'b', p[3 * 4096] = 'd';
	out("no room to grow in place: %s", ERR(mremap(p, 4096, 8192, 0)));
	char *to = mmap(0, 8 * 4096, PROT_NONE, PRIV, -1, 0);
	char *q = mremap(p, 8192, 4 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	out("moved %d: %c %c, the rest %d", q == to, q[0], q[4096], q[8192]);
	probe("what it has left", p);
	probe("its neighbour", p + 3 * 4096);
	probe("behind it", to + 4 * 4096);
	out("onto itself: %s", ERR(mremap(q, 8192, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, q + 4096)));
	out("fixed alone: %s", ERR(mremap(q, 8192, 8192, MREMAP_FIXED, p)));
	out("to an odd place: %s", ERR(mremap(q, 8192, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, p + 1)));
	out("across a hole: %s", ERR(mremap(p, 4 * 4096, 8 * 4096, MREMAP_MAYMOVE)));
	p = mremap(q, 4096, 4096, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	out("left mapped: %s, %c, %d behind", ERR(p), p[0], q[0]);
	out("and grown: %s", ERR(mremap(q, 4096, 8192, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)));
}

CASE(space_mremap_files)
{
	put_file("f", "contents");
	int fd = Q(open("f", O_RDWR));
	Q(ftruncate(fd, 3 * 4096));
	char *p = mmap(0, 4096, RW, MAP_SHARED, fd, 0);
	char *q = mremap(p, 0, 4096, MREMAP_MAYMOVE); /* a second view */
	out("%s, another place %d", ERR(q), q != p);
	q[0] = 'C';
	out("%.8s", p);
	q = mremap(q, 4096, 4 * 4096, MREMAP_MAYMOVE);
	out("%.8s", q);
	probe("in the file", q + 2 * 4096);
	probe("behind its end", q + 3 * 4096);
	q[4096] = 'x';
	munmap(p, 4096);
	char b[1];
	Q(pread(fd, b, 1, 4096));
	out("%c", b[0]);
	show_file("f");
	char *r = mmap(0, 4096, RW, PRIV, -1, 0);
	out("a private one has no second view: %s", ERR(mremap(r, 0, 4096, MREMAP_MAYMOVE)));
}

CASE(space_fixed_noreplace)
{
	char *p = mmap(0, 4 * 4096, RW, PRIV, -1, 0);
	munmap(p, 4096);
	munmap(p + 3 * 4096, 4096);
#define TRY(at, n) out("%s", ERR(mmap(at, n, RW, PRIV | MAP_FIXED_NOREPLACE, -1, 0)))
	TRY(p, 8192);
	TRY(p + 2 * 4096, 8192);
	TRY(p, 4 * 4096);
	TRY(p, 4096);
	TRY(p, 4096);
	TRY(p + 3 * 4096, 1);
	TRY(p + 3 * 4096 + 1, 4096);
	mprotect(p, 4096, PROT_NONE);
	TRY(p, 4096);
}

CASE(space_seals)
{
	int fd = Q(syscall(SYS_memfd_create, "m", 3)), n = 0;
	Q(ftruncate(fd, 8192));
	char *w = mmap(0, 4096, RW, MAP_SHARED, fd, 0);
	R(fcntl(fd, 1033, 8)); /* F_SEAL_WRITE beside a mapping */
	if (fork() == 0) { /* the child's counts too */
		munmap(w, 4096);
		R(fcntl(fd, 1033, 8));
		_exit(0);
	}
	wait(0);
	R(fcntl(fd, 1033, 16)); /* F_SEAL_FUTURE_WRITE: what is there may write on */
	w[0] = 'w';
	R(write(fd, "x", 1));
	out("%s", ERR(mmap(0, 4096, RW, MAP_SHARED, fd, 0)));
	char *r = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	out("%s %c", ERR(r), r[0]);
	R(mprotect(r, 4096, RW));
	char *p = mmap(0, 4096, RW, MAP_PRIVATE, fd, 0);
	p[0] = 'p';
	out("%s %c %c", ERR(p), p[0], w[0]);
	munmap(w, 4096);
	R(fcntl(fd, 1033, 8));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	R(ftruncate(fd, 4096));
	R(fcntl(fd, 1033, 1 | 2));
	R(ftruncate(fd, 100));
	R(fcntl(fd, 1033, 4));
	R(fcntl(fd, 1034));
	int plain = Q(syscall(SYS_memfd_create, "p", 0));
	R(fcntl(plain, 1034));
	R(fcntl(plain, 1033, 2));
	R(fcntl(Q(open("f", O_RDWR | O_CREAT, 0644)), 1034));
}

CASE(space_protect_files)
{
	put_file("f", "contents");
	int r = Q(open("f", O_RDONLY)), w = Q(open("f", O_RDWR));
	char *p = mmap(0, 4096, PROT_READ, MAP_SHARED, r, 0);
	R(mprotect(p, 4096, RW));
	char *q = mmap(0, 4096, PROT_READ, MAP_PRIVATE, r, 0);
	R(mprotect(q, 4096, RW));
	q[0] = 'Q';
	out("%.8s %.8s", p, q);
	char *s = mmap(0, 4096, PROT_READ, MAP_SHARED, w, 0);
	R(mprotect(s, 4096, RW));
	s[0] = 'S';
	out("%.8s %.8s", p, q);
	close(r), close(w);
	Q(unlink("f"));
	s[1] = 'S';
	out("%.8s", p);
	R(madvise(q, 4096, MADV_DONTNEED));
	out("%.8s", q);
	R(msync(s, 4096, MS_SYNC));
	R(mprotect(p, 3 * 4096, PROT_READ) < 0);
	R(mprotect(p, 4096, PROT_NONE));
	probe("none", p);
	R(mprotect(p, -4096UL, PROT_READ));
}

static char stack[64 << 10] __attribute__((aligned(16)));

static int on_clone(void *x)
{
	*(int *)x = 7;
	return 3;
}

CASE(space_clone_vm)
{
	int v = 0, w = 0, st;
	pid_t p = Q(clone(on_clone, stack + sizeof stack, CLONE_VM | SIGCHLD, &v));
	waitpid(p, &st, 0);
	out("shared %d, exited %d", v, WEXITSTATUS(st));
	p = Q(clone(on_clone, stack + sizeof stack, SIGCHLD, &w));
	waitpid(p, &st, 0);
	out("not shared %d, exited %d", w, WEXITSTATUS(st));
	v = 0;
	p = Q(clone(on_clone, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &v));
	out("it has ended before %d", v);
	waitpid(p, &st, 0);
	R(clone(on_clone, stack + sizeof stack, CLONE_THREAD | SIGCHLD, &v));
	R(clone(on_clone, stack + sizeof stack, CLONE_SIGHAND | SIGCHLD, &v));
	R(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS, 0, 0, 0, 0));
}
