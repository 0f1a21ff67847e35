package cloudinit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"osv/kernel/rest/machine"
)

// Target is the guest that is configured. A nil field is something that it cannot do:
// what asks for it is named in the error and left out.
type Target struct {
	Machine *machine.Machine
	// API serves the calls of run, as one who may do anything.
	API http.Handler
	// Keys takes further lines of authorized_keys.
	Keys func(lines []string)
	// Server takes options of httpserver.
	Server func(options map[string]string) error
	// Mount mounts a disk.
	Mount func(Mount) error
	// Client reads remote includes, Search is for load-from-cloud.
	Client *http.Client
	Search func(ctx context.Context) (*Data, error)
}

// Apply brings what a source says into effect: hostname and keys of the metadata,
// then the user data, whose hostname wins. It goes on after errors and returns them
// all; warnings are logged.
func Apply(ctx context.Context, d *Data, t Target) error {
	a := applier{Target: t, seen: map[string]bool{}}
	return a.data(ctx, d)
}

// ApplyConfig is Apply for user data that came another way.
func ApplyConfig(ctx context.Context, c *Config, t Target) error {
	a := applier{Target: t, seen: map[string]bool{}}
	return a.config(ctx, c)
}

type applier struct {
	Target
	seen map[string]bool // includes, so that none is taken twice and none is a circle
}

func (a *applier) data(ctx context.Context, d *Data) error {
	var why error
	if d.Hostname != "" {
		why = a.hostname(d.Hostname)
	}
	c, err := Parse(d.UserData)
	if err == nil {
		// Before keys: with the first one there is a server, whose own key may be on a disk.
		why = errors.Join(why, a.mounts(c.Mounts))
		c.Mounts = nil
	}
	if len(d.Keys) > 0 {
		why = errors.Join(why, a.keys(d.Keys))
	}
	if err != nil {
		return errors.Join(why, err)
	}
	return errors.Join(why, a.config(ctx, c))
}

func (a *applier) mounts(list []Mount) error {
	var why []error
	for _, m := range list {
		err := error(errCannot)
		if a.Mount != nil {
			err = a.Mount(m)
		}
		if err != nil {
			why = append(why, fmt.Errorf("mounts: %s on %s: %w", m.Source, m.Target, err))
		}
	}
	return errors.Join(why...)
}

func (a *applier) config(ctx context.Context, c *Config) error {
	var why []error
	do := func(what string, err error) {
		if err != nil {
			why = append(why, fmt.Errorf("%s: %w", what, err))
		}
	}
	for _, w := range c.Warnings {
		log.Warnf("%s", w)
	}
	for _, i := range c.Includes {
		do("include", a.include(ctx, i))
	}
	if c.Hostname != "" {
		do("hostname", a.hostname(c.Hostname))
	}
	if err := a.mounts(c.Mounts); err != nil {
		why = append(why, err)
	}
	if len(c.Keys) > 0 {
		do("keys", a.keys(c.Keys))
	}
	for _, f := range c.Files {
		do("files", a.file(f))
	}
	if len(c.Server) > 0 {
		if a.Server == nil {
			do("httpserver", errCannot)
		} else {
			do("httpserver", a.Server(c.Server))
		}
	}
	for _, call := range c.Calls {
		do("run", a.call(ctx, call))
	}
	for _, words := range c.Commands {
		do("runcmd", a.command(ctx, words))
	}
	return errors.Join(why...)
}

var errCannot = errors.New("this guest cannot do that")

// hostname sets the first label: a name of a guest, not its domain.
func (a *applier) hostname(name string) error {
	name, _, _ = strings.Cut(strings.TrimSpace(name), ".")
	if !validHost(name) {
		return fmt.Errorf("%q is no host name", name)
	}
	return a.Machine.System.SetHostname(name)
}

