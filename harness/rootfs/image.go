package rootfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// epoch is the time that everything in an image has: 2024-01-01 00:00 UTC.
const epoch = 1704067200

// ldconfig makes etc/ld.so.cache, where there is something for it.
func (c Config) ldconfig(ctx context.Context, stage string) error {
	if m, _ := filepath.Glob(filepath.Join(stage, "usr/lib/x86_64-linux-gnu/*.so*")); len(m) == 0 {
		return nil
	}
	tool := "/sbin/ldconfig"
	if _, err := os.Stat(tool); err != nil {
		tool = "ldconfig"
	}
	_, err := run(ctx, "", tool, "-X", "-r", stage)
	os.RemoveAll(filepath.Join(stage, "var/cache/ldconfig"))
	return err
}

// makeImage has mke2fs fill a file system with stage, and then sets what it took from
// the host: owners and times.
func (c Config) makeImage(ctx context.Context, s Spec, stage, out string, owners map[string][2]int, r *Result) error {
	var script bytes.Buffer
	hard := map[uint64]bool{}
	err := filepath.WalkDir(stage, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		sys := st.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(stage, p)
		if strings.ContainsAny(rel, "\"\n") {
			return fmt.Errorf("rootfs: %q: a name that debugfs cannot be told", rel)
		}
		r.Files++
		if !hard[sys.Ino] {
			r.Used += (st.Size() + 4095) &^ 4095
			if e.IsDir() {
				r.Used += 4096
			}
		}
		hard[sys.Ino] = true
		own := owners[rel]
		name := "/" + rel
		if rel == "." {
			name = "/"
		}
		for _, f := range []string{"atime", "ctime", "mtime", "crtime"} {
			fmt.Fprintf(&script, "sif \"%s\" %s @%d\n", name, f, epoch)
			if f != "crtime" {
				fmt.Fprintf(&script, "sif \"%s\" %s_extra 0\n", name, f)
			}
		}
		fmt.Fprintf(&script, "sif \"%s\" crtime_extra 0\nsif \"%s\" uid %d\nsif \"%s\" gid %d\n", name, name, own[0], name, own[1])
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(&script, "sif /lost+found uid 0\nsif /lost+found gid 0\n")
	size, err := s.size(r)
	if err != nil {
		return err
	}
	r.Size = size
	id := uuidOf(s)
	tmp := out + ".part"
	defer os.Remove(tmp)
	os.Remove(tmp)
	os.Setenv("E2FSPROGS_FAKE_TIME", fmt.Sprint(epoch))
	defer os.Unsetenv("E2FSPROGS_FAKE_TIME")
	if _, err := run(ctx, "", "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "root", "-U", id,
		"-E", "hash_seed="+id+",lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", "-d", stage, tmp,
		fmt.Sprintf("%dk", size>>10)); err != nil {
		return fmt.Errorf("%w (%d files of %d MiB in an image of %d MiB)", err, r.Files, r.Used>>20, size>>20)
	}
	list := tmp + ".debugfs"
	if err := os.WriteFile(list, script.Bytes(), 0o600); err != nil {
		return fmt.Errorf("rootfs: %w", err)
	}
	defer os.Remove(list)
	if _, err := run(ctx, "", "debugfs", "-w", "-f", list, tmp); err != nil {
		return err
	}
	if _, err := run(ctx, "", "e2fsck", "-f", "-n", tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, out); err != nil {
		return fmt.Errorf("rootfs: %w", err)
	}
	c.logf("%s: %d MiB, %d files of %d MiB", out, size>>20, r.Files, r.Used>>20)
	return nil
}

// size is the image's size in bytes.
func (s Spec) size(r *Result) (int64, error) {
	if s.Size != "" {
		return ParseSize(s.Size)
	}
	n := r.Used + r.Used/4 + int64(r.Files)*512 + 8<<20
	if s.Free != "" {
		f, err := ParseSize(s.Free)
		if err != nil {
			return 0, err
		}
		n += f
	}
	return (n + 1<<20 - 1) &^ (1<<20 - 1), nil
}

// uuidOf is a UUID that depends on the description alone.
func uuidOf(s Spec) string {
	names := slices.Clone(s.Packages)
	slices.Sort(names)
	h := sha256.Sum256([]byte(s.Name + "\x00" + strings.Join(names, " ")))
	h[6], h[8] = h[6]&0x0f|0x40, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
