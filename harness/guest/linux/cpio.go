package linux

import (
	"bufio"
	"fmt"
	"io"
	"path"
)

// File type bits of c_mode.
const (
	cpioDir  = 0o040000
	cpioReg  = 0o100000
	cpioLink = 0o120000
	cpioChar = 0o020000
)

// node is one member of an archive.
type node struct {
	mode       uint32
	data       []byte // content, or a link's target
	rmaj, rmin uint32 // device number of a character device
}

// root is a file system to be written as a newc archive. Equal roots give equal
// bytes: members are in order of path, times are zero, owners are root.
type root struct {
	nodes map[string]node
}

// applets are the busybox commands that init and a curious user call by name.
var applets = []string{
	"sh", "mount", "insmod", "ip", "sysctl", "cat", "echo", "grep", "printf", "usleep", "sleep", "uname", "nproc",
	"poweroff", "ls", "ps", "dmesg", "ifconfig", "netstat", "ping", "nc", "head", "sed", "awk", "taskset", "top", "free", "mkdir", "cut", "kill", "wc", "tr", "test", "env",
}

// newRoot is a root with busybox, its applets and the usual empty folders.
func newRoot(busybox []byte) *root {
	r := &root{nodes: map[string]node{}}
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "root", "etc"} {
		r.dir(d)
	}
	r.file("bin/busybox", busybox, 0o755)
	for _, a := range applets {
		r.nodes["bin/"+a] = node{mode: cpioLink | 0o777, data: []byte("busybox")}
	}
	r.file("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644)
	r.file("etc/group", []byte("root:x:0:\n"), 0o644)
	// Until devtmpfs is mounted, init's output needs the console.
	r.nodes["dev/console"] = node{mode: cpioChar | 0o600, rmaj: 5, rmin: 1}
	r.nodes["dev/null"] = node{mode: cpioChar | 0o666, rmaj: 1, rmin: 3}
	return r
}

func (r *root) dir(name string) {
	for name != "." && name != "/" {
		if _, ok := r.nodes[name]; !ok {
			r.nodes[name] = node{mode: cpioDir | 0o755}
		}
		name = path.Dir(name)
	}
}

func (r *root) file(name string, data []byte, perm uint32) {
	r.dir(path.Dir(name))
	r.nodes[name] = node{mode: cpioReg | perm, data: data}
}

// write writes the newc archive (cpio magic 070701).
func (r *root) write(w io.Writer) error {
	bw := bufio.NewWriter(w)
	ino := uint32(0)
	member := func(name string, n node) {
		ino++
		nlink := 1
		if n.mode&0o170000 == cpioDir {
			nlink = 2
		}
		// c_magic, ino, mode, uid, gid, nlink, mtime, filesize, maj, min, rmaj,
		// rmin, namesize, chksum; all but the magic eight hex digits.
		h, _ := fmt.Fprintf(bw, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
			ino, n.mode, 0, 0, nlink, 0, len(n.data), 0, 0, n.rmaj, n.rmin, len(name)+1, 0, name)
		bw.WriteString("\x00\x00\x00"[:-h&3])
		bw.Write(n.data)
		bw.WriteString("\x00\x00\x00"[:-len(n.data)&3])
	}
	for _, name := range sortedKeys(r.nodes) {
		member(name, r.nodes[name])
	}
	member("TRAILER!!!", node{})
	return bw.Flush()
}
