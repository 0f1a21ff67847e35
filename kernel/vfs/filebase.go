package vfs

import (
	"syscall"

	"osv/kernel/vfs/poll"
)

// Always is the readiness of files that never make anybody wait. Embed it.
type Always struct{}

// Ready says that reading and writing can go on.
func (Always) Ready() poll.Events { return poll.In | poll.Out }

// Watch and Unwatch have nothing to tell.
func (Always) Watch(*poll.Waiter)   {}
func (Always) Unwatch(*poll.Waiter) {}

// NoDir are the methods of a Node that only directories, links and file systems with
// attributes have, for those without. Embed it and replace what there is.
type NoDir struct{}

func (NoDir) Lookup(string) (Node, error)                            { return nil, syscall.ENOTDIR }
func (NoDir) Make(string, NewNode) (Node, error)                     { return nil, syscall.ENOTDIR }
func (NoDir) Link(string, Node) error                                { return syscall.ENOTDIR }
func (NoDir) Remove(string, bool) error                              { return syscall.ENOTDIR }
func (NoDir) Rename(string, Node, string, uint32) error              { return syscall.ENOTDIR }
func (NoDir) ReadDir(int64, func(e DirEntry, next int64) bool) error { return syscall.ENOTDIR }
func (NoDir) ReadLink() (string, error)                              { return "", syscall.EINVAL }
func (NoDir) XAttr() XAttr                                           { return nil }

// DirFile is an open directory: it is read by ReadDir of its node. Sync, where it is
// set, is fsync.
type DirFile struct {
	Always
	N       Node
	SyncDir func(dataOnly bool) error
	Done    func()
}

func (f *DirFile) Node() Node                                 { return f.N }
func (f *DirFile) Read(Dst, int64) (int, error)               { return 0, syscall.EISDIR }
func (f *DirFile) Write(Src, int64, bool) (int, int64, error) { return 0, 0, syscall.EBADF }
func (f *DirFile) Seekable() bool                             { return true }

// Sync is fsync of the directory.
func (f *DirFile) Sync(dataOnly bool) error {
	if f.SyncDir == nil {
		return nil
	}
	return f.SyncDir(dataOnly)
}

// Close calls Done.
func (f *DirFile) Close() error {
	if f.Done != nil {
		f.Done()
	}
	return nil
}
