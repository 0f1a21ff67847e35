package linux

import (
	"io"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// console is the kernel's console as a plain file.
type console struct {
	vfs.Always
	node vfs.Node
	out  io.Writer
}

func (s *System) openConsole(p vfs.Path, _ int) (vfs.File, error) {
	return &console{node: p.Node(), out: s.cfg.Console}, nil
}

func (c *console) Node() vfs.Node                   { return c.node }
func (c *console) Read(vfs.Dst, int64) (int, error) { return 0, nil }
func (c *console) Seekable() bool                   { return false }
func (c *console) Sync(bool) error                  { return nil }
func (c *console) Close() error                     { return nil }

func (c *console) Write(s vfs.Src, off int64, _ bool) (int, int64, error) {
	done := 0
	var buf [512]byte
	for s.Left() > 0 {
		n, err := s.Take(buf[:min(s.Left(), len(buf))])
		if n > 0 {
			if _, werr := c.out.Write(buf[:n]); werr != nil {
				return done, off, syscall.EIO
			}
			done += n
		}
		if err != nil {
			if done > 0 {
				err = nil
			}
			return done, off, err
		}
		if n == 0 {
			break
		}
	}
	return done, off, nil
}

var _ poll.Pollable = (*console)(nil)
