// Package sshd lets the owner of a guest log in by key: a shell, single commands, and
// files by SFTP, which is what scp and sftp speak.
//
// Spec: RFC 4251 to 4254 through golang.org/x/crypto/ssh, the SFTP draft version 3
// through github.com/pkg/sftp. Only public keys log in, under any user name; nothing is
// forwarded. Who may use it: kernel/platform/manage, on a listener of the guest's own
// network; hosted it runs on any. It knows the guest only as a machine.Machine.
//
// Start reading at Config, then Server.handle, then session.go.
package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"osv/kernel/rest/machine"
	"osv/kernel/trace"
)

var log = trace.For("sshd")

// Config is what a Server is made of.
type Config struct {
	HostKey ssh.Signer
	Keys    *Keys
	Machine *machine.Machine
	// Greeting is printed at the start of a shell.
	Greeting string
	// MaxConns is how many connections there may be, MaxSessions how many channels one
	// of them may have; 0: 16 and 8.
	MaxConns, MaxSessions int
	// HandshakeTime bounds the time until a user is logged in, 0: 15 s.
	HandshakeTime time.Duration
}

// Server serves SSH. Any goroutine may call anything.
type Server struct {
	cfg  Config
	ssh  ssh.ServerConfig
	base context.Context
	stop context.CancelFunc

	mu        sync.Mutex
	closed    bool                  // guarded by mu
	listeners map[net.Listener]bool // guarded by mu
	conns     map[net.Conn]ssh.Conn // guarded by mu; nil until logged in
	wg        sync.WaitGroup
}

// maxTries is how many keys a client may offer: an agent may hold several.
const maxTries = 10

// New makes a server. It does not listen yet.
func New(cfg Config) (*Server, error) {
	if cfg.HostKey == nil || cfg.Keys == nil || cfg.Machine == nil {
		return nil, errors.New("sshd: host key, keys and machine must be given")
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 16
	}
	if cfg.MaxSessions <= 0 {
		cfg.MaxSessions = 8
	}
	if cfg.HandshakeTime <= 0 {
		cfg.HandshakeTime = 15 * time.Second
	}
	s := &Server{cfg: cfg, listeners: map[net.Listener]bool{}, conns: map[net.Conn]ssh.Conn{}}
	s.base, s.stop = context.WithCancel(context.Background())
	s.ssh = ssh.ServerConfig{
		ServerVersion: "SSH-2.0-OSv",
		MaxAuthTries:  maxTries,
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			name, ok := cfg.Keys.Has(key)
			if !ok {
				return nil, fmt.Errorf("key %s is not authorized", ssh.FingerprintSHA256(key))
			}
			return &ssh.Permissions{Extensions: map[string]string{"key": name}}, nil
		},
	}
	s.ssh.AddHostKey(cfg.HostKey)
	return s, nil
}

// ErrClosed is what Serve returns after Close.
var ErrClosed = errors.New("sshd: closed")

// Serve takes connections from l until Close. It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.listeners[l] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			if s.isClosed() {
				return ErrClosed
			}
			return fmt.Errorf("sshd: %w", err)
		}
		s.mu.Lock()
		full := s.closed || len(s.conns) >= s.cfg.MaxConns
		if !full {
			s.conns[c] = nil
			s.wg.Add(1)
		}
		s.mu.Unlock()
		if full {
			log.Warnf("%v: refused, %d connections are open", c.RemoteAddr(), s.cfg.MaxConns)
			c.Close()
			continue
		}
		go func() {
			defer s.wg.Done()
			s.handle(c)
		}()
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close ends all listeners and connections and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	return nil
}

// handle is one connection: the handshake within its time, then channels.
func (s *Server) handle(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	c.SetDeadline(time.Now().Add(s.cfg.HandshakeTime))
	conn, channels, requests, err := ssh.NewServerConn(c, &s.ssh)
	if err != nil {
		log.Infof("%v: %v", c.RemoteAddr(), err)
		return
	}
	c.SetDeadline(time.Time{})
	s.mu.Lock()
	s.conns[c] = conn
	s.mu.Unlock()
	log.Infof("%v: %s logged in by the key %s", c.RemoteAddr(), conn.User(), conn.Permissions.Extensions["key"])
	ctx, cancel := context.WithCancel(s.base)
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer cancel()
	sessions.Go(func() { globalRequests(requests) })
	slots := make(chan struct{}, s.cfg.MaxSessions)
	for n := range channels {
		if n.ChannelType() != "session" {
			n.Reject(ssh.Prohibited, "nothing is forwarded here")
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			n.Reject(ssh.ResourceShortage, "too many sessions")
			continue
		}
		ch, reqs, err := n.Accept()
		if err != nil {
			<-slots
			continue
		}
		sessions.Go(func() {
			defer func() { <-slots }()
			newSession(s, conn, ch).serve(ctx, reqs)
		})
	}
}

// globalRequests answers keepalives, and refuses the rest (RFC 4254 §4).
func globalRequests(reqs <-chan *ssh.Request) {
	for r := range reqs {
		if r.WantReply {
			r.Reply(r.Type == "keepalive@openssh.com", nil)
		}
	}
}