// validHost is a label of RFC 1123 §2.1.
func validHost(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

func (a *applier) keys(lines []string) error {
	if a.Keys == nil {
		return errCannot
	}
	a.Keys(lines)
	return nil
}

func (a *applier) file(f File) (err error) {
	files := a.Machine.Files
	if files == nil {
		return fmt.Errorf("%s: %w", f.Path, errCannot)
	}
	name := machine.NameOf(f.Path)
	if err := machine.MkParents(files, name, 0o755); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	w, err := files.Create(name, f.Mode, f.Append)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	_, err = w.Write(f.Content)
	if err = errors.Join(err, w.Close()); err == nil {
		err = files.Chmod(name, f.Mode)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}

func (a *applier) include(ctx context.Context, i Include) error {
	mark := fmt.Sprintf("%s %s:%d%s", i.File, i.Server, i.Port, i.Path)
	if i.Cloud {
		mark = "cloud"
	}
	if a.seen[mark] {
		return nil
	}
	a.seen[mark] = true
	var text []byte
	var err error
	switch {
	case i.Cloud:
		if a.Search == nil {
			return fmt.Errorf("load-from-cloud: %w", errCannot)
		}
		d, err := a.Search(ctx)
		if errors.Is(err, ErrNone) && i.IgnoreMissing {
			return nil
		}
		if err != nil {
			return fmt.Errorf("load-from-cloud: %w", err)
		}
		return a.data(ctx, d)
	case i.File != "":
		text, err = a.read(i.File)
	default:
		text, err = a.fetch(ctx, i)
	}
	if err != nil {
		return err
	}
	c, err := Parse(text)
	if err != nil {
		return err
	}
	return a.config(ctx, c)
}

func (a *applier) read(name string) ([]byte, error) {
	if a.Machine.Files == nil {
		return nil, fmt.Errorf("%s: %w", name, errCannot)
	}
	f, err := a.Machine.Files.Open(machine.NameOf(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxUserData+1))
	if err == nil && len(b) > MaxUserData {
		err = fmt.Errorf("more than %d bytes", MaxUserData)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

func (a *applier) fetch(ctx context.Context, i Include) ([]byte, error) {
	host := i.Server
	if i.Port != 0 {
		host = net.JoinHostPort(i.Server, strconv.Itoa(i.Port))
	}
	u := (&url.URL{Scheme: "http", Host: host, Path: "/" + strings.TrimPrefix(i.Path, "/")}).String()
	if a.Client == nil {
		return nil, fmt.Errorf("%s: %w", u, errCannot)
	}
	ctx, cancel := context.WithTimeout(ctx, FetchTime)
	defer cancel()
	s, _, err := get(ctx, a.Client, http.MethodGet, u, nil, MaxUserData)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u, err)
	}
	return []byte(s), nil
}

// openAPI is the pseudo call that starts the server in OSv's cloud-init; here
// platform has started it, or the operator does not want it.
const openAPI = "/open-rest-api"

// call serves a request to the API without a connection.
func (a *applier) call(ctx context.Context, c Call) error {
	if c.Path == "" || c.Path == openAPI {
		return nil
	}
	if a.API == nil {
		return fmt.Errorf("%s %s: %w", c.Method, c.Path, errCannot)
	}
	u, err := url.Parse(c.Path)
	if err != nil || !strings.HasPrefix(u.Path, "/") {
		return fmt.Errorf("%s %q: not a path of the API", c.Method, c.Path)
	}
	q := u.Query()
	for k, v := range c.Params {
		q.Set(k, v)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, c.Method, u.String(), nil)
	if err != nil {
		return err
	}
	w := &answer{header: http.Header{}, status: http.StatusOK}
	a.API.ServeHTTP(w, req)
	if w.status/100 != 2 {
		return fmt.Errorf("%s %s: %d %s", c.Method, c.Path, w.status, strings.TrimSpace(w.body.String()))
	}
	return nil
}

// answer keeps a reply's status and the start of its body.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *answer) Header() http.Header { return w.header }
func (w *answer) WriteHeader(s int)   { w.status = s }
func (w *answer) Write(p []byte) (int, error) {
	if room := 1024 - w.body.Len(); room > 0 {
		w.body.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (a *applier) command(ctx context.Context, words []string) error {
	line := strings.Join(words, " ")
	if a.Machine.Apps == nil {
		return fmt.Errorf("%s: %w", line, errCannot)
	}
	if _, err := a.Machine.Apps.Run(ctx, line); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}
