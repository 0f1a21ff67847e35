// Package deploy writes the guests of a comparison as objects of KubeVirt, with a
// Job that loads them, for a cluster that runs virtual machines. The manifests are
// checked against the part of the API that they use, written down as types here;
// they have not been applied to a real cluster.
//
// Spec: KubeVirt API kubevirt.io/v1 (VirtualMachine, firmware.kernelBoot,
// masquerade interfaces), Kubernetes v1 (Service), batch/v1 (Job). Not covered:
// persistent disks, several networks, placement by topology (both guests and the
// Job only ask for whole CPUs).
//
// Who may use it: the command line. May not: talk to a cluster. Start reading at
// Set.
package deploy

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"

	"go.yaml.in/yaml/v3"

	"osv/harness/guest/linux"
)

// meta is the metadata of an object.
type meta struct {
	Name   string            `yaml:"name,omitempty"`
	Labels map[string]string `yaml:"labels,omitempty"`
}

type virtualMachine struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   meta   `yaml:"metadata"`
	Spec       struct {
		RunStrategy string `yaml:"runStrategy"`
		Template    struct {
			Metadata meta         `yaml:"metadata"`
			Spec     instanceSpec `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

type instanceSpec struct {
	Domain struct {
		CPU struct {
			Cores                 int  `yaml:"cores"`
			DedicatedCPUPlacement bool `yaml:"dedicatedCpuPlacement"`
		} `yaml:"cpu"`
		Memory struct {
			Guest string `yaml:"guest"`
		} `yaml:"memory"`
		Machine struct {
			Type string `yaml:"type"`
		} `yaml:"machine"`
		Firmware struct {
			KernelBoot kernelBoot `yaml:"kernelBoot"`
		} `yaml:"firmware"`
		Devices struct {
			RNG        struct{} `yaml:"rng"`
			Interfaces []nic    `yaml:"interfaces"`
		} `yaml:"devices"`
	} `yaml:"domain"`
	Networks                      []network `yaml:"networks"`
	TerminationGracePeriodSeconds int       `yaml:"terminationGracePeriodSeconds"`
}

type kernelBoot struct {
	KernelArgs string `yaml:"kernelArgs"`
	Container  struct {
		Image           string `yaml:"image"`
		ImagePullPolicy string `yaml:"imagePullPolicy"`
		KernelPath      string `yaml:"kernelPath"`
		InitrdPath      string `yaml:"initrdPath,omitempty"`
	} `yaml:"container"`
}

type nic struct {
	Name       string   `yaml:"name"`
	Model      string   `yaml:"model"`
	Masquerade struct{} `yaml:"masquerade"`
	Ports      []port   `yaml:"ports"`
}

type network struct {
	Name string `yaml:"name"`
	Pod  struct {
		VMNetworkCIDR string `yaml:"vmNetworkCIDR"`
	} `yaml:"pod"`
}

type port struct {
	Name     string `yaml:"name"`
	Protocol string `yaml:"protocol"`
	Port     int    `yaml:"port"`
}

type service struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   meta   `yaml:"metadata"`
	Spec       struct {
		Selector map[string]string `yaml:"selector"`
		Ports    []port            `yaml:"ports"`
	} `yaml:"spec"`
}

type job struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   meta   `yaml:"metadata"`
	Spec       struct {
		BackoffLimit int `yaml:"backoffLimit"`
		Template     struct {
			Metadata meta    `yaml:"metadata"`
			Spec     podSpec `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

type podSpec struct {
	RestartPolicy  string      `yaml:"restartPolicy"`
	InitContainers []container `yaml:"initContainers,omitempty"`
	Containers     []container `yaml:"containers"`
}

type container struct {
	Name      string   `yaml:"name"`
	Image     string   `yaml:"image"`
	Command   []string `yaml:"command"`
	Resources struct {
		Requests map[string]string `yaml:"requests"`
		Limits   map[string]string `yaml:"limits"`
	} `yaml:"resources"`
}

// The address that a masqueraded guest has, and its gateway, in KubeVirt's default
// network, which the manifests state.
const (
	Network = "10.0.2.0/24"
	Address = "10.0.2.2/24"
	Gateway = "10.0.2.1"
)

// Guest is one guest to deploy.
type Guest struct {
	Name   string // of the objects: lower case letters, digits and dashes
	Image  string // container image that holds kernel and root
	Kernel string // path in it
	Initrd string // path in it, "" = none
	Append string // kernel command line
}

// Set is what is deployed.
type Set struct {
	Guests []Guest
	// Bench is the container image with the bench program as /bench.
	Bench  string
	CPUs   int
	MemMiB int
}

// Default is the default plan's memcached guests, with images named in a registry.
func Default(registry string, cpus, mib int) Set {
	lin := func(p linux.Profile) Guest {
		g := linux.Guest{Profile: p, Service: linux.Memcached, IP: netip.MustParsePrefix(Address), Gateway: netip.MustParseAddr(Gateway)}
		line, _ := g.Append(cpus) // fails for long lines only; the tests have these
		return Guest{Name: "linux-" + p.Name, Image: registry + "/linux-guest:latest", Kernel: "/boot/vmlinuz", Initrd: "/boot/guest.cpio", Append: line}
	}
	return Set{CPUs: cpus, MemMiB: mib, Bench: registry + "/bench:latest", Guests: []Guest{lin(linux.Stock), lin(linux.Tuned),
		{Name: "osv", Image: registry + "/osv-memcached:latest", Kernel: "/boot/osv-memcached.elf",
			Append: "--ip=eth0," + Address[:len(Address)-3] + ",24 --defaultgw=" + Gateway + " -- -p 11211 -U 11211 -m 64 -c 4096"}}}
}

var (
	nameForm  = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,50}[a-z0-9])?$`)
	imageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._:/@-]*$`)
)

