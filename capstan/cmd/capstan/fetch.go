package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"osv/capstan/build"
	"osv/capstan/remote"
	"osv/capstan/repo"
	"osv/capstan/sign"
)

type pullCmd struct {
	Image    []string `arg:"" help:"Images." placeholder:"IMAGE"`
	Platform []string `short:"p" help:"What to fetch of a tree of files: for qemu, vbox, vmw, gce, firecracker, by format name, or all. A registry's images come whole." default:"qemu" placeholder:"FORMAT"`
	Unsigned bool     `name:"insecure-unsigned" help:"Take images that are not signed, or by a key that is not trusted."`
}

func (c *pullCmd) Run(a *app) error {
	formats, err := fetchFormats(c.Platform)
	if err != nil {
		return usage{err}
	}
	s, err := a.store()
	if err != nil {
		return err
	}
	for _, name := range c.Image {
		ref, err := repo.ParseRef(name)
		if err != nil {
			return usage{err}
		}
		if _, err := a.pull(s, ref, formats, c.Unsigned); err != nil {
			return err
		}
	}
	return nil
}

// fetchFormats are the formats to fetch for platforms; none is all. QEMU's disk comes
// with the kernel, from which run makes every other format.
func fetchFormats(platforms []string) ([]string, error) {
	var out []string
	for _, p := range platforms {
		switch p {
		case "all":
			return nil, nil
		case "qemu":
			out = append(out, "qcow2", "elf")
		default:
			f, err := formatsOf([]string{p})
			if err != nil {
				return nil, err
			}
			out = append(out, f...)
		}
	}
	return out, nil
}

// repository opens the one asked for; an image's own name may hold a registry.
func (a *app) repository(ref repo.Ref) (remote.Repository, repo.Ref, error) {
	address, there := a.url(), ref
	if own, rest := remote.Registry(ref); own != "" && a.cli.URL == "" {
		address, there = own, rest
	}
	if address == "" {
		return nil, ref, fmt.Errorf("no repository; %s", a.howToGet(ref))
	}
	r, err := remote.Open(address, remote.Options{Offline: a.cli.Offline})
	if errors.Is(err, remote.ErrOffline) {
		err = fmt.Errorf("%w; %s", err, a.howToGet(ref))
	}
	return r, there, err
}

func (a *app) pull(s *repo.Store, ref repo.Ref, formats []string, unsigned bool) (repo.Image, error) {
	r, there, err := a.repository(ref)
	if err != nil {
		return repo.Image{}, err
	}
	p := newProgress(a.err)
	img, err := remote.Pull(a.ctx, named{r, there}, s, ref, remote.PullOptions{
		Trust: sign.Trust{Dir: a.paths.trust()}, Unsigned: unsigned, Formats: formats, Progress: p.show,
	})
	p.end()
	if err != nil {
		return img, err
	}
	by := "not signed"
	if img.Signer != "" {
		by = "signed with key " + img.Signer
	}
	a.say("pulled %s: %s, %s, %s", img.Ref, build.Bytes(img.Size), strings.Join(img.Formats(), " "), by)
	return img, nil
}

// fetchToRun gets an image that is not in the store.
func (a *app) fetchToRun(s *repo.Store, ref repo.Ref, format string) (repo.Image, error) {
	formats := []string{format}
	if format == "qcow2" {
		formats = append(formats, "elf")
	}
	return a.pull(s, ref, formats, a.cli.Run.Unsigned)
}

type pushCmd struct {
	Image []string `arg:"" help:"Images." placeholder:"IMAGE"`
	Key   string   `short:"k" help:"Sign with this secret key (its password: CAPSTAN_KEY_PASSWORD)." type:"existingfile" placeholder:"FILE"`
}

func (c *pushCmd) Run(a *app) error {
	signer, err := signerOf(c.Key)
	if err != nil {
		return err
	}
	for _, name := range c.Image {
		s, img, err := a.image(name)
		if err != nil {
			return err
		}
		r, there, err := a.repository(img.Ref)
		if err != nil {
			return err
		}
		local := img.Ref
		img.Ref = there
		p := newProgress(a.err)
		err = r.Push(a.ctx, s, img, signer, p.show)
		p.end()
		if err != nil {
			return err
		}
		by := "not signed (--key FILE signs)"
		if signer != nil {
			by = "signed with key " + signer.ID()
		}
		a.say("pushed %s: %s, %s", local, build.Bytes(img.Size), by)
	}
	return nil
}

