package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"osv/capstan/build"
	"osv/capstan/hypervisor"
	"osv/capstan/instance"
	"osv/capstan/remote"
	"osv/capstan/repo"
	"osv/kernel/imagefmt"
)

type runCmd struct {
	Image string `arg:"" optional:"" help:"Image, or the folder of a Go main package, which is built first; without it, the instance of -i is started again." placeholder:"IMAGE"`

	Platform string   `short:"p" help:"Hypervisor: qemu, vbox, vmw, gce, firecracker." placeholder:"NAME"`
	Instance string   `short:"i" help:"Name of the instance; the image's if empty." placeholder:"NAME"`
	Mem      string   `short:"m" help:"Memory (512M); the image's if empty." placeholder:"SIZE"`
	CPUs     int      `short:"c" name:"cpus" help:"vCPUs; the image's if 0."`
	Net      string   `short:"n" help:"Network: nat, bridge, tap or vhost." default:"nat" enum:"nat,bridge,tap,vhost"`
	Bridge   string   `short:"b" help:"Bridge (bridge) or TAP interface (tap, vhost)." placeholder:"DEVICE"`
	Forward  []string `short:"f" help:"Forward a port of the host, on loopback unless an address is given; replaces the image's own forwards. May repeat." sep:"none" placeholder:"[tcp:|udp:][ADDRESS:]HOST:GUEST"`
	NoPorts  bool     `help:"Do not forward the image's ports."`
	Execute  string   `short:"e" help:"The program's arguments, instead of the image's." placeholder:"ARGUMENTS"`
	Boot     string   `help:"The whole kernel command line, instead of the image's." placeholder:"LINE"`
	Env      []string `help:"Environment of the program. May repeat." sep:"none" placeholder:"NAME=VALUE"`
	Volume   []string `help:"Further disk. May repeat." sep:"none" placeholder:"PATH[:format=raw|qcow2][:aio=…][:cache=…]"`
	MAC      string   `name:"mac" help:"MAC address of the network card." placeholder:"ADDRESS"`
	Persist  bool     `help:"Keep the instance and its disk: capstan run -i NAME starts it again."`
	Detach   bool     `short:"d" help:"Leave it in the background; capstan stop ends it."`
	Wait     bool     `help:"qemu, with -d: return when the guest takes connections on its first TCP port, after a minute at the latest."`
	Direct   bool     `help:"qemu: boot the kernel without firmware and disk: the fastest start."`
	NoKVM    bool     `help:"qemu: do not use KVM." name:"no-kvm"`
	Upload   string   `name:"gce-upload-dir" help:"gce: where the image is uploaded." placeholder:"gs://BUCKET/FOLDER"`
	Unsigned bool     `name:"insecure-unsigned" help:"Where the image must be fetched: take it unsigned."`
	Verbose  bool     `short:"v" help:"Print what the kernel finds at boot, and the ports."`
}

