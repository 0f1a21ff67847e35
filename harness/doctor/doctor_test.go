package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeHost makes a host of files.
func fakeHost(t *testing.T, files map[string]string, missing ...string) Host {
	t.Helper()
	root := t.TempDir()
	for p, s := range files {
		path := filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Host{Root: root, CPUs: 4, Output: func(_ context.Context, name string, _ ...string) (string, error) {
		for _, m := range missing {
			if m == name {
				return "", errors.New("not found")
			}
		}
		if name == "qemu-system-x86_64" {
			return "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright\n", nil
		}
		return name + " 1.2\nmore\n", nil
	}}
}

func good() map[string]string {
	return map[string]string{
		"/proc/cpuinfo":              "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu svm\n",
		"/proc/sys/kernel/osrelease": "6.18.0\n",
		"/proc/meminfo":              "MemTotal: 8 kB\nMemAvailable:   8388608 kB\n",
		"/proc/loadavg":              "0.10 0.20 0.30 1/100 1\n",
		"/proc/stat":                 "cpu  1000 0 1000 8000 0 0 0 5 0 0\ncpu0 1\n",
		"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor":            "performance\n",
		"/sys/devices/system/cpu/smt/active":                               "0\n",
		"/sys/devices/system/cpu/cpufreq/boost":                            "1\n",
		"/sys/kernel/mm/transparent_hugepage/enabled":                      "always [madvise] never\n",
		"/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
	}
}

func get(t *testing.T, cs []Check, name string) Check {
	t.Helper()
	for _, c := range cs {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, cs)
	return Check{}
}

func TestGoodHost(t *testing.T) {
	h := fakeHost(t, good())
	h.Accel = func(context.Context) string { return "kvm" }
	h.Netns = func() bool { return true }
	cs := Examine(context.Background(), h)
	if w := Worst(cs); w != OK {
		t.Errorf("worst %s: %+v", w, cs)
	}
	f := Facts(cs)
	for name, want := range map[string]string{"cpu": "AMD EPYC, 4 cores", "qemu": "QEMU 7.2.22", "THP": "madvise", "free memory": "8.0 GiB", "steal": "0.05 %", "host": "bare metal", "kernel": "6.18.0"} {
		if f[name] != want {
			t.Errorf("%s = %q, want %q", name, f[name], want)
		}
	}
	if len(Warnings(cs)) != 0 {
		t.Error(Warnings(cs))
	}
}

// Each ill makes its own check warn, and nothing else.
func TestIlls(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		level      Level
	}{
		"host":        {"/proc/cpuinfo", "model name : x\nflags : fpu hypervisor\n", Warn},
		"governor":    {"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave", Warn},
		"SMT":         {"/sys/devices/system/cpu/smt/active", "1", Warn},
		"free memory": {"/proc/meminfo", "MemAvailable: 500000 kB", Warn},
		"load":        {"/proc/loadavg", "3.5 1 1 1/1 1", Warn},
		"steal":       {"/proc/stat", "cpu 100 0 0 100 0 0 0 50", Warn},
		"clocksource": {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet", Warn},
	} {
		files := good()
		files[c.file] = c.text
		cs := Examine(context.Background(), fakeHost(t, files))
		for _, x := range cs {
			if want := map[bool]Level{true: c.level, false: OK}[x.Name == name]; x.Level != want {
				t.Errorf("%s: check %s is %s", name, x.Name, x.Level)
			}
		}
		if got := get(t, cs, name); got.Advice == "" || len(Warnings(cs)) != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	h := fakeHost(t, good(), "qemu-system-x86_64", "gcc", "iperf3", "memcached")
	h.CPUs, h.Accel, h.Netns = 1, func(context.Context) string { return "tcg" }, func() bool { return false }
	cs := Examine(context.Background(), h)
	if Worst(cs) != Fail || get(t, cs, "qemu").Level != Fail || get(t, cs, "gcc").Level != Warn || get(t, cs, "memcached").Level != OK ||
		get(t, cs, "cpu").Level != Warn || get(t, cs, "accelerator").Level != Warn || get(t, cs, "network namespace").Value != "no" {
		t.Errorf("%+v", cs)
	}
}

func TestBareRoot(t *testing.T) {
	cs := Examine(context.Background(), fakeHost(t, map[string]string{"/proc/stat": "cpu x y", "/sys/devices/system/cpu/intel_pstate/no_turbo": "0"}))
	if got := get(t, cs, "governor"); got.Value != "not known" || got.Level != OK {
		t.Errorf("%+v", got)
	}
	if !strings.HasPrefix(get(t, cs, "cpu").Value, "unknown") {
		t.Error("an unknown CPU has a name")
	}
}

func TestThisHost(t *testing.T) {
	if cs := Examine(context.Background(), Host{}); len(cs) < 8 {
		t.Errorf("%+v", cs)
	}
}
