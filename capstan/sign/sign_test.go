package sign

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func pair(t *testing.T, password string) (name string, s *Signer) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "me")
	if _, err := Generate(name, password); err != nil {
		t.Fatal(err)
	}
	s, err := Open(name+".key", func() (string, error) { return password, nil })
	if err != nil {
		t.Fatal(err)
	}
	return name, s
}

func TestSignVerify(t *testing.T) {
	name, s := pair(t, "")
	trust := Trust{filepath.Join(t.TempDir(), "trust.d")}
	msg := []byte("message")
	sig := s.Sign(msg, "what:1")
	var u *Untrusted
	if _, _, err := trust.Verify(msg, sig); !errors.As(err, &u) || u.ID != s.ID() {
		t.Error(err)
	}
	if _, err := trust.Add(name+".pub", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Add(name+".pub", ""); !errors.Is(err, os.ErrExist) {
		t.Error("added twice:", err)
	}
	if _, err := trust.Add(name+".pub", "../x"); err == nil {
		t.Error("a name with a way out")
	}
	k, comment, err := trust.Verify(msg, sig)
	if err != nil || k.ID != s.ID() || k.Name != "me" || comment != "what:1" {
		t.Errorf("%+v %q %v", k, comment, err)
	}
	if _, _, err := trust.Verify([]byte("another"), sig); !errors.Is(err, ErrWrong) {
		t.Error(err)
	}
	other := []byte(strings.Replace(string(sig), "what:1", "what:2", 1))
	if _, _, err := trust.Verify(msg, other); !errors.Is(err, ErrWrong) {
		t.Error("the comment is signed too:", err)
	}
	if _, _, err := trust.Verify(msg, nil); !errors.Is(err, ErrUnsigned) {
		t.Error(err)
	}
	if _, _, err := trust.Verify(msg, []byte("x")); !errors.Is(err, ErrWrong) {
		t.Error(err)
	}
	if err := trust.Remove(s.ID()); err != nil {
		t.Error(err)
	}
	if err := trust.Remove("me"); err == nil {
		t.Error("removed twice")
	}
}

func TestKeysWithPassword(t *testing.T) {
	if testing.Short() {
		t.Skip("scrypt takes a GiB and seconds for each")
	}
	name, _ := pair(t, "secret")
	if _, err := Open(name+".key", func() (string, error) { return "wrong", nil }); err == nil || !strings.HasSuffix(err.Error(), "me.key: wrong password") {
		t.Error(err)
	}
	if _, err := Open(name+".key", func() (string, error) { return "", os.ErrClosed }); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

func TestKeyFiles(t *testing.T) {
	name, _ := pair(t, "")
	if _, err := Generate(name, ""); !errors.Is(err, os.ErrExist) {
		t.Error("overwritten:", err)
	}
	if st, err := os.Stat(name + ".key"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if _, err := Open(name+".pub", nil); err == nil {
		t.Error("a public key is a secret one")
	}
	if _, err := (Trust{t.TempDir()}).Add(name+".key", ""); err == nil {
		t.Error("a secret key is a public one")
	}
}

// The other implementation of the format, where it is installed.
func TestMinisignAgrees(t *testing.T) {
	tool, err := exec.LookPath("minisign")
	if err != nil {
		t.Skip("minisign is not installed (Debian: apt-get install minisign)")
	}
	name, s := pair(t, "")
	file := filepath.Join(t.TempDir(), "f")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o644), os.WriteFile(file+".minisig", s.Sign([]byte("x"), "c"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "-Vm", file, "-p", name+".pub").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