// ports are memcached's, over both transports.
var ports = []port{{"memcached-tcp", "TCP", 11211}, {"memcached-udp", "UDP", 11211}}

// Files are the manifests by file name: one for each guest (machine, service, job)
// and Containerfiles for the images.
func (s Set) Files() (map[string][]byte, error) {
	if s.CPUs < 1 || s.MemMiB < 16 || len(s.Guests) == 0 {
		return nil, fmt.Errorf("deploy: %d guests with %d vCPUs and %d MiB", len(s.Guests), s.CPUs, s.MemMiB)
	}
	if !imageForm.MatchString(s.Bench) {
		return nil, fmt.Errorf("deploy: image %q is no image reference", s.Bench)
	}
	out := map[string][]byte{
		"Containerfile.bench": []byte("# CGO_ENABLED=0 go build -o bench ./harness/cmd/bench\nFROM scratch\nCOPY bench /bench\n"),
	}
	for _, g := range s.Guests {
		if !nameForm.MatchString(g.Name) || !imageForm.MatchString(g.Image) || g.Kernel == "" {
			return nil, fmt.Errorf("deploy: guest %q of image %q with kernel %q: want a DNS label, an image reference and a path", g.Name, g.Image, g.Kernel)
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "# Not tried on a real cluster. kubectl apply -f %s.yaml; the figures are the Job's log.\n", g.Name)
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		for _, o := range []any{s.machine(g), s.service(g), s.job(g)} {
			if err := enc.Encode(o); err != nil {
				return nil, fmt.Errorf("deploy: %w", err)
			}
		}
		if err := enc.Close(); err != nil {
			return nil, fmt.Errorf("deploy: %w", err)
		}
		out[g.Name+".yaml"] = b.Bytes()
		// 107 is the user that KubeVirt runs QEMU as.
		c := fmt.Sprintf("FROM scratch\nCOPY --chown=107:107 %s %s\n", base(g.Kernel), g.Kernel)
		if g.Initrd != "" {
			c += fmt.Sprintf("COPY --chown=107:107 %s %s\n", base(g.Initrd), g.Initrd)
		}
		out["Containerfile."+g.Name] = []byte(c)
	}
	return out, nil
}

func base(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '/' {
			return p[i+1:]
		}
	}
	return p
}

func labels(g Guest) map[string]string { return map[string]string{"osv.bench/guest": g.Name} }

func (s Set) machine(g Guest) virtualMachine {
	m := virtualMachine{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachine", Metadata: meta{Name: g.Name, Labels: labels(g)}}
	m.Spec.RunStrategy = "Always"
	m.Spec.Template.Metadata = meta{Labels: labels(g)}
	i := &m.Spec.Template.Spec
	i.Domain.CPU.Cores, i.Domain.CPU.DedicatedCPUPlacement = s.CPUs, true
	i.Domain.Memory.Guest = fmt.Sprintf("%dMi", s.MemMiB)
	i.Domain.Machine.Type = "q35"
	k := &i.Domain.Firmware.KernelBoot
	k.KernelArgs = g.Append
	k.Container.Image, k.Container.ImagePullPolicy, k.Container.KernelPath, k.Container.InitrdPath = g.Image, "IfNotPresent", g.Kernel, g.Initrd
	i.Domain.Devices.Interfaces = []nic{{Name: "default", Model: "virtio", Ports: ports}}
	n := network{Name: "default"}
	n.Pod.VMNetworkCIDR = Network
	i.Networks = []network{n}
	return m
}

func (s Set) service(g Guest) service {
	v := service{APIVersion: "v1", Kind: "Service", Metadata: meta{Name: g.Name, Labels: labels(g)}}
	v.Spec.Selector, v.Spec.Ports = labels(g), ports
	return v
}

// job loads a guest by the same loads as the default plan's, one after the other:
// containers of a pod run side by side, but init containers in turn.
func (s Set) job(g Guest) job {
	j := job{APIVersion: "batch/v1", Kind: "Job", Metadata: meta{Name: g.Name + "-load", Labels: labels(g)}}
	j.Spec.Template.Spec.RestartPolicy = "Never"
	for _, l := range []struct{ name, kind, o, c, sets string }{
		{"udp-get", "memcached-udp", "32", "1", "0"}, {"udp-set", "memcached-udp", "32", "1", "1"}, {"tcp-get", "memcached-tcp", "1", "16", "0"},
	} {
		c := container{Name: l.name, Image: s.Bench, Command: []string{"/bench", "load", g.Name + ":11211", "--kind=" + l.kind,
			"--outstanding=" + l.o, "--conns=" + l.c, "--set-ratio=" + l.sets, "--keys=1000", "--duration=10s", "--json"}}
		c.Resources.Requests = map[string]string{"cpu": "1", "memory": "256Mi"}
		c.Resources.Limits = c.Resources.Requests
		p := &j.Spec.Template.Spec
		p.InitContainers, p.Containers = append(p.InitContainers, p.Containers...), []container{c}
	}
	return j
}
