// Package qtest puts drivers that run on the host in front of the devices of a
// real QEMU, with no guest in between: registers are reached through QEMU's qtest
// socket, and guest memory is a file that both sides have mapped, so rings and
// buffers are really shared. What a fake in ktest/fakedev only claims, this
// checks, without a kernel that boots.
//
// Spec: QEMU docs/devel/qtest (7.2). The machine's firmware is one HLT loop with
// interrupts off: BARs are placed here, and interrupts arrive as messages of the
// socket (pins) or as words in memory (MSI-X, pointed there).
//
// Who may use it: tests only. A test is skipped where QEMU is not installed.
// Start reading at Start.
package qtest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/hw/dma"
)

const qemu = "qemu-system-x86_64"

// ramBytes is the guest's memory; what lies below firstFree is left alone.
const (
	ramBytes  = 64 << 20
	firstFree = 2 << 20
)

// Machine is a QEMU whose CPU sleeps.
type Machine struct {
	Dir string // a temporary directory for the test's own sockets and files

	t      testing.TB
	cmd    *exec.Cmd
	waited chan struct{} // closed once QEMU has ended
	conn   net.Conn
	ram    []byte

	mu      sync.Mutex // guards all below; held over one command and its answer
	answers chan string
	next    int // first free byte of ram
	live    int
	nextMem uint32 // where the next memory BAR goes
	nextIO  uint32
	msi     []*MSI

	pin Pin
}

// Start runs QEMU with args, which choose machine and devices; for a path inside
// Dir, args may use "DIR". It ends with the test.
func Start(t testing.TB, args ...string) *Machine {
	t.Helper()
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skipf("%s is not installed", qemu)
	}
	dir, err := os.MkdirTemp("", "qtest") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{Dir: dir, t: t, answers: make(chan string), next: firstFree, nextMem: 0xe0000000, nextIO: 0xc000}
	m.pin.init()
	t.Cleanup(m.stop)

	l, err := net.Listen("unix", filepath.Join(dir, "q"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(filepath.Join(dir, "bios"), bios(), 0o644); err != nil {
		t.Fatal(err)
	}
	full := []string{"-accel", "tcg", "-bios", filepath.Join(dir, "bios"), "-qtest-log", "none", "-qtest", "unix:" + filepath.Join(dir, "q"), "-qmp", "unix:" + filepath.Join(dir, "qmp") + ",server=on,wait=off",
		"-display", "none", "-nodefaults", "-no-user-config",
		"-m", strconv.Itoa(ramBytes >> 20),
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%d,mem-path=%s/ram,share=on", ramBytes, dir)}
	for _, a := range args {
		full = append(full, strings.ReplaceAll(a, "DIR", dir))
	}
	m.cmd = exec.Command(qemu, full...)
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // an Accept that never comes must not hang the test
		m.cmd.Wait()
		close(ended)
		l.Close()
	}()
	m.waited = ended
	if m.conn, err = l.Accept(); err != nil {
		t.Fatal("QEMU ended at once: ", err)
	}
	go m.read()
	m.do("irq_intercept_in ioapic") // answered once the machine is there, memory and all
	m.mapRAM()
	return m
}

// bios is a ROM of 64 KiB whose reset vector sleeps for good.
func bios() []byte {
	rom := make([]byte, 64<<10)
	copy(rom[len(rom)-16:], []byte{0xfa, 0xf4, 0xeb, 0xfd}) // cli; 1: hlt; jmp 1b
	return rom
}

func (m *Machine) mapRAM() {
	f, err := os.OpenFile(filepath.Join(m.Dir, "ram"), os.O_RDWR, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	if m.ram, err = syscall.Mmap(int(f.Fd()), 0, ramBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
		m.t.Fatal(err)
	}
}

// Pin is all pins of the machine.
func (m *Machine) Pin() *Pin { return &m.pin }

func (m *Machine) stop() {
	if m.conn != nil {
		m.conn.Close()
	}
	if m.cmd != nil && m.cmd.Process != nil {
		m.cmd.Process.Kill()
		<-m.waited
	}
	for _, l := range m.msi {
		l.Close()
	}
	if m.ram != nil {
		syscall.Munmap(m.ram)
	}
	os.RemoveAll(m.Dir)
}

// read takes all that QEMU says: answers for do, and pins going up and down.
func (m *Machine) read() {
	in := bufio.NewScanner(m.conn)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch {
		case len(f) == 3 && f[0] == "IRQ":
			n, _ := strconv.Atoi(f[2])
			m.pin.set(n, f[1] == "raise")
		default:
			m.answers <- in.Text()
		}
	}
	close(m.answers)
}

// do sends a command and returns the value in its answer.
func (m *Machine) do(format string, a ...any) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := fmt.Fprintf(m.conn, format+"\n", a...); err != nil {
		panic(err)
	}
	line, ok := <-m.answers
	f := strings.Fields(line)
	if !ok || len(f) == 0 || f[0] != "OK" {
		panic(fmt.Sprintf("qtest: %s: answer %q", fmt.Sprintf(format, a...), line))
	}
	if len(f) < 2 {
		return 0
	}
	v, err := strconv.ParseUint(f[1], 0, 64)
	if err != nil {
		panic(err)
	}
	return v
}

// Alloc is dma.Allocator's: a piece of guest memory.
func (m *Machine) Alloc(size, align int) (dma.Region, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := (m.next + align - 1) &^ (align - 1)
	if at+size > len(m.ram) {
		return dma.Region{}, dma.ErrNoMemory{Size: size, Align: align}
	}
	m.next = at + size
	m.live++
	clear(m.ram[at : at+size])
	return dma.Region{Bytes: m.ram[at : at+size : at+size], Bus: dma.Addr(at)}, nil
}

// Free is dma.Allocator's. Memory is counted, not used again.
func (m *Machine) Free(dma.Region) {
	m.mu.Lock()
	m.live--
	m.mu.Unlock()
}

// Live is the number of regions not freed.
func (m *Machine) Live() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live
}

// word is the 32-bit word of guest memory at a.
func (m *Machine) word(r dma.Region) *uint32 { return (*uint32)(unsafe.Pointer(&r.Bytes[0])) }
