package bootbench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"osv/harness/vm"
)

// tiny is a subject that prints text and ends with code.
func tiny(t *testing.T, name, text string, code byte) Subject {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
	elf := filepath.Join(t.TempDir(), name+".elf")
	if err := os.WriteFile(elf, vm.TinyGuest(text, code), 0o644); err != nil {
		t.Fatal(err)
	}
	return Subject{Name: name, Spec: vm.Spec{Kernel: elf, Accel: vm.TCG}, First: regexp.MustCompile("^hello$"), Ends: true, Timeout: 20 * time.Second}
}

// halting is a guest that prints hello and then halts for ever.
func halting(t *testing.T, name string) Subject {
	s := tiny(t, name, "hello\n", 0)
	elf, err := os.ReadFile(s.Spec.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(elf, []byte{0xe6, 0xf4}) // out 0xf4, al
	elf[i], elf[i+1] = 0x90, 0x90
	if err := os.WriteFile(s.Spec.Kernel, elf, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Ends = false
	return s
}

func TestBootsAreInterleaved(t *testing.T) {
	var order []string
	b := Bench{fake: func(s Subject) (Boot, string, error) {
		order = append(order, s.Name)
		return Boot{Total: float64(len(order))}, "", nil
	}}
	out, err := b.Boots(t.Context(), 3, Subject{Name: "a"}, Subject{Name: "b"})
	if err != nil || strings.Join(order, "") != "abbaab" {
		t.Errorf("order %v, %v", order, err)
	}
	if len(out[0]) != 3 || out[0][1].Total != 4 || out[1][1].Total != 3 {
		t.Errorf("%v", out)
	}
}

func TestBootsOnQEMU(t *testing.T) {
	var log []string
	b := Bench{Log: func(f string, a ...any) { log = append(log, fmt.Sprintf(f, a...)) }}
	good := tiny(t, "good", "noise\nhello\n", 0)
	out, err := b.Boots(t.Context(), 2, good)
	if err != nil || len(out[0]) != 2 || len(log) != 2 {
		t.Fatalf("%v %v %v", out, log, err)
	}
	for _, x := range out[0] {
		if x.Guest <= 0 || x.Total <= x.Guest || x.Total > 20 {
			t.Errorf("%+v", x)
		}
	}
	if _, err := b.Boots(t.Context(), 1, tiny(t, "silent", "", 3)); err == nil || !strings.Contains(err.Error(), "guest exit code 3; nothing on the console") {
		t.Errorf("no line: %v", err)
	}
	if _, err := b.Boots(t.Context(), 1, tiny(t, "fails", "hello\n", 3)); err == nil || !strings.Contains(err.Error(), `guest exit code 3; last line "hello"`) {
		t.Errorf("wrong end: %v", err)
	}
	slow := halting(t, "slow")
	slow.First, slow.Timeout = regexp.MustCompile("never"), 100*time.Millisecond
	if _, err := b.Boots(t.Context(), 1, slow); err == nil || !strings.Contains(err.Error(), "no first line in time") {
		t.Errorf("hangs: %v", err)
	}
	bad := good
	bad.Spec.Extra = []string{"-no-such-option"}
	if _, err := b.Boots(t.Context(), 1, bad); err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("bad QEMU line: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Boots(ctx, 1, good); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestFloor(t *testing.T) {
	for _, want := range []int{1, 2, 7, 100, 255, 256} {
		boots := 0
		b := Bench{fake: func(s Subject) (Boot, string, error) {
			boots++
			if s.Spec.MemMiB < want {
				return Boot{}, fmt.Sprintf("fails with %d", s.Spec.MemMiB), nil
			}
			return Boot{}, "", nil
		}}
		f, err := b.Floor(t.Context(), Subject{}, 256)
		if err != nil || f.MiB != want || f.Boots != boots || boots > 14 {
			t.Errorf("floor %+v after %d boots, want %d (%v)", f, boots, want, err)
		}
		if below := fmt.Sprintf("fails with %d", want-1); want > 1 && f.Below != below {
			t.Errorf("below %q, want %q", f.Below, below)
		}
	}
}

// A boundary that holds only now and then is not the floor.
func TestFloorOfAFlakyGuest(t *testing.T) {
	n := 0
	b := Bench{fake: func(s Subject) (Boot, string, error) {
		n++
		switch m := s.Spec.MemMiB; {
		case m < 40, m < 60 && n%2 == 0:
			return Boot{}, "x", nil
		}
		return Boot{}, "", nil
	}}
	f, err := b.Floor(t.Context(), Subject{}, 256)
	if err != nil || f.MiB < 40 || f.MiB > 61 {
		t.Errorf("%+v %v", f, err)
	}
	never := Bench{fake: func(Subject) (Boot, string, error) { return Boot{}, "too big", nil }}
	if _, err := never.Floor(t.Context(), Subject{Name: "s"}, 64); !errors.Is(err, errNeverBoots) || !strings.Contains(err.Error(), "64 MiB: too big") {
		t.Errorf("%v", err)
	}
	refuses := Bench{fake: func(s Subject) (Boot, string, error) {
		if s.Spec.MemMiB < 3 {
			return Boot{}, "", errors.New("qemu: invalid size")
		}
		return Boot{}, "", nil
	}}
	if f, err := refuses.Floor(t.Context(), Subject{}, 8); err != nil || f.MiB != 3 || f.Below != "QEMU refuses" {
		t.Errorf("%+v %v", f, err)
	}
	sometimes := 0
	never.fake = func(s Subject) (Boot, string, error) {
		if sometimes++; sometimes > 1 {
			return Boot{}, "x", nil
		}
		return Boot{}, "", nil
	}
	if _, err := never.Floor(t.Context(), Subject{}, 1); err == nil || !strings.Contains(err.Error(), "only sometimes") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := never.Floor(ctx, Subject{}, 8); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestIdle(t *testing.T) {
	s := halting(t, "idle")
	x, err := Bench{}.Idle(t.Context(), s, 10*time.Millisecond, 50*time.Millisecond)
	if err != nil || x.Total < 0 || x.Total > 150 || x.Total != x.VCPU+x.Rest {
		t.Errorf("%+v %v", x, err)
	}
	if _, err := (Bench{}).Idle(t.Context(), tiny(t, "ends", "hello\n", 0), time.Minute, time.Minute); err == nil || !strings.Contains(err.Error(), "ended while idle: guest exit code 0") {
		t.Errorf("%v", err)
	}
	silent := tiny(t, "silent", "", 0)
	if _, err := (Bench{}).Idle(t.Context(), silent, 0, 0); err == nil {
		t.Error("no line: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Bench{}).Idle(ctx, s, time.Minute, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestPrices(t *testing.T) {
	ps, err := Bench{}.Prices(t.Context(), tiny(t, "p", "BENCH a 1.5 ns\nother\nBENCH b 2 us\n", 0), 2)
	if err != nil || len(ps) != 2 || ps[0].Name != "a" || ps[0].Unit != "ns" || len(ps[0].Values) != 2 || ps[1].Values[1] != 2 {
		t.Errorf("%+v %v", ps, err)
	}
	for text, want := range map[string]string{
		"nothing\n":                    "printed no line",
		"BENCH a x ns\n":               `"BENCH a x ns"`,
		"BENCH a 1 ns\nBENCH a 1 us\n": "is in ns and in us",
	} {
		if _, err := (Bench{}).Prices(t.Context(), tiny(t, "q", text, 0), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	if _, err := (Bench{}).Prices(t.Context(), tiny(t, "r", "BENCH a 1 ns\n", 9), 1); err == nil || !strings.Contains(err.Error(), "guest exit code 9") {
		t.Errorf("%v", err)
	}
}

func TestSuite(t *testing.T) {
	l, r, h := tiny(t, "left", "hello\n", 0), tiny(t, "right", "hello\n", 0), halting(t, "h")
	also := l
	also.Name = "also"
	p := tiny(t, "p", "BENCH call 30 ns\n", 0)
	s := Suite{
		Left: "OSv", Right: "Linux", Boots: [2]*Subject{&l, &r}, N: 6, FloorTop: 16,
		Also: []Case{{"  again", [2]*Subject{&also}}},
		Idle: [2]*Subject{&h, nil}, Settle: time.Millisecond, Look: 10 * time.Millisecond,
		Prices: map[string]Subject{" (1 vCPU)": p}, PricesN: 1,
		Sizes: []Size{{"size", [2][]string{{l.Spec.Kernel}, {r.Spec.Kernel, h.Spec.Kernel}}}},
	}
	rep, err := s.Run(t.Context(), Bench{})
	if err != nil {
		t.Fatal(err)
	}
	var table, js bytes.Buffer
	rep.Table(&table)
	for _, want := range []string{
		`(?m)^ +OSv +Linux +OSv / Linux$`,
		`(?m)^QEMU start to first line of the program, s +\S+ \[\S+–\S+\] n=6 +\S+ \[\S+–\S+\] n=6 +\S+ \[\S+–\S+\] 95 %$`,
		`(?m)^  again, s +\S+ \[\S+\] n=6 +-$`, `(?m)^size, MiB +0\.004 +0\.008 +1/2`,
		`(?m)^call \(1 vCPU\), ns +30 +-$`, `(?m)^idle, of a host core, % +\d`, `(?m)^  idle, of a host core, OSv: vCPU threads`,
	} {
		if !regexp.MustCompile(want).Match(table.Bytes()) {
			t.Errorf("no %s in\n%s", want, table.String())
		}
	}
	if err := rep.WriteJSON(&js); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || len(back.Rows) != len(rep.Rows) || len(back.Boots["left"]) != 6 || !strings.Contains(back.QEMU["left"], "-accel tcg") {
		t.Errorf("%v", err)
	}

	s.Idle = [2]*Subject{}
	s.Floors = []Case{{"floor", [2]*Subject{&l, nil}}}
	s.Sizes[0].Files[0][0] += "-gone"
	rep, err = s.Run(t.Context(), Bench{fake: func(s Subject) (Boot, string, error) {
		if s.Spec.MemMiB > 0 && s.Spec.MemMiB < 5 {
			return Boot{}, "too little", nil
		}
		return Boot{1, 1}, "", nil
	}})
	if err == nil || !strings.Contains(err.Error(), "-gone") {
		t.Errorf("missing file: %v", err)
	}
	table.Reset()
	rep.Table(&table)
	if want := regexp.MustCompile(`(?m)^floor, MiB +5 +-$`); !want.Match(table.Bytes()) || !strings.Contains(table.String(), "  floor, OSv: with 4 MiB: too little\n") {
		t.Errorf("no %s in\n%s", want, table.String())
	}
	if rep, err := (Suite{Left: "a", Right: "b"}).Run(t.Context(), Bench{}); err != nil || len(rep.Rows) != 0 {
		t.Errorf("empty suite: %+v %v", rep, err)
	}
}

func TestNumbers(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 7: "7", 0.1234: "0.123", 1.234: "1.23", 12.34: "12.3", 1234.5: "1234", -0.5: "-0.500"} {
		if got := number(x); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
	if fraction(0.05) != "1/20" || fraction(3) != "3" {
		t.Error(fraction(0.05), fraction(3))
	}
	if h := Host(); h["cpus"] == "" || h["kernel"] == "" {
		t.Errorf("%v", h)
	}
}
