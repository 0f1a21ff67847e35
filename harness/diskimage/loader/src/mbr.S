# The boot sector. The BIOS loads it to 0:7c00 with the drive in DL; it loads the
# second stage to 0:8000 by INT 13h AH=42h and jumps there. 440 bytes at most: the
# partition table follows. The image builder writes count and lba (../layout.go).
	.code16
	.globl	_start
_start:	ljmp	$0, $main		# some BIOSes start at 07c0:0000
main:	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x7c00, %sp
	sti
	cld
	push	%dx
	mov	$dap, %si
	mov	$0x42, %ah		# extended read
	int	$0x13
	pop	%dx
	jc	fail
	ljmp	$0, $0x8000
fail:	mov	$text, %si
1:	lodsb
	test	%al, %al
	je	2f
	mov	%al, %cl
	mov	$0x0e, %ah		# teletype
	mov	$7, %bx
	int	$0x10
	mov	%cl, %al
	mov	$0x3f8, %dx
	out	%al, %dx
	jmp	1b
2:	hlt
	jmp	2b
text:	.asciz	"osv: boot sector: cannot read the second stage\r\n"
	.org	0x1a0
dap:	.byte	16, 0			# disk address packet
count:	.word	0
	.word	0x8000, 0		# offset, segment
lba:	.quad	0
	.org	440
