package shell_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"osv/kernel/rest/hosted"
	"osv/kernel/rest/machine"
	"osv/kernel/rest/shell"
)

// world is a shell over the process's machine with files in a folder.
type world struct {
	*shell.Shell
	m        machine.Machine
	dir      string
	out, err bytes.Buffer
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	var err error
	if w.m, err = hosted.New(w.dir); err != nil {
		t.Fatal(err)
	}
	w.Shell = &shell.Shell{Machine: &w.m, Out: &w.out, Err: &w.err}
	return w
}

func (w *world) do(line string) (status int, out, errs string) {
	w.out.Reset()
	w.err.Reset()
	status, _ = w.Run(context.Background(), line)
	return status, w.out.String(), w.err.String()
}

func TestFiles(t *testing.T) {
	w := start(t)
	os.WriteFile(filepath.Join(w.dir, "a"), []byte("one\n"), 0o644)
	os.WriteFile(filepath.Join(w.dir, ".hidden"), nil, 0o644)
	os.WriteFile(filepath.Join(w.dir, "with space"), []byte("two\n"), 0o644)
	os.WriteFile(filepath.Join(w.dir, "esc\x1b[2J"), nil, 0o644)
	os.Symlink("a", filepath.Join(w.dir, "link"))
	for _, c := range []struct {
		line   string
		status int
		out    string // exactly, or with … a part
		err    string // a part
	}{
		{"ls", 0, "a\nesc?[2J\nlink\nwith space\n", ""},
		{"ls -a", 0, ".hidden\na\nesc?[2J\nlink\nwith space\n", ""},
		{"ls -l link", 0, "…link -> a", ""},
		{"ls none a", 1, "a\n", "none"},
		{"cat a 'with space'", 0, "one\ntwo\n", ""},
		{`cat with\ space # comment`, 0, "two\n", ""},
		{"cat", 2, "", "too few arguments"},
		{"cat none", 1, "", "none"},
		{"cat .", 1, "", "directory"},
		{"mkdir d e; ls d", 0, "", ""},
		{"mkdir d", 1, "", "exist"},
		{"mkdir -p d d/e/f; cd d/e; pwd", 0, "/d/e\n", ""},
		{"cd ../..; pwd", 0, "/\n", ""},
		{"cd ../../..; pwd", 0, "/\n", ""},
		{"cd a", 1, "", "directory"},
		{"cd /d; cp /a x; cat x; cp x e; cat e/x; cd", 0, "one\none\n", ""},
		{"cp a a", 1, "", "same file"},
		{"cp a none/x", 1, "", "none"},
		{"mv d/x moved; cat moved; mv moved d; cat d/moved", 0, "one\none\n", ""},
		{"rm d", 1, "", "directory"},
		{"rm d/moved; cat d/moved", 1, "", "moved"},
		{"rmdir d", 1, "", "empty"},
		{"rmdir a", 1, "", "not a directory"},
		{"rm -r d; ls d", 1, "", "d"},
		{"rm none", 1, "", "none"},
		{"rm -f none; rmdir e; ls e", 1, "", "e"},
		{"rm -rf /", 1, "", "root is not removed"},
		{"rm -rf ..", 1, "", "root is not removed"},
	} {
		status, out, errs := w.do(c.line)
		part, some := strings.CutPrefix(c.out, "…")
		if status != c.status || some && !strings.Contains(out, part) || !some && out != c.out || (c.err == "") != (errs == "") || !strings.Contains(errs, c.err) {
			t.Errorf("%s: %d %q %q; want %d %q %q", c.line, status, out, errs, c.status, c.out, c.err)
		}
	}
}

func TestColumns(t *testing.T) {
	w := start(t)
	for _, n := range []string{"aa", "bb", "cc", "dddd"} {
		os.WriteFile(filepath.Join(w.dir, n), nil, 0o644)
	}
	w.Width = func() int { return 13 } // two columns of six
	if _, out, _ := w.do("ls"); out != "aa    cc\nbb    dddd\n" {
		t.Errorf("%q", out)
	}
	w.Width = func() int { return 3 }
	if _, out, _ := w.do("ls"); out != "aa\nbb\ncc\ndddd\n" {
		t.Errorf("%q", out)
	}
}

