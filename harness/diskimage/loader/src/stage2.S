# The second stage: BIOS real mode to the kernel's 32-bit entry. It reads the OSv
# partition (kernel/imagefmt says what is in it) by INT 13h AH=42h, takes the memory
# map from INT 15h AX=E820h, and starts the kernel as a PVH loader would.
#
# Memory: 7c00 stack, downwards   8000 this code   a000 partition header
# a200 start info   a400 memory map   b000 command line   10000 read buffer, 64 KiB
	.equ	header, 0xa000
	.equ	info, 0xa200
	.equ	map, 0xa400
	.equ	mapmax, 128
	.equ	cmdline, 0xb000
	.equ	cmdsectors, 9
	.equ	bufseg, 0x1000
	.equ	bufmax, 127		# sectors a read: some BIOSes take no more
	.equ	hPayload, header+20	# fields of the header
	.equ	hBytes, header+24
	.equ	hMem, header+28
	.equ	hLoad, header+32
	.equ	hEntry, header+36

	.code16
	.globl	_start
_start:	jmp	main
	.org	8
part:	.quad	0			# first sector of the OSv partition; the builder writes it
main:	mov	%dl, drive
	mov	$0x7c00, %esp
	mov	$0x2401, %ax		# A20 on, both ways
	int	$0x15
	in	$0x92, %al
	or	$2, %al
	and	$0xfe, %al
	out	%al, $0x92

	xor	%eax, %eax		# header
	mov	$1, %cx
	movl	$header, %ebx
	call	readlow
	mov	$tmagic, %di
	cmpl	$0x4256534f, header	# "OSVB"
	jne	fail
	cmpl	$0x01544f4f, header+4	# "OOT", 1
	jne	fail
	mov	$header+12, %si
	mov	$500, %cx
	call	crc
	mov	$theader, %di
	cmp	header+8, %eax
	jne	fail

	mov	header+16, %eax		# command line
	mov	$cmdsectors, %cx
	movl	$cmdline, %ebx
	call	readlow
	mov	$tline, %di
	cmpl	$0x4356534f, cmdline	# "OSVC"
	jne	fail
	cmpl	$0x014c444d, cmdline+4	# "MDL", 1
	jne	fail
	mov	cmdline+12, %ecx
	cmp	$4096, %ecx
	ja	fail
	mov	%cx, %bx
	movb	$0, cmdline+16(%bx)
	add	$4, %cx
	mov	$cmdline+12, %si
	call	crc
	cmp	cmdline+8, %eax
	jne	fail

	xor	%ebx, %ebx		# memory map: what E820 returns is PVH's entry but
	mov	$map, %di		# for four reserved bytes
1:	mov	$0xe820, %eax
	mov	$20, %ecx
	mov	$0x534d4150, %edx	# "SMAP"
	int	$0x15
	jc	2f
	cmp	$0x534d4150, %eax
	jne	2f
	movl	$0, 20(%di)
	add	$24, %di
	incl	entries
	cmpl	$mapmax, entries
	je	2f
	test	%ebx, %ebx
	jne	1b
2:	mov	$tmap, %di
	cmpl	$0, entries
	je	fail

	mov	$map, %si		# one range of RAM must hold the kernel
	mov	entries, %cx
	mov	hLoad, %eax
	mov	%eax, %ebx
	add	hMem, %ebx
1:	cmpl	$1, 16(%si)
	jne	2f
	cmpl	$0, 4(%si)
	jne	2f
	cmp	%eax, (%si)
	ja	2f
	mov	(%si), %edx
	add	8(%si), %edx
	jc	3f			# the range goes on beyond 4 GiB
	cmpl	$0, 12(%si)
	jne	3f
	cmp	%ebx, %edx
	jae	3f
2:	add	$24, %si
	loop	1b
	mov	$tram, %di
	jmp	fail

3:	mov	hPayload, %eax		# the kernel, buffer by buffer
	mov	%eax, sector
	mov	hLoad, %eax
	mov	%eax, dest
	mov	hBytes, %ecx
	add	$511, %ecx
	shr	$9, %ecx
3:	mov	$bufmax, %eax
	cmp	%eax, %ecx
	jae	4f
	mov	%ecx, %eax
