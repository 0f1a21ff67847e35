package hypervisor

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// GCE runs machines on Google Compute Engine by gcloud: the tar.gz is uploaded, made
// an image, and started as an instance. Project, zone and account are gcloud's own.
type GCE struct{}

const gceTool, gceHint = "gcloud", "install the Google Cloud CLI from https://cloud.google.com/sdk"

// Name is "gce".
func (GCE) Name() string { return "gce" }

// Installed looks for the tool.
func (GCE) Installed(h *Host) error { _, err := h.tool("gce", gceTool, gceHint); return err }

// Format is "gce".
func (GCE) Format() string { return "gce" }

// Check wants a bucket.
func (GCE) Check(m Machine) error {
	if !strings.HasPrefix(m.UploadDir, "gs://") || m.UploadDir == "gs://" {
		return fmt.Errorf("gce: --gce-upload-dir=%q: want gs://BUCKET[/FOLDER]", m.UploadDir)
	}
	if len(m.Forwards) > 0 {
		return fmt.Errorf("gce: -f %d:%d: the instance has an address of its own; open the port by a firewall rule", m.Forwards[0].From, m.Forwards[0].To)
	}
	if m.MAC != "" {
		return fmt.Errorf("gce: --mac=%s: the cloud chooses the address", m.MAC)
	}
	return onlyNAT("gce", m)
}

// Commands are gcloud's arguments, call by call.
func (GCE) Commands(m Machine) [][]string {
	object := strings.TrimSuffix(m.UploadDir, "/") + "/" + m.Name + ".tar.gz"
	return [][]string{
		{"storage", "cp", filepath.Join(m.Dir, m.Disk), object},
		{"compute", "images", "create", m.Name, "--source-uri", object, "--guest-os-features", "UEFI_COMPATIBLE,VIRTIO_SCSI_MULTIQUEUE", "--quiet"},
		{"compute", "instances", "create", m.Name, "--image", m.Name,
			"--custom-vm-type", "e2", "--custom-cpu", strconv.Itoa(max(m.CPUs, 2)), "--custom-memory", strconv.Itoa(max(m.MemMiB, 1024)) + "MB", "--quiet"},
	}
}

// Start uploads the image unless the instance exists, and starts it.
func (g GCE) Start(ctx context.Context, h *Host, m Machine, fg *IO) (func() error, error) {
	tool, err := h.tool("gce", gceTool, gceHint)
	if err != nil {
		return nil, err
	}
	calls := g.Commands(m)
	if _, err := h.Run(ctx, m.Dir, tool, "compute", "instances", "describe", m.Name, "--format", "value(status)"); err == nil {
		calls = [][]string{{"compute", "instances", "start", m.Name, "--quiet"}}
	}
	for _, c := range calls {
		if _, err := h.Run(ctx, m.Dir, append([]string{tool}, c...)...); err != nil {
			return nil, fmt.Errorf("gce: %w", err)
		}
	}
	return nil, nil // the console is the cloud's: gcloud compute instances get-serial-port-output
}

// Stop stops the instance.
func (GCE) Stop(ctx context.Context, h *Host, m Machine, force bool) error {
	tool, err := h.tool("gce", gceTool, gceHint)
	if err != nil {
		return err
	}
	if _, err := h.Run(ctx, m.Dir, tool, "compute", "instances", "stop", m.Name, "--quiet"); err != nil {
		return fmt.Errorf("gce: %w", err)
	}
	return nil
}

// State asks the cloud.
func (GCE) State(ctx context.Context, h *Host, m Machine) State {
	tool, err := h.tool("gce", gceTool, gceHint)
	if err != nil {
		return Unknown
	}
	out, err := h.Run(ctx, m.Dir, tool, "compute", "instances", "describe", m.Name, "--format", "value(status)")
	switch s := strings.TrimSpace(string(out)); {
	case err != nil:
		return Stopped
	case s == "RUNNING" || s == "STAGING" || s == "PROVISIONING":
		return Running
	}
	return Stopped
}

// Delete deletes the instance and its image; the object in the bucket stays.
func (GCE) Delete(ctx context.Context, h *Host, m Machine) error {
	tool, err := h.tool("gce", gceTool, gceHint)
	if err != nil {
		return err
	}
	for _, what := range []string{"instances", "images"} {
		if _, err := h.Run(ctx, m.Dir, tool, "compute", what, "describe", m.Name, "--format", "value(status)"); err != nil {
			continue
		}
		if _, err := h.Run(ctx, m.Dir, tool, "compute", what, "delete", m.Name, "--quiet"); err != nil {
			return fmt.Errorf("gce: %w", err)
		}
	}
	return nil
}
