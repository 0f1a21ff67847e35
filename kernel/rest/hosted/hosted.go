// Package hosted is a machine.Machine of the process that it runs in, on Linux: real
// values of /proc, /sys and the Go runtime, files below one folder. It is for trying
// the server without a guest, and for its tests.
//
// Spec: proc(5) of man-pages 6.03. Who may use it: appliances that also run hosted,
// tests. Start reading at New.
package hosted

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"osv/kernel/rest/machine"
	"osv/kernel/trace"
)

// New returns the machine. Files are those below root; "": none. It never closes.
func New(root string) (machine.Machine, error) {
	m := machine.Machine{
		System:   &system{started: time.Now()},
		Hardware: hardware{},
		Network:  network{time.Now()},
		Mounts:   mounts{},
		Env:      env{},
	}
	if root != "" {
		f, err := OpenFiles(root)
		if err != nil {
			return m, err
		}
		m.Files = f
	}
	return m, nil
}

type system struct {
	started time.Time

	mu       sync.Mutex
	hostname string // "": the host's
}

func (s *system) Uptime() time.Duration { return time.Since(s.started) }

func (s *system) Memory() machine.Memory {
	var m machine.Memory
	for line := range lines("/proc/meminfo") {
		k, v, _ := strings.Cut(line, ":")
		switch k {
		case "MemTotal":
			m.Total = number(strings.TrimSuffix(v, " kB")) << 10
		case "MemFree":
			m.Free = number(strings.TrimSuffix(v, " kB")) << 10
		}
	}
	return m
}

func (s *system) Log(w io.Writer) error { return trace.WriteLog(w, trace.LevelInfo) }

func (s *system) Hostname() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hostname != "" {
		return s.hostname
	}
	h, _ := os.Hostname()
	return h
}

// SetHostname names the server, not the host.
func (s *system) SetHostname(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hostname = name
	return nil
}

func (s *system) CommandLine() string { return strings.Join(os.Args, " ") }

func (s *system) SetCommandLine(string) error {
	return machine.Unavailable("a process has no boot disk to store a command line on")
}

// End asks the process to end, as a guest would be asked.
func (s *system) End(a machine.Action) (func(), error) {
	if a == machine.Reboot {
		return nil, machine.Unavailable("a process cannot be restarted")
	}
	return func() { syscall.Kill(os.Getpid(), syscall.SIGTERM) }, nil
}

// Terminated returns a channel that is sent the signals which ask a process to end.
func Terminated() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	return c
}

type env struct{}

func (env) List() []string                    { return os.Environ() }
func (env) Lookup(name string) (string, bool) { return os.LookupEnv(name) }
func (env) Unset(name string) error           { return os.Unsetenv(name) }
func (env) Set(name, value string) error {
	if err := os.Setenv(name, value); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, syscall.EINVAL), err)
	}
	return nil
}
