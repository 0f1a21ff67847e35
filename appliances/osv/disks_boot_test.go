//go:build boot

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"osv/harness/vm"
	"osv/harness/wire"
)

// owner is somebody with the tools of OpenSSH, beside the guest.
type owner struct {
	t       *testing.T
	dir     string
	options []string // of ssh, scp and sftp
	key     string   // the public key, a line of authorized_keys
}

func newOwner(t *testing.T) *owner {
	t.Helper()
	for _, name := range []string{"ssh", "ssh-keygen", "scp", "sftp", "mkfs.ext4", "e2fsck", "debugfs"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	o := &owner{t: t, dir: t.TempDir()}
	o.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f", o.path("id"))
	pub, err := os.ReadFile(o.path("id.pub"))
	if err != nil {
		t.Fatal(err)
	}
	o.key = strings.TrimSpace(string(pub))
	o.options = []string{"-F", "/dev/null", "-i", o.path("id"), "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + o.path("known_hosts"),
		"-o", "GlobalKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "LogLevel=ERROR"}
	return o
}

func (o *owner) path(name string) string { return filepath.Join(o.dir, name) }

// tool runs a program of the host.
func (o *owner) tool(name string, args ...string) string {
	o.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		o.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// write makes a file and returns its name.
func (o *owner) write(name, text string) string {
	o.t.Helper()
	if err := os.WriteFile(o.path(name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return o.path(name)
}

// ext4 makes a disk with a file system.
func (o *owner) ext4(name, label string) vm.Disk {
	o.t.Helper()
	p := o.write(name, "")
	if err := os.Truncate(p, 64<<20); err != nil {
		o.t.Fatal(err)
	}
	o.tool("mkfs.ext4", "-q", "-F", "-L", label, p)
	return vm.Disk{Path: p}
}

// seed makes a disk with NoCloud data, as an ISO image or as a FAT disk.
func (o *owner) seed(iso bool, meta, user string) vm.Disk {
	o.t.Helper()
	m, u := o.write("meta-data", meta), o.write("user-data", user)
	if iso {
		mk, err := exec.LookPath("genisoimage")
		if err != nil {
			o.t.Skip(err)
		}
		o.tool(mk, "-quiet", "-output", o.path("seed.iso"), "-volid", "cidata", "-joliet", "-rock", u, m)
		return vm.Disk{Path: o.path("seed.iso"), ReadOnly: true}
	}
	for _, name := range []string{"mkfs.vfat", "mcopy"} {
		if _, err := exec.LookPath(name); err != nil {
			o.t.Skip(err)
		}
	}
	p := o.write("seed.fat", "")
	if err := os.Truncate(p, 2<<20); err != nil {
		o.t.Fatal(err)
	}
	o.tool("mkfs.vfat", "-n", "CIDATA", p)
	o.tool("mcopy", "-i", p, u, m, "::")
	return vm.Disk{Path: p}
}

// beside runs a program in the guest's network.
func (o *owner) beside(g *booted, name string, args ...string) (string, error) {
	type result struct {
		out []byte
		err error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends in that namespace
		var r result
		if r.err = g.wire.Enter(); r.err == nil {
			r.out, r.err = exec.Command(name, args...).CombinedOutput()
		}
		got <- r
	}()
	r := <-got
	return string(r.out), r.err
}

// ssh runs a command in the guest.
func (o *owner) ssh(g *booted, command string) string {
	o.t.Helper()
	return o.do(g, "ssh", "root@"+wire.GuestIP(0).Addr().String(), command)
}

// do runs a tool of OpenSSH.
func (o *owner) do(g *booted, name string, args ...string) string {
	o.t.Helper()
	out, err := o.beside(g, name, append(o.options[:len(o.options):len(o.options)], args...)...)
	if err != nil {
		o.t.Errorf("%s %q: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(strings.ReplaceAll(out, "\r", ""))
}

// line waits for a line of the console and returns its first group.
func (o *owner) line(g *booted, re string) string {
	o.t.Helper()
	r := regexp.MustCompile(re)
	l, err := g.WaitLine(r, 60*time.Second)
	if err != nil {
		o.t.Fatalf("%s: %v", re, err)
	}
	return r.FindStringSubmatch(l.Text)[1]
}

// ended waits for the end and has the file systems of disks checked.
func (o *owner) ended(g *booted, disks ...vm.Disk) {
	o.t.Helper()
	if e, late := g.WaitTimeout(30 * time.Second); late || !e.OK() {
		o.t.Fatalf("%v, late %v", e, late)
	}
	for _, d := range disks {
		// -n only looks; a journal that is not empty is an error of its own.
		if out, err := exec.Command("e2fsck", "-f", "-n", d.Path).CombinedOutput(); err != nil || strings.Contains(string(out), "recovery") {
			o.t.Errorf("e2fsck: %v: %s", err, out)
		}
	}
}

// TestBootDisks boots a guest with two disks twice, configured from an ISO image and
// then from a disk labelled cidata: disks are mounted, what is written over SSH, SCP,
// SFTP and the API lasts, and so do the keys that make the guest known.
func TestBootDisks(t *testing.T) {
	o := newOwner(t)
	data, extra := o.ext4("data.img", "store"), o.ext4("extra.img", "extra")
	guest := wire.GuestIP(0).Addr().String()
	user := fmt.Sprintf("#cloud-config\nssh_authorized_keys:\n- %s\nmounts:\n- [LABEL=extra, /srv, ext4, \"defaults,nofail\", 0, 2]\n- [vdz, /nowhere]\nwrite_files:\n- {path: /srv/from/cloud, content: of the cloud}\n", o.key)
	content := strings.Repeat("0123456789abcde\n", 100000)
	local := o.write("local", content)
	var hostKey, cert string
	for n, iso := range []bool{true, false} {
		seed := o.seed(iso, fmt.Sprintf("instance-id: i-%d\nlocal-hostname: disk%d\n", n, n), user)
		e, err := elf()
		if err != nil {
			t.Fatal(err)
		}
		g := boot(t, vm.Spec{CPUs: 1, MemMiB: 64, Kernel: e, Append: ipOption() + "--verbose --rest-tls --rest-token=" + token, Disks: []vm.Disk{seed, data, extra}}, "")
		fingerprint := o.line(g, `osv: ssh at :22, host key (SHA256:\S+ \(\w+\))`)
		fingerprint, word, _ := strings.Cut(fingerprint, " ")
		sum := o.line(g, `certificate .*, SHA-256 (\w+)`)
		if told := o.line(g, `osv: NoCloud: instance (.*)`); told != fmt.Sprintf("i-%d, host disk%d, 1 keys", n, n) {
			t.Errorf("configured as %q", told)
		}
		o.line(g, `(mounts: vdz on /nowhere: there is no such disk)`)
		check := "StrictHostKeyChecking=yes" // by what was written down at the first boot
		if n == 0 {
			hostKey, cert, check = fingerprint, sum, "StrictHostKeyChecking=accept-new"
		}
		if fingerprint != hostKey || sum != cert || word != []string{"(new)", "(kept)"}[n] {
			t.Errorf("boot %d: host key %s %s, certificate %s; at first %s, %s", n, fingerprint, word, sum, hostKey, cert)
		}
		base := o.options
		o.options = append(o.options[:len(o.options):len(o.options)], "-o", check)
		if out := o.ssh(g, "hostname; cat /srv/from/cloud; df"); !strings.HasPrefix(out, fmt.Sprintf("disk%d\nof the cloud", n)) ||
			!regexp.MustCompile(`(?m)^/dev/blk1 .* /data$`).MatchString(out) || !regexp.MustCompile(`(?m)^/dev/blk2 .* /srv$`).MatchString(out) {
			t.Errorf("boot %d, by ssh: %s", n, out)
		}
		if n == 0 {
			o.do(g, "scp", "-q", local, "root@"+guest+":/data/by-scp")
			batch := o.write("batch", fmt.Sprintf("mkdir /data/dir\nput %s /data/dir/by-sftp\nls -l /data/dir\n", local))
			if out := o.do(g, "sftp", "-q", "-b", batch, "root@"+guest); !strings.Contains(out, "1600000") {
				t.Errorf("sftp: %s", out)
			}
			if code, b := g.call("POST", "/file/data/by-api", strings.NewReader(content)); code != 200 {
				t.Errorf("an upload: %d %s", code, b)
			}
		}
		for _, name := range []string{"by-scp", "dir/by-sftp", "by-api"} {
			back := o.path("back")
			os.Remove(back)
			o.do(g, "scp", "-q", "root@"+guest+":/data/"+name, back)
			if b, err := os.ReadFile(back); err != nil || string(b) != content {
				t.Errorf("boot %d: %s: %d bytes came back, %v", n, name, len(b), err)
			}
		}
		if code, b := g.get("/file/data/by-scp?op=GETFILESTATUS"); code != 200 || !strings.Contains(string(b), `"length":1600000`) {
			t.Errorf("boot %d: status of a file: %d %s", n, code, b)
		}
		if code, b := g.get("/fs/df/data"); code != 200 || !strings.Contains(string(b), `"filesystem":"/dev/blk1"`) {
			t.Errorf("boot %d: /fs/df: %d %s", n, code, b)
		}
		if n == 0 {
			if code, b := g.call("POST", "/os/poweroff", nil); code != 200 {
				t.Errorf("%d %s", code, b)
			}
		} else {
			o.beside(g, "ssh", append(o.options[:len(o.options):len(o.options)], "root@"+guest, "poweroff")...) // it may end before it answers
		}
		o.ended(g, data, extra)
		o.options = base
	}
	if out := o.tool("debugfs", "-R", "cat /by-api", data.Path); !strings.HasSuffix(out, content) {
		t.Errorf("on the disk: %d bytes", len(out))
	}
	for _, name := range []string{"ssh_host_ed25519_key", "rest_tls.pem"} {
		if out := o.tool("debugfs", "-R", "stat /osv/"+name, data.Path); !strings.Contains(out, "Mode:  0600") {
			t.Errorf("%s: %s", name, out)
		}
	}
}
