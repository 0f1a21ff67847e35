package rest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Options is what an operator says about the server. Start from Defaults.
type Options struct {
	Addr     string // "host:port"; "" = no server was asked for
	Token    string // what changes and private reads need; "" = nobody may
	TLS      TLSOptions
	ReadOnly bool     // nothing can be changed
	Open     bool     // no token is needed
	Hosts    []string // further names by which clients call this server
	Origins  []string // pages of other servers that may call it
	Root     string   // folder that /file shows, of a hosted server

	MaxUpload      int64 // bytes; 0 = an eighth of the memory, 64 MiB at most
	Rate           int   // requests a second of one client; 0 = no limit
	ChangeRate     int   // of those that change something or are private
	MaxConns       int   // connections
	MaxClientConns int   // of one client
}

// TLSOptions is --rest-tls and --rest-cacert. The zero value is no TLS.
type TLSOptions struct {
	Self      bool   // a certificate that the server makes
	Cert, Key string // names of PEM files
	CA        string // of the authority of client certificates
}

// DefaultPort is OSv's.
const DefaultPort = "8000"

// Defaults returns the options of a server that nothing was said about.
func Defaults() Options {
	return Options{Rate: 10000, ChangeRate: 100, MaxConns: 256, MaxClientConns: 128}
}

// Prefix is what all options of the command line begin with.
const Prefix = "--rest"

// Usage describes the options, for --help.
const Usage = `  --rest[=ADDRESS]          answer the REST API there; :8000 without an address;
                            off: do not
  --rest-token=TOKEN        what changes, files, environment and profiles need, as
                            Authorization: Bearer TOKEN; without, they are refused
  --rest-open               they need nothing
  --rest-readonly           nothing can be changed
  --rest-tls[=CERT,KEY]     TLS, with a certificate made at boot or from PEM files
  --rest-cacert=FILE        authority of client certificates, which stand for the token
  --rest-host=NAME          further name of this host in clients' URLs; may repeat
  --rest-access-allow=URL   page of another server that may call; may repeat
  --rest-root=DIRECTORY     what /file shows, of a hosted server
  --rest-max-upload=BYTES   largest upload; K, M and G are understood
  --rest-rate=N             requests a second of one client, 0: any; 10000 without
  --rest-conns=N            connections at most; 256 without
`

// Set takes one word of the command line. known is false where it is not an option
// of this server.
func (o *Options) Set(word string) (known bool, err error) {
	name, value, has := strings.Cut(word, "=")
	bad := func(why string) (bool, error) { return true, fmt.Errorf("option %s: %q: %s", name, value, why) }
	flag := map[string]*bool{"--rest-open": &o.Open, "--rest-readonly": &o.ReadOnly}[name]
	if flag != nil {
		if has {
			return true, fmt.Errorf("option %s takes no value, has %q", name, value)
		}
		*flag = true
		return true, nil
	}
	switch name {
	case "--rest":
		return true, o.setAddr(name, value, has)
	case "--rest-tls":
		return true, o.setTLS(value, has)
	case "--rest-token", "--rest-cacert", "--rest-host", "--rest-access-allow", "--rest-root", "--rest-max-upload", "--rest-rate", "--rest-conns":
	default:
		return false, nil
	}
	if value == "" {
		return true, fmt.Errorf("option %s needs a value (%s=…)", name, name)
	}
	switch name {
	case "--rest-token":
		if len(value) < minToken {
			return true, fmt.Errorf("option %s: the token has %d characters, want at least %d", name, len(value), minToken)
		}
		o.Token = value
	case "--rest-cacert":
		o.TLS.CA = value
	case "--rest-host":
		o.Hosts = append(o.Hosts, strings.Split(value, ",")...)
	case "--rest-access-allow":
		for origin := range strings.SplitSeq(value, ",") {
			if u, err := url.Parse(origin); err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" {
				return bad("want SCHEME://HOST[:PORT]")
			}
			o.Origins = append(o.Origins, origin)
		}
	case "--rest-root":
		o.Root = value
	case "--rest-max-upload":
		n, err := parseBytes(value)
		if err != nil {
			return bad("want a number of bytes")
		}
		o.MaxUpload = n
	case "--rest-rate":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 1e9 {
			return bad("want requests a second")
		}
		o.Rate = n
		if n == 0 {
			o.ChangeRate = 0
		}
	case "--rest-conns":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 1e5 {
			return bad("want a number of connections, 1 to 100000")
		}
		o.MaxConns, o.MaxClientConns = n, max(1, n/2)
	}
	return true, nil
}

// minToken is the shortest token in characters: the limit of wrong tokens lets a
// client try some eighty thousand a day.
const minToken = 8

func (o *Options) setAddr(name, value string, has bool) error {
	switch {
	case !has:
		o.Addr = ":" + DefaultPort
		return nil
	case value == "off":
		o.Addr = ""
		return nil
	}
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		host, port = value, DefaultPort
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || value == "" || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return fmt.Errorf("option %s: %q: want [ADDRESS]:PORT, or off", name, value)
	}
	o.Addr = net.JoinHostPort(host, port)
	return nil
}

func (o *Options) setTLS(value string, has bool) error {
	if !has || value == "self" {
		o.TLS.Self, o.TLS.Cert, o.TLS.Key = true, "", ""
		return nil
	}
	f := strings.Split(value, ",")
	if len(f) < 2 || len(f) > 3 || f[0] == "" || f[1] == "" {
		return fmt.Errorf("option --rest-tls: %q: want CERT,KEY or CERT,KEY,CACERT", value)
	}
	o.TLS.Self, o.TLS.Cert, o.TLS.Key = false, f[0], f[1]
	if len(f) == 3 {
		o.TLS.CA = f[2]
	}
	return nil
}

// parseBytes reads a number of bytes with K, M or G.
func parseBytes(s string) (int64, error) {
	shift := 0
	if i := strings.IndexByte("KMG", s[len(s)-1]); i >= 0 {
		shift, s = 10*(i+1), s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > 1<<40>>shift {
		return 0, errors.New("out of range")
	}
	return n << shift, nil
}

// SetKey takes one key of OSv's httpserver.conf, or of the httpserver section of
// cloud-init's user data: ipaddress, port, ssl, cert, key, cacert, access-allow.
func (o *Options) SetKey(key, value string) error {
	switch key {
	case "ipaddress", "port":
		host, port := "0.0.0.0", DefaultPort
		if o.Addr != "" {
			host, port, _ = net.SplitHostPort(o.Addr)
		}
		if key == "port" {
			port = value
		} else {
			host = value
		}
		return o.setAddr(key, net.JoinHostPort(host, port), true)
	case "ssl":
		on, ok := parseBool(value)
		if value == "" {
			on, ok = true, true
		}
		if !ok {
			return fmt.Errorf("key ssl: %q: want true or false", value)
		}
		o.TLS.Self = on && o.TLS.Cert == ""
		if !on {
			o.TLS = TLSOptions{}
		}
	case "cert":
		o.TLS.Cert, o.TLS.Self = value, false
	case "key":
		o.TLS.Key = value
	case "cacert":
		o.TLS.CA = value
	case "access-allow":
		_, err := o.Set("--rest-access-allow=" + value)
		return err
	case "token":
		_, err := o.Set("--rest-token=" + value)
		return err
	default:
		return fmt.Errorf("key %s is not known", key)
	}
	return nil
}

// Redact hides the values of secrets in a command line.
func Redact(line string) string { return secrets.ReplaceAllString(line, "${1}***") }

var secrets = regexp.MustCompile(`(--[a-z-]*(?:token|password|secret)=)\S+`)
