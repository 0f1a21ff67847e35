package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Config is what user data asks for, in the order in which Apply does it.
type Config struct {
	Hostname string
	Keys     []string
	Files    []File
	Mounts   []Mount
	Server   map[string]string // httpserver: options of the REST server
	Includes []Include
	Calls    []Call     // run
	Commands [][]string // bootcmd, then runcmd
	Warnings []string   // what was not understood or is not supported
}

// File is a file to be written.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
	Append  bool
}

// Mount is an entry of fstab's form.
type Mount struct{ Source, Target, Type, Options string }

// Include names more configuration: a file of the guest, a document of a server, or
// the cloud's.
type Include struct {
	File          string
	Server        string // host
	Port          int
	Path          string
	Cloud         bool
	IgnoreMissing bool
}

// Call is one request to the REST API.
type Call struct {
	Method, Path string
	Params       map[string]string
}

// Limits of a configuration.
const (
	maxFiles    = 1024
	maxParts    = 64
	maxNesting  = 3 // of packed and multipart data
	maxCommands = 1024
)

// Parse understands user data: cloud-config, OSv's YAML, both packed by gzip or as
// parts of a MIME message. Data of another kind (scripts) is a warning. An error
// means that it claims to be one of these and is not.
func Parse(data []byte) (*Config, error) {
	var c Config
	if err := c.parse(data, "", 0); err != nil {
		return nil, err
	}
	return &c, nil
}

func (c *Config) warn(format string, args ...any) {
	if len(c.Warnings) < 100 {
		c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
	}
}

func (c *Config) parse(data []byte, kind string, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("user data: packed more than %d times", maxNesting)
	}
	if len(data) > 2 && data[0] == 0x1f && data[1] == 0x8b {
		plain, err := unpack(data)
		if err != nil {
			return fmt.Errorf("user data: gzip: %w", err)
		}
		return c.parse(plain, kind, depth+1)
	}
	first, _, _ := bytes.Cut(bytes.TrimLeft(data, " \t\r\n"), []byte("\n"))
	line := strings.TrimSpace(string(first))
	switch {
	case line == "":
		return nil
	case kind == "text/cloud-config" || line == "#cloud-config":
		return c.yaml(data, true)
	case strings.HasPrefix(strings.ToLower(line), "content-type:") || strings.HasPrefix(strings.ToLower(line), "mime-version:"):
		return c.mime(data, depth)
	case strings.HasPrefix(line, "#!"):
		c.warn("user data: a script (%s) is not run: there is no shell", line)
		return nil
	case strings.HasPrefix(line, "#include") || strings.HasPrefix(line, "#part-handler") || strings.HasPrefix(line, "#cloud-boothook") || strings.HasPrefix(line, "## template:"):
		c.warn("user data: %s is not supported", line)
		return nil
	case kind != "" && kind != "text/plain" && kind != "text/x-yaml" && kind != "application/yaml":
		c.warn("user data: a part of type %s is not supported", kind)
		return nil
	}
	return c.yaml(data, false)
}

func unpack(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(z, MaxUserData+1))
	if err == nil && len(plain) > MaxUserData {
		err = fmt.Errorf("more than %d bytes unpacked", MaxUserData)
	}
	return plain, err
}

func (c *Config) mime(data []byte, depth int) error {
	msg, err := mail.ReadMessage(bytes.NewReader(bytes.TrimLeft(data, " \t\r\n")))
	if err != nil {
		return fmt.Errorf("user data: MIME: %w", err)
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("user data: MIME: %w", err)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		body, err := decode(msg.Header.Get("Content-Transfer-Encoding"), msg.Body)
		if err != nil {
			return fmt.Errorf("user data: MIME: %w", err)
		}
		return c.parse(body, kind, depth+1)
	}
	r := multipart.NewReader(msg.Body, params["boundary"])
	for n := 0; ; n++ {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return nil
		}
		if err == nil && n == maxParts {
			err = fmt.Errorf("more than %d parts", maxParts)
		}
		if err != nil {
			return fmt.Errorf("user data: MIME part %d: %w", n+1, err)
		}
		body, err := decode(p.Header.Get("Content-Transfer-Encoding"), p)
		if err != nil {
			return fmt.Errorf("user data: MIME part %d: %w", n+1, err)
		}
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			kind = ""
		}
		if err := c.parse(body, kind, depth+1); err != nil {
			return fmt.Errorf("MIME part %d: %w", n+1, err)
		}
	}
}

