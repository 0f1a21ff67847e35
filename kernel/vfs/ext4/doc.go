// Package ext4 is the ext4 file system, read and write, with its journal.
//
// Spec: "ext4 Data Structures and Algorithms" (Documentation/filesystems/ext4 of
// Linux 6.1), with its chapter on JBD2; where that is silent, what e2fsck 1.47 takes
// for correct. Field names are the spec's. Covered: extents and (reading, freeing)
// indirect blocks, linear and htree directories, 64bit, flex_bg, meta_bg,
// metadata_csum and gdt_csum, inline data (written files are converted), extended
// attributes, orphans, files without a name, fallocate, JBD2 with revocation and checksums v2 and v3. Not
// covered: bigalloc, quota, project and verity (mounted read-only), encryption,
// casefold, large_dir, fast commits, external journals, blocks above 4 KiB (refused,
// with the feature's name).
//
// Who may use it: kernel/platform and kernel/linux mount it on a Device, which this
// package declares, so that any disk can be one. It knows no driver.
//
// How a change reaches the medium. File contents go through kernel/vfs/cache; blocks
// are chosen only when pages are written back. First the data is written to blocks
// that nobody has yet, then one handle marks the blocks used and enters them into
// the file: so no crash shows a file somebody else's old data. Metadata is changed in
// buffers (buffer.go) between begin and end of a handle (journal.go), which belongs
// to the running transaction. A commit waits for handles to end, copies the changed
// buffers, lets new handles run, and writes the copies to the journal. A checkpoint
// writes them to their places. Blocks that were freed can be had again after the
// commit. Without a journal a commit writes to the places at once.
//
// Lock order: inode.write (writers of one file); fileSystem.tree (changes of names); cache.File's
// write-back lock, which also keeps changes of one file's blocks apart; a handle; the
// inodes' mu, directories before what is in them; alloc.mu; buf.mu; journal.mu. Who
// holds an inode's mu never begins a handle.
//
// Start reading at Mount (mount.go), then inode.go, extent.go, dir.go, journal.go.
package ext4
