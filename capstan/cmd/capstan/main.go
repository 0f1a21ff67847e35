// Command capstan builds, fetches and runs OSv images:
//
//	capstan build ./appliances/memcached     link a Go program with the kernel, make an image
//	capstan run memcached                    run it, with its ports on loopback
//	capstan pull -u oci://registry/osv memcached
//
// Exit status: 0 done, 1 failed, 2 wrong usage, 3 not there (an image or an instance).
//
// One file a group of verbs; what they do is in the packages beside cmd.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"osv/capstan/hypervisor"
	"osv/capstan/instance"
	"osv/capstan/remote"
	"osv/capstan/repo"
)

// Exit statuses.
const (
	statusFailed   = 1
	statusUsage    = 2
	statusNotThere = 3
)

const about = `Build, fetch and run OSv images.

Images are kept in an OCI image layout under the user's cache folder, the configuration
and the trusted keys under the configuration folder, or all under $CAPSTAN_ROOT.`

type cli struct {
	URL     string `short:"u" help:"Repository: oci://REGISTRY/PATH, oci+http://…, http(s)://…, or a folder (CAPSTAN_REPO_URL, repo_url)." placeholder:"URL"`
	Offline bool   `help:"Never use the network (CAPSTAN_OFFLINE=1)."`

	Build     buildCmd     `cmd:"" help:"Make an image of a Go program, or on the kernel of another image."`
	Run       runCmd       `cmd:"" help:"Run an image."`
	Images    imagesCmd    `cmd:"" aliases:"i" help:"List the images in the store."`
	Instances instancesCmd `cmd:"" aliases:"I" help:"List the instances."`
	Exec      execCmd      `cmd:"" help:"Start a program in a guest, by its API."`
	Logs      logsCmd      `cmd:"" help:"Print what a guest has logged."`
	Ps        psCmd        `cmd:"" help:"List the threads of a guest."`
	Top       topCmd       `cmd:"" help:"Show processors, memory, net channels and threads of a guest."`
	Stop      stopCmd      `cmd:"" help:"Stop instances."`
	Delete    deleteCmd    `cmd:"" help:"Delete stopped instances with their disks."`
	Pull      pullCmd      `cmd:"" help:"Fetch images from the repository, checked before use."`
	Push      pushCmd      `cmd:"" help:"Put images into the repository: a registry or a folder."`
	Search    searchCmd    `cmd:"" help:"List the images in the repository."`
	Rmi       rmiCmd       `cmd:"" help:"Remove images from the store."`
	Info      infoCmd      `cmd:"" help:"Show what is known of an image."`
	Import    importCmd    `cmd:"" help:"Put an image file into the store: a kernel ELF, QCOW2 or raw disk."`
	Save      saveCmd      `cmd:"" help:"Write images into an archive, to carry them elsewhere."`
	Load      loadCmd      `cmd:"" help:"Read images from an archive made by save."`
	Compose   composeCmd   `cmd:"" help:"Make an image of a Go program and a folder of files, without a Capstanfile."`
	Package   packageCmd   `cmd:"" help:"Begin a project."`
	Volume    volumeCmd    `cmd:"" help:"Make and delete disks for --volume."`
	Trust     trustCmd     `cmd:"" help:"Keys that images may be signed with."`
	Sign      signCmd      `cmd:"" help:"Sign the index of a folder of images."`
	Config    configCmd    `cmd:"" help:"Show the configuration."`
	Version   versionCmd   `cmd:"" help:"Print the version."`

	Completion completionCmd `cmd:"" help:"Print a completion script for a shell."`
}

// app is what commands work with.
type app struct {
	ctx      context.Context
	in       io.Reader
	out, err io.Writer
	cli      *cli
	model    *kong.Application
	paths    paths
	config   config
	host     *hypervisor.Host
}

func (a *app) store() (*repo.Store, error) { return repo.Open(a.paths.store()) }

func (a *app) instances() *instance.Manager {
	return &instance.Manager{Dir: a.paths.instances(), Host: a.host}
}

func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

// usage is an error of the command line.
type usage struct{ error }

func usagef(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, hypervisor.Local())
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, in io.Reader, stdout, stderr io.Writer, host *hypervisor.Host) int {
	a := &app{ctx: ctx, in: in, out: stdout, err: stderr, host: host, cli: &cli{}}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	asked, code := false, 0
	p, err := kong.New(a.cli, kong.Name("capstan"), kong.Description(about), kong.Writers(stdout, stderr),
		kong.WithHyphenPrefixedParameters(true), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Exit(func(c int) { asked, code = true, c }))
	if err != nil {
		return a.fail(err)
	}
	a.model = p.Model
	k, err := p.Parse(args)
	if asked { // kong went on after --help
		return code
	}
	if err != nil {
		return a.fail(usage{err})
	}
	if a.paths, err = findPaths(); err != nil {
		return a.fail(err)
	}
	if a.config, err = readConfig(a.paths.config()); err != nil {
		return a.fail(err)
	}
	if v := os.Getenv("CAPSTAN_OFFLINE"); v != "" && v != "0" {
		a.cli.Offline = true
	}
	if err := k.Run(a); err != nil {
		return a.fail(err)
	}
	return 0
}

func (a *app) fail(err error) int {
	var u usage
	var noImage *repo.NotFound
	var noInstance *instance.NotFound
	var guest *hypervisor.GuestStatus
	switch {
	case errors.As(err, &guest): // its console has said so
		return guest.Status
	case errors.As(err, &u):
		fmt.Fprintf(a.err, "capstan: %v (capstan --help)\n", err)
		return statusUsage
	case errors.As(err, &noImage), errors.As(err, &noInstance), errors.Is(err, remote.ErrNotFound):
		fmt.Fprintf(a.err, "capstan: %v\n", err)
		return statusNotThere
	}
	fmt.Fprintf(a.err, "capstan: %v\n", err)
	return statusFailed
}
