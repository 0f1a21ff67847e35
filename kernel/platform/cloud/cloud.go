// Package cloud makes a guest its owner's: it configures it from what its cloud says
// (kernel/rest/cloudinit), and lets the owner log in by key (kernel/rest/sshd). An
// image that does not import it does neither, and has none of its size.
//
// Who may use it: appliances, after manage.Start:
//
//	m, err := manage.Start(sys, …)
//	c, err := cloud.Start(sys, m)
//
// It is part of the composition root: it may import everything and has no logic of its
// own but order. Start reading at Start.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"osv/kernel/platform"
	"osv/kernel/platform/manage"
	"osv/kernel/rest/cloudinit"
	"osv/kernel/rest/sshd"
	"osv/kernel/trace"
)

var log = trace.For("cloud")

// Services are what runs.
type Services struct {
	sys  *platform.System
	m    *manage.Services
	keys sshd.Keys
	// Done is closed once the guest is configured, or is not going to be.
	Done chan struct{}

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	server *sshd.Server // from the first key on; guarded by mu
}

// addressWait is how long metadata servers may wait for the guest's address.
const addressWait = time.Minute

// Start takes the keys of the command line and configures the guest, in the background:
// nothing waits for a cloud that is not there.
func Start(sys *platform.System, m *manage.Services) (*Services, error) {
	c := &Services{sys: sys, m: m, Done: make(chan struct{})}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	if _, err := c.keys.Add(given.keys); err != nil {
		return nil, fmt.Errorf("option --ssh-key: %w", err)
	}
	c.login()
	c.wg.Go(func() {
		defer close(c.Done)
		if given.mode != modeOff {
			c.configure(ctx)
		}
	})
	return c, nil
}

// Close ends both. Sessions end at once.
func (c *Services) Close() {
	c.cancel()
	c.mu.Lock()
	s := c.server
	c.mu.Unlock()
	if s != nil {
		s.Close()
	}
	c.wg.Wait()
}

// configure looks for metadata: on disks first, which need no network.
func (c *Services) configure(ctx context.Context) {
	d, err := c.search(ctx)
	switch {
	case errors.Is(err, cloudinit.ErrNone) || ctx.Err() != nil:
		return
	case err != nil:
		log.Errorf("cloud-init: %v", err)
		return
	}
	t := cloudinit.Target{
		Machine: &c.m.Machine,
		API:     http.HandlerFunc(c.call),
		Keys:    c.addKeys,
		Client:  c.client(),
		Search:  c.search,
	}
	if v := c.m.Volumes; v != nil {
		t.Mount = func(m cloudinit.Mount) error { return v.Mount(m.Source, m.Target, m.Type, m.Options) }
	}
	err = cloudinit.Apply(ctx, d, t)
	if err != nil {
		log.Errorf("cloud-init: %s: %s", d.Source, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	fmt.Printf("osv: %s: instance %s, host %s, %d keys\n", d.Source, d.InstanceID, c.m.Machine.System.Hostname(), c.keys.Len())
}

func (c *Services) search(ctx context.Context) (*cloudinit.Data, error) {
	var disks []cloudinit.Disk
	for _, d := range c.sys.Disks {
		disks = append(disks, d)
	}
	d, err := cloudinit.Search(ctx, cloudinit.Options{Disks: disks, Probe: diskTime})
	clouds := c.clouds()
	if !errors.Is(err, cloudinit.ErrNone) || len(clouds) == 0 {
		return d, err
	}
	if err := c.sys.WaitAddress(addressWait); err != nil {
		return nil, fmt.Errorf("%w (%v)", cloudinit.ErrNone, err)
	}
	return cloudinit.Search(ctx, cloudinit.Options{Client: c.client(), Clouds: clouds, Base: given.base})
}

// diskTime bounds the look at all disks: one that does not answer costs no more.
const diskTime = 5 * time.Second

// clouds are the metadata servers to be asked: of the cloud whose machine this is by
// its firmware's names, since anybody on the network can answer at their address.
func (c *Services) clouds() []string {
	if given.mode == modeForce {
		return []string{"GCE", "EC2"}
	}
	i, err := manage.Firmware()
	if err != nil {
		return nil
	}
	names := strings.ToLower(strings.Join([]string{i.BIOSVendor, i.BIOSVersion, i.Manufacturer, i.Product}, " "))
	switch {
	case strings.Contains(names, "google"):
		return []string{"GCE"}
	case strings.Contains(names, "amazon"):
		return []string{"EC2"}
	}
	return nil
}

// client reaches the guest's network; no proxy stands between it and its metadata.
func (c *Services) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: c.sys.DialContext, DisableKeepAlives: true}}
}

// call serves what user data asks of the API.
func (c *Services) call(w http.ResponseWriter, r *http.Request) {
	if c.m.REST == nil {
		http.Error(w, "the REST server is off", http.StatusServiceUnavailable)
		return
	}
	body := r.Body
	if body == nil {
		body = http.NoBody
	}
	code, answer := c.m.REST.Call(r.Context(), r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), body)
	w.WriteHeader(code)
	w.Write(answer)
}

func (c *Services) addKeys(lines []string) {
	if _, err := c.keys.Add(lines); err != nil {
		log.Warnf("%v", err)
	}
	c.login()
}

// login starts the server with the first key: without one nobody could log in.
func (c *Services) login() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil || given.ssh == "" || c.keys.Len() == 0 {
		return
	}
	if err := c.listen(); err != nil {
		log.Errorf("%v", err)
	}
}

// listen makes the server. Caller holds mu.
func (c *Services) listen() error {
	name := c.m.KeyFile(sshd.HostKeyName)
	if name == "" {
		name = sshd.HostKeyFile
	}
	host, made, err := sshd.HostKey(c.m.Machine.Files, name)
	if err != nil {
		return err
	}
	s, err := sshd.New(sshd.Config{HostKey: host, Keys: &c.keys, Machine: &c.m.Machine,
		Greeting: "OSv in Go. help lists the commands."})
	if err != nil {
		return err
	}
	l, err := c.sys.Listen("tcp", given.ssh)
	if err != nil {
		return fmt.Errorf("option --ssh: %w", err)
	}
	c.server = s
	go serve(s, l)
	word := "kept"
	if made {
		word = "new"
	}
	fmt.Printf("osv: ssh at %s, host key %s (%s)\n", given.ssh, ssh.FingerprintSHA256(host.PublicKey()), word)
	return nil
}

func serve(s *sshd.Server, l net.Listener) {
	if err := s.Serve(l); !errors.Is(err, sshd.ErrClosed) {
		log.Errorf("%v", err)
	}
}
