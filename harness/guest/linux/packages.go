package linux

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// indexAge is how old the index of an Archive may be before it is fetched again.
const indexAge = 24 * time.Hour

// Archive is the Debian archive of Suite for others that make root file systems of
// packages: the index of this package, not the host's, and the same mirror and keys.
// It is not for several goroutines at once.
type Archive struct {
	apt *apt
	dir string
}

// OpenArchive fetches the index where there is none, it is older than a day, or
// another mirror is wanted; without a network an old one is used. cache is as in
// Config, log may be nil.
func OpenArchive(ctx context.Context, cache string, log func(string)) (*Archive, error) {
	if log == nil {
		log = func(string) {}
	}
	if cache == "" {
		d, err := DefaultCache()
		if err != nil {
			return nil, fmt.Errorf("debian archive: %w", err)
		}
		cache = d
	}
	dir := filepath.Join(cache, "linux-"+Suite)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("debian archive: %w", err)
	}
	a := &Archive{apt: &apt{dir: filepath.Join(dir, "apt"), log: log}, dir: dir}
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("debian archive: %w", err)
	}
	defer unlock()
	if err := a.refresh(ctx); err != nil {
		return nil, fmt.Errorf("debian archive: %w", err)
	}
	return a, nil
}

// refresh fetches the index unless the one that is there will do. apt marks its time:
// the file "fetched", which is made after a successful update and names the mirror.
func (a *Archive) refresh(ctx context.Context) error {
	mark := filepath.Join(a.apt.dir, "fetched")
	mirror := os.Getenv(MirrorEnv)
	st, err := os.Stat(mark)
	old, _ := os.ReadFile(mark)
	same := err == nil && string(old) == mirror
	if same && time.Since(st.ModTime()) < indexAge {
		return nil
	}
	a.apt.log("fetching the package index of Debian " + Suite)
	if err := a.apt.update(ctx); err != nil {
		if same && ctx.Err() == nil {
			a.apt.log(fmt.Sprintf("no new package index, the one of %s is used: %v", st.ModTime().Format(time.DateOnly), err))
			return nil
		}
		return err
	}
	return os.WriteFile(mark, []byte(mirror), 0o644)
}

// Show returns what the index says of these packages (NAME or NAME=VERSION), stanzas
// of deb822 with a blank line between. Names that it does not know are left out.
func (a *Archive) Show(ctx context.Context, names ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-cache", append(append(a.apt.options(), "show", "--no-all-versions"), names...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	// Exit status 100 with "No packages found": none is known.
	if err != nil && !strings.Contains(errs.String(), "No packages found") {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("apt-cache show %s: %w: %s", strings.Join(names, " "), err, lastLines(errs.String(), 3))
	}
	return string(out), nil
}

// Download puts version of the package name into the folder dir, as the one file
// there that ends in ".deb". Nothing is checked that apt does not check.
func (a *Archive) Download(ctx context.Context, name, version, dir string) error {
	return a.apt.download(ctx, Package{Name: name, Version: version}, dir)
}
