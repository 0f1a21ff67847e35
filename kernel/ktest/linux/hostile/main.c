/* hostile [list | NAME]: does, in children, all that a program must not do, and
 * then some ordinary work: the kernel has to be there still. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void null_read(void) { *(volatile int *)0; }
static void null_write(void) { *(volatile int *)8 = 1; }
static void null_jump(void) { ((void (*)(void))0)(); }

static void jump_to_garbage(void)
{
	unsigned char *p = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t r = getpid();
	for (int i = 0; i < 4096; i++)
		p[i] = (r = r * 6364136223846793005ULL + 1442695040888963407ULL) >> 33;
	((void (*)(void))p)();
}

static void jump_to_kernel(void) { ((void (*)(void))0xffffffff80000000UL)(); }
static void read_kernel(void) { *(volatile int *)0xffff888000000000UL; }
static void write_kernel(void) { *(volatile int *)0xffffffff81000000UL = 1; }
static void noncanonical(void) { *(volatile int *)0x800000000000UL = 1; }

static void bad_stack(void)
{
	asm volatile("mov $8, %%rsp\npush %%rax" : : : "memory");
}

static void bad_stack_call(void)
{
	asm volatile("mov $0x800000000000, %%rsp\nmov $39, %%eax\nsyscall\npush %%rax" : : : "memory");
}

static void handler(int s) {}

/* A signal that cannot be put on the stack. */
static void signal_on_bad_stack(void)
{
	signal(SIGUSR1, handler);
	long pid = getpid();
	asm volatile("mov $8, %%rsp\nmov $62, %%eax\nsyscall\nud2" : : "D"(pid), "S"((long)SIGUSR1) : "memory", "rax", "rcx", "r11");
}

static void bad_sigreturn(void)
{
	asm volatile("mov $15, %%eax\nsyscall" : : : "memory", "rax", "rcx", "r11");
}

static void garbage_sigreturn(void)
{
	uint64_t frame[200];
	for (int i = 0; i < 200; i++)
		frame[i] = 0x8000000000000000ULL >> (i % 64) | 0x33f7;
	asm volatile("mov %0, %%rsp\nmov $15, %%eax\nsyscall" : : "r"(frame) : "memory", "rax", "rcx", "r11");
}

static void privileged(void)
{
	asm volatile("cli");
}

static void io_port(void)
{
	asm volatile("outb %%al, $0xf4" : : "a"(0)); /* where the machine's exit is */
}

static void load_cr3(void) { asm volatile("mov %%rax, %%cr3" : : "a"(0L)); }
static void wrmsr(void) { asm volatile("wrmsr" : : "a"(0), "d"(0), "c"(0xc0000080)); }
static void iret(void) { asm volatile("push $0\npush $0\npush $0\npush $0\npush $0\niretq"); }

/* IRETD with VM set. A processor ignores the bit in long mode; QEMU's TCG would go to
 * virtual-8086 mode, and loop at 1000:0, if it did not read the frame with the kernel's
 * rights, which SMAP forbids whatever AC says. */