var macRE = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$`)

func (c *runCmd) Run(a *app) error {
	if c.Image == "" {
		return c.again(a)
	}
	if c.Platform == "" {
		c.Platform = a.config.Hypervisor
	}
	h, err := hypervisor.Find(c.Platform)
	if err != nil {
		return usage{err}
	}
	if err := c.canWait(h.Name()); err != nil {
		return err
	}
	o, err := c.options(a)
	if err != nil {
		return usage{err}
	}
	s, err := a.store()
	if err != nil {
		return err
	}
	img, err := a.imageToRun(s, c.Image, h.Format())
	if err != nil {
		return err
	}
	if c.Direct && h.Name() != "qemu" {
		return usagef("--direct: only qemu boots a kernel without firmware; %s boots what it is given", h.Name())
	}
	if o.Machine.Name == "" {
		o.Machine.Name = strings.Trim(notInstance.ReplaceAllString(img.Ref.Base(), "-"), "-")
	}
	if err := c.ports(img, h, &o); err != nil {
		return usage{err}
	}
	line, err := c.line(img.Config.CommandLine)
	if err != nil {
		return usage{err}
	}
	if line != img.Config.CommandLine {
		o.CommandLine = &line
	}
	i, err := a.instances().Create(a.ctx, s, img, h, o)
	if err != nil {
		return err
	}
	if o.Machine.Net == hypervisor.NAT && len(o.Machine.Forwards) == 0 && !c.NoPorts && h.Name() == "qemu" {
		a.say("%s: no port leads into the guest (-f HOST:GUEST forwards one)", img.Ref)
	}
	return c.start(a, i)
}

var notInstance = regexp.MustCompile(`[^a-z0-9-]+`)

// options are those that do not depend on the image.
func (c *runCmd) options(a *app) (o instance.Options, err error) {
	o.Persist, o.Direct = c.Persist, c.Direct
	m := &o.Machine
	m.Name, m.CPUs, m.Net, m.Link, m.MAC = c.Instance, c.CPUs, hypervisor.NetKind(c.Net), c.Bridge, c.MAC
	m.UploadDir, m.NoKVM = c.Upload, c.NoKVM || a.config.DisableKVM
	if m.Name != "" {
		if err := instance.CheckName(m.Name); err != nil {
			return o, err
		}
	}
	if c.MAC != "" && !macRE.MatchString(c.MAC) {
		return o, fmt.Errorf("--mac=%s: want six bytes, as 52:54:00:05:76:01", c.MAC)
	}
	if c.CPUs < 0 || c.CPUs > 255 {
		return o, fmt.Errorf("-c %d: want 1 to 255 vCPUs", c.CPUs)
	}
	if c.Mem != "" {
		if m.MemMiB, err = build.ParseMem(c.Mem); err != nil {
			return o, err
		}
	}
	for _, v := range c.Volume {
		vol, err := hypervisor.ParseVolume(v)
		if err != nil {
			return o, err
		}
		if vol.Path, err = filepath.Abs(vol.Path); err != nil {
			return o, err
		}
		if _, err := os.Stat(vol.Path); err != nil {
			return o, fmt.Errorf("volume: %w (capstan volume create makes one)", err)
		}
		m.Volumes = append(m.Volumes, vol)
	}
	for _, f := range c.Forward {
		fwd, err := hypervisor.ParseForward(f)
		if err != nil {
			return o, err
		}
		m.Forwards = append(m.Forwards, fwd)
	}
	return o, nil
}

// ports forwards the image's own ports where none were asked for.
func (c *runCmd) ports(img repo.Image, h hypervisor.Hypervisor, o *instance.Options) error {
	if len(c.Forward) > 0 || c.NoPorts || c.Net != "nat" || (h.Name() != "qemu" && h.Name() != "vbox") {
		return nil
	}
	for _, p := range img.Config.Ports {
		number, proto, _ := strings.Cut(p, "/")
		if proto == "" {
			proto = "tcp"
		}
		n, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("image %s: port %q", img.Ref, p)
		}
		f, err := hypervisor.ParseForward(fmt.Sprintf("%s:%d:%d", proto, n, n))
		if err != nil {
			return err
		}
		o.Machine.Forwards = append(o.Machine.Forwards, f)
	}
	return nil
}

// line is the kernel's command line: options, then "--" and the program's arguments.
func (c *runCmd) line(image string) (string, error) {
	if c.Boot != "" && c.Execute != "" {
		return "", errors.New("--boot and -e: one replaces the whole line, the other its end")
	}
	if c.Boot != "" {
		image = c.Boot
	}
	options, args := splitLine(image)
	if c.Execute != "" {
		args = c.Execute
	}
	if c.Verbose {
		options = append(options, "--verbose")
	}
	for _, e := range c.Env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			return "", fmt.Errorf("--env %q: want NAME=VALUE", e)
		}
		options = append(options, "--env="+quote(e))
	}
	line := strings.Join(options, " ")
	if args != "" {
		line = strings.TrimSpace(line + " -- " + args)
	}
	if len(line) > imagefmt.MaxCommandLine {
		return "", fmt.Errorf("command line of %d bytes: at most %d fit", len(line), imagefmt.MaxCommandLine)
	}
	return line, nil
}

// splitLine parts a command line as the kernel does: words with two dashes, then the
// program's own.
func splitLine(line string) (options []string, args string) {
	for rest := strings.TrimSpace(line); rest != ""; {
		end := wordEnd(rest)
		word := rest[:end]
		if word == "--" {
			return options, strings.TrimSpace(rest[end:])
		}
		if !strings.HasPrefix(word, "--") {
			return options, rest
		}
		options = append(options, word)
		rest = strings.TrimSpace(rest[end:])
	}
	return options, ""
}

// wordEnd is where the first word ends; blanks in quotes are part of it.
func wordEnd(s string) int {
	var q byte
	for i := range len(s) {
		switch c := s[i]; {
		case q != 0:
			if c == q {
				q = 0
			}
		case c == '"' || c == '\'':
			q = c
		case c == ' ' || c == '\t':
			return i
		}
	}
	return len(s)
}

func quote(s string) string {
	if !strings.ContainsAny(s, " \t") {
		return s
	}
	return `"` + s + `"`
}

// again starts an instance that is there.
func (c *runCmd) again(a *app) error {
	if c.Instance == "" {
		return usagef("run: want an image, or an instance by -i")
	}
	i, err := a.instances().Get(a.ctx, c.Instance)
	if err != nil {
		return err
	}
	return c.start(a, i)
}

// answerWait is how long --wait waits.
const answerWait = time.Minute

func (c *runCmd) canWait(hypervisor string) error {
	if c.Wait && (!c.Detach || hypervisor != "qemu") {
		return usagef("--wait: for qemu in the background only (-d)")
	}
	return nil
}

func (c *runCmd) start(a *app, i instance.Instance) error {
	if err := c.canWait(i.Hypervisor); err != nil {
		return err
	}
	m := a.instances()
	fg := &hypervisor.IO{In: a.in, Out: a.out}
	if c.Detach {
		fg = nil
	}
	for _, f := range i.Machine.Forwards {
		if c.Verbose || c.Detach {
			a.say("%s: %s", i.Name, f)
		}
	}
	wait, err := m.Start(a.ctx, i, fg)
	if err != nil {
		if !i.Persist {
			i.State = hypervisor.Stopped
			err = errors.Join(err, m.Delete(a.ctx, i))
		}
		return err
	}
	if wait == nil {
		if c.Wait {
			ctx, cancel := context.WithTimeoutCause(a.ctx, answerWait, fmt.Errorf("not within %v", answerWait))
			defer cancel()
			if err := (hypervisor.QEMU{}).Answers(ctx, i.Machine); err != nil {
				return err
			}
		}
		a.say("%s runs; its console: %s; end it: capstan stop %s", i.Name, filepath.Join(i.Machine.Dir, hypervisor.ConsoleLog), i.Name)
		return nil
	}
	return wait()
}

// imageToRun finds an image: a folder is built, a name looked up in the store, then
// fetched from the repository, then built from this module's appliances.
func (a *app) imageToRun(s *repo.Store, what, format string) (repo.Image, error) {
	if st, err := os.Stat(what); err == nil && st.IsDir() && strings.ContainsAny(what, `/\.`) {
		return a.buildToRun(what, "")
	}
	ref, err := repo.ParseRef(what)
	if err != nil {
		return repo.Image{}, usage{err}
	}
	img, err := s.Get(ref)
	var none *repo.NotFound
	if err == nil || !errors.As(err, &none) {
		return img, err
	}
	if own, _ := remote.Registry(ref); (own != "" || a.url() != "") && !a.cli.Offline {
		return a.fetchToRun(s, ref, format)
	}
	if ref.Digest == "" && ref.Tag == "latest" {
		if dir := filepath.Join("appliances", ref.Base()); ref.Name == ref.Base() && isMain(dir) {
			a.say("%s: not in the store; building ./%s", ref, filepath.ToSlash(dir))
			return a.buildToRun(dir, what)
		}
	}
	return img, fmt.Errorf("%w; %s", err, a.howToGet(ref))
}

func (a *app) buildToRun(dir, tag string) (repo.Image, error) {
	f, err := build.Read(dir)
	if err != nil {
		return repo.Image{}, err
	}
	return a.build(dir, tag, f, []string{"qemu"}, false)
}

// howToGet says what to do where there is no image.
func (a *app) howToGet(ref repo.Ref) string {
	how := "set a repository (repo_url in " + a.paths.config() + ", CAPSTAN_REPO_URL or -u)"
	switch {
	case a.cli.Offline:
		how = "this is offline: fetch it where there is a network (capstan pull " + ref.String() + "), or carry it over (capstan save, capstan load)"
	case a.url() != "":
		how = "fetch it by: capstan pull " + ref.String()
	}
	return how + ", or build it here: capstan build ./appliances/" + ref.Base()
}

// isMain reports whether a folder holds Go files.
func isMain(dir string) bool {
	list, _ := filepath.Glob(filepath.Join(dir, "*.go"))
	return len(list) > 0
}
