package vfs

// Umask is the file mode creation mask.
func (d *Dirs) Umask() uint32 { return d.umask.Load() }
