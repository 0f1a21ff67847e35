package hosted

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"osv/kernel/rest/cpuid"
	"osv/kernel/rest/machine"
)

type hardware struct{}

func (hardware) CPUs() int          { return runtime.NumCPU() }
func (hardware) Hypervisor() string { return cpuid.Hypervisor() }

func (hardware) Flags() []string {
	if f := cpuid.Flags(); len(f) > 0 {
		return f
	}
	for line := range lines("/proc/cpuinfo") {
		if k, v, ok := strings.Cut(line, ":"); ok && (strings.HasPrefix(k, "flags") || strings.HasPrefix(k, "Features")) {
			return strings.Fields(v)
		}
	}
	return nil
}

// Processors are those of the host, from /proc/stat.
func (hardware) Processors() []machine.Processor {
	var out []machine.Processor
	for line := range lines("/proc/stat") {
		f := strings.Fields(line)
		if len(f) < 8 || len(f[0]) < 4 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		idle := number(f[4]) + number(f[5]) // idle, iowait
		busy := uint64(0)
		for _, i := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq
			busy += number(f[i])
		}
		out = append(out, machine.Processor{ID: int64(number(f[0][3:])), BusyMS: int64(busy * 1000 / userHZ), IdleMS: int64(idle * 1000 / userHZ)})
	}
	return out
}

func (hardware) Firmware() (string, error) {
	b, err := os.ReadFile("/sys/class/dmi/id/bios_vendor")
	if err != nil {
		return "", machine.Unavailable("this host does not tell of its firmware")
	}
	return strings.TrimSpace(string(b)), nil
}

// Disks are the block devices of the host.
func (hardware) Disks() ([]machine.Disk, error) {
	dirs, err := filepath.Glob("/sys/block/*")
	if err != nil {
		return nil, err
	}
	read := func(dir, name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return strings.TrimSpace(string(b))
	}
	var out []machine.Disk
	for _, d := range dirs {
		size := number(read(d, "size")) * 512
		if size == 0 {
			continue
		}
		out = append(out, machine.Disk{Name: filepath.Base(d), Size: int64(size), BlockSize: int(max(512, number(read(d, "queue/logical_block_size")))),
			ReadOnly: read(d, "ro") == "1", Model: read(d, "device/model")})
	}
	return out, nil
}

type mounts struct{}

// remote are types of file systems that may not answer.
var remote = []string{"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse"}

// FileSystems are those of /proc/self/mountinfo that have blocks.
func (mounts) FileSystems() ([]machine.FileSystem, error) {
	var out []machine.FileSystem
	for line := range lines("/proc/self/mountinfo") {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 2 {
			continue
		}
		kind, _, _ := strings.Cut(g[0], ".")
		if slices.Contains(remote, kind) {
			continue
		}
		mount := unescape(f[4])
		var st syscall.Statfs_t
		if syscall.Statfs(mount, &st) != nil || st.Blocks == 0 {
			continue
		}
		out = append(out, machine.FileSystem{Filesystem: unescape(g[1]), Mount: mount, BTotal: st.Blocks, BFree: st.Bfree, FTotal: st.Files, FFree: st.Ffree, BlockSize: st.Bsize})
	}
	return out, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string { return escapes.Replace(s) }

var escapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