func signerOf(key string) (*sign.Signer, error) {
	if key == "" {
		return nil, nil
	}
	return sign.Open(key, func() (string, error) {
		if p := os.Getenv("CAPSTAN_KEY_PASSWORD"); p != "" {
			return p, nil
		}
		return "", fmt.Errorf("%s has a password: set CAPSTAN_KEY_PASSWORD", key)
	})
}

type searchCmd struct {
	Text string `arg:"" optional:"" help:"Part of a name; all if empty."`
	JSON bool   `name:"json" help:"As JSON."`
}

func (c *searchCmd) Run(a *app) error {
	if a.url() == "" {
		return errors.New("no repository to search: set repo_url in " + a.paths.config() + ", CAPSTAN_REPO_URL or -u")
	}
	r, err := remote.Open(a.url(), remote.Options{Offline: a.cli.Offline})
	if err != nil {
		return err
	}
	all, err := r.List(a.ctx)
	if err != nil {
		return err
	}
	list := []remote.Entry{}
	for _, e := range all {
		if strings.Contains(e.Name, c.Text) {
			list = append(list, e)
		}
	}
	if c.JSON {
		return a.json(list)
	}
	return a.table("NAME\tSIZE\tFORMATS\tABOUT", len(list), func(n int) string {
		e := list[n]
		size := "-"
		if e.Bytes > 0 {
			size = build.Bytes(e.Bytes)
		}
		return strings.Join([]string{e.Name, size, dash(strings.Join(e.Formats, " ")), e.About}, "\t")
	})
}

type signCmd struct {
	Dir string `arg:"" type:"existingdir" help:"Folder with index.json and images, as make images leaves it."`
	Key string `short:"k" required:"" help:"Secret key (its password: CAPSTAN_KEY_PASSWORD)." type:"existingfile" placeholder:"FILE"`
}

func (c *signCmd) Run(a *app) error {
	signer, err := signerOf(c.Key)
	if err != nil {
		return err
	}
	if err := remote.SignTree(c.Dir, signer); err != nil {
		return err
	}
	a.say("signed %s with key %s", c.Dir, signer.ID())
	return nil
}

type trustCmd struct {
	List   trustListCmd   `cmd:"" help:"List the keys that images may be signed with."`
	Add    trustAddCmd    `cmd:"" help:"Trust a key."`
	Remove trustRemoveCmd `cmd:"" help:"Trust a key no more."`
	Keygen trustKeygenCmd `cmd:"" help:"Make a pair of keys: NAME.key, to keep secret, and NAME.pub."`
}

type trustListCmd struct {
	JSON bool `name:"json" help:"As JSON."`
}

func (a *app) trust() sign.Trust { return sign.Trust{Dir: a.paths.trust()} }

func (c *trustListCmd) Run(a *app) error {
	keys, err := a.trust().Keys()
	if err != nil {
		return err
	}
	if c.JSON {
		if keys == nil {
			keys = []sign.Key{}
		}
		return a.json(keys)
	}
	return a.table("ID\tNAME", len(keys), func(n int) string { return keys[n].ID + "\t" + keys[n].Name })
}

type trustAddCmd struct {
	File string `arg:"" type:"existingfile" help:"minisign public key."`
	Name string `help:"Its name; the file's if empty."`
}

func (c *trustAddCmd) Run(a *app) error {
	k, err := a.trust().Add(c.File, c.Name)
	if err == nil {
		a.say("trusted: %s %s", k.ID, k.Name)
	}
	return err
}

type trustRemoveCmd struct {
	Key string `arg:"" help:"Name or id."`
}

func (c *trustRemoveCmd) Run(a *app) error { return a.trust().Remove(c.Key) }

type trustKeygenCmd struct {
	Name string `arg:"" help:"Where: NAME.key and NAME.pub. CAPSTAN_KEY_PASSWORD, if set, locks the secret key."`
}

func (c *trustKeygenCmd) Run(a *app) error {
	id, err := sign.Generate(c.Name, os.Getenv("CAPSTAN_KEY_PASSWORD"))
	if err == nil {
		a.say("wrote %s.key and %s.pub: key %s", c.Name, c.Name, id)
	}
	return err
}

// progress draws one line on a terminal, and nothing elsewhere.
type progress struct {
	w    io.Writer // nil = no terminal
	last time.Time
	used bool
}

func newProgress(w io.Writer) *progress {
	if f, ok := w.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			return &progress{w: w}
		}
	}
	return &progress{}
}

func (p *progress) show(what string, done, total int64) {
	if p.w == nil || done < total && time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.used = time.Now(), true
	fmt.Fprintf(p.w, "\r\x1b[K%s: %s of %s", what, build.Bytes(done), build.Bytes(total))
}

func (p *progress) end() {
	if p.used {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
