package vfs

// Mapping is an address space's interest in a file that it has mapped. A file system
// calls it with locks held: it may not call the file.
type Mapping interface {
	// Unmap takes the pages of [off, off+n) out of the page tables; where they are
	// touched again, Mapper is asked again.
	Unmap(off, n int64)
	// Harvest calls Dirty of the pages that were written to through it since Harvest
	// was last called.
	Harvest()
}

// MapTracker is a Mapper that tells mappings when pages go (truncate, a hole made)
// and asks them for what was written before it writes back (fsync, sync). One that is
// not told keeps its pages, which then are no longer the file's.
type MapTracker interface {
	AddMapping(m Mapping)
	DelMapping(m Mapping)
}
