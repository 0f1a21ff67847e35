# Where a further processor starts: real mode, CS:IP = page:0000, copied to a page
# below 1 MiB. The boot processor fills in the parameters at the page's end.
	.code16
ap:
	cli
	cld
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	0xf20			# parameters below
	mov	%cr4, %eax
	or	$0x620, %eax		# PAE | OSFXSR | OSXMMEXCPT
	mov	%eax, %cr4
	mov	0xf30, %eax		# page tables
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx	# EFER
	rdmsr
	or	$0x901, %eax		# SCE | LME | NXE
	wrmsr
	mov	%cr0, %eax
	and	$0x9ffffffb, %eax	# not EM, CD, NW
	or	$0x80000023, %eax	# PG | NE | MP | PE: straight into long mode
	mov	%eax, %cr0
	ljmpl	*0xf28			# 32-bit offset of 'ap64', selector 8
	.org	0x80
	.code64
ap64:
	mov	$0x10, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	lea	ap(%rip), %rbx
	mov	0xf38(%rbx), %rsp	# stack
	mov	0xf48(%rbx), %rdi	# argument
	mov	0xf40(%rbx), %rax	# entry
	jmp	*%rax
apend:
# 0xf00 GDT (3 entries)  0xf20 GDTR: limit, base32  0xf28 far pointer: offset32,
# selector16  0xf30 CR3 (32 bits)  0xf38 RSP  0xf40 entry  0xf48 argument
