package hypervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Firecracker boots the kernel ELF by its PVH note in a microVM, described by a
// configuration file.
type Firecracker struct{}

const (
	fcTool, fcHint = "firecracker", "install it from https://github.com/firecracker-microvm/firecracker/releases"
	fcConfig       = "firecracker.json"
	fcErrors       = "firecracker.err"
)

// Name is "firecracker".
func (Firecracker) Name() string { return "firecracker" }

// Installed looks for the tool.
func (Firecracker) Installed(h *Host) error {
	_, err := h.tool("firecracker", fcTool, fcHint)
	return err
}

// Format is "elf".
func (Firecracker) Format() string { return "elf" }

// Check wants a TAP interface, and raw volumes.
func (Firecracker) Check(m Machine) error {
	if m.Net != TAP || m.Link == "" {
		return fmt.Errorf("firecracker: network %q: only tap, with the interface by -b", m.Net)
	}
	if len(m.Forwards) > 0 {
		return fmt.Errorf("firecracker: -f %d:%d: the guest has an address of its own", m.Forwards[0].From, m.Forwards[0].To)
	}
	for _, v := range m.Volumes {
		if v.Format != "raw" {
			return fmt.Errorf("firecracker: volume %s: format %s: only raw", v.Path, v.Format)
		}
	}
	return nil
}

// Config is the configuration file.
func (Firecracker) Config(m Machine) []byte {
	drives := []map[string]any{}
	for i, v := range m.Volumes {
		drives = append(drives, map[string]any{"drive_id": "volume" + strconv.Itoa(i), "path_on_host": v.Path, "is_root_device": false, "is_read_only": false})
	}
	card := map[string]any{"iface_id": "net0", "host_dev_name": m.Link}
	if m.MAC != "" {
		card["guest_mac"] = m.MAC
	}
	b, err := json.MarshalIndent(map[string]any{
		"boot-source":        map[string]any{"kernel_image_path": m.Kernel, "boot_args": m.CommandLine},
		"machine-config":     map[string]any{"vcpu_count": m.CPUs, "mem_size_mib": m.MemMiB},
		"drives":             drives,
		"network-interfaces": []any{card},
	}, "", "  ")
	if err != nil {
		panic(err) // maps of strings and numbers always marshal
	}
	return append(b, '\n')
}

// Start writes the configuration and runs Firecracker, whose standard output is the
// console.
func (f Firecracker) Start(ctx context.Context, h *Host, m Machine, fg *IO) (func() error, error) {
	tool, err := h.tool("firecracker", fcTool, fcHint)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(m.Dir, fcConfig), f.Config(m), 0o644); err != nil {
		return nil, err
	}
	sock := strings.TrimPrefix(m.Control, "unix:")
	os.Remove(sock)
	console, err := os.Create(filepath.Join(m.Dir, ConsoleLog))
	if err != nil {
		return nil, err
	}
	defer console.Close()
	errFile, err := os.Create(filepath.Join(m.Dir, fcErrors))
	if err != nil {
		return nil, err
	}
	defer errFile.Close()
	cmd := exec.Command(tool, "--api-sock", sock, "--id", m.Name, "--config-file", fcConfig)
	cmd.Dir, cmd.Stdout, cmd.Stderr = m.Dir, console, errFile
	if err := h.Spawn(cmd, true); err != nil {
		return nil, fmt.Errorf("firecracker: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for end := time.Now().Add(startWait); f.State(ctx, h, m) != Running; {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("firecracker: did not start: %w", errors.Join(err, errors.New(stderrTail(errFile.Name()))))
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			cmd.Process.Kill() //nolint:errcheck // gone already is fine
			return nil, fmt.Errorf("firecracker: no answer on its API socket within %v", startWait)
		}
	}
	return follow(ctx, f, h, m, fg), nil
}

// api makes a request on the control socket.
func (Firecracker) api(ctx context.Context, m Machine, method, path string, body []byte) (int, error) {
	c := &http.Client{Timeout: qmpWait, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", strings.TrimPrefix(m.Control, "unix:"))
		},
	}}
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	res.Body.Close()
	return res.StatusCode, nil
}

// Stop sends Ctrl-Alt-Del, which is all that Firecracker's API offers: a guest that
// does not listen must be ended by ending the process, and the error says so.
func (f Firecracker) Stop(ctx context.Context, h *Host, m Machine, force bool) error {
	code, err := f.api(ctx, m, http.MethodPut, "/actions", []byte(`{"action_type":"SendCtrlAltDel"}`))
	if err != nil {
		return nil //nolint:nilerr // it does not run
	}
	if code >= 300 {
		return fmt.Errorf("firecracker: SendCtrlAltDel: HTTP status %d", code)
	}
	if !waitStopped(ctx, f, h, m, pressedWait) {
		return fmt.Errorf("firecracker: %s: still running %v after Ctrl-Alt-Del; end the firecracker process", m.Name, pressedWait)
	}
	return nil
}

// State asks the API socket.
func (f Firecracker) State(ctx context.Context, h *Host, m Machine) State {
	if code, err := f.api(ctx, m, http.MethodGet, "/", nil); err != nil || code != http.StatusOK {
		return Stopped
	}
	return Running
}

// Delete removes the socket.
func (Firecracker) Delete(ctx context.Context, h *Host, m Machine) error {
	os.Remove(strings.TrimPrefix(m.Control, "unix:"))
	return nil
}
