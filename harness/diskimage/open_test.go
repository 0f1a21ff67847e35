package diskimage

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandLineOfFiles(t *testing.T) {
	d := testDisk(t, Options{CommandLine: "built in"})
	for name, write := range map[string]func(io.Writer) error{
		"qcow2": d.WriteQCOW2, "fixed.vhd": d.WriteVHDFixed, "raw": func(w io.Writer) error { _, err := d.WriteTo(w); return err },
	} {
		path := file(t, name, func(f *os.File) error { return write(f) })
		for _, line := range []string{"--verbose -- -m 64", "", strings.Repeat("y", 4096)} {
			if err := SetCommandLine(path, line); err != nil {
				t.Fatal(err)
			}
			if got, err := ReadCommandLine(path); err != nil || got != line {
				t.Errorf("%s: %.30q, %v", name, got, err)
			}
		}
		if err := SetCommandLine(path, strings.Repeat("y", 4097)); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: a line too long: %v", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	d := testDisk(t, Options{})
	vmdk := file(t, "x.vmdk", func(f *os.File) error { return d.WriteVMDKStream(f, "x.vmdk") })
	empty := file(t, "empty", func(*os.File) error { return nil })
	broken := file(t, "broken", func(f *os.File) error {
		_, err := f.Write(append([]byte("QFI\xfb"), make([]byte, 2000)...))
		return err
	})
	gpt := file(t, "gpt", func(f *os.File) error {
		_, err := f.WriteAt([]byte("EFI PART"), 512)
		return errors.Join(err, f.Truncate(4096))
	})
	for _, path := range []string{vmdk, empty} {
		if _, err := ReadCommandLine(path); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{broken, gpt, filepath.Join(t.TempDir(), "none")} {
		if _, err := ReadCommandLine(path); err == nil {
			t.Errorf("%s: read", path)
		}
		if err := SetCommandLine(path, "x"); err == nil {
			t.Errorf("%s: set", path)
		}
	}
}
