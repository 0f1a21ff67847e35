# The 32-bit part of the PVH entry, which Go's assembler cannot write. gen.go
# assembles it and puts the bytes into entry_amd64.s.
#
# PVH (Xen, docs/misc/pvh.pandoc): 32-bit protected mode, flat segments, paging
# off, EBX = physical address of struct hvm_start_info. No stack.
#
# Between the two parts stands the Go instruction LEAQ ·bootTables(SB), AX. In
# 32-bit mode its bytes mean DEC EAX; LEA EAX, [disp32]: EAX = distance from the
# next instruction to bootTables, the same in physical as in virtual addresses.
	.code32
part1:
	cli
	cld
	mov	$0x400f00, %esp		# inside our own ELF header page; see image.LoadAddr
	call	1f
1:	pop	%ebp			# EBP = address of this instruction
	.byte	0x48, 0x8d, 0x05	# part 1 ends before these seven bytes
	.long	0
part2:
	lea	4095+8(%ebp,%eax), %edi	# 8 = pop + LEAQ
	and	$~4095, %edi		# EDI = 7 pages: PML4, low PDPT, high PDPT, 4 PDs
	mov	%ebx, %esi		# ESI = start info, kept
	lea	7*4096-4(%edi), %eax	# is there RAM where the image wants it?
	movl	$0x05f0a59a, (%eax)
	cmpl	$0x05f0a59a, (%eax)
	jne	noram
	mov	%edi, %ebx		# EBX = PML4
	xor	%eax, %eax
	mov	$7*1024, %ecx
	rep stosl
	lea	0x1003(%ebx), %eax	# present | write
	mov	%eax, (%ebx)		# PML4[0] = low PDPT
	lea	0x2003(%ebx), %eax
	mov	%eax, 511*8(%ebx)	# PML4[511] = high PDPT
	lea	0x3003(%ebx), %eax
	mov	%eax, 0x2000+510*8(%ebx) # its entry for ffffffff80000000 = first PD
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
4:	lodsb
	test	%al, %al
	je	5f
	out	%al, %dx
	jmp	4b
5:	mov	$103, %al		# shim.StatusBoot
	out	%al, $0xf4
	cli
	hlt
	jmp	5b
text:	.asciz	"osv: too little memory: RAM ends inside the kernel image\n"
	.balign 8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	# 0x08: code, 64-bit
	.quad	0x00cf93000000ffff	# 0x10: data
gdtend:
long:
