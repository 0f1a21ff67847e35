package rootfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"osv/harness/guest/linux"
)

// Package is one Debian package of an image.
type Package struct {
	Name, Version, SHA256 string

	depends []string // alternatives separated by "|"
}

// run runs a command and returns what it printed; the error has its last words.
func run(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("rootfs: %s is not installed", name)
		}
		words := strings.TrimSpace(errs.String())
		if i := strings.LastIndexByte(words, '\n'); i >= 0 {
			words = words[i+1:]
		}
		return nil, fmt.Errorf("rootfs: %s %s: %w: %s", name, strings.Join(args[:min(len(args), 2)], " "), err, words)
	}
	return out.Bytes(), nil
}

// parseStanzas reads what the index says of packages, the first stanza of each.
func parseStanzas(text string) (map[string]Package, error) {
	all := map[string]Package{}
	for _, st := range strings.Split(text, "\n\n") {
		if strings.TrimSpace(st) == "" {
			continue
		}
		var p Package
		for _, l := range strings.Split(st, "\n") {
			k, v, ok := strings.Cut(l, ": ")
			if !ok || strings.HasPrefix(l, " ") {
				continue
			}
			switch k {
			case "Package":
				p.Name = v
			case "Version":
				p.Version = v
			case "SHA256":
				p.SHA256 = v
			case "Depends", "Pre-Depends":
				for _, d := range strings.Split(v, ",") {
					p.depends = append(p.depends, strings.TrimSpace(d))
				}
			}
		}
		if p.Name == "" || p.Version == "" || len(p.SHA256) != 64 {
			return nil, fmt.Errorf("rootfs: package %q: no name, version or SHA256", p.Name)
		}
		if _, ok := all[p.Name]; !ok {
			all[p.Name] = p
		}
	}
	return all, nil
}

// alternatives are the names of a dependency, "a (>= 1) | b:any" gives a and b.
func alternatives(dep string) []string {
	var out []string
	for _, a := range strings.Split(dep, "|") {
		n, _, _ := strings.Cut(strings.TrimSpace(a), " ")
		n, _, _ = strings.Cut(n, ":")
		if n != "" {
			out = append(out, n)
		}
	}
	return out
}

// resolve finds the packages of s and all that they depend on, in order of names.
// show is asked for many at a time: each question costs a run of apt-cache.
func (c Config) resolve(s Spec, show func(names []string) (map[string]Package, error)) ([]Package, error) {
	without := s.Without
	if without == nil {
		without = DefaultWithout
	}
	known, asked := map[string]Package{}, map[string]bool{}
	ask := func(names []string) error {
		var news []string
		for _, n := range names {
			if name, _, _ := strings.Cut(n, "="); !asked[name] {
				asked[name] = true
				news = append(news, n)
			}
		}
		if len(news) == 0 {
			return nil
		}
		got, err := show(news)
		for n, p := range got {
			if asked[n] {
				known[n] = p
			}
		}
		return err
	}
	if err := ask(s.Packages); err != nil {
		return nil, err
	}
	var want []string
	for _, n := range s.Packages {
		name, _, _ := strings.Cut(n, "=")
		if _, ok := known[name]; !ok {
			return nil, fmt.Errorf("rootfs: there is no package %s", n)
		}
		want = append(want, name)
	}
	found := map[string]Package{}
	for len(want) > 0 {
		var names []string
		for _, n := range want {
			for _, d := range known[n].depends {
				names = append(names, alternatives(d)...)
			}
		}
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(without, n) })
		if err := ask(names); err != nil {
			return nil, err
		}
		var next []string
		taken := func(n string) bool {
			_, ok := found[n]
			return ok || slices.Contains(without, n) || slices.Contains(want, n) || slices.Contains(next, n)
		}
		for _, n := range want {
			p := known[n]
			found[n] = p
		deps:
			for _, d := range p.depends {
				alts := alternatives(d)
				if slices.ContainsFunc(alts, taken) {
					continue
				}
				for _, a := range alts {
					if _, ok := known[a]; ok {
						next = append(next, a)
						continue deps
					}
				}
				return nil, fmt.Errorf("rootfs: package %s needs %s, which the archive does not have", p.Name, d)
			}
		}
		want = next
	}
	out := make([]Package, 0, len(found))
	for _, p := range found {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// install unpacks the packages of s into stage.
func (c Config) install(ctx context.Context, s Spec, stage string) ([]Package, error) {
	archive, err := linux.OpenArchive(ctx, "", func(msg string) { c.logf("%s", msg) })
	if err != nil {
		return nil, fmt.Errorf("rootfs: %w", err)
	}
	all, err := c.resolve(s, func(names []string) (map[string]Package, error) {
		text, err := archive.Show(ctx, names...)
		if err != nil {
			return nil, fmt.Errorf("rootfs: %w", err)
		}
		return parseStanzas(text)
	})
	if err != nil {
		return nil, err
	}
	cache, err := c.cacheDir()
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		deb, err := c.fetch(ctx, archive, cache, p)
		if err != nil {
			return nil, err
		}
		if err := unpack(ctx, deb, stage); err != nil {
			return nil, err
		}
		c.logf("%s %s", p.Name, p.Version)
	}
	return all, nil
}

// unpack unpacks a package. dpkg-deb -x would replace the links of the merged /usr by
// directories; tar can be told to follow them.
func unpack(ctx context.Context, deb, stage string) error {
	tar, err := os.CreateTemp(filepath.Dir(stage), ".rootfs-tar-")
	if err != nil {
		return fmt.Errorf("rootfs: %w", err)
	}
	defer os.Remove(tar.Name())
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	cmd.Stdout = tar
	err = cmd.Run()
	if e := tar.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("rootfs: dpkg-deb %s: %w", deb, err)
	}
	_, err = run(ctx, "", "tar", "-x", "-p", "--no-same-owner", "--keep-directory-symlink", "-f", tar.Name(), "-C", stage)
	return err
}

func (c Config) cacheDir() (string, error) {
	dir := c.Cache
	if dir == "" {
		u, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("rootfs: %w", err)
		}
		dir = filepath.Join(u, "osv", "debs")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("rootfs: %w", err)
	}
	return dir, nil
}

// fetch is the package's file, from the cache or downloaded into it.
func (c Config) fetch(ctx context.Context, archive *linux.Archive, cache string, p Package) (string, error) {
	file := filepath.Join(cache, p.SHA256+".deb")
	if ok, _ := hasDigest(file, p.SHA256); ok {
		return file, nil
	}
	dir, err := os.MkdirTemp(cache, "get-")
	if err != nil {
		return "", fmt.Errorf("rootfs: %w", err)
	}
	defer os.RemoveAll(dir)
	c.logf("downloading %s %s", p.Name, p.Version)
	if err := archive.Download(ctx, p.Name, p.Version, dir); err != nil {
		return "", fmt.Errorf("rootfs: %w", err)
	}
	got, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
	if len(got) != 1 {
		return "", fmt.Errorf("rootfs: package %s: apt-get downloaded %d files", p.Name, len(got))
	}
	if ok, err := hasDigest(got[0], p.SHA256); err != nil || !ok {
		return "", fmt.Errorf("rootfs: package %s: the file is not the one that the archive lists (SHA-256 %s)", p.Name, p.SHA256)
	}
	if err := os.Rename(got[0], file); err != nil {
		return "", fmt.Errorf("rootfs: %w", err)
	}
	return file, nil
}

func hasDigest(file, want string) (bool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]) == want, nil
}
