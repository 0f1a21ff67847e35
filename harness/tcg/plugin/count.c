/* count.c - a TCG plugin that counts executed guest instructions, and those among
 * them that a hypervisor on hardware would have to take part in.
 *
 * QEMU does not ship the header of its plugin API with Debian's packages; what is
 * used of it is declared here by hand (include/qemu/qemu-plugin.h of QEMU 7.2,
 * API version 1; since 9.0 the version is 2 and the inline operation on a plain
 * address is gone, so a call back takes its place: slower, same counts; and
 * qemu_plugin_insn_data has changed, so events are not counted).
 *
 * Arguments: out=PATH, a file that harness/tcg has made and sized. Its layout is
 * struct shared, known to map_unsafe.go: keep the two alike.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef API_VERSION
#define API_VERSION 1
#endif
#ifndef CALL_BACK /* set by a test, to run the second way on an older QEMU */
#define CALL_BACK (API_VERSION != 1)
#endif
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;
typedef uint32_t qemu_plugin_meminfo_t;
typedef struct qemu_info_t qemu_info_t;
enum { QEMU_PLUGIN_CB_NO_REGS = 0, QEMU_PLUGIN_INLINE_ADD_U64 = 0, QEMU_PLUGIN_MEM_W = 2 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
	void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
#if !CALL_BACK
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op,
	void *ptr, uint64_t imm);
#else
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
	void (*cb)(unsigned int vcpu, void *userdata), int flags, void *userdata);
#endif

#if API_VERSION == 1
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op,
	void *ptr, uint64_t imm);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
	void (*cb)(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *userdata),
	int flags, int rw, void *userdata);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t info, uint64_t vaddr);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *haddr);
#endif

EXPORT int qemu_plugin_version = API_VERSION;

struct block {
	uint64_t addr;  /* of the first instruction */
	uint64_t insns; /* in the block */
	uint64_t execs;
};

struct shared {
	char magic[8];
	uint64_t blocks_max; /* room in table, set by the harness */
	uint64_t half[2];    /* instructions at addresses with top bit 0 and 1 */
	uint64_t blocks;     /* translated so far; may exceed blocks_max */
	uint64_t events[4];  /* see enum event; all 0 where they are not counted */
	uint64_t reserved[7];
	struct block table[];
};

enum event {
	INTERRUPT, /* iret: the end of an interrupt or exception */
	DOORBELL,  /* 16-bit store to a device: virtio's queue notification */
	HALT,      /* hlt: the vCPU had nothing to do */
	SENSITIVE, /* wrmsr, in, out: exits on most hardware */
};

static struct shared *shm;

#if API_VERSION == 1
static void stored(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *userdata)
{
	struct qemu_plugin_hwaddr *h = qemu_plugin_get_hwaddr(info, vaddr);

	(void)vcpu;
	(void)userdata;
	if (h && qemu_plugin_hwaddr_is_io(h))
		shm->events[DOORBELL]++;
}

/* An instruction's opcode decides (Intel SDM volume 2, appendix A). 16-bit stores
 * are rare enough in 64-bit code that a call back for each of them is not felt.
 */
static void watch(struct qemu_plugin_insn *insn)
{
	const unsigned char *b = qemu_plugin_insn_data(insn);
	size_t n = qemu_plugin_insn_size(insn), i = 0;
	bool word = false, lng = false;
	int e = -1;

	for (; i < n; i++) {
		unsigned char c = b[i];
		if (c == 0x66)
			word = true;
		else if (c != 0x67 && c != 0xf0 && c != 0xf2 && c != 0xf3 && c != 0x2e &&
			 c != 0x36 && c != 0x3e && c != 0x26 && c != 0x64 && c != 0x65)
			break;
	}
	if (i < n && (b[i] & 0xf0) == 0x40) { /* REX; W makes a store 64 bits wide */
		lng = b[i] & 8;
		i++;
	}
	if (i >= n)
		return;
	switch (b[i]) {
	case 0xcf:
		e = INTERRUPT;
		break;
	case 0xf4:
		e = HALT;
		break;
	case 0xe4 ... 0xe7:
	case 0xec ... 0xef:
	case 0x6c ... 0x6f:
		e = SENSITIVE;
		break;
	case 0x0f:
		if (i + 1 < n && b[i + 1] == 0x30)
			e = SENSITIVE;
		break;
	case 0x89:
	case 0xc7:
		if (word && !lng && i + 1 < n && b[i + 1] >> 6 != 3)
			qemu_plugin_register_vcpu_mem_cb(insn, stored, QEMU_PLUGIN_CB_NO_REGS,
				QEMU_PLUGIN_MEM_W, NULL);
		break;
	}
	if (e >= 0)
		qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64,
			&shm->events[e], 1);
}
#endif

#if CALL_BACK
static void executed(unsigned int vcpu, void *userdata)
{
	struct block *b = userdata;
	(void)vcpu;
	b->execs++;
	shm->half[b->addr >> 63] += b->insns;
}
#endif

/* Blocks past the table are counted in half[] only. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t n = qemu_plugin_tb_n_insns(tb), addr = qemu_plugin_tb_vaddr(tb);
	uint64_t i = __atomic_fetch_add(&shm->blocks, 1, __ATOMIC_RELAXED);
	struct block *b = NULL;

	(void)id;
	if (i < shm->blocks_max) {
		b = &shm->table[i];
		b->insns = n;
		b->execs = 0;
		__atomic_store_n(&b->addr, addr, __ATOMIC_RELEASE);
	}
#if API_VERSION == 1
	for (size_t k = 0; k < n; k++)
		watch(qemu_plugin_tb_get_insn(tb, k));
#endif
#if !CALL_BACK
	qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64,
		&shm->half[addr >> 63], n);
	if (b)
		qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64,
			&b->execs, 1);
#else
	if (!b) { /* as long as QEMU lives: blocks are not known to end */
		b = malloc(sizeof(*b));
		if (!b)
			abort();
		*b = (struct block){ addr, n, 0 };
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, QEMU_PLUGIN_CB_NO_REGS, b);
#endif
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	const char *path = NULL;
	struct stat st;
	int fd;

	(void)info;
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "out=", 4))
			path = argv[i] + 4;
	if (!path) {
		fprintf(stderr, "count: no out=PATH\n");
		return -1;
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(path);
		return -1;
	}
	shm = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shm == MAP_FAILED || memcmp(shm->magic, "OSVTCG2", 8) ||
	    sizeof(*shm) + shm->blocks_max * sizeof(struct block) > (uint64_t)st.st_size) {
		fprintf(stderr, "count: %s is not a counter file\n", path);
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
