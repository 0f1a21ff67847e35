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

// parseStanza reads what apt-cache show says of one package, of its first version.
func parseStanza(b []byte) (Package, error) {
	var p Package
	first, _, _ := strings.Cut(string(b), "\n\n")
	for _, l := range strings.Split(first, "\n") {
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
		return p, errors.New("no name, version or SHA256")
	}
	return p, nil
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
func (c Config) resolve(ctx context.Context, s Spec, show func(name string) (Package, error)) ([]Package, error) {
	without := s.Without
	if without == nil {
		without = DefaultWithout
	}
	found := map[string]Package{}
	want := slices.Clone(s.Packages)
	for len(want) > 0 {
		n := want[0]
		want = want[1:]
		name, _, _ := strings.Cut(n, "=")
		if _, ok := found[name]; ok {
			continue
		}
		p, err := show(n)
		if err != nil {
			return nil, err
		}
		found[name] = p
	deps:
		for _, d := range p.depends {
			alts := alternatives(d)
			for _, a := range alts {
				if _, ok := found[a]; ok || slices.Contains(without, a) || slices.Contains(want, a) {
					continue deps
				}
			}
			for _, a := range alts {
				if q, err := show(a); err == nil {
					want = append(want, q.Name)
					continue deps
				}
			}
			return nil, fmt.Errorf("rootfs: package %s needs %s, which apt does not know (apt-get update?)", p.Name, d)
		}
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
	seen := map[string]Package{}
	all, err := c.resolve(ctx, s, func(name string) (Package, error) {
		if p, ok := seen[name]; ok {
			return p, nil
		}
		b, err := run(ctx, "", "apt-cache", "show", "--no-all-versions", name)
		if err != nil {
			return Package{}, err
		}
		p, err := parseStanza(b)
		if err != nil {
			return p, fmt.Errorf("rootfs: package %s: %w", name, err)
		}
		seen[name] = p
		return p, nil
	})
	if err != nil {
		return nil, err
	}
	cache, err := c.cacheDir()
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		deb, err := c.fetch(ctx, cache, p)
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
func (c Config) fetch(ctx context.Context, cache string, p Package) (string, error) {
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
	if _, err := run(ctx, dir, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", p.Name+"="+p.Version); err != nil {
		return "", err
	}
	got, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
	if len(got) != 1 {
		return "", fmt.Errorf("rootfs: package %s: apt-get downloaded %d files", p.Name, len(got))
	}
	if ok, err := hasDigest(got[0], p.SHA256); err != nil || !ok {
		return "", fmt.Errorf("rootfs: package %s: the file is not the one that apt lists (SHA-256 %s)", p.Name, p.SHA256)
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
