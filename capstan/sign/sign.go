// Package sign makes and checks minisign signatures, against the keys that a user
// trusts.
//
// Spec: minisign 0.11 (2023), file formats of keys and signatures: Ed25519 over the
// BLAKE2b-512 hash. The format is read and written by aead.dev/minisign. Who may use
// it: capstan. It does not know what is signed.
//
// Start reading at Trust.
package sign

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aead.dev/minisign"
)

// Trust is the folder of public keys that images may be signed with: NAME.pub.
type Trust struct{ Dir string }

// Key is a trusted key.
type Key struct {
	Name string `json:"name"`
	ID   string `json:"id"` // 16 hex digits, as minisign prints it

	public minisign.PublicKey
}

// ErrUnsigned says that there is no signature.
var ErrUnsigned = errors.New("not signed")

// Untrusted is the error for a signature by a key that is not trusted.
type Untrusted struct{ ID string }

func (e *Untrusted) Error() string {
	return fmt.Sprintf("signed with key %s, which is not trusted (capstan trust add FILE.pub, if it should be)", e.ID)
}

// ErrWrong says that a signature by a trusted key does not fit what it is said to sign.
var ErrWrong = errors.New("wrong signature")

func id(n uint64) string { return fmt.Sprintf("%016X", n) }

// Keys lists the trusted keys by name.
func (t Trust) Keys() ([]Key, error) {
	files, err := filepath.Glob(filepath.Join(t.Dir, "*.pub"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var out []Key
	for _, f := range files {
		k, err := readPublic(f)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

func readPublic(file string) (Key, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Key{}, err
	}
	k := Key{Name: strings.TrimSuffix(filepath.Base(file), ".pub")}
	if err := k.public.UnmarshalText(b); err != nil {
		return k, fmt.Errorf("%s: no minisign public key: %w", file, err)
	}
	k.ID = id(k.public.ID())
	return k, nil
}

// Add trusts the key in file, under name ("" = the file's).
func (t Trust) Add(file, name string) (Key, error) {
	k, err := readPublic(file)
	if err != nil {
		return k, err
	}
	if name != "" {
		k.Name = name
	}
	if k.Name == "" || strings.ContainsAny(k.Name, `/\`) || strings.HasPrefix(k.Name, ".") {
		return k, fmt.Errorf("key name %q: want a file name", k.Name)
	}
	b, err := k.public.MarshalText()
	if err == nil {
		err = os.MkdirAll(t.Dir, 0o755)
	}
	if err != nil {
		return k, err
	}
	f, err := os.OpenFile(filepath.Join(t.Dir, k.Name+".pub"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return k, err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
	}
	return k, err
}

// Remove trusts the key of this name or id no more.
func (t Trust) Remove(name string) error {
	keys, err := t.Keys()
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Name == name || k.ID == name {
			return os.Remove(filepath.Join(t.Dir, k.Name+".pub"))
		}
	}
	return fmt.Errorf("key %s: not among the trusted", name)
}

// Verify checks a signature and returns the key that made it, and the signed comment.
func (t Trust) Verify(message, signature []byte) (Key, string, error) {
	if len(signature) == 0 {
		return Key{}, "", ErrUnsigned
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return Key{}, "", fmt.Errorf("%w: not in minisign's format: %v", ErrWrong, err)
	}
	keys, err := t.Keys()
	if err != nil {
		return Key{}, "", err
	}
	for _, k := range keys {
		if k.public.ID() != s.KeyID {
			continue
		}
		if !minisign.Verify(k.public, message, signature) {
			return Key{}, "", fmt.Errorf("%w: key %s (%s) did not sign this", ErrWrong, k.ID, k.Name)
		}
		return k, s.TrustedComment, nil
	}
	return Key{}, "", &Untrusted{id(s.KeyID)}
}

// Generate makes a pair of keys as two files that must not be there: NAME.key, with
// password if not empty, and NAME.pub.
func Generate(name, password string) (ID string, err error) {
	pub, sec, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	secret, err := sec.MarshalText()
	if password != "" {
		secret, err = minisign.EncryptKey(password, sec)
	}
	if err != nil {
		return "", err
	}
	public, err := pub.MarshalText()
	if err != nil {
		return "", err
	}
	for _, f := range []struct {
		name string
		mode os.FileMode
		data []byte
	}{{name + ".key", 0o600, secret}, {name + ".pub", 0o644, public}} {
		w, err := os.OpenFile(f.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.mode)
		if err != nil {
			return "", err
		}
		_, err = w.Write(append(f.data, '\n'))
		if err = errors.Join(err, w.Close()); err != nil {
			return "", err
		}
	}
	return id(pub.ID()), nil
}

// Signer signs with a secret key.
type Signer struct{ key minisign.PrivateKey }

// Open reads a secret key; password is asked for only if it has one.
func Open(file string, password func() (string, error)) (*Signer, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var s Signer
	if minisign.IsEncrypted(b) {
		p, err := password()
		if err != nil {
			return nil, err
		}
		if s.key, err = minisign.DecryptKey(p, b); err != nil {
			return nil, fmt.Errorf("%s: wrong password", file)
		}
		return &s, nil
	}
	if err := s.key.UnmarshalText(b); err != nil {
		return nil, fmt.Errorf("%s: no minisign secret key: %w", file, err)
	}
	return &s, nil
}

// Sign returns a signature file of message, with a comment that is signed too.
func (s *Signer) Sign(message []byte, comment string) []byte {
	return minisign.SignWithComments(s.key, message, comment, "signature from capstan")
}

// ID is the key's.
func (s *Signer) ID() string { return id(s.key.ID()) }
