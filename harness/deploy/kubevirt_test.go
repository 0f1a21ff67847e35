package deploy

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the manifests in kubevirt/")

// The manifests in the tree are what the program writes.
func TestManifestsInTheTree(t *testing.T) {
	files, err := Default("registry.example/osv", 1, 256).Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		path := filepath.Join("kubevirt", name)
		if *update {
			if err := os.MkdirAll("kubevirt", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, b) {
			t.Errorf("%s differs (go test -update): %v", path, err)
		}
	}
}

// Each document decodes into the part of the API that is known here, without a
// field left over, and the objects fit together.
func TestManifestsFitTogether(t *testing.T) {
	set := Default("registry.example/osv", 1, 256)
	files, err := set.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range set.Guests {
		dec := yaml.NewDecoder(bytes.NewReader(files[g.Name+".yaml"]))
		dec.KnownFields(true)
		var m virtualMachine
		var s service
		var j job
		for _, o := range []any{&m, &s, &j} {
			if err := dec.Decode(o); err != nil {
				t.Fatalf("%s: %v", g.Name, err)
			}
		}
		if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: more than three documents: %v", g.Name, err)
		}
		if m.Kind != "VirtualMachine" || s.Kind != "Service" || j.Kind != "Job" {
			t.Errorf("%s: %s, %s, %s", g.Name, m.Kind, s.Kind, j.Kind)
		}
		for k, v := range s.Spec.Selector {
			if m.Spec.Template.Metadata.Labels[k] != v {
				t.Errorf("%s: the service selects %s=%s, the machine has %v", g.Name, k, v, m.Spec.Template.Metadata.Labels)
			}
		}
		i := m.Spec.Template.Spec
		if i.Networks[0].Name != i.Domain.Devices.Interfaces[0].Name || i.Networks[0].Pod.VMNetworkCIDR != Network {
			t.Errorf("%s: networks %+v, interfaces %+v", g.Name, i.Networks, i.Domain.Devices.Interfaces)
		}
		if a := i.Domain.Firmware.KernelBoot.KernelArgs; !strings.Contains(a, strings.TrimSuffix(Address, "/24")) || !strings.Contains(a, Gateway) {
			t.Errorf("%s: its kernel is told %q", g.Name, a)
		}
		pod := j.Spec.Template.Spec
		if len(pod.InitContainers) != 2 || len(pod.Containers) != 1 || pod.RestartPolicy != "Never" || pod.Containers[0].Command[2] != s.Metadata.Name+":11211" {
			t.Errorf("%s: %+v", g.Name, pod)
		}
		c := string(files["Containerfile."+g.Name])
		if !strings.Contains(c, " "+g.Kernel+"\n") || g.Initrd != "" && !strings.Contains(c, " "+g.Initrd+"\n") {
			t.Errorf("%s: %s", g.Name, c)
		}
	}
}

func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(s *Set){
		"0 guests":               func(s *Set) { s.Guests = nil },
		"0 vCPUs":                func(s *Set) { s.CPUs = 0 },
		"no image reference":     func(s *Set) { s.Bench = "a b" },
		"want a DNS label":       func(s *Set) { s.Guests[0].Name = "No_Good" },
		"an image reference":     func(s *Set) { s.Guests[0].Image = "" },
		"kernel \"\": want a DN": func(s *Set) { s.Guests[0].Kernel = "" },
	} {
		s := Default("r", 1, 64)
		change(&s)
		if _, err := s.Files(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
