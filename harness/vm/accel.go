package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ProbeEnv names the environment variable that settles the accelerator ("kvm"
// or "tcg") without trying.
const ProbeEnv = "OSV_ACCEL"

var probed struct {
	sync.Mutex
	byQEMU map[string]Accel
}

// Probe answers KVM where a guest really boots under it: /dev/kvm may be there
// and open, and guests still not run (nested virtualisation without the
// hypervisor's help). It boots a guest of a few instructions and wants its exit
// code. The answer is kept for the life of the process.
func Probe(ctx context.Context, qemu string) Accel {
	switch a := Accel(strings.ToLower(os.Getenv(ProbeEnv))); a {
	case KVM, TCG:
		return a
	}
	probed.Lock()
	defer probed.Unlock()
	if a, ok := probed.byQEMU[qemu]; ok {
		return a
	}
	a := TCG
	if probeKVM(ctx, qemu, "/dev/kvm") {
		a = KVM
	}
	if ctx.Err() == nil {
		if probed.byQEMU == nil {
			probed.byQEMU = map[string]Accel{}
		}
		probed.byQEMU[qemu] = a
	}
	return a
}

func probeKVM(ctx context.Context, qemu, device string) bool {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	elf, err := os.CreateTemp("", "osv-probe-*.elf")
	if err != nil {
		return false
	}
	defer os.Remove(elf.Name())
	const code = 42
	_, err = elf.Write(TinyGuest("", code))
	if err != nil || elf.Close() != nil {
		return false
	}
	s := Spec{QEMU: qemu, Accel: KVM, MemMiB: 32, Kernel: elf.Name()}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	argv := s.Argv()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Run() //nolint:errcheck // the status is read below
	return cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == code<<1|1
}

// TinyGuest is a PVH kernel of some thirty bytes of code that prints msg on the
// serial port and ends with code (0 to 127) on the debug-exit port. The probe
// and the tests of this package boot it; it shows that board, firmware, loader,
// serial port and exit device work, without any kernel of ours.
func TinyGuest(msg string, code byte) []byte {
	const (
		base    = 0x100000
		hdrs    = 64 + 2*56
		textOff = 0x1000
	)
	// 32-bit code; PVH enters with flat segments and interrupts off.
	text := []byte{
		0xbe, 0, 0, 0, 0, // mov esi, msg
		0xac,       // lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x08, // jz done
		0xba, 0xf8, 0x03, 0x00, 0x00, // mov edx, 0x3f8
		0xee,       // out dx, al
		0xeb, 0xf3, // jmp lodsb
		0xb0, code, // done: mov al, code
		0xe6, 0xf4, // out 0xf4, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp hlt
	}
	binary.LittleEndian.PutUint32(text[1:], base+uint32(len(text)))
	text = append(append(text, msg...), 0)

	// ELF64 header, PT_LOAD, PT_NOTE, note XEN_ELFNOTE_PHYS32_ENTRY (18).
	var b bytes.Buffer
	le := func(vs ...any) {
		for _, v := range vs {
			binary.Write(&b, binary.LittleEndian, v) //nolint:errcheck // a Buffer does not fail
		}
	}
	le([]byte("\x7fELF\x02\x01\x01"), [9]byte{}, uint16(2), uint16(62), uint32(1),
		uint64(base), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(2), [3]uint16{})
	size := uint64(len(text))
	le(uint32(1), uint32(5), uint64(textOff), uint64(base), uint64(base), size, size, uint64(0x1000))
	le(uint32(4), uint32(4), uint64(hdrs), uint64(0), uint64(0), uint64(24), uint64(24), uint64(4))
	le(uint32(4), uint32(8), uint32(18), []byte("Xen\x00"), uint64(base))
	b.Write(make([]byte, textOff-b.Len()))
	b.Write(text)
	return b.Bytes()
}
