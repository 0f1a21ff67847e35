package cpuid

// cpuid executes CPUID with EAX and ECX as given.
func cpuid(eaxIn, ecxIn uint32) (eax, ebx, ecx, edx uint32)
