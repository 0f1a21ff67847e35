package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.key, a.pem = a.sign(t, a.cert)
	return a
}

// sign makes a key and a certificate for it.
func (a *authority) sign(t *testing.T, c *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	by := a.key
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// pair is a certificate of usage with its key, as PEM.
func (a *authority) pair(t *testing.T, usage x509.ExtKeyUsage) (cert, key []byte) {
	t.Helper()
	k, cert := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, DNSNames: []string{"localhost"},
	})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func memoryFiles(m map[string][]byte) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if b, ok := m[name]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
}

func TestSelfSigned(t *testing.T) {
	cfg := testConfig(t)
	cfg.TLS.Self, cfg.Hosts = true, []string{"guest.example"}
	s := serve(t, cfg)
	leaf, err := x509.ParseCertificate(s.tls.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	for _, name := range []string{"127.0.0.1", "localhost", "guest.example"} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name}}}
		r, err := client.Get(s.url + "/os/version")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r.Body.Close()
		if r.StatusCode != 200 || r.TLS.Version < tls.VersionTLS12 || r.ProtoMajor != 1 || r.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: %d, TLS %#x, %s, %v", name, r.StatusCode, r.TLS.Version, r.Proto, r.Header)
		}
		client.CloseIdleConnections()
	}
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}}}
	if r, err := old.Get(s.url + "/os/version"); err == nil {
		r.Body.Close()
		t.Error("TLS 1.1 is taken")
	}
}

// A client certificate stands for the token; one of another authority is refused,
// none leaves what is public.
func TestClientCertificate(t *testing.T) {
	ca, other := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cert, key := ca.pair(t, x509.ExtKeyUsageServerAuth)
	cfg := testConfig(t)
	cfg.Token = ""
	cfg.TLS = TLSOptions{Cert: "cert", Key: "key", CA: "ca"}
	cfg.ReadFile = memoryFiles(map[string][]byte{"cert": cert, "key": key, "ca": ca.pem})
	s := serve(t, cfg)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.pem)
	for name, test := range map[string]struct {
		of              *authority
		public, private int // 0: the handshake fails
	}{"none": {nil, 200, 401}, "ours": {ca, 200, 200}, "theirs": {other, 0, 0}} {
		tc := &tls.Config{RootCAs: pool, ServerName: "localhost"}
		if test.of != nil {
			c, k := test.of.pair(t, x509.ExtKeyUsageClientAuth)
			pair, err := tls.X509KeyPair(c, k)
			if err != nil {
				t.Fatal(err)
			}
			tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: tc}}
		for path, want := range map[string]int{"/os/version": test.public, "/env": test.private} {
			r, err := client.Get(s.url + path)
			got := 0
			if err == nil {
				got = r.StatusCode
				r.Body.Close()
			}
			if got != want {
				t.Errorf("certificate of %s, %s: %d, want %d: %v", name, path, got, want, err)
			}
		}
		client.CloseIdleConnections()
	}
}

func TestTLSMistakes(t *testing.T) {
	ca := newAuthority(t, "ours")
	cert, key := ca.pair(t, x509.ExtKeyUsageServerAuth)
	_, wrong := ca.pair(t, x509.ExtKeyUsageServerAuth)
	files := memoryFiles(map[string][]byte{"cert": cert, "key": key, "wrong": wrong, "empty": {}, "ca": ca.pem})
	for name, test := range map[string]struct {
		o    TLSOptions
		read func(string) ([]byte, error)
		want string
	}{
		"no certificate": {TLSOptions{Cert: "none", Key: "key"}, files, "--rest-tls"},
		"no key":         {TLSOptions{Cert: "cert", Key: "none"}, files, "--rest-tls"},
		"another key":    {TLSOptions{Cert: "cert", Key: "wrong"}, files, "--rest-tls"},
		"no authority":   {TLSOptions{Self: true, CA: "none"}, files, "--rest-cacert"},
		"empty":          {TLSOptions{Self: true, CA: "empty"}, files, "--rest-cacert"},
		"no TLS":         {TLSOptions{CA: "ca"}, files, "--rest-cacert"},
		"no files":       {TLSOptions{Cert: "cert", Key: "key"}, nil, "there are no files"},
	} {
		cfg := testConfig(t)
		cfg.TLS, cfg.ReadFile = test.o, test.read
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := testConfig(t)
	cfg.Origins = []string{"bad origin"}
	if _, err := New(cfg); err == nil {
		t.Error("a bad origin is taken")
	}
}
