package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"time"

	"osv/kernel/rest/machine"
)

// tlsConfig makes the TLS side of a server, nil where the options ask for none.
func tlsConfig(cfg Config) (*tls.Config, error) {
	o := cfg.TLS
	if !o.Self && o.Cert == "" {
		if o.CA != "" {
			return nil, errors.New("option --rest-cacert: needs --rest-tls")
		}
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	read := func(option, name string) ([]byte, error) {
		if cfg.ReadFile == nil {
			return nil, fmt.Errorf("option %s: %s: there are no files to read it from", option, name)
		}
		b, err := cfg.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", option, err)
		}
		return b, nil
	}
	if o.CA != "" {
		pem, err := read("--rest-cacert", o.CA)
		if err != nil {
			return nil, err
		}
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("option --rest-cacert: %s has no certificate", o.CA)
		}
		t.ClientAuth = tls.VerifyClientCertIfGiven
	}
	var pair tls.Certificate
	if o.Cert != "" {
		cert, err := read("--rest-tls", o.Cert)
		if err != nil {
			return nil, err
		}
		key, err := read("--rest-tls", o.Key)
		if err != nil {
			return nil, err
		}
		if pair, err = tls.X509KeyPair(cert, key); err != nil {
			return nil, fmt.Errorf("option --rest-tls: %s, %s: %w", o.Cert, o.Key, err)
		}
	} else {
		var word string
		var err error
		if pair, word, err = ownCert(cfg); err != nil {
			return nil, fmt.Errorf("option --rest-tls: %w", err)
		}
		log.Infof("certificate %s, SHA-256 %x", word, sha256.Sum256(pair.Certificate[0]))
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}

// renewal is how long before its end a kept certificate is made anew.
const renewal = 30 * 24 * time.Hour

// ownCert is the certificate that the server has of itself: the one in cfg.CertFile, or
// a new one that is kept there. word says which.
func ownCert(cfg Config) (pair tls.Certificate, word string, err error) {
	files := cfg.Machine.Files
	if cfg.CertFile == "" || files == nil {
		pair, err = selfSigned(cfg.Machine.System.Hostname(), cfg.Hosts)
		return pair, "made for this boot", err
	}
	if text, err := machine.ReadKept(files, cfg.CertFile); err == nil {
		pair, err = tls.X509KeyPair(text, text)
		if now := time.Now(); err == nil && now.Before(pair.Leaf.NotAfter.Add(-renewal)) && now.After(pair.Leaf.NotBefore) {
			return pair, "kept", nil
		}
		if err != nil {
			log.Warnf("%s: %v", cfg.CertFile, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		log.Warnf("%s: %v", cfg.CertFile, err)
	}
	if pair, err = selfSigned(cfg.Machine.System.Hostname(), cfg.Hosts); err != nil {
		return pair, "", err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return pair, "", err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := machine.Keep(files, cfg.CertFile, text); err != nil {
		log.Warnf("%s is not kept: %v", cfg.CertFile, err)
		return pair, "made for this boot", nil
	}
	return pair, "made and kept", nil
}

// selfSigned makes a certificate for this host's names. Its time begins a day ago,
// since a guest's clock may be behind.
func selfSigned(hostname string, names []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	cert := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "OSv guest " + hostname},
		NotBefore:    now.Add(-24 * time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     append([]string{"localhost", hostname}, names...),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},

		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