func decode(encoding string, r io.Reader) ([]byte, error) {
	switch e := strings.ToLower(strings.TrimSpace(encoding)); e {
	case "", "7bit", "8bit", "binary":
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	default:
		return nil, fmt.Errorf("transfer encoding %q", e)
	}
	return io.ReadAll(io.LimitReader(r, MaxUserData))
}

// yaml reads both dialects: their keys do not clash. Later documents and parts add to
// earlier ones; of single values the last wins.
func (c *Config) yaml(data []byte, cloud bool) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("user data: %w", err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		if !cloud { // free text is not meant for us
			c.warn("user data: neither cloud-config nor a map of OSv's keys; left alone")
			return nil
		}
		return fmt.Errorf("user data: line %d: not a map", top.Line)
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, v := top.Content[i].Value, top.Content[i+1]
		read, ok := keys[key]
		if !ok {
			c.warn("user data: line %d: key %q is not supported", top.Content[i].Line, key)
			continue
		}
		if v.Tag == "!!null" {
			continue
		}
		if err := read(c, v); err != nil {
			return fmt.Errorf("user data: line %d: %s: %w", v.Line, key, err)
		}
	}
	return nil
}

// keys are the top keys of both dialects.
var keys = map[string]func(*Config, *yaml.Node) error{
	"hostname": func(c *Config, n *yaml.Node) error { return n.Decode(&c.Hostname) },
	"fqdn": func(c *Config, n *yaml.Node) error {
		if c.Hostname != "" {
			return nil // cloud-init's preference is the other way; the short name is what OSv shows
		}
		return n.Decode(&c.Hostname)
	},
	"ssh_authorized_keys": func(c *Config, n *yaml.Node) error {
		if n.Kind != yaml.SequenceNode && n.Kind != yaml.ScalarNode {
			return errors.New("want a list of keys")
		}
		c.Keys = scalars(n, c.Keys)
		return nil
	},
	"users":       (*Config).users,
	"write_files": (*Config).writeFiles,
	"files":       (*Config).osvFiles,
	"mounts":      (*Config).mounts,
	"httpserver":  (*Config).server,
	"include":     (*Config).include,
	"run":         (*Config).run,
	"bootcmd":     (*Config).commands,
	"runcmd":      (*Config).commands,
	// Understood, and of no effect in a guest with one user and no packages.
	"package_update": ignored, "package_upgrade": ignored, "manage_etc_hosts": ignored, "preserve_hostname": ignored,
	"ssh_pwauth": ignored, "disable_root": ignored, "password": ignored, "chpasswd": ignored, "final_message": ignored, "locale": ignored,
}

func ignored(*Config, *yaml.Node) error { return nil }

// users: the keys of every user are taken, since there is only one account.
func (c *Config) users(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return errors.New("want a list of users")
	}
	for _, u := range n.Content {
		if u.Kind != yaml.MappingNode { // "default"
			continue
		}
		var one struct {
			Keys  yaml.Node `yaml:"ssh_authorized_keys"`
			Keys2 yaml.Node `yaml:"ssh-authorized-keys"`
		}
		if err := u.Decode(&one); err != nil {
			return err
		}
		c.Keys = scalars(&one.Keys2, scalars(&one.Keys, c.Keys))
	}
	return nil
}

func (c *Config) addFile(f File) error {
	if f.Path == "" {
		return errors.New("a file without a path")
	}
	if len(c.Files) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	c.Files = append(c.Files, f)
	return nil
}

func (c *Config) writeFiles(n *yaml.Node) error {
	var list []struct {
		Path        string `yaml:"path"`
		Content     string `yaml:"content"`
		Encoding    string `yaml:"encoding"`
		Permissions string `yaml:"permissions"`
		Append      bool   `yaml:"append"`
	}
	if err := n.Decode(&list); err != nil {
		return err
	}
	for _, w := range list {
		f := File{Path: w.Path, Content: []byte(w.Content), Mode: 0o644, Append: w.Append}
		var err error
		switch strings.ToLower(w.Encoding) {
		case "", "text/plain":
		case "b64", "base64":
			f.Content, err = unbase64(w.Content)
		case "gz", "gzip":
			f.Content, err = unpack([]byte(w.Content))
		case "gz+b64", "gz+base64", "gzip+b64", "gzip+base64":
			if f.Content, err = unbase64(w.Content); err == nil {
				f.Content, err = unpack(f.Content)
			}
		default:
			err = fmt.Errorf("encoding %q", w.Encoding)
		}
		if err == nil && w.Permissions != "" {
			var m uint64
			if m, err = strconv.ParseUint(strings.TrimPrefix(w.Permissions, "0o"), 8, 12); err == nil {
				f.Mode = fs.FileMode(m) & fs.ModePerm
			}
		}
		if err == nil {
			err = c.addFile(f)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.Path, err)
		}
	}
	return nil
}

