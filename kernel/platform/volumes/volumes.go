// Package volumes mounts the file systems of the guest's disks in its file tree, and
// unmounts them at its end. An image that does not import it does not have ext4.
//
// Spec: mounts as in fstab(5), as far as Options says; OSv's option --mount-fs. File
// systems are those of kernel/vfs/ext4.
//
// Who may use it: appliances, after platform.Start and before what serves files:
//
//	v := volumes.Start(sys, tree)
//	…
//	defer v.Close()
//
// It is part of the composition root: it may import everything. Start reading at Start,
// then Volumes.Mount.
package volumes

import (
	"errors"
	"fmt"
	"path"
	"sync"
	"syscall"
	"time"

	"osv/kernel/blk"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/usermem"
	"osv/kernel/platform"
	"osv/kernel/platform/reclaim"
	"osv/kernel/trace"
	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

var log = trace.For("volumes")

// DataDir is where the data disk is mounted without being asked for.
const DataDir = "/data"

// Volumes are the disks that can be mounted, and what is.
type Volumes struct {
	tree  *vfs.Tree
	ctx   *vfs.Context
	disks []candidate
	open  func(blk.Disk) (vfs.FileSystem, error)

	mu     sync.Mutex
	fs     map[string]vfs.FileSystem // of a disk's name; guarded by mu
	data   string                    // where the data disk is; guarded by mu
	closed bool                      // guarded by mu
}

// patience is how long disks may take to be mounted at the start. One that does not
// answer then is mounted when it does.
const patience = 10 * time.Second

// Start mounts what the command line says, and the data disk at DataDir: the data
// partition of the image, else the first disk or partition with an ext4 file system.
// What cannot be mounted is logged.
func Start(sys *platform.System, tree *vfs.Tree) *Volumes {
	frames := sync.OnceValue(func() cache.Frames {
		m := usermem.New(usermem.Guest{})
		m.SetReserve(func() uint64 { return reclaim.Reserve(sys.RAM()) })
		return mm.Frames{M: m}
	})
	v := newVolumes(tree, func(d blk.Disk) (vfs.FileSystem, error) { return sys.MountExt4(d, frames()) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		disks := find(sys)
		v.mu.Lock()
		v.disks = disks
		v.mu.Unlock()
		v.boot(given)
	}()
	if len(sys.Disks) == 0 {
		<-done
		return v
	}
	select {
	case <-done:
	case <-time.After(patience):
		log.Warnf("disks are not mounted after %v; the guest goes on without them", patience)
	}
	return v
}

func newVolumes(tree *vfs.Tree, open func(blk.Disk) (vfs.FileSystem, error)) *Volumes {
	ctx := vfs.NewContext(tree, vfs.RootCreds())
	ctx.Dirs.SetUmask(0o022)
	return &Volumes{tree: tree, ctx: ctx, open: open, fs: map[string]vfs.FileSystem{}}
}

// boot mounts what is asked for on the command line, and the data disk.
func (v *Volumes) boot(o options) {
	taken := false
	for _, m := range o.mounts {
		if err := v.Mount(m.Source, m.Target, m.Type, m.Options); err != nil {
			log.Errorf("option --mount-fs: %s on %s: %v", m.Source, m.Target, err)
		}
		taken = taken || m.Target == DataDir
	}
	if taken || o.off {
		return
	}
	c := v.dataDisk()
	if c == nil {
		return
	}
	if err := v.Mount(c.disk.Name(), DataDir, "", ""); err != nil {
		log.Errorf("%s on %s: %v", c.disk.Name(), DataDir, err)
	}
}

// dataDisk chooses the data disk, nil if there is none.
func (v *Volumes) dataDisk() *candidate {
	v.mu.Lock()
	defer v.mu.Unlock()
	var first *candidate
	for i := range v.disks {
		c := &v.disks[i]
		switch {
		case !c.ext4 || c.label == "cidata": // NoCloud's, whatever it is made of
		case c.data:
			return c
		case first == nil:
			first = c
		}
	}
	return first
}

// Mount mounts a disk, in the words of an entry of fstab(5); see Options for what they
// may be. What is mounted elsewhere already is seen at both places.
func (v *Volumes) Mount(source, target, kind, opts string) error {
	target = path.Clean(target)
	flags, err := parseOptions(kind, opts)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return syscall.ESHUTDOWN
	}
	c, err := lookup(v.disks, source)
	if err != nil {
		return err
	}
	if !c.ext4 {
		return errors.New("it has no ext4 file system")
	}
	name := c.disk.Name()
	at, err := v.mountPoint(target)
	if err != nil {
		return err
	}
	fs := v.fs[name]
	if fs != nil && at.M.FS() == fs {
		return nil
	}
	if fs == nil {
		if fs, err = v.open(c.disk); err != nil {
			return err
		}
		v.fs[name] = fs
	}
	if c.disk.ReadOnly() {
		flags |= vfs.MountReadOnly
	}
	if _, err := v.tree.Mount("/dev/"+name, fs, at, flags); err != nil {
		return err
	}
	if v.data == "" || target == DataDir {
		v.data = target
	}
	word := ""
	if flags&vfs.MountReadOnly != 0 {
		word = ", read-only"
	}
	log.Infof("%s: ext4 on %s%s", name, target, word)
	return nil
}

// mountPoint is the directory target, which is made if it is not there.
func (v *Volumes) mountPoint(target string) (vfs.Path, error) {
	if len(target) == 0 || target[0] != '/' || target == "/" {
		return vfs.Path{}, errors.New("want the path of a directory")
	}
	for i := 1; i <= len(target); i++ {
		if i < len(target) && target[i] != '/' {
			continue
		}
		if err := vfs.MkdirAt(v.ctx, vfs.Path{}, target[:i], 0o755); err != nil && !errors.Is(err, syscall.EEXIST) {
			return vfs.Path{}, err
		}
	}
	return vfs.Walk(v.ctx, vfs.Path{}, target, vfs.Follow|vfs.Directory)
}

// KeyDir is the directory on the data disk where the guest keeps its keys, as a name of
// kernel/rest/machine's Files; "" where there is no disk that can be written to.
func (v *Volumes) KeyDir() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.data == "" || v.closed {
		return ""
	}
	p, err := vfs.Walk(v.ctx, vfs.Path{}, v.data, vfs.Follow|vfs.Directory)
	if err != nil || p.M.Flags()&vfs.MountReadOnly != 0 {
		return ""
	}
	return v.data[1:] + "/osv"
}

// Close unmounts everything. Who still has files open cannot write to them any more.
// It waits for a disk that does not answer no longer than at the start. Calling it
// again does nothing.
func (v *Volumes) Close() error {
	done := make(chan error, 1)
	go func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		var err error
		if !v.closed {
			v.closed = true
			err = v.tree.Shutdown()
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return fmt.Errorf("disks are not unmounted after %v", patience)
	}
}
