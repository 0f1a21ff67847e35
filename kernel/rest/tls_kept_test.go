package rest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/rest/hosted"
)

// The certificate that a server makes of itself lasts from one server to the next,
// until its time is nearly over or what is kept is of no use.
func TestOwnCertIsKept(t *testing.T) {
	dir := t.TempDir()
	m, err := hosted.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Options: Defaults(), Machine: m, CertFile: "osv/cert.pem"}
	get := func(want string) []byte {
		t.Helper()
		pair, word, err := ownCert(cfg)
		if err != nil || word != want {
			t.Fatalf("certificate %s, %v; want it %s", word, err, want)
		}
		if c, err := x509.ParseCertificate(pair.Certificate[0]); err != nil || !pair.PrivateKey.(*ecdsa.PrivateKey).PublicKey.Equal(c.PublicKey) {
			t.Fatalf("no certificate of its key: %v", err)
		}
		return pair.Certificate[0]
	}
	file := filepath.Join(dir, "osv", "cert.pem")
	first := get("made and kept")
	if !bytes.Equal(get("kept"), first) {
		t.Error("another one")
	}
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", i, err)
	}
	if err := os.WriteFile(file, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := get("made and kept")
	synctest.Test(t, func(t *testing.T) { // the clock there begins in 2000
		if bytes.Equal(get("made and kept"), second) {
			t.Error("one from the future is taken")
		}
		third := get("kept")
		time.Sleep(300 * 24 * time.Hour)
		if !bytes.Equal(get("kept"), third) {
			t.Error("made anew too early")
		}
		time.Sleep(50 * 24 * time.Hour)
		if bytes.Equal(get("made and kept"), third) {
			t.Error("one that is nearly over is taken")
		}
	})
	cfg.CertFile = ""
	get("made for this boot")
	cfg.CertFile = "osv"
	get("made for this boot") // a directory is there
}
