package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"

	"osv/capstan/build"
	"osv/capstan/instance"
	"osv/capstan/repo"
)

type imagesCmd struct {
	JSON  bool `name:"json" help:"As JSON."`
	Quiet bool `short:"q" help:"Names only."`
}

// imageRow is an image as the tool prints it.
type imageRow struct {
	Name    string      `json:"name"`
	Digest  string      `json:"digest"`
	Bytes   int64       `json:"bytes"`
	Formats []string    `json:"formats"`
	Signer  string      `json:"signed_by,omitempty"`
	Source  string      `json:"source,omitempty"`
	Config  repo.Config `json:"config"`
}

func rowOf(i repo.Image) imageRow {
	return imageRow{i.Ref.String(), string(i.Digest), i.Size, i.Formats(), i.Signer, i.Source, i.Config}
}

func (c *imagesCmd) Run(a *app) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	list, err := s.Images()
	if err != nil {
		return err
	}
	rows := []imageRow{}
	for _, i := range list {
		rows = append(rows, rowOf(i))
	}
	switch {
	case c.JSON:
		return a.json(rows)
	case c.Quiet:
		for _, r := range rows {
			fmt.Fprintln(a.out, r.Name)
		}
		return nil
	}
	return a.table("NAME\tVERSION\tSIZE\tFORMATS\tSIGNED BY\tABOUT", len(rows), func(n int) string {
		r := rows[n]
		return strings.Join([]string{r.Name, dash(r.Config.Version), build.Bytes(r.Bytes), strings.Join(r.Formats, " "), dash(r.Signer), r.Config.Title}, "\t")
	})
}

func (a *app) table(head string, n int, row func(n int) string) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for i := range n {
		fmt.Fprintln(w, row(i))
	}
	return w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type infoCmd struct {
	Image  string `arg:"" help:"Image." placeholder:"IMAGE"`
	JSON   bool   `name:"json" help:"As JSON."`
	Verify bool   `help:"Read all of it again and check the digests."`
}

func (c *infoCmd) Run(a *app) error {
	s, img, err := a.image(c.Image)
	if err != nil {
		return err
	}
	if c.Verify {
		if err := s.Verify(img); err != nil {
			return err
		}
	}
	r := rowOf(img)
	if c.JSON {
		return a.json(r)
	}
	for _, l := range [][2]string{
		{"name", r.Name}, {"digest", r.Digest}, {"size", build.Bytes(r.Bytes)}, {"formats", strings.Join(r.Formats, " ")},
		{"about", dash(r.Config.Title)}, {"version", dash(r.Config.Version)}, {"machine", fmt.Sprintf("%d MiB, %d vCPU", r.Config.MemMiB, r.Config.CPUs)},
		{"cmdline", dash(r.Config.CommandLine)}, {"ports", dash(strings.Join(r.Config.Ports, " "))}, {"signed by", dash(r.Signer)}, {"source", dash(r.Source)},
	} {
		fmt.Fprintf(a.out, "%-10s %s\n", l[0]+":", l[1])
	}
	return nil
}

// image looks an image up in the store.
func (a *app) image(name string) (*repo.Store, repo.Image, error) {
	ref, err := repo.ParseRef(name)
	if err != nil {
		return nil, repo.Image{}, usage{err}
	}
	s, err := a.store()
	if err != nil {
		return nil, repo.Image{}, err
	}
	img, err := s.Get(ref)
	return s, img, err
}

type rmiCmd struct {
	Image []string `arg:"" help:"Images." placeholder:"IMAGE"`
}

func (c *rmiCmd) Run(a *app) error {
	for _, name := range c.Image {
		s, img, err := a.image(name)
		if err != nil {
			return err
		}
		freed, err := s.Remove(img.Ref)
		if err != nil {
			return err
		}
		a.say("removed %s: %s freed", img.Ref, build.Bytes(freed))
	}
	return nil
}

type instancesCmd struct {
	JSON  bool `name:"json" help:"As JSON."`
	Quiet bool `short:"q" help:"Names only."`
}