func unbase64(s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
}

// osvFiles is OSv's map of paths to contents.
func (c *Config) osvFiles(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return errors.New("want a map of paths to contents")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		var text string
		if err := n.Content[i+1].Decode(&text); err != nil {
			return err
		}
		if err := c.addFile(File{Path: n.Content[i].Value, Content: []byte(text), Mode: 0o644}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) mounts(n *yaml.Node) error {
	var list [][]string
	if err := n.Decode(&list); err != nil {
		return err
	}
	for _, m := range list {
		if len(m) < 2 {
			return fmt.Errorf("%q: want source, target, type, options", m)
		}
		m = append(m, "", "")
		c.Mounts = append(c.Mounts, Mount{Source: m[0], Target: m[1], Type: m[2], Options: m[3]})
	}
	return nil
}

func (c *Config) server(n *yaml.Node) error {
	m := map[string]string{}
	if err := n.Decode(&m); err != nil {
		return err
	}
	c.Server = m
	return nil
}

func (c *Config) include(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return errors.New("want a list")
	}
	for _, e := range n.Content {
		if e.Kind == yaml.ScalarNode {
			if e.Value != "load-from-cloud" {
				return fmt.Errorf("%q: want load-from-cloud, file or remote", e.Value)
			}
			c.Includes = append(c.Includes, Include{Cloud: true})
			continue
		}
		var one struct {
			File   string `yaml:"file"`
			Remote *struct {
				Server string `yaml:"server"`
				Path   string `yaml:"path"`
				Port   int    `yaml:"port"`
			} `yaml:"remote"`
			Cloud *struct {
				Ignore bool `yaml:"ignore-missing-source"`
			} `yaml:"load-from-cloud"`
		}
		if err := e.Decode(&one); err != nil {
			return err
		}
		switch {
		case one.File != "":
			c.Includes = append(c.Includes, Include{File: one.File})
		case one.Remote != nil:
			r := one.Remote
			if r.Server == "" || r.Path == "" {
				return errors.New("remote: want server and path")
			}
			if r.Port < 0 || r.Port > 65535 {
				return fmt.Errorf("remote: port %d", r.Port)
			}
			c.Includes = append(c.Includes, Include{Server: r.Server, Path: r.Path, Port: r.Port})
		case one.Cloud != nil:
			c.Includes = append(c.Includes, Include{Cloud: true, IgnoreMissing: one.Cloud.Ignore})
		default:
			return errors.New("want load-from-cloud, file or remote")
		}
	}
	return nil
}

// run is OSv's list of calls: one key is the method, its value the path; the others
// are parameters.
func (c *Config) run(n *yaml.Node) error {
	var list []map[string]string
	if err := n.Decode(&list); err != nil {
		return err
	}
	for _, m := range list {
		call := Call{Params: map[string]string{}}
		for k, v := range m {
			switch k {
			case http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete:
				if call.Method != "" {
					return fmt.Errorf("%s and %s in one call", call.Method, k)
				}
				call.Method, call.Path = k, v
			default:
				call.Params[k] = v
			}
		}
		if call.Method == "" {
			return errors.New("a call without GET, PUT, POST or DELETE")
		}
		if len(c.Calls) == maxCommands {
			return fmt.Errorf("more than %d calls", maxCommands)
		}
		c.Calls = append(c.Calls, call)
	}
	return nil
}

// commands are lists of words, or lines that are split at spaces.
func (c *Config) commands(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return errors.New("want a list of commands")
	}
	for _, e := range n.Content {
		var words []string
		if e.Kind == yaml.ScalarNode {
			words = strings.Fields(e.Value)
		} else if err := e.Decode(&words); err != nil {
			return err
		}
		if len(words) == 0 {
			continue
		}
		if len(c.Commands) == maxCommands {
			return fmt.Errorf("more than %d commands", maxCommands)
		}
		c.Commands = append(c.Commands, words)
	}
	return nil
}
