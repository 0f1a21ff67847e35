// Package rootfs makes the ext4 image that a Linux program's guest has as its root:
// from Debian packages, from files of the host, from both.
//
// A description (Spec, a YAML file) names packages and files. Packages come from the
// archive of the bench's Linux guest (harness/guest/linux), whatever the host runs, with
// those that they depend on, and are kept in a cache by their SHA-256; dpkg-deb and tar
// unpack them, without their scripts; ldconfig and mke2fs -d do the rest. Two builds of
// one description from the same packages are the same file, byte for byte: times,
// owners, UUIDs and hash seeds are set, not taken from the host.
//
// Who may use it: harness/cmd/rootfs, tests that boot programs. May not: run anything
// of a package. Start reading at Spec, then Build.
package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Spec describes an image and the guest that it is for.
type Spec struct {
	Name     string   `yaml:"name,omitempty"`
	Packages []string `yaml:"packages,omitempty"` // Debian names, NAME or NAME=VERSION
	// Without are packages that are left out with what only they need: those that a
	// package depends on for its scripts. Default: DefaultWithout.
	Without []string `yaml:"without,omitempty"`
	// Exclude are patterns of paths that are left out (path.Match, "usr/share/doc", a
	// directory with all below). Default: DefaultExclude.
	Exclude []string `yaml:"exclude,omitempty"`
	Files   []File   `yaml:"files,omitempty"`
	Size    string   `yaml:"size,omitempty"` // "64M", "1G"; empty: what is needed and a quarter
	Free    string   `yaml:"free,omitempty"` // with empty size: so much free besides

	// How the guest is run.
	Run    []string `yaml:"run,omitempty"`    // program and arguments
	Append string   `yaml:"append,omitempty"` // options of the kernel
	Memory string   `yaml:"memory,omitempty"` // "256M"
	CPUs   int      `yaml:"cpus,omitempty"`
	Ports  []int    `yaml:"ports,omitempty"` // TCP ports that it serves
	Note   string   `yaml:"note,omitempty"`
}

// File is one file, directory or link of the image.
type File struct {
	Dst  string `yaml:"dst"`            // absolute
	Src  string `yaml:"src,omitempty"`  // of the host; a directory with all below; relative to the description
	Text string `yaml:"text,omitempty"` // the contents
	Link string `yaml:"link,omitempty"` // a symbolic link with this text
	Dir  bool   `yaml:"dir,omitempty"`
	Mode string `yaml:"mode,omitempty"` // octal; of src its own, else 0644 or 0755
	UID  int    `yaml:"uid,omitempty"`
	GID  int    `yaml:"gid,omitempty"`
}

// DefaultWithout are packages that Debian's need for scripts that are not run here.
var DefaultWithout = []string{"adduser", "base-files", "base-passwd", "ca-certificates-java", "coreutils", "debconf",
	"debconf-2.0", "dpkg", "init-system-helpers", "iproute2", "java-common", "libc-bin", "lsb-base", "mailcap", "media-types", "mime-support",
	"netbase", "passwd", "perl", "perl-base", "perl:any", "procps", "sysvinit-utils", "tzdata", "ucf", "usrmerge", "usr-is-merged"}

// DefaultExclude are paths that no program here opens.
var DefaultExclude = []string{"usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian",
	"usr/share/bash-completion", "usr/share/bug", "usr/share/menu", "usr/share/doc-base", "etc/init.d", "lib/systemd", "usr/lib/systemd",
	"etc/cron.d", "etc/logrotate.d", "etc/apparmor.d"}

// Load reads a description.
func Load(file string) (Spec, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Spec{}, fmt.Errorf("rootfs: %w", err)
	}
	var s Spec
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		return Spec{}, fmt.Errorf("rootfs: %s: %w", file, err)
	}
	for i := range s.Files {
		if f := &s.Files[i]; f.Src != "" && !filepath.IsAbs(f.Src) {
			f.Src = filepath.Join(filepath.Dir(file), f.Src)
		}
	}
	return s, s.check()
}