func (c *instancesCmd) Run(a *app) error {
	list, err := a.instances().List(a.ctx)
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		if list == nil {
			list = []instance.Instance{}
		}
		return a.json(list)
	case c.Quiet:
		for _, i := range list {
			fmt.Fprintln(a.out, i.Name)
		}
		return nil
	}
	return a.table("NAME\tHYPERVISOR\tSTATE\tIMAGE\tPORTS", len(list), func(n int) string {
		i := list[n]
		var ports []string
		for _, f := range i.Machine.Forwards {
			ports = append(ports, fmt.Sprintf("%d:%d/%s", f.From, f.To, f.Proto))
		}
		return strings.Join([]string{i.Name, i.Hypervisor, string(i.State), i.Image, dash(strings.Join(ports, " "))}, "\t")
	})
}

type stopCmd struct {
	Instance []string `arg:"" help:"Instances." placeholder:"NAME"`
	Force    bool     `help:"Pull the plug at once, instead of pressing the power button first."`
}

func (c *stopCmd) Run(a *app) error {
	m := a.instances()
	for _, name := range c.Instance {
		i, err := m.Get(a.ctx, name)
		if err == nil {
			err = m.Stop(a.ctx, i, c.Force)
		}
		if err != nil {
			return err
		}
		a.say("stopped %s", name)
	}
	return nil
}

type deleteCmd struct {
	Instance []string `arg:"" help:"Instances." placeholder:"NAME"`
}

func (c *deleteCmd) Run(a *app) error {
	m := a.instances()
	for _, name := range c.Instance {
		i, err := m.Get(a.ctx, name)
		if err == nil {
			err = m.Delete(a.ctx, i)
		}
		if err != nil {
			return err
		}
		a.say("deleted %s", name)
	}
	return nil
}

type saveCmd struct {
	Image  []string `arg:"" help:"Images." placeholder:"IMAGE"`
	Output string   `short:"o" required:"" help:"Archive (tar), - for standard output." placeholder:"FILE"`
}

func (c *saveCmd) Run(a *app) error {
	var list []repo.Image
	var s *repo.Store
	for _, name := range c.Image {
		st, img, err := a.image(name)
		if err != nil {
			return err
		}
		s, list = st, append(list, img)
	}
	if c.Output == "-" {
		return s.Save(a.out, list...)
	}
	f, err := os.CreateTemp(filepath.Dir(c.Output), ".tmp-")
	if err != nil {
		return err
	}
	err = s.Save(f, list...)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), c.Output)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

type loadCmd struct {
	File string `arg:"" help:"Archive made by save, - for standard input." placeholder:"FILE"`
}

func (c *loadCmd) Run(a *app) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	var r io.Reader = a.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		r = f
	}
	list, err := s.Load(r)
	for _, i := range list {
		a.say("loaded %s: %s", i.Ref, build.Bytes(i.Size))
	}
	return err
}

type volumeCmd struct {
	Create volumeCreateCmd `cmd:"" help:"Make an empty disk."`
	Delete volumeDeleteCmd `cmd:"" help:"Delete a disk that no instance uses."`
}

type volumeCreateCmd struct {
	Path   string `arg:"" help:"File."`
	Size   string `short:"s" help:"Size." default:"1G"`
	Format string `short:"f" help:"raw or qcow2." default:"raw" enum:"raw,qcow2"`
}

func (c *volumeCreateCmd) Run(a *app) error {
	n, err := build.ParseSize(c.Size)
	if err != nil {
		return usage{err}
	}
	return instance.CreateVolume(c.Path, c.Format, n)
}

type volumeDeleteCmd struct {
	Path string `arg:"" type:"existingfile" help:"File."`
}

func (c *volumeDeleteCmd) Run(a *app) error {
	abs, err := filepath.Abs(c.Path)
	if err != nil {
		return err
	}
	list, err := a.instances().List(a.ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		for _, v := range i.Machine.Volumes {
			if v.Path == abs {
				return fmt.Errorf("volume %s: instance %s has it (capstan delete %s)", c.Path, i.Name, i.Name)
			}
		}
	}
	return os.Remove(abs)
}

type versionCmd struct{}

// version is set by the linker for releases.
var version = "development"

func (c *versionCmd) Run(a *app) error {
	_, err := fmt.Fprintf(a.out, "capstan %s\n", version)
	return err
}

func yamlOf(v any) ([]byte, error) { return yaml.Marshal(v) }
