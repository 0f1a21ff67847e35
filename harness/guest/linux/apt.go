package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// MirrorEnv names the environment variable with another Debian mirror, such as
// http://mirror.example/debian; its security archive is looked for beside it.
const MirrorEnv = "OSV_DEBIAN_MIRROR"

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// apt is Debian's own client on a package index of its own: not the host's, which
// may be another release, another distribution, or writable by root only.
// Signatures are checked against the host's Debian keyring.
type apt struct {
	dir string
	log func(string)

	updated bool
}

// options make apt use a.dir for all it writes and our two archives alone.
func (a *apt) options() []string {
	o := []string{
		"-qq",
		"-o", "Dir::State=" + filepath.Join(a.dir, "state"),
		"-o", "Dir::State::status=" + filepath.Join(a.dir, "status"),
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.dir, "sources.list"),
		"-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::Etc::preferences=/dev/null",
		"-o", "Dir::Etc::preferencesparts=/dev/null",
		"-o", "APT::Architecture=amd64",
		"-o", "APT::Sandbox::User=",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"-o", "Acquire::Retries=3",
	}
	return o
}

// update fetches the index once a run.
func (a *apt) update(ctx context.Context) error {
	if a.updated {
		return nil
	}
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed: the Linux guest is made from Debian packages (Debian or Ubuntu: apt, dpkg)", tool)
		}
	}
	if _, err := os.Stat(keyring); err != nil {
		return fmt.Errorf("%s is missing (apt-get install debian-archive-keyring)", keyring)
	}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	mirror, security := "http://deb.debian.org/debian", "http://deb.debian.org/debian-security"
	if m := strings.TrimSuffix(os.Getenv(MirrorEnv), "/"); m != "" {
		mirror, security = m, m+"-security"
	}
	list := fmt.Sprintf("deb [signed-by=%s] %s %s main\ndeb [signed-by=%s] %s %s-security main\n",
		keyring, mirror, Suite, keyring, security, Suite)
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(list), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644); err != nil {
		return err
	}
	if _, err := a.run(ctx, "", "apt-get", "update"); err != nil {
		return err
	}
	a.updated = true
	return nil
}

// run runs an apt tool in folder dir and returns its output.
func (a *apt) run(ctx context.Context, dir, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, append(a.options(), args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, lastLines(errs.String(), 3))
	}
	return out.String(), nil
}

func lastLines(s string, n int) string {
	l := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(l[max(len(l)-n, 0):], "; ")
}

var dependsKernel = regexp.MustCompile(`(?m)^Depends:.*\b(linux-image-[0-9][^ ,]*)`)

func (a *apt) kernelPackage(ctx context.Context, meta string) (string, error) {
	if err := a.update(ctx); err != nil {
		return "", err
	}
	out, err := a.run(ctx, "", "apt-cache", "show", "--no-all-versions", meta)
	if err != nil {
		return "", err
	}
	m := dependsKernel.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s: depends on no kernel package", meta)
	}
	return m[1], nil
}

// uriLine is a line of "apt-get download --print-uris": 'URI' FILE SIZE SHA256:SUM.
var uriLine = regexp.MustCompile(`^'[^']+' (\S+\.deb) \d+ SHA256:([0-9a-f]{64})$`)

func (a *apt) resolve(ctx context.Context, names []string) ([]Package, error) {
	if err := a.update(ctx); err != nil {
		return nil, err
	}
	out, err := a.run(ctx, "", "apt-get", append([]string{"download", "--print-uris"}, names...)...)
	if err != nil {
		return nil, err
	}
	byName := map[string]Package{}
	for _, l := range strings.Split(out, "\n") {
		m := uriLine.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			continue
		}
		name, rest, _ := strings.Cut(m[1], "_")
		version, _, _ := strings.Cut(rest, "_")
		byName[name] = Package{Name: name, Version: strings.ReplaceAll(version, "%3a", ":"), File: m[1], SHA256: m[2]}
	}
	pkgs := make([]Package, len(names))
	for i, n := range names {
		p, ok := byName[n]
		if !ok {
			return nil, fmt.Errorf("package %s: not in %s", n, Suite)
		}
		pkgs[i] = p
	}
	return pkgs, nil
}

func (a *apt) download(ctx context.Context, p Package, dir string) error {
	// A locked package may be gone from the index that is there, or the index
	// from the cache.
	get := func() error {
		_, err := a.run(ctx, dir, "apt-get", "download", p.Name+"="+p.Version)
		return err
	}
	var first error
	if _, err := os.Stat(filepath.Join(a.dir, "sources.list")); err == nil {
		if first = get(); first == nil {
			return nil
		}
	}
	if err := a.update(ctx); err != nil {
		return errors.Join(first, err)
	}
	return get()
}