func (s Spec) check() error {
	for _, f := range s.Files {
		kinds := 0
		for _, set := range []bool{f.Src != "", f.Text != "", f.Link != "", f.Dir} {
			if set {
				kinds++
			}
		}
		switch {
		case !path.IsAbs(f.Dst):
			return fmt.Errorf("rootfs: file %q: the destination is not absolute", f.Dst)
		case kinds > 1:
			return fmt.Errorf("rootfs: file %s: more than one of src, text, link and dir", f.Dst)
		}
		if f.Mode != "" {
			if _, err := strconv.ParseUint(f.Mode, 8, 12); err != nil {
				return fmt.Errorf("rootfs: file %s: mode %q is not octal", f.Dst, f.Mode)
			}
		}
	}
	for _, w := range s.Run {
		if strings.ContainsAny(w, "\"\n") {
			return fmt.Errorf("rootfs: run: %q: the kernel's command line takes no double quotes and no new lines in a word", w)
		}
	}
	for _, n := range []string{s.Size, s.Free, s.Memory} {
		if n != "" {
			if _, err := ParseSize(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// ParseSize reads "64M": bytes, K, M, G in powers of 1024.
func ParseSize(s string) (int64, error) {
	num, shift := s, 0
	if s != "" {
		switch s[len(s)-1] {
		case 'K':
			shift = 10
		case 'M':
			shift = 20
		case 'G':
			shift = 30
		}
		if shift != 0 {
			num = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseInt(num, 10, 64)
	if err != nil || n <= 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("rootfs: size %q: want a number with K, M or G", s)
	}
	return n << shift, nil
}

// ParseFile reads SRC:DST[:MODE], the short form of File.
func ParseFile(s string) (File, error) {
	p := strings.Split(s, ":")
	if len(p) < 2 || len(p) > 3 || p[0] == "" || p[1] == "" {
		return File{}, fmt.Errorf("rootfs: file %q: want SRC:DST[:MODE]", s)
	}
	f := File{Src: p[0], Dst: p[1]}
	if len(p) == 3 {
		f.Mode = p[2]
	}
	return f, Spec{Files: []File{f}}.check()
}

// Config is where a build works.
type Config struct {
	Cache string    // packages; "" is the user's cache directory
	Log   io.Writer // steps; nil: none
}

func (c Config) logf(format string, a ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, format+"\n", a...)
	}
}

// Result is what a build made.
type Result struct {
	Size     int64 // of the image
	Used     int64 // bytes of files
	Files    int
	Packages []Package
}

// Build makes the image of s in the file out.
func Build(ctx context.Context, s Spec, out string, c Config) (Result, error) {
	var r Result
	if err := s.check(); err != nil {
		return r, err
	}
	if len(s.Packages) == 0 && len(s.Files) == 0 {
		return r, errors.New("rootfs: neither packages nor files: the image would be empty")
	}
	stage, err := os.MkdirTemp(filepath.Dir(out), ".rootfs-")
	if err != nil {
		return r, fmt.Errorf("rootfs: %w", err)
	}
	defer removeAll(stage)
	if err := skeleton(stage); err != nil {
		return r, fmt.Errorf("rootfs: %w", err)
	}
	if len(s.Packages) > 0 {
		if r.Packages, err = c.install(ctx, s, stage); err != nil {
			return r, err
		}
	}
	owners := map[string][2]int{}
	for _, f := range s.Files {
		if err := put(stage, f, owners); err != nil {
			return r, fmt.Errorf("rootfs: file %s: %w", f.Dst, err)
		}
	}
	if err := prune(stage, s.Exclude); err != nil {
		return r, err
	}
	if err := c.ldconfig(ctx, stage); err != nil {
		return r, err
	}
	err = c.makeImage(ctx, s, stage, out, owners, &r)
	return r, err
}

// skeleton makes the directories and files that Debian's base-files and base-passwd
// have, and its merged /usr.
func skeleton(stage string) error {
	if err := os.Chmod(stage, 0o755); err != nil {
		return err
	}
	for _, d := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "dev", "proc", "sys", "run", "root", "home", "var/log",
		"var/lib", "var/cache", "mnt", "opt"} {
		if err := os.MkdirAll(filepath.Join(stage, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"tmp", "var/tmp"} {
		p := filepath.Join(stage, d)
		if err := os.MkdirAll(p, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(p, 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+l, filepath.Join(stage, l)); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", filepath.Join(stage, "var/run")); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n" +
			"memcache:x:101:101:Memcached:/nonexistent:/bin/false\nredis:x:102:102::/var/lib/redis:/usr/sbin/nologin\n" +
			"www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n" +
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"group":         "root:x:0:\ndaemon:x:1:\ntty:x:5:\nmemcache:x:101:\nredis:x:102:\nwww-data:x:33:\nnogroup:x:65534:\n",
		"hosts":         "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
		"hostname":      "osv\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
		"resolv.conf":   "",
		"host.conf":     "multi on\n",
		"services":      "echo 7/tcp\necho 7/udp\nssh 22/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp\nhttps 443/tcp\n",
		"protocols":     "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n",
		"os-release":    "PRETTY_NAME=\"Debian packages on OSv\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n",
		"ld.so.conf":    "/usr/local/lib\n/usr/lib/x86_64-linux-gnu\n/lib/x86_64-linux-gnu\n",
	} {
		if err := os.WriteFile(filepath.Join(stage, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// put adds one file.
func put(stage string, f File, owners map[string][2]int) error {
	dst, err := inside(stage, f.Dst)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0)
	if f.Mode != "" {
		n, err := strconv.ParseUint(f.Mode, 8, 12)
		if err != nil {
			return err
		}
		mode = unixMode(uint32(n))
	}
	if f.UID != 0 || f.GID != 0 {
		rel, _ := filepath.Rel(stage, dst)
		owners[rel] = [2]int{f.UID, f.GID}
	}
	switch {
	case f.Link != "":
		os.Remove(dst)
		return os.Symlink(f.Link, dst)
	case f.Dir:
		if mode == 0 {
			mode = 0o755
		}
		if err := os.MkdirAll(dst, 0o755); err != nil {
			return err
		}
		return os.Chmod(dst, mode)
	case f.Src == "":
		if mode == 0 {
			mode = 0o644
		}
		os.Remove(dst)
		if err := os.WriteFile(dst, []byte(f.Text), 0o644); err != nil {
			return err
		}
		return os.Chmod(dst, mode)
	}
	st, err := os.Stat(f.Src)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		if d, err := os.Stat(dst); err == nil && d.IsDir() {
			return fmt.Errorf("%s is a directory in the image", f.Dst)
		}
		return copyFile(dst, f.Src, mode)
	}
	return filepath.WalkDir(f.Src, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(f.Src, p)
		to := filepath.Join(dst, rel)
		switch {
		case e.IsDir():
			return os.MkdirAll(to, 0o755)
		case e.Type()&fs.ModeSymlink != 0:
			t, err := os.Readlink(p)
			if err != nil {
				return err
			}
			os.Remove(to)
			return os.Symlink(t, to)
		case e.Type().IsRegular():
			return copyFile(to, p, 0)
		}
		return fmt.Errorf("%s is neither file, directory nor link", p)
	})
}

// inside is the place of an absolute path of the image below stage, with the links of
// the image followed in it: a path through /lib goes where the image's /lib leads.
func inside(stage, p string) (string, error) {
	at := stage
	parts := strings.Split(path.Clean(p), "/")
	for links := 0; len(parts) > 0; {
		c := parts[0]
		parts = parts[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			if at != stage {
				at = filepath.Dir(at)
			}
			continue
		}
		next := filepath.Join(at, c)
		if t, err := os.Readlink(next); err == nil && len(parts) > 0 {
			if links++; links > 40 {
				return "", fmt.Errorf("too many links in %s", p)
			}
			if path.IsAbs(t) {
				at = stage
			}
			parts = append(strings.Split(t, "/"), parts...)
			continue
		}
		at = next
	}
	return at, nil
}

func copyFile(dst, src string, mode fs.FileMode) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if mode == 0 {
		mode = st.Mode().Perm()
	}
	os.Remove(dst)
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Chmod(dst, mode)
	}
	return err
}

// unixMode is the bits of chmod as an fs.FileMode.
func unixMode(n uint32) fs.FileMode {
	m := fs.FileMode(n & 0o777)
	for bit, f := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if n&bit != 0 {
			m |= f
		}
	}
	return m
}

// prune takes away what is excluded.
func prune(stage string, exclude []string) error {
	if exclude == nil {
		exclude = DefaultExclude
	}
	for _, pat := range exclude {
		found, err := filepath.Glob(filepath.Join(stage, strings.TrimPrefix(pat, "/")))
		if err != nil {
			return fmt.Errorf("rootfs: exclude %q: %w", pat, err)
		}
		for _, p := range found {
			if err := removeAll(p); err != nil {
				return fmt.Errorf("rootfs: %w", err)
			}
		}
	}
	return nil
}

// removeAll is os.RemoveAll of directories that may not be writable.
func removeAll(p string) error {
	filepath.WalkDir(p, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(p)
}
