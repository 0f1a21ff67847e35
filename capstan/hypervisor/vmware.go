package hypervisor

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// VMware runs machines in Workstation, Fusion or Player by vmrun: the zip is unpacked
// and its .vmx file set up.
type VMware struct{}

const vmwTool, vmwHint = "vmrun", "install VMware Workstation or Fusion"

// Name is "vmw".
func (VMware) Name() string { return "vmw" }

// Installed looks for the tool.
func (VMware) Installed(h *Host) error { _, err := h.tool("vmw", vmwTool, vmwHint); return err }

// Format is "vmware".
func (VMware) Format() string { return "vmware" }

// Check wants NAT or a bridge, and no forwarded ports, which vmrun cannot set up.
func (VMware) Check(m Machine) error {
	if len(m.Forwards) > 0 {
		return fmt.Errorf("vmw: -f %d:%d: vmrun forwards no ports; the guest's own address is on its console", m.Forwards[0].From, m.Forwards[0].To)
	}
	if m.MAC != "" && !strings.HasPrefix(strings.ToLower(m.MAC), "00:50:56:") {
		return fmt.Errorf("vmw: --mac=%s: VMware takes 00:50:56:00:00:00 to 00:50:56:3f:ff:ff only", m.MAC)
	}
	if m.Net == Bridge {
		return noVolumes("vmw", m)
	}
	return onlyNAT("vmw", m)
}

// VMX changes a .vmx file for the machine.
func (VMware) VMX(vmx []byte, m Machine) []byte {
	set := map[string]string{
		"numvcpus": strconv.Itoa(m.CPUs), "memsize": strconv.Itoa(m.MemMiB), "displayname": m.Name,
		"ethernet0.connectiontype": "nat",
		"serial0.present":          "TRUE", "serial0.filetype": "file", "serial0.filename": filepath.Join(m.Dir, ConsoleLog),
	}
	if m.Net == Bridge {
		set["ethernet0.connectiontype"] = "bridged"
	}
	if m.MAC != "" {
		set["ethernet0.addresstype"], set["ethernet0.address"] = "static", m.MAC
	}
	var out strings.Builder
	for line := range strings.Lines(string(vmx)) {
		key, _, _ := strings.Cut(line, "=")
		if _, ours := set[strings.ToLower(strings.TrimSpace(key))]; !ours {
			out.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		}
	}
	for _, k := range sorted(set) {
		fmt.Fprintf(&out, "%s = %q\n", k, set[k])
	}
	return []byte(out.String())
}

// unpack puts the zip's files into the machine's folder, without its folders, and
// returns the .vmx file.
func (v VMware) unpack(m Machine) (string, error) {
	z, err := zip.OpenReader(filepath.Join(m.Dir, m.Disk))
	if err != nil {
		return "", fmt.Errorf("vmw: %s: %w", m.Disk, err)
	}
	defer z.Close()
	vmx := ""
	for _, f := range z.File {
		name := filepath.Join(m.Dir, filepath.Base(f.Name))
		if f.FileInfo().IsDir() {
			continue
		}
		if strings.HasSuffix(name, ".vmx") {
			vmx = name
		}
		if _, err := os.Stat(name); err == nil {
			continue // from the first start
		}
		if err := unzip(f, name); err != nil {
			return "", fmt.Errorf("vmw: %s: %w", f.Name, err)
		}
	}
	if vmx == "" {
		return "", fmt.Errorf("vmw: %s has no .vmx file", m.Disk)
	}
	b, err := os.ReadFile(vmx)
	if err != nil {
		return "", err
	}
	return vmx, os.WriteFile(vmx, v.VMX(b, m), 0o644)
}

func unzip(f *zip.File, name string) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if err = errors.Join(err, w.Close()); err != nil {
		os.Remove(name)
	}
	return err
}

func vmxOf(m Machine) string {
	list, _ := filepath.Glob(filepath.Join(m.Dir, "*.vmx"))
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// Start unpacks the machine and starts it without a window.
func (v VMware) Start(ctx context.Context, h *Host, m Machine, fg *IO) (func() error, error) {
	tool, err := h.tool("vmw", vmwTool, vmwHint)
	if err != nil {
		return nil, err
	}
	vmx, err := v.unpack(m)
	if err != nil {
		return nil, err
	}
	if _, err := h.Run(ctx, m.Dir, tool, "start", vmx, "nogui"); err != nil {
		return nil, fmt.Errorf("vmw: %w", err)
	}
	return follow(ctx, v, h, m, fg), nil
}

// Stop is vmrun stop, soft or hard.
func (v VMware) Stop(ctx context.Context, h *Host, m Machine, force bool) error {
	tool, err := h.tool("vmw", vmwTool, vmwHint)
	if err != nil {
		return err
	}
	if !force {
		_, err := h.Run(ctx, m.Dir, tool, "stop", vmxOf(m), "soft")
		if err == nil && waitStopped(ctx, v, h, m, pressedWait) {
			return nil
		}
	}
	if _, err := h.Run(ctx, m.Dir, tool, "stop", vmxOf(m), "hard"); err != nil {
		return fmt.Errorf("vmw: %w", err)
	}
	return nil
}

// State looks for the .vmx file in vmrun list.
func (VMware) State(ctx context.Context, h *Host, m Machine) State {
	tool, err := h.tool("vmw", vmwTool, vmwHint)
	if err != nil {
		return Unknown
	}
	out, err := h.Run(ctx, m.Dir, tool, "list")
	if err != nil {
		return Unknown
	}
	vmx := vmxOf(m)
	for line := range strings.Lines(string(out)) {
		if vmx != "" && strings.TrimSpace(line) == vmx {
			return Running
		}
	}
	return Stopped
}

// Delete has nothing to do: the machine is its files.
func (VMware) Delete(context.Context, *Host, Machine) error { return nil }
