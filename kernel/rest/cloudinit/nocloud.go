package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"osv/kernel/rest/cloudinit/media"
)

// NoCloud is a disk with the label cidata, ISO 9660 or FAT, that holds meta-data and
// user-data.
type NoCloud struct {
	Disks []Disk

	medium *media.Medium
	disk   string
}

// Name is "NoCloud".
func (n *NoCloud) Name() string { return "NoCloud" }

const noCloudLabel = "cidata"

// Probe looks for the label on all disks.
func (n *NoCloud) Probe(ctx context.Context) error {
	var why error
	for _, d := range n.Disks {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := media.Open(d, d.Size())
		switch {
		case err != nil && !errors.Is(err, media.ErrUnknown):
			why = errors.Join(why, fmt.Errorf("%s: %w", d.Name(), err))
		case err == nil && strings.EqualFold(m.Label, noCloudLabel):
			n.medium, n.disk = m, d.Name()
			return nil
		}
	}
	return errors.Join(fmt.Errorf("no disk of %d is labelled %s", len(n.Disks), noCloudLabel), why)
}

// Fetch reads the files. user-data and meta-data must be there, as the data source's
// document has it; either may be empty.
func (n *NoCloud) Fetch(context.Context) (*Data, error) {
	meta, err := n.medium.ReadFile("meta-data", maxMetaData)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.disk, err)
	}
	user, err := n.medium.ReadFile("user-data", MaxUserData)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.disk, err)
	}
	d := &Data{UserData: user}
	var m struct {
		InstanceID    string    `yaml:"instance-id"`
		LocalHostname string    `yaml:"local-hostname"`
		Hostname      string    `yaml:"hostname"`
		PublicKeys    yaml.Node `yaml:"public-keys"`
	}
	if err := yaml.Unmarshal(meta, &m); err != nil {
		return nil, fmt.Errorf("%s: meta-data: %w", n.disk, err)
	}
	d.InstanceID, d.Hostname = m.InstanceID, m.LocalHostname
	if d.Hostname == "" {
		d.Hostname = m.Hostname
	}
	d.Keys = scalars(&m.PublicKeys, nil)
	return d, nil
}

// scalars collects all texts of a list or map of keys: meta-data has them as a text, a
// list, or a map of names.
func scalars(n *yaml.Node, out []string) []string {
	switch {
	case n == nil || len(out) >= maxKeys:
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return append(out, keyLines(n.Value)...)
	case n.Kind == yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			out = scalars(n.Content[i], out)
		}
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			out = scalars(c, out)
		}
	}
	return out
}