static void iret_v86(void)
{
	uint16_t *code = mmap((void *)0x10000, 65536, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	uint32_t *frame = mmap((void *)0x40000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	for (int i = 0; i < 32768; i++)
		code[i] = 0xfeeb; /* jmp . */
	frame[1] = 0x1000;
	frame[2] = 1 << 17 | 0x202;
	frame[3] = 0x100;
	frame[4] = frame[5] = frame[6] = frame[7] = frame[8] = 0x3000;
	asm volatile("pushf\norl $0x40000, (%%rsp)\npopf\nmov %0, %%rsp\n.byte 0xcf" : : "r"(frame) : "memory");
}

static void int_80(void) { asm volatile("int $0x80" : : "a"(1)); _exit(0); }
static void sysenter(void) { asm volatile("sysenter"); }
static void all_interrupts(void)
{
	for (int i = 0; i < 4; i++)
		if (fork() == 0) {
			switch (i) {
			case 0: asm volatile("int $0x20");
			case 1: asm volatile("int $2");
			case 2: asm volatile("int $8");
			case 3: asm volatile("int $0xfe");
			}
			_exit(0);
		}
	while (wait(0) > 0)
		;
}

static void segment_registers(void)
{
	asm volatile("mov %%ax, %%ds\nmov %%ax, %%es\nmov %%ax, %%fs\nmov %%ax, %%gs" : : "a"(0));
	syscall(SYS_getpid);
	asm volatile("mov %%ax, %%ss" : : "a"(8));
}

static void direction_and_trap_flags(void)
{
	asm volatile("std\nmov $39, %%eax\nsyscall\ncld" : : : "rax", "rcx", "r11", "memory");
	asm volatile("pushf\norl $0x40000, (%%rsp)\npopf\nmov $39, %%eax\nsyscall\npushf\nandl $~0x40000, (%%rsp)\npopf" : : : "rax", "rcx", "r11", "memory");
	asm volatile("pushf\norl $0x100, (%%rsp)\npopf\nnop\nnop" : : : "memory");
}

static void exhaust_memory(void)
{
	for (;;) {
		char *p = mmap(0, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			_exit(0);
		memset(p, 1, 16 << 20);
	}
}

static void exhaust_mappings(void)
{
	for (long i = 0; i < 200000; i++)
		if (mmap(0, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
			break;
}

static void exhaust_descriptors(void)
{
	struct rlimit r;
	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	for (int i = 0; i < 20000; i++)
		if (socket(AF_UNIX, SOCK_STREAM, 0) < 0)
			break;
}

static void *idle(void *x)
{
	pause();
	return 0;
}

static void exhaust_threads(void)
{
	pthread_attr_t a;
	pthread_t t;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 65536);
	for (int i = 0; i < 2000; i++)
		if (pthread_create(&t, &a, idle, 0))
			break;
}

static void fork_bomb(void)
{
	for (int i = 0; i < 200; i++) {
		pid_t p = fork();
		if (p < 0)
			break;
		if (p == 0) {
			pause();
			_exit(0);
		}
	}
}

static void fill_tmp(void)
{
	static char b[1 << 20];
	int fd = open("/tmp/fill", O_WRONLY | O_CREAT, 0600);
	for (int i = 0; i < 1024; i++)
		if (write(fd, b, sizeof b) != sizeof b)
			break;
	unlink("/tmp/fill");
}

static void stack_overflow(void)
{
	volatile char b[4096];
	b[0] = 1;
	stack_overflow();
	b[1] = b[0];
}

static void bad_pointers(void)
{
	static const uint64_t bad[] = {0, 8, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0xffff800000000000, 0xffffffffffffffff, 0xfffffffffffff000};
	static const long skip[] = {SYS_exit, SYS_exit_group, SYS_pause, SYS_rt_sigsuspend, SYS_fork, SYS_vfork, SYS_clone, SYS_kill, SYS_tkill, SYS_rt_sigreturn,
		SYS_reboot, SYS_close, 436, -1};
	alarm(20);
	for (long n = 0; n < 460; n++) {
		int left_out = 0;
		for (const long *s = skip; *s >= 0; s++)
			left_out |= *s == n;
		if (left_out)
			continue;
		pid_t p = fork();
		if (p == 0) {
			alarm(1);
			for (int i = 0; i < 8; i++) {
				uint64_t b = bad[i];
				syscall(n, b, b, b, b, b, b);
				syscall(n, 1, b, 100, b, b, b);
				syscall(n, b, 100, 1, b, b, b);
				syscall(n, -100, b, 1, 0, b, b);
				syscall(n, 1, 1, b, b, 1, 1);
			}
			_exit(0);
		}
		waitpid(p, 0, 0);
	}
}

static void ordinary_work(void)
{
	char *p = malloc(1 << 20);
	memset(p, 1, 1 << 20);
	int f[2];
	if (pipe(f) < 0 || write(f[1], p, 100) != 100 || read(f[0], p, 100) != 100)
		_exit(1);
	_exit(42);
}

#define T(f) {#f, f}
static struct {
	const char *name;
	void (*run)(void);
} all[] = {T(null_read), T(null_write), T(null_jump), T(jump_to_garbage), T(jump_to_kernel), T(read_kernel), T(write_kernel), T(noncanonical),
	T(bad_stack), T(bad_stack_call), T(signal_on_bad_stack), T(bad_sigreturn), T(garbage_sigreturn), T(privileged), T(io_port), T(load_cr3),
	T(wrmsr), T(iret), T(iret_v86), T(int_80), T(sysenter), T(all_interrupts), T(segment_registers), T(direction_and_trap_flags), T(stack_overflow),
	T(exhaust_mappings), T(exhaust_descriptors), T(exhaust_threads), T(fork_bomb), T(fill_tmp), T(bad_pointers), T(exhaust_memory)};

static int run(void (*f)(void))
{
	int st = 0;
	pid_t p = fork();
	if (p < 0)
		return -1;
	if (p == 0) {
		setpgid(0, 0);
		alarm(30);
		f();
		_exit(0);
	}
	while (waitpid(p, &st, 0) < 0 && errno == EINTR)
		;
	kill(-p, SIGKILL);
	return st;
}

int main(int argc, char **argv)
{
	int n = sizeof all / sizeof *all, listing = argc > 1 && !strcmp(argv[1], "list");
	for (int i = 0; i < n; i++) {
		if (listing) {
			puts(all[i].name);
			continue;
		}
		if (argc > 1 && strcmp(argv[1], all[i].name))
			continue;
		printf("hostile: %s: ", all[i].name);
		fflush(stdout);
		int st = run(all[i].run);
		if (WIFSIGNALED(st))
			printf("signal %d", WTERMSIG(st));
		else
			printf("exit %d", WEXITSTATUS(st));
		st = run(ordinary_work);
		if (!WIFEXITED(st) || WEXITSTATUS(st) != 42) {
			printf(", and then nothing works any more (status %x)\n", st);
			return 1;
		}
		puts("");
		fflush(stdout);
	}
	printf("hostile: done\n");
	return 0;
}
