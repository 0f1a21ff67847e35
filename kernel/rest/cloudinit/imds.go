package cloudinit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// errNotFound is a metadata item that is not there, which is no failure of the
// server.
var errNotFound = errors.New("not found")

// get reads url with at most limit bytes. Redirects are not followed: a metadata
// server has no reason to send one elsewhere.
func get(ctx context.Context, c *http.Client, method, url string, header map[string]string, limit int64) (string, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	direct := *c
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := direct.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return "", resp.Header, errNotFound
	case resp.StatusCode != http.StatusOK:
		return "", resp.Header, fmt.Errorf("%s %s: %s", method, req.URL.Path, resp.Status)
	case err != nil:
		return "", resp.Header, fmt.Errorf("%s %s: %w", method, req.URL.Path, err)
	case int64(len(b)) > limit:
		return "", resp.Header, fmt.Errorf("%s %s: more than %d bytes", method, req.URL.Path, limit)
	}
	return string(b), resp.Header, nil
}

// optional makes a missing item an empty one.
func optional(s string, err error) (string, error) {
	if errors.Is(err, errNotFound) {
		return "", nil
	}
	return s, err
}

// EC2 is the Instance Metadata Service, version 2: each request carries a token.
// Servers that know no tokens (version 1, and the clouds that imitate it) are read
// without.
type EC2 struct {
	Client *http.Client
	Base   string

	token string
}

// Name is "EC2".
func (e *EC2) Name() string { return "EC2" }

// How long a token is to be valid, in seconds.
const tokenSeconds = 300

// Probe gets a token and the list of metadata.
func (e *EC2) Probe(ctx context.Context) error {
	token, _, err := get(ctx, e.Client, http.MethodPut, e.Base+"/latest/api/token",
		map[string]string{"X-aws-ec2-metadata-token-ttl-seconds": strconv.Itoa(tokenSeconds)}, 1024)
	if err == nil {
		e.token = strings.TrimSpace(token)
	}
	list, err := e.meta(ctx, "")
	if err == nil && !strings.Contains(list, "instance-id") {
		err = errors.New("the list of metadata has no instance-id")
	}
	return err
}

func (e *EC2) get(ctx context.Context, path string, limit int64) (string, error) {
	h := map[string]string{}
	if e.token != "" {
		h["X-aws-ec2-metadata-token"] = e.token
	}
	s, _, err := get(ctx, e.Client, http.MethodGet, e.Base+"/latest/"+path, h, limit)
	return s, err
}

func (e *EC2) meta(ctx context.Context, item string) (string, error) {
	return e.get(ctx, "meta-data/"+item, maxMetaData)
}

// Fetch reads identity, keys and user data.
func (e *EC2) Fetch(ctx context.Context) (*Data, error) {
	var d Data
	id, err := e.meta(ctx, "instance-id")
	if err != nil {
		return nil, err
	}
	d.InstanceID = strings.TrimSpace(id)
	host, err := optional(e.meta(ctx, "local-hostname"))
	if err != nil {
		return nil, err
	}
	d.Hostname = strings.TrimSpace(host)
	list, err := optional(e.meta(ctx, "public-keys/"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(list) { // "0=my-key"
		n, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		if _, err := strconv.ParseUint(n, 10, 16); err != nil || len(d.Keys) >= maxKeys {
			continue
		}
		key, err := optional(e.meta(ctx, "public-keys/"+n+"/openssh-key"))
		if err != nil {
			return nil, err
		}
		d.Keys = append(d.Keys, keyLines(key)...)
	}
	user, err := optional(e.get(ctx, "user-data", MaxUserData))
	if err != nil {
		return nil, err
	}
	d.UserData = []byte(user)
	return &d, nil
}

// GCE is Google's metadata server. It answers only to who says Metadata-Flavor:
// Google, and says so itself: another server at that address is not taken for it.
type GCE struct {
	Client *http.Client
	Base   string
}

// Name is "GCE".
func (g *GCE) Name() string { return "GCE" }

func (g *GCE) get(ctx context.Context, path string, limit int64) (string, error) {
	s, h, err := get(ctx, g.Client, http.MethodGet, g.Base+"/computeMetadata/v1/"+path, map[string]string{"Metadata-Flavor": "Google"}, limit)
	if h != nil && h.Get("Metadata-Flavor") != "Google" && (err == nil || errors.Is(err, errNotFound)) {
		return "", errors.New("the answer lacks Metadata-Flavor: Google")
	}
	return s, err
}

// Probe reads the instance's number.
func (g *GCE) Probe(ctx context.Context) error {
	_, err := g.get(ctx, "instance/id", maxMetaData)
	return err
}

// Fetch reads identity, keys of instance and project, and user data.
func (g *GCE) Fetch(ctx context.Context) (*Data, error) {
	var d Data
	id, err := g.get(ctx, "instance/id", maxMetaData)
	if err != nil {
		return nil, err
	}
	d.InstanceID = strings.TrimSpace(id)
	host, err := optional(g.get(ctx, "instance/hostname", maxMetaData))
	if err != nil {
		return nil, err
	}
	d.Hostname = strings.TrimSpace(host)
	attrs, err := optional(g.get(ctx, "instance/attributes/?recursive=true", MaxUserData+maxMetaData))
	if err != nil {
		return nil, err
	}
	instance := map[string]any{}
	if attrs != "" {
		if err := json.Unmarshal([]byte(attrs), &instance); err != nil {
			return nil, fmt.Errorf("instance attributes: %w", err)
		}
	}
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	d.Keys = append(gceKeys(text(instance, "ssh-keys")), gceKeys(text(instance, "sshKeys"))...)
	if !strings.EqualFold(text(instance, "block-project-ssh-keys"), "true") {
		keys, err := optional(g.get(ctx, "project/attributes/ssh-keys", maxMetaData))
		if err != nil {
			return nil, err
		}
		d.Keys = append(d.Keys, gceKeys(keys)...)
	}
	d.Keys = d.Keys[:min(len(d.Keys), maxKeys)]
	user := text(instance, "user-data")
	if len(user) > MaxUserData {
		return nil, fmt.Errorf("user-data: more than %d bytes", MaxUserData)
	}
	d.UserData = []byte(user)
	return &d, nil
}

// gceKeys are lines "user:ssh-ed25519 AAAA… comment". The user is of no meaning
// here: there is one.
func gceKeys(text string) []string {
	var out []string
	for _, line := range keyLines(text) {
		if user, key, ok := strings.Cut(line, ":"); ok && !strings.ContainsAny(user, " \t") {
			line = strings.TrimSpace(key)
		}
		out = append(out, line)
	}
	return out
}
