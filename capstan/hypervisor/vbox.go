package hypervisor

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// VirtualBox runs machines by VBoxManage: an OVA is imported, set up and started
// without a window.
type VirtualBox struct{}

const vboxTool, vboxHint = "VBoxManage", "install VirtualBox from https://www.virtualbox.org"

// Name is "vbox".
func (VirtualBox) Name() string { return "vbox" }

// Installed looks for the tool.
func (VirtualBox) Installed(h *Host) error { _, err := h.tool("vbox", vboxTool, vboxHint); return err }

// Format is "virtualbox".
func (VirtualBox) Format() string { return "virtualbox" }

// Check wants NAT or a bridge.
func (VirtualBox) Check(m Machine) error {
	if m.Net == Bridge {
		if m.Link == "" {
			return fmt.Errorf("vbox: network %q: name the host's interface by -b", m.Net)
		}
		return noVolumes("vbox", m)
	}
	if err := onlyNAT("vbox", m); err != nil {
		return err
	}
	return checkPorts(m)
}

// Commands are the arguments of VBoxManage, call by call.
func (VirtualBox) Commands(m Machine) [][]string {
	modify := []string{"modifyvm", m.Name, "--cpus", strconv.Itoa(m.CPUs), "--memory", strconv.Itoa(m.MemMiB),
		"--uart1", "0x3f8", "4", "--uartmode1", "file", filepath.Join(m.Dir, ConsoleLog)}
	if m.Net == Bridge {
		modify = append(modify, "--nic1", "bridged", "--bridgeadapter1", m.Link)
	} else {
		modify = append(modify, "--nic1", "nat")
		for i, f := range m.Forwards {
			modify = append(modify, "--natpf1", fmt.Sprintf("rule%d,%s,%s,%d,,%d", i, f.Proto, f.Host, f.From, f.To))
		}
	}
	if m.MAC != "" {
		modify = append(modify, "--macaddress1", strings.ToUpper(strings.ReplaceAll(m.MAC, ":", "")))
	}
	return [][]string{
		{"import", filepath.Join(m.Dir, m.Disk), "--vsys", "0", "--vmname", m.Name, "--basefolder", m.Dir},
		modify,
		{"startvm", m.Name, "--type", "headless"},
	}
}

// Start imports the machine unless VirtualBox has it, and starts it.
func (v VirtualBox) Start(ctx context.Context, h *Host, m Machine, fg *IO) (func() error, error) {
	tool, err := h.tool("vbox", vboxTool, vboxHint)
	if err != nil {
		return nil, err
	}
	calls := v.Commands(m)
	if _, err := h.Run(ctx, m.Dir, tool, "showvminfo", m.Name, "--machinereadable"); err == nil {
		calls = calls[1:]
	}
	for _, c := range calls {
		if _, err := h.Run(ctx, m.Dir, append([]string{tool}, c...)...); err != nil {
			return nil, fmt.Errorf("vbox: %w", err)
		}
	}
	return follow(ctx, v, h, m, fg), nil
}

// Stop presses the power button, or pulls the plug.
func (v VirtualBox) Stop(ctx context.Context, h *Host, m Machine, force bool) error {
	tool, err := h.tool("vbox", vboxTool, vboxHint)
	if err != nil {
		return err
	}
	if !force {
		_, err := h.Run(ctx, m.Dir, tool, "controlvm", m.Name, "acpipowerbutton")
		if err == nil && waitStopped(ctx, v, h, m, pressedWait) {
			return nil
		}
	}
	if _, err := h.Run(ctx, m.Dir, tool, "controlvm", m.Name, "poweroff"); err != nil {
		return fmt.Errorf("vbox: %w", err)
	}
	return nil
}

var vboxState = regexp.MustCompile(`(?m)^VMState="(\w+)"`)

// State reads showvminfo.
func (VirtualBox) State(ctx context.Context, h *Host, m Machine) State {
	tool, err := h.tool("vbox", vboxTool, vboxHint)
	if err != nil {
		return Unknown
	}
	out, err := h.Run(ctx, m.Dir, tool, "showvminfo", m.Name, "--machinereadable")
	if err != nil {
		return Stopped
	}
	if s := vboxState.FindSubmatch(out); s != nil && (string(s[1]) == "running" || string(s[1]) == "paused" || string(s[1]) == "starting") {
		return Running
	}
	return Stopped
}

// Delete unregisters the machine with its disks.
func (VirtualBox) Delete(ctx context.Context, h *Host, m Machine) error {
	tool, err := h.tool("vbox", vboxTool, vboxHint)
	if err != nil {
		return err
	}
	if _, err := h.Run(ctx, m.Dir, tool, "showvminfo", m.Name, "--machinereadable"); err != nil {
		return nil //nolint:nilerr // VirtualBox does not know it
	}
	if _, err := h.Run(ctx, m.Dir, tool, "unregistervm", m.Name, "--delete"); err != nil {
		return fmt.Errorf("vbox: %w", err)
	}
	return nil
}
