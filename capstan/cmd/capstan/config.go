package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// paths are where things are kept.
type paths struct{ cache, conf string }

func (p paths) store() string     { return filepath.Join(p.cache, "oci") }
func (p paths) instances() string { return filepath.Join(p.cache, "instances") }
func (p paths) config() string    { return filepath.Join(p.conf, "config.yaml") }
func (p paths) trust() string     { return filepath.Join(p.conf, "trust.d") }

func findPaths() (paths, error) {
	if root := os.Getenv("CAPSTAN_ROOT"); root != "" {
		abs, err := filepath.Abs(root)
		return paths{abs, abs}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return paths{}, fmt.Errorf("no folder for images (set CAPSTAN_ROOT): %w", err)
	}
	conf, err := os.UserConfigDir()
	if err != nil {
		return paths{}, fmt.Errorf("no folder for the configuration (set CAPSTAN_ROOT): %w", err)
	}
	return paths{filepath.Join(cache, "capstan"), filepath.Join(conf, "capstan")}, nil
}

// config is config.yaml. Keys of the original Capstan keep their names.
type config struct {
	RepoURL    string `yaml:"repo_url,omitempty" json:"repo_url"`
	DisableKVM bool   `yaml:"disable_kvm,omitempty" json:"disable_kvm"`
	Hypervisor string `yaml:"hypervisor,omitempty" json:"hypervisor"`
}

func readConfig(name string) (config, error) {
	var c config
	b, err := os.ReadFile(name)
	if err == nil {
		d := yaml.NewDecoder(bytes.NewReader(b))
		d.KnownFields(true)
		if err = d.Decode(&c); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	if v := os.Getenv("CAPSTAN_REPO_URL"); v != "" {
		c.RepoURL = v
	}
	if c.Hypervisor == "" {
		c.Hypervisor = "qemu"
	}
	return c, nil
}

// url is the repository asked for: by flag, environment, configuration.
func (a *app) url() string {
	if a.cli.URL != "" {
		return a.cli.URL
	}
	return a.config.RepoURL
}

type configCmd struct {
	Print configPrintCmd `cmd:"" help:"Print the configuration in force and where things are."`
}

type configPrintCmd struct {
	JSON bool `name:"json" help:"As JSON."`
}

func (c *configPrintCmd) Run(a *app) error {
	rows := []struct{ key, value string }{
		{"config", a.paths.config()}, {"trust", a.paths.trust()}, {"store", a.paths.store()}, {"instances", a.paths.instances()},
		{"repo_url", a.url()}, {"hypervisor", a.config.Hypervisor}, {"disable_kvm", fmt.Sprint(a.config.DisableKVM)}, {"offline", fmt.Sprint(a.cli.Offline)},
	}
	if c.JSON {
		m := map[string]string{}
		for _, r := range rows {
			m[r.key] = r.value
		}
		return a.json(m)
	}
	for _, r := range rows {
		fmt.Fprintf(a.out, "%-12s %s\n", r.key+":", r.value)
	}
	return nil
}

// json prints v for programs.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
