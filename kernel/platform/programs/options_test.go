package programs

import (
	"slices"
	"testing"

	"osv/kernel/platform"
)

func TestOptions(t *testing.T) {
	defer func() { options = Program{} }()
	for _, c := range []struct {
		word  string
		known bool
		ok    bool
	}{
		{"--strace", true, true}, {"--strace=1", true, false}, {"--root=blk1", true, true}, {"--root", true, false},
		{"--root=", true, false}, {"--hostname=h", true, true}, {"--other", false, true},
	} {
		known, err := set(c.word)
		if known != c.known || (err == nil) != c.ok {
			t.Errorf("%s: %v, %v", c.word, known, err)
		}
	}
	options = Program{Strace: true, Root: "blk1"}
	p := FromOptions(platform.Options{Cwd: "/x", Env: []string{"HOME=/h"}}, []string{"prog", "a"})
	if !p.Strace || p.Root != "blk1" || p.Cwd != "/x" || !slices.Equal(p.Argv, []string{"prog", "a"}) {
		t.Errorf("%+v", p)
	}
	if !slices.Contains(p.Env, "HOME=/h") || slices.Contains(p.Env, "HOME=/root") || !slices.Contains(p.Env, "TERM=linux") {
		t.Errorf("environment %v", p.Env)
	}
}

func TestFindNoDisk(t *testing.T) {
	if _, _, err := find(&platform.System{}, ""); err == nil {
		t.Error("no error")
	}
	if _, _, err := find(&platform.System{}, "blk7"); err == nil {
		t.Error("no error")
	}
}