func TestMachine(t *testing.T) {
	w := start(t)
	t.Setenv("OSV_SHELL_TEST", "v1")
	for line, want := range map[string]string{
		"ps":                 "STATE",
		"top":                "memory",
		"top -n 2 -d 0.1":    "cpu0",
		"ifconfig":           "lo: flags=",
		"ifconfig lo":        "RX packets",
		"route -n":           "Destination",
		"df":                 "1K-blocks",
		"df -h":              "Size",
		"free":               "Mem:",
		"uptime":             "up ",
		"date":               "UTC",
		"hostname":           "\n",
		"env OSV_SHELL_TEST": "v1\n",
		"env OSV_SHELL_SET=v2; env OSV_SHELL_SET": "v2\n",
		"env":        "PATH=",
		"version":    machine.Version,
		"help":       "poweroff",
		"help ls":    "ls [-la]",
		"trace":      "",
		"trace show": "",
		"dmesg":      "",
	} {
		if status, out, errs := w.do(line); status != 0 || errs != "" || !strings.Contains(out, want) {
			t.Errorf("%s: %d %q %q", line, status, out, errs)
		}
	}
	for line, want := range map[string]string{
		"env OSV_SHELL_GONE=x; env OSV_SHELL_GONE=; env OSV_SHELL_GONE": "not set",
		"ifconfig nosuch": "nosuch: no such interface",
		"help nosuch":     "no such command",
		"top -n 0":        "want a number",
		"top -d x":        "want seconds",
		"top -n":          "needs a value",
		"trace perhaps":   "want on, off or show",
		"trace on":        "which tracepoints",
		"trace on a b [":  "trace",
		"pwd x":           "too many",
		"hostname a b":    "too many",
		"poweroff now":    "too many",
		"poweroff":        "not from here",
		"cat 'open":       "without end",
		"ls > x":          "no pipes",
		"nosuch":          "no such command",
	} {
		if status, _, errs := w.do(line); status == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q, want %q", line, status, errs, want)
		}
	}
}

// A machine that lacks parts says so.
func TestBareMachine(t *testing.T) {
	w := start(t)
	w.Shell.Machine = &machine.Machine{System: w.m.System, Hardware: w.m.Hardware}
	for _, line := range []string{"ls", "cat x", "cp a b", "mv a b", "rm x", "rmdir x", "mkdir x", "cd x", "df", "env", "ifconfig", "route", "run x"} {
		if status, _, errs := w.do(line); status != 1 || errs == "" {
			t.Errorf("%s: %d %q", line, status, errs)
		}
	}
}

type apps struct{ commands []string }

func (a *apps) Run(_ context.Context, c string) (string, error) {
	a.commands = append(a.commands, c)
	return "7", nil
}
func (*apps) Finished(string) bool { return true }

func TestRunAndEnd(t *testing.T) {
	w := start(t)
	a := &apps{}
	w.m.Apps = a
	if status, out, _ := w.do(`run echo "it's" 'a b'`); status != 0 || out != "7\n" || a.commands[0] != `'echo' 'it'\''s' 'a b'` {
		t.Errorf("%d %q %q", status, out, a.commands)
	}
	var ended []machine.Action
	w.End = func(a machine.Action) error { ended = append(ended, a); return nil }
	for _, line := range []string{"poweroff", "reboot", "exit"} {
		if status, err := w.Run(context.Background(), line+"; pwd"); status != 0 || !errors.Is(err, shell.ErrExit) {
			t.Errorf("%s: %d %v", line, status, err)
		}
	}
	if !slices.Equal(ended, []machine.Action{machine.Shutdown, machine.Reboot}) {
		t.Error(ended)
	}
}

// An interrupted command ends with the status of SIGINT.
func TestInterrupt(t *testing.T) {
	w := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if status, err := w.Run(ctx, "top -n 100 -d 60"); status != 130 || err != nil {
		t.Errorf("%d %v", status, err)
	}
}

func FuzzRun(f *testing.F) {
	for _, s := range []string{"ls -la /", `cat "a b" c\ d ; pwd`, "cd ../..;ls", "rm -r x", "env A=b"} {
		f.Add(s)
	}
	dir := f.TempDir()
	m, err := hosted.New(dir)
	if err != nil {
		f.Fatal(err)
	}
	m.System, m.Env = quiet{m.System}, nil
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "top") || strings.Contains(line, "trace") {
			return
		}
		var out bytes.Buffer
		s := &shell.Shell{Machine: &m, Out: &out, Err: &out}
		s.Run(context.Background(), line)
		if !strings.HasPrefix(s.Dir(), "/") || strings.Contains(s.Dir(), "..") {
			t.Fatalf("working directory %q", s.Dir())
		}
	})
}

// quiet is a System that a fuzzer may not rename.
type quiet struct{ machine.System }

func (quiet) SetHostname(string) error { return errors.New("no") }
