package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"osv/kernel/rest/machine"
)

// Keys are the public keys that may log in. The zero value has none; any goroutine
// may call anything.
type Keys struct {
	mu   sync.RWMutex
	keys map[string]string // wire form to comment; guarded by mu
}

// Add takes lines of an authorized_keys file (sshd(8)) and returns how many of their
// keys are new. A line with options is refused: what they forbid would be allowed.
func (k *Keys) Add(lines []string) (added int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, comment, options, _, perr := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case perr != nil:
			err = errors.Join(err, fmt.Errorf("sshd: key %.40q: %w", line, perr))
			continue
		case len(options) > 0:
			err = errors.Join(err, fmt.Errorf("sshd: key %.40q: options (%s) are not supported", comment, options[0]))
			continue
		}
		if comment == "" {
			comment = ssh.FingerprintSHA256(key)
		}
		if k.keys == nil {
			k.keys = map[string]string{}
		}
		wire := string(key.Marshal())
		if _, ok := k.keys[wire]; !ok {
			added++
		}
		k.keys[wire] = comment
	}
	return added, err
}

// Has says whether a key may log in, and its comment.
func (k *Keys) Has(key ssh.PublicKey) (comment string, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	comment, ok = k.keys[string(key.Marshal())]
	return comment, ok
}

// Len is the number of keys.
func (k *Keys) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.keys)
}

// HostKeyFile is where a guest without a better place keeps its host key, HostKeyName
// what it is called anywhere.
const (
	HostKeyFile = "etc/ssh/" + HostKeyName
	HostKeyName = "ssh_host_ed25519_key"
)

// HostKey reads the guest's host key from the file name, or makes one and keeps it
// there, where there are files to keep it in. made says that it is new, so that its
// fingerprint is worth showing.
func HostKey(files machine.Files, name string) (key ssh.Signer, made bool, err error) {
	if files != nil {
		text, err := machine.ReadKept(files, name)
		if err == nil {
			key, err := ssh.ParsePrivateKey(text)
			if err != nil {
				return nil, false, fmt.Errorf("sshd: %s: %w", name, err)
			}
			return key, false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, false, fmt.Errorf("sshd: %s: %w", name, err)
		}
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, false, fmt.Errorf("sshd: %w", err)
	}
	if key, err = ssh.NewSignerFromKey(private); err != nil {
		return nil, false, fmt.Errorf("sshd: %w", err)
	}
	if files == nil {
		return key, true, nil
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, false, fmt.Errorf("sshd: %w", err)
	}
	if err := machine.Keep(files, name, pem.EncodeToMemory(block)); err != nil {
		log.Warnf("%s is not kept: %v", name, err)
	}
	return key, true, nil
}
