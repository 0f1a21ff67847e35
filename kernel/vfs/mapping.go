package vfs

// Mapping is how a file reaches those who have mapped it: one per file and mmap
// call. A file whose contents can go away under a mapping is a Mapped.
//
// Both calls wait for the lock of an address space: the caller may hold no lock that
// Mapper.PageAt, Page.Dirty or Page.Release take.
type Mapping interface {
	// Invalidate takes the pages of [off, end) out of the page tables and releases
	// them; the next access faults anew. truncated takes private copies as well. The
	// file has first made sure that PageAt no longer gives the old pages.
	Invalidate(off, end int64, truncated bool)
	// Harvest calls Dirty of those pages of [off, end) that were written to since the
	// last time.
	Harvest(off, end int64)
}

// Mapped is a Mapper that wants to know its Mappings. Attach is called before the
// first page is asked for, Detach when the last is released.
type Mapped interface {
	Attach(m Mapping)
	Detach(m Mapping)
}

// CachedMapper is a Mapper that tells what it has in memory without waiting: false
// where the page is not there, not filled yet, or beyond the end.
type CachedMapper interface {
	CachedPage(off int64) (Page, bool)
}
