# The 32-bit part of the PVH entry, which Go's assembler cannot write. gen.go
# assembles it and puts the bytes into entry_amd64.s.
#
# PVH (Xen, docs/misc/pvh.pandoc): 32-bit protected mode, flat segments, paging
# off, EBX = physical address of struct hvm_start_info. No stack.
#
# The image runs wherever it lies, as long as that is a multiple of 2 MiB away from
# the physical address it was linked for. A loader that puts it elsewhere (UEFI,
# where nobody knows what is free) passes EAX = "osvr" and a stack of its own.
#
# Between the parts stand the Go instructions LEAQ ·bootTables(SB), AX and LEAQ
# ·linkedHere(SB), AX. In 32-bit mode their bytes mean DEC EAX; LEA EAX, [disp32]:
# EAX = distance from the next instruction to the symbol, the same in physical as
# in virtual addresses.
	.code32
part1:
	cli
	cld
	cmp	$0x7276736f, %eax	# imagefmt.Relocated
	je	0f
	mov	$0x400f00, %esp		# inside our own ELF header page; see image.LoadAddr
0:	call	1f
1:	pop	%ebp			# EBP = address of this instruction
	.byte	0x48, 0x8d, 0x05	# part 1 ends before these seven bytes
	.long	0
part2:
	lea	4095+8(%ebp,%eax), %edi	# 8 = pop + LEAQ
	and	$~4095, %edi		# EDI = 8 pages: PML4, low PDPT, high PDPT, 4 PDs, high PD
	mov	%ebx, %esi		# ESI = start info, kept
	lea	8*4096-4(%edi), %eax	# is there RAM where the image wants it?
	movl	$0x05f0a59a, (%eax)
	cmpl	$0x05f0a59a, (%eax)
	jne	noram
	mov	%edi, %ebx		# EBX = PML4
	xor	%eax, %eax
	mov	$8*1024, %ecx
	rep stosl
	lea	0x1003(%ebx), %eax	# present | write
	mov	%eax, (%ebx)		# PML4[0] = low PDPT
	lea	0x2003(%ebx), %eax
	mov	%eax, 511*8(%ebx)	# PML4[511] = high PDPT
	lea	0x7003(%ebx), %eax
	mov	%eax, 0x2000+510*8(%ebx) # its entry for ffffffff80000000 = high PD
	lea	0x3003(%ebx), %eax
	lea	0x1000(%ebx), %edi
	mov	$4, %ecx
2:	mov	%eax, (%edi)		# low PDPT[0..3] = the four PDs
	add	$0x1000, %eax
	add	$8, %edi
	loop	2b
	lea	0x3000(%ebx), %edi
	mov	$0x83, %eax		# present | write | 2 MiB
	mov	$2048, %ecx
3:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	3b
	.byte	0x48, 0x8d, 0x05	# part 2 ends before these seven bytes
	.long	0
part3:
	lea	part3-1b(%ebp,%eax), %edx # where linkedHere is
	mov	(%edx), %eax		# where it was linked
	sub	$0x80000000, %eax	# less VirtBase
	sub	%eax, %edx
	mov	%edx, %edi		# EDI = how far we were moved, kept
	lea	0x7000(%ebx), %edx	# high PD: the image's first GiB as linked
	lea	0x83(%edi), %eax
	mov	$512, %ecx
4:	mov	%eax, (%edx)
	add	$0x200000, %eax
	add	$8, %edx
	loop	4b
	lea	gdt-1b(%ebp), %eax	# GDTR on the stack: limit, base
	push	%eax
	pushw	$gdtend-gdt-1
	lgdt	(%esp)
	mov	%cr4, %eax
	or	$0x620, %eax		# PAE | OSFXSR | OSXMMEXCPT
	mov	%eax, %cr4
	mov	%ebx, %cr3
	mov	$0xc0000080, %ecx	# EFER
	rdmsr
	or	$0x901, %eax		# SCE | LME | NXE
	wrmsr
	mov	%cr0, %eax
	and	$0x9ffffffb, %eax	# not EM, CD, NW
	or	$0x80000022, %eax	# PG | NE | MP
	mov	%eax, %cr0
	lea	long-1b(%ebp), %eax
	pushl	$8
	push	%eax
	lret
noram:	lea	text-1b(%ebp), %esi
	mov	$0x3f8, %dx
5:	lodsb
	test	%al, %al
	je	6f
	out	%al, %dx
	jmp	5b
6:	mov	$103, %al		# shim.StatusBoot
	out	%al, $0xf4
	cli
	hlt
	jmp	6b
text:	.asciz	"osv: too little memory: RAM ends inside the kernel image\n"
	.balign 8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	# 0x08: code, 64-bit
	.quad	0x00cf93000000ffff	# 0x10: data
gdtend:
long:
