// The UEFI loader, \EFI\BOOT\BOOTX64.EFI on the EFI system partition: finds the OSv
// partition (kernel/imagefmt) on the disk it was itself loaded from, reads the kernel
// to where the firmware has room, leaves boot services and starts it as a PVH loader
// would, moved by a multiple of 2 MiB.
//
// Spec: UEFI 2.10 (2022-08) sections 4 (system table), 7 (boot services), 9 (loaded
// image), 10 (device paths), 13.9 (block I/O). No global variables: the image holds
// code and constants only, so that one read-only section will do.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u64 status;
#define API __attribute__((ms_abi))
#define ERR(n) (1ull << 63 | (n)) // UEFI appendix D

enum { LoadError = 1, Unsupported = 3, OutOfResources = 9, VolumeCorrupted = 10, NotFound = 14, CRCError = 27 };

typedef struct { u32 a; u16 b, c; u8 d[8]; } guid;
typedef struct { u64 sig; u32 rev, size, crc, reserved; } tableHeader;
typedef struct { u32 type, pad; u64 start, virt, pages, attr; } memDesc;
typedef struct { u8 type, sub, len[2]; } node; // device path

typedef struct textOut {
	void *reset;
	status (API *output)(struct textOut *, u16 *);
} textOut;

typedef struct bootServices {
	tableHeader hdr;
	void *raiseTPL, *restoreTPL;
	status (API *allocatePages)(u32 how, u32 type, u64 pages, u64 *addr);
	void *freePages;
	status (API *getMemoryMap)(u64 *size, void *map, u64 *key, u64 *descSize, u32 *version);
	void *allocatePool, *freePool;
	void *createEvent, *setTimer, *waitForEvent, *signalEvent, *closeEvent, *checkEvent;
	void *installProtocol, *reinstallProtocol, *uninstallProtocol;
	status (API *handleProtocol)(void *handle, const guid *, void **);
	void *reserved, *registerNotify, *locateHandle, *locateDevicePath, *installTable;
	void *loadImage, *startImage, *exit, *unloadImage;
	status (API *exitBootServices)(void *image, u64 key);
	void *nextCount, *stall, *setWatchdog;
	void *connect, *disconnect;
	void *openProtocol, *closeProtocol, *openInfo;
	void *protocolsPerHandle;
	status (API *locateHandleBuffer)(u32 how, const guid *, void *key, u64 *n, void ***);
	void *locateProtocol, *installMany, *uninstallMany;
	status (API *crc32)(void *, u64, u32 *);
} bootServices;

typedef struct {
	tableHeader hdr;
	u16 *vendor;
	u32 revision, pad;
	void *inHandle, *in, *outHandle;
	textOut *out;
	void *errHandle, *err, *runtime;
	bootServices *boot;
	u64 entries;
	struct { guid id; void *table; } *config;
} systemTable;

typedef struct {
	u32 revision, pad;
	void *parent, *system, *device;
} loadedImage;

typedef struct {
	u32 id;
	u8 removable, present, logical, readOnly, caching, pad[3];
	u32 blockSize, align, pad2;
	u64 last;
} media;

typedef struct blockIO {
	u64 revision;
	media *media;
	void *reset;
	status (API *read)(struct blockIO *, u32 id, u64 lba, u64 bytes, void *);
} blockIO;

typedef struct { // kernel/imagefmt Header
	u8 magic[8];
	u32 crc, flags, cmdline, payload, payloadBytes, memBytes, load, entry, payloadCRC;
} header;

typedef struct { u64 addr, size; u32 type, reserved; } range; // hvm_memmap_table_entry

typedef struct { // hvm_start_info, version 1
	u32 magic, version, flags, modules;
	u64 modlist, cmdline, rsdp, memmap;
	u32 entries, reserved;
} startInfo;

enum {
	sector = 512, page = 4096, large = 2 << 20,
	cmdSectors = 9, cmdMax = 4096, cmdText = 16,
	maxRanges = 1024, mapBytes = 128 << 10,
	readBytes = 8 << 20, // a request
	allHandlesBy = 2, maxAddress = 1, loaderData = 2,
	limit = 0x7fffffff, // the kernel's boot code counts in 32 bits with sign
};

// The work area: one allocation below 2 GiB, which the kernel reads and then reuses.
typedef struct {
	u8 code[page], stack[page];
	startInfo info __attribute__((aligned(4096)));
	u8 cmdline[cmdSectors * sector] __attribute__((aligned(4096)));
	u8 header[page] __attribute__((aligned(4096)));
	range ranges[maxRanges];
	u8 map[mapBytes] __attribute__((aligned(16)));
} work;

extern const u8 trampoline[], trampolineEnd[];

static int same(const void *a, const void *b, u64 n)
{
	const u8 *p = a, *q = b;
	while (n--)
		if (*p++ != *q++)
			return 0;
	return 1;
}

