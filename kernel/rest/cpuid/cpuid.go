// Package cpuid reads what the processor says of itself and of the hypervisor below.
//
// Spec: Intel SDM vol. 2A, CPUID (leaves 1, 7, 80000001h); the hypervisor leaf
// 40000000h by the documentation of KVM, Xen, VMware, Hyper-V and QEMU. Who may use
// it: anybody: the instruction needs no rights and works hosted too. On other
// processors there is nothing to read.
package cpuid

import "strings"

// Names of feature bits as Linux spells them in /proc/cpuinfo; a dot is a bit that
// Linux does not show there.
const (
	leaf1EDX = "fpu vme de pse tsc msr pae mce cx8 apic . sep mtrr pge mca cmov pat pse36 pn clflush . dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"
	leaf1ECX = "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm . pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave . avx f16c rdrand hypervisor"
	leaf7EBX = "fsgsbase tsc_adjust sgx bmi1 hle avx2 . smep bmi2 erms invpcid rtm . . mpx . avx512f avx512dq rdseed adx smap avx512ifma . clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl"
	leaf7ECX = ". avx512vbmi umip pku ospke waitpkg avx512_vbmi2 . gfni vaes vpclmulqdq avx512_vnni avx512_bitalg . avx512_vpopcntdq . la57 . . . . . rdpid"
	extEDX   = ". . . . . . . . . . . syscall . . . . . . . mp nx . mmxext . . fxsr_opt pdpe1gb rdtscp . lm 3dnowext 3dnow"
	extECX   = "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt . lwp fma4 tce . nodeid_msr . tbm topoext"
)

// Flags are the processor's features, as in the flags line of /proc/cpuinfo.
func Flags() []string {
	var out []string
	top, _, _, _ := cpuid(0, 0)
	add := func(bits uint32, names string) {
		for i, n := range strings.Fields(names) {
			if n != "." && bits>>i&1 != 0 {
				out = append(out, n)
			}
		}
	}
	if top >= 1 {
		_, _, c, d := cpuid(1, 0)
		add(d, leaf1EDX)
		add(c, leaf1ECX)
	}
	if ext, _, _, _ := cpuid(0x80000000, 0); ext >= 0x80000001 && ext < 0x80001000 {
		_, _, c, d := cpuid(0x80000001, 0)
		add(d, extEDX)
		add(c, extECX)
	}
	if top >= 7 {
		_, b, c, _ := cpuid(7, 0)
		add(b, leaf7EBX)
		add(c, leaf7ECX)
	}
	return out
}

// hypervisors are names by the signature of leaf 40000000h.
var hypervisors = map[string]string{
	"KVMKVMKVM":    "KVM",
	"Linux KVM Hv": "KVM",
	"TCGTCGTCGTCG": "QEMU",
	"XenVMMXenVMM": "Xen",
	"VMwareVMware": "VMware",
	"Microsoft Hv": "Hyper-V",
	"VBoxVBoxVBox": "VirtualBox",
	"bhyve bhyve ": "bhyve",
	"ACRNACRNACRN": "ACRN",
}

// Hypervisor is the name of the hypervisor, its signature where that is not known,
// "none" where there is none.
func Hypervisor() string {
	top, _, _, _ := cpuid(0, 0)
	if top < 1 {
		return "none"
	}
	if _, _, c, _ := cpuid(1, 0); c>>31 == 0 {
		return "none"
	}
	_, b, c, d := cpuid(0x40000000, 0)
	return hypervisorName(b, c, d)
}

func hypervisorName(regs ...uint32) string {
	var sig []byte
	for _, r := range regs {
		sig = append(sig, byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
	}
	s := strings.TrimRight(string(sig), "\x00")
	if n := hypervisors[s]; n != "" {
		return n
	}
	if s == "" {
		return "unknown"
	}
	return strings.ToValidUTF8(s, "?")
}