4:	push	%ecx
	push	%eax
	mov	%eax, %ecx
	mov	sector, %eax
	mov	$bufseg<<16, %ebx
	call	read
	pop	%eax
	push	%eax
	shl	$9, %eax
	mov	%eax, bytes
	call	up
	pop	%eax
	pop	%ecx
	add	%eax, sector
	sub	%eax, %ecx
	jne	3b

	cli
	lgdt	gdtr
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmp	$8, $go

# crc: EAX = CRC-32 (IEEE) of CX bytes at SI.
crc:	mov	$-1, %eax
1:	xor	(%si), %al
	inc	%si
	mov	$8, %dl
2:	shr	%eax
	jnc	3f
	xor	$0xedb88320, %eax
3:	dec	%dl
	jne	2b
	loop	1b
	not	%eax
	ret

# read: CX sectors from sector EAX of the partition to EBX = segment:offset.
# readlow is the same.
readlow:
read:	mov	%cx, dapcount
	mov	%ebx, dapto
	xor	%edx, %edx
	add	part, %eax
	adc	part+4, %edx
	mov	%eax, daplba
	mov	%edx, daplba+4
	mov	$dap, %si
	mov	drive, %dl
	mov	$0x42, %ah
	int	$0x13
	jc	1f
	ret
1:	mov	$tread, %di

# fail: DI = what is wrong.
fail:	mov	$tosv, %si
	call	say
	mov	%di, %si
	call	say
	mov	$tnl, %si
	call	say
	mov	$103, %al		# shim.StatusBoot, to QEMU's debug exit if there
	out	%al, $0xf4
1:	hlt
	jmp	1b

say:	lodsb
	test	%al, %al
	je	1f
	mov	%al, %cl
	mov	$0x0e, %ah
	mov	$7, %bx
	push	%di
	int	$0x10
	pop	%di
	mov	%cl, %al
	mov	$0x3f8, %dx
	out	%al, %dx
	jmp	say
1:	ret

# up: copy 'bytes' from the buffer to 'dest', which moves on. Protected mode for the
# copy alone.
up:	cli
	lgdt	gdtr
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmp	$8, $1f
	.code32
1:	mov	$0x10, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$bufseg<<4, %esi
	mov	dest, %edi
	mov	bytes, %ecx
	shr	$2, %ecx
	rep movsl
	mov	%edi, dest
	ljmp	$0x18, $2f
	.code16
2:	mov	$0x20, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%cr0, %eax
	and	$0xfe, %al
	mov	%eax, %cr0
	ljmp	$0, $3f
3:	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	sti
	ret

	.code32
go:	mov	$0x10, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	hLoad, %edi		# what the file does not fill is zero
	add	hBytes, %edi
	mov	hMem, %ecx
	sub	hBytes, %ecx
	xor	%eax, %eax
	rep stosb
	mov	$info, %edi		# struct hvm_start_info, version 1
	mov	$16, %ecx
	rep stosl
	movl	$0x336ec578, info
	movl	$1, info+4
	movl	$cmdline+16, info+24
	movl	$map, info+40		# no RSDP: the kernel looks where BIOSes put it
	mov	entries, %eax
	mov	%eax, info+48
	mov	$info, %ebx
	xor	%eax, %eax
	mov	hEntry, %ecx
	jmp	*%ecx

tosv:	.asciz	"osv: boot: "
tnl:	.asciz	"\r\n"
tread:	.asciz	"cannot read the disk"
tmagic:	.asciz	"no OSv partition where it was when the image was built"
theader: .asciz	"the header of the OSv partition is damaged"
tline:	.asciz	"the command line in the image is damaged: set it again"
tmap:	.asciz	"the BIOS has no memory map (INT 15h AX=E820h)"
tram:	.asciz	"too little memory for the kernel"
	.balign	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	# 08 code, 32-bit
	.quad	0x00cf93000000ffff	# 10 data, 32-bit
	.quad	0x00009b000000ffff	# 18 code, 16-bit
	.quad	0x000093000000ffff	# 20 data, 16-bit
gdtr:	.word	39
	.long	gdt
	.balign	4
dap:	.byte	16, 0
dapcount: .word	0
dapto:	.long	0
daplba:	.quad	0
entries: .long	0
sector:	.long	0
dest:	.long	0
bytes:	.long	0
drive:	.byte	0
	.balign	512
