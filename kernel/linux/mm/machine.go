// Package mm is a Linux address space: mappings in a balanced tree, demand paging, copy
// on write, and the kernel's way to user memory.
//
// Spec: Linux 6.1, mm/ and arch/x86/mm, as man-pages 6.03 section 2 describe it; results
// and errors are compared with the Linux that the tests run on. Who may use it:
// kernel/linux and its system calls. It knows files as vfs.Mapper, and no process: who
// runs in a Space, and who dies of a fault, is kernel/linux/task's. User memory is
// reached through the page table and the kernel's own view of each frame, never by a
// user address, so that a goroutine may copy from any space.
//
// A file may call vfs.Dst.Put and vfs.Src.Take with locks of its own, as long as
// Mapper.PageAt takes none of them: the memory copied to may be a mapping of that file.
//
// Start reading at Space (space.go), then fault.go and mmap.go.
package mm

// Machine is what an address space is made of: page tables and frames of memory.
// In a guest it is kernel/linux/usermem on kernel/hw/gate; hosted tests have a fake.
//
// A Frame is a physical address of 4 KiB. What a Table maps it does not own: who
// unmaps gets the frames back in a list and frees them.
type Machine interface {
	// NewTable makes an address space that maps nothing below the kernel's half.
	NewTable() (Table, error)
	// Alloc fills out with frames, zeroed if zero is set, or returns ENOMEM and
	// allocates none. Order 9 asks for 2 MiB blocks aligned to their size.
	Alloc(out []Frame, order uint, zero bool) error
	// Free gives frames back. A block of order 9 may come back frame by frame.
	Free(frames []Frame, order uint)
	// Bytes is how the kernel sees a frame's memory: 4096<<order bytes. It must work
	// for the page cache's frames too.
	Bytes(f Frame, order uint) []byte
	// FreeBytes is how much memory could be had now.
	FreeBytes() uint64
}

// Frame is the physical address of a frame.
type Frame uint64

// Prot is what a mapping lets user mode do; the bits are those of PROT_READ and its
// kin. A page that is mapped with none stays where it is, and user mode gets a fault
// for every access (x86: U/S is clear); any other mapping can be read.
type Prot uint32

const (
	ProtRead Prot = 1 << iota
	ProtWrite
	ProtExec
)

// PTE is one page's entry as Table tells it.
type PTE struct {
	Frame           Frame // of a 2 MiB page: its first
	Prot            Prot
	Order           uint // 0: 4 KiB, 9: 2 MiB
	Accessed, Dirty bool // set by the processor
}

// Table is a page table for user addresses, 0 up to 1<<47. Callers keep changes of
// one address apart (mm.Space's locks); the processors' translations are flushed
// before a call that takes rights away returns. Addresses are multiples of the size.
// Changes at addresses of different 2 MiB regions, and Lookup beside anything, run at
// the same time.
type Table interface {
	// Map maps n frames (4096<<order bytes each) from va on; what is there already is
	// replaced only where it is the same frame (a change of rights upwards).
	Map(va uint64, frames []Frame, order uint, prot Prot) error
	// MapZero allocates zeroed frames for all pages in [va, va+n) that map nothing yet
	// and maps them: demand-zero memory in one step. It returns the bytes that it
	// mapped; ENOMEM where it was none.
	MapZero(va, n uint64, prot Prot, large bool) (uint64, error)
	// Unmap clears [va, end) and calls f for every page that was mapped, after the
	// flush. 2 MiB pages that are only partly inside are split first (ENOMEM).
	Unmap(va, end uint64, f func(va uint64, e PTE)) error
	// Protect sets the rights of all pages mapped in [va, end).
	Protect(va, end uint64, prot Prot) error
	// Lookup is the entry at va, false where nothing is mapped. va need not be a
	// multiple of anything.
	Lookup(va uint64) (PTE, bool)
	// Walk calls f for every page that is mapped in [va, end), in order, until it
	// returns false; what is empty costs next to nothing, however wide. A 2 MiB page
	// is told once, with the address where it begins.
	Walk(va, end uint64, f func(va uint64, e PTE) bool)
	// Harvest returns and clears the dirty bits of [va, end): f is called for those
	// that were set.
	Harvest(va, end uint64, f func(va uint64, e PTE)) error
	// Root names the table to the processor (CR3).
	Root() uint64
	// Free releases the table itself; nothing is mapped any more and no thread runs
	// on it.
	Free()
}

// Reacher is a Table that gives the kernel a page's memory in one step: from va up to
// the end of its page, if it is mapped and a program may do want (ProtRead or
// ProtWrite) there; dirty says that its entry is. A Table need not be one.
type Reacher interface {
	Reach(va uint64, want Prot) (b []byte, dirty, ok bool)
}