static status fail(systemTable *st, u64 code, const char *why)
{
	u16 line[120];
	int n = 0;
	for (const char *s = "osv: boot: "; *s; s++)
		line[n++] = *s;
	for (; *why && n < 116; why++)
		line[n++] = *why;
	line[n++] = '\r', line[n++] = '\n', line[n] = 0;
	if (st->out)
		st->out->output(st->out, line);
	return ERR(code);
}

// parent is the length of device path p without its last node: the disk of a
// partition. whole is its length without the end node.
static u64 parent(const u8 *p, u64 *whole)
{
	u64 at = 0, last = 0;
	while (((node *)(p + at))->type != 0x7f) {
		last = at;
		u64 n = p[at + 2] | p[at + 3] << 8;
		if (n < 4)
			break;
		at += n;
	}
	*whole = at;
	return last;
}

static int goodHeader(bootServices *bs, u8 *p)
{
	u32 crc = 0;
	return same(p, "OSVBOOT\1", 8) && !bs->crc32(p + 12, sector - 12, &crc) && crc == ((header *)p)->crc;
}

// find returns the OSv partition on the disk that the loader came from.
static blockIO *find(systemTable *st, void *image, work *w, u64 *code, const char **why)
{
	static const guid loadedID = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
	static const guid pathID = {0x09576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
	static const guid blockID = {0x964e5b21, 0x6459, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
	bootServices *bs = st->boot;
	loadedImage *li;
	u8 *mine, *path;
	u64 n, len, whole;
	void **handles;

	*code = Unsupported;
	*why = "not loaded from a disk";
	if (bs->handleProtocol(image, &loadedID, (void **)&li) || bs->handleProtocol(li->device, &pathID, (void **)&mine))
		return 0;
	len = parent(mine, &whole);
	*code = NotFound;
	*why = "no OSv partition on the disk that the loader came from";
	if (bs->locateHandleBuffer(allHandlesBy, &blockID, 0, &n, &handles))
		return 0;
	for (u64 i = 0; i < n; i++) {
		blockIO *b;
		if (bs->handleProtocol(handles[i], &blockID, (void **)&b) || !b->media->logical || b->media->blockSize != sector)
			continue;
		if (bs->handleProtocol(handles[i], &pathID, (void **)&path) || parent(path, &whole) != len || !same(path, mine, len))
			continue;
		if (b->read(b, b->media->id, 0, sector, w->header) || !same(w->header, "OSVBOOT\1", 8))
			continue;
		if (goodHeader(bs, w->header))
			return b;
		*code = CRCError;
		*why = "the header of the OSv partition is damaged";
	}
	return 0;
}

static int isRAM(u32 type) { return type - 1 < 4 || type == 7; } // loader, boot services, conventional

// ranges turns the firmware's memory map into PVH's, neighbours merged.
static u32 ranges(work *w, u64 bytes, u64 step)
{
	u32 n = 0;
	for (u64 at = 0; at + step <= bytes; at += step) {
		memDesc *d = (memDesc *)(w->map + at);
		u32 type = isRAM(d->type) ? 1 : d->type == 9 ? 3 : d->type == 10 ? 4 : 2;
		range *r = &w->ranges[n];
		if (n && r[-1].type == type && r[-1].addr + r[-1].size == d->start) {
			r[-1].size += d->pages * page;
			continue;
		}
		if (n == maxRanges)
			break;
		r->addr = d->start, r->size = d->pages * page, r->type = type, r->reserved = 0;
		n++;
	}
	return n;
}

static u64 rsdp(systemTable *st)
{
	static const guid acpi2 = {0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0, 0x80, 0xc7, 0x3c, 0x88, 0x81}};
	static const guid acpi1 = {0xeb9d2d30, 0x2d88, 0x11d3, {0x9a, 0x16, 0, 0x90, 0x27, 0x3f, 0xc1, 0x4d}};
	u64 old = 0;
	for (u64 i = 0; i < st->entries; i++) {
		if (same(&st->config[i].id, &acpi2, 16))
			return (u64)st->config[i].table;
		if (same(&st->config[i].id, &acpi1, 16))
			old = (u64)st->config[i].table;
	}
	return old;
}

__attribute__((section(".text.entry"))) API status start(void *image, systemTable *st)
{
	bootServices *bs = st->boot;
	u64 at = limit, code, bytes, key, step, top = 0;
	const char *why;
	u32 version, crc = 0;

	if (bs->allocatePages(maxAddress, loaderData, (sizeof(work) + page - 1) / page, &at))
		return fail(st, OutOfResources, "too little memory");
	work *w = (work *)at;
	blockIO *b = find(st, image, w, &code, &why);
	if (!b)
		return fail(st, code, why);
	header *h = (header *)w->header;

	u32 *c = (u32 *)w->cmdline;
	if (b->read(b, b->media->id, h->cmdline, sizeof w->cmdline, w->cmdline))
		return fail(st, LoadError, "cannot read the command line");
	if (!same(c, "OSVCMDL\1", 8) || c[3] > cmdMax || bs->crc32(c + 3, 4 + (u64)c[3], &crc) || crc != c[2])
		return fail(st, CRCError, "the command line in the image is damaged: set it again");
	w->cmdline[cmdText + c[3]] = 0;

	// Room for the kernel and, behind it, the byte for each page of RAM that it keeps.
	bytes = mapBytes;
	if (bs->getMemoryMap(&bytes, w->map, &key, &step, &version))
		return fail(st, OutOfResources, "the memory map is too large");
	for (u64 o = 0; o + step <= bytes; o += step) {
		memDesc *d = (memDesc *)(w->map + o);
		if (isRAM(d->type) && d->start + d->pages * page > top)
			top = d->start + d->pages * page;
	}
	u64 room = large + (u64)h->memBytes + top / page + 4 * page;
	at = limit;
	if (bs->allocatePages(maxAddress, loaderData, (room + page - 1) / page, &at))
		return fail(st, OutOfResources, "too little memory for the kernel");
	u64 base = (at + large - 1) & ~(u64)(large - 1);

	u64 whole = ((u64)h->payloadBytes + sector - 1) / sector * sector;
	for (u64 o = 0; o < whole; o += readBytes) {
		u64 n = whole - o < readBytes ? whole - o : readBytes;
		if (b->read(b, b->media->id, h->payload + o / sector, n, (void *)(base + o)))
			return fail(st, LoadError, "cannot read the kernel");
	}
	if (bs->crc32((void *)base, h->payloadBytes, &crc) || crc != h->payloadCRC)
		return fail(st, CRCError, "the kernel in the image is damaged");
	u8 *z = (u8 *)base + h->payloadBytes;
	for (u64 n = h->memBytes - h->payloadBytes; n; n--)
		*(volatile u8 *)z++ = 0;

	for (const u8 *p = trampoline; p < trampolineEnd; p++)
		w->code[p - trampoline] = *p;
	startInfo *s = &w->info;
	s->magic = 0x336ec578, s->version = 1, s->flags = 0, s->modules = 0, s->modlist = 0;
	s->cmdline = (u64)w->cmdline + cmdText, s->memmap = (u64)w->ranges, s->reserved = 0;
	s->rsdp = rsdp(st);

	// The map may change under the first attempt (section 7.4.6), not under later ones.
	for (int try = 0;; try++) {
		bytes = mapBytes;
		if (bs->getMemoryMap(&bytes, w->map, &key, &step, &version))
			return fail(st, OutOfResources, "the memory map is too large");
		if (!bs->exitBootServices(image, key))
			break;
		if (try == 8)
			return fail(st, LoadError, "the firmware does not let go (ExitBootServices)");
	}
	s->entries = ranges(w, bytes, step);
	((void (API *)(u64 entry, void *info, void *stack))w->code)(h->entry - (u64)h->load + base, s, w->stack + page);
	return ERR(LoadError);
}

// trampoline: RCX = 32-bit entry, RDX = start info, R8 = end of a stack, all below
// 4 GiB as is the copy that runs. Long mode to 32 bits without paging; EAX tells the
// kernel that it was moved.
__asm__(
"	.text\n"
"	.balign 16\n"
"trampoline:\n"
"	cli\n"
"	cld\n"
"	mov	%r8, %rsp\n"
"	mov	%ecx, %esi\n"
"	mov	%edx, %ebx\n"
"	lea	3f(%rip), %rax\n"
"	push	%rax\n"
"	pushw	$23\n"
"	lgdt	(%rsp)\n"
"	lea	2f(%rip), %rax\n"
"	mov	%r8, %rsp\n"
"	push	$8\n"
"	push	%rax\n"
"	lretq\n"
"	.code32\n"
"2:	mov	$0x10, %eax\n"
"	mov	%eax, %ds\n"
"	mov	%eax, %es\n"
"	mov	%eax, %fs\n"
"	mov	%eax, %gs\n"
"	mov	%eax, %ss\n"
"	mov	%cr0, %eax\n"
"	and	$0x7fffffff, %eax\n" // PG
"	mov	%eax, %cr0\n"
"	mov	$0xc0000080, %ecx\n" // EFER
"	rdmsr\n"
"	and	$0xfffffeff, %eax\n" // LME
"	wrmsr\n"
"	xor	%eax, %eax\n"
"	mov	%eax, %cr4\n"
"	mov	$0x7276736f, %eax\n" // imagefmt.Relocated
"	jmp	*%esi\n"
"	.balign 8\n"
"3:	.quad	0\n"
"	.quad	0x00cf9b000000ffff\n"
"	.quad	0x00cf93000000ffff\n"
"trampolineEnd:\n"
"	.code64\n"
);
