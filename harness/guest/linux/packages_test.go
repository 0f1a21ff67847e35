package linux

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The index is fetched once, then again for another mirror and when it is old, and an
// old one is better than none.
func TestArchiveIndex(t *testing.T) {
	count := filepath.Join(t.TempDir(), "updates")
	fakeApt(t, `case $1 in
update) [ -z "$OFFLINE" ] || exit 100; echo x >>`+count+`;;
esac`, "exit 1")
	cache := t.TempDir()
	updates := func() int {
		b, _ := os.ReadFile(count)
		return strings.Count(string(b), "x")
	}
	open := func(want int) {
		t.Helper()
		if _, err := OpenArchive(t.Context(), cache, nil); err != nil {
			t.Fatal(err)
		}
		if n := updates(); n != want {
			t.Errorf("%d updates, want %d", n, want)
		}
	}
	open(1)
	open(1)
	t.Setenv(MirrorEnv, "http://mirror.example/debian")
	open(2)
	old := time.Now().Add(-2 * indexAge)
	mark := filepath.Join(cache, "linux-"+Suite, "apt", "fetched")
	if err := os.Chtimes(mark, old, old); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OFFLINE", "1")
	open(2)
	t.Setenv(MirrorEnv, "")
	if _, err := OpenArchive(t.Context(), cache, nil); err == nil {
		t.Error("the index of another mirror is used")
	}
}

func TestArchiveShow(t *testing.T) {
	fakeApt(t, "exit 0", `case "$*" in
*broken*) echo "E: no memory" >&2; exit 100;;
*lib*) echo Package: lib;;
*) echo "E: No packages found" >&2; exit 100;;
esac`)
	a, err := OpenArchive(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := a.Show(t.Context(), "none", "lib"); s != "Package: lib\n" || err != nil {
		t.Errorf("%q %v", s, err)
	}
	if s, err := a.Show(t.Context(), "none"); s != "" || err != nil {
		t.Errorf("%q %v", s, err)
	}
	if _, err := a.Show(t.Context(), "broken"); err == nil || !strings.Contains(err.Error(), "no memory") {
		t.Error(err)
	}
	if err := a.Download(t.Context(), "lib", "1", t.TempDir()); err != nil {
		t.Error(err)
	}
}
