package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	"osv/kernel/rest/machine"
)

func TestParseCloudConfig(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte("packed"))
	w.Close()
	c, err := Parse([]byte(`#cloud-config
hostname: cache
fqdn: cache.example.org
ssh_authorized_keys:
  - ` + keyOne + `
users:
  - default
  - name: ann
    ssh_authorized_keys: [` + keyTwo + `]
write_files:
  - path: /etc/a
    content: plain
    permissions: '0600'
  - path: /etc/b
    encoding: b64
    content: ` + base64.StdEncoding.EncodeToString([]byte("bytes")) + `
    append: true
  - path: /etc/c
    encoding: gz+base64
    content: ` + base64.StdEncoding.EncodeToString(z.Bytes()) + `
mounts:
  - [blk1, /data, ext4, ro]
  - [blk2, /more]
runcmd:
  - echo one  two
  - [echo, "a b"]
packages: [vim]
package_update: true
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{Hostname: "cache", Keys: []string{keyOne, keyTwo},
		Files:    []File{{Path: "/etc/a", Content: []byte("plain"), Mode: 0o600}, {Path: "/etc/b", Content: []byte("bytes"), Mode: 0o644, Append: true}, {Path: "/etc/c", Content: []byte("packed"), Mode: 0o644}},
		Mounts:   []Mount{{"blk1", "/data", "ext4", "ro"}, {"blk2", "/more", "", ""}},
		Commands: [][]string{{"echo", "one", "two"}, {"echo", "a b"}},
		Warnings: []string{`user data: line 27: key "packages" is not supported`}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v", c)
	}
}

func TestParseOSv(t *testing.T) {
	c, err := Parse([]byte(`
hostname: db
files:
  /etc/hosts: |
    127.0.0.1 localhost
run:
  - GET: /os/version
  - POST: /trace/status
    enabled: true
include:
  - load-from-cloud
  - load-from-cloud:
      ignore-missing-source: true
  - file: /etc/more.yaml
  - remote: {server: 10.0.0.1, path: init.yaml, port: 8080}
httpserver:
  port: 8001
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{Hostname: "db", Files: []File{{Path: "/etc/hosts", Content: []byte("127.0.0.1 localhost\n"), Mode: 0o644}},
		Server:   map[string]string{"port": "8001"},
		Includes: []Include{{Cloud: true}, {Cloud: true, IgnoreMissing: true}, {File: "/etc/more.yaml"}, {Server: "10.0.0.1", Path: "init.yaml", Port: 8080}},
		Calls:    []Call{{"GET", "/os/version", map[string]string{}}, {"POST", "/trace/status", map[string]string{"enabled": "true"}}}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v", c)
	}
}

// Packed data and MIME messages are unpacked; parts of other kinds are warnings.
func TestParseParts(t *testing.T) {
	msg := "Content-Type: multipart/mixed; boundary=\"B\"\nMIME-Version: 1.0\n\n" +
		"--B\nContent-Type: text/cloud-config\n\nhostname: one\n" +
		"\n--B\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho hi\n" +
		"\n--B\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte("hostname: two\n")) +
		"\n--B\nContent-Type: application/octet-stream\n\nabc\n--B--\n"
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte(msg))
	w.Close()
	for _, data := range [][]byte{[]byte(msg), z.Bytes()} {
		c, err := Parse(data)
		if err != nil || c.Hostname != "two" || len(c.Warnings) != 2 || !strings.Contains(c.Warnings[0], "#!/bin/sh") || !strings.Contains(c.Warnings[1], "octet-stream") {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

func TestParseNothing(t *testing.T) {
	for _, s := range []string{"", "\n\n", "#cloud-config\n", "#cloud-config", "# only a comment\n"} {
		if c, err := Parse([]byte(s)); err != nil || !reflect.DeepEqual(c, &Config{}) {
			t.Errorf("%q: %+v, %v", s, c, err)
		}
	}
	for _, s := range []string{"#!/bin/sh\nreboot\n", "#include\nhttp://x/\n", "hello world", "- a\n- b\n", "## template: jinja\n#cloud-config\n"} {
		if c, err := Parse([]byte(s)); err != nil || len(c.Warnings) != 1 {
			t.Errorf("%q: %+v, %v", s, c, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	w.Write(make([]byte, MaxUserData+1))
	w.Close()
	nested := []byte("hostname: x\n")
	for range maxNesting + 1 {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(nested)
		w.Close()
		nested = z.Bytes()
	}
	for in, want := range map[string]string{
		"#cloud-config\n- a\n":           "line 2: not a map",
		"#cloud-config\nhostname: [a]\n": "line 2: hostname:",
		"#cloud-config\na: [":            "user data: yaml",
		"#cloud-config\nwrite_files:\n- {path: /a, encoding: rot13}\n":             `/a: encoding "rot13"`,
		"#cloud-config\nwrite_files:\n- {path: /a, permissions: '9'}\n":            `/a: strconv`,
		"#cloud-config\nwrite_files:\n- {content: x}\n":                            "a file without a path",
		"#cloud-config\nwrite_files:\n- {path: /a, encoding: b64, content: '*'}\n": "/a: illegal base64",
		"#cloud-config\nmounts: [[a]]\n":                                           "want source, target",
		"#cloud-config\nruncmd: x\n":                                               "want a list of commands",
		"#cloud-config\nusers: x\n":                                                "want a list of users",
		"#cloud-config\nssh_authorized_keys: {a: b}\n":                             "want a list of keys",
		"run:\n- path: /x\n":                                                       "without GET",
		"run:\n- {GET: /a, PUT: /b}\n":                                             "in one call",
		"include:\n- tomorrow\n":                                                   `"tomorrow": want`,
		"include:\n- remote: {server: a}\n":                                        "want server and path",
		"include:\n- remote: {server: a, path: b, port: 70000}\n":                  "port 70000",
		"include:\n- other: 1\n":                                                   "want load-from-cloud",
		"include: x\n":                                                             "want a list",
		"files: [a]\n":                                                             "want a map",
		"httpserver: [a]\n":                                                        "httpserver:",
		bomb.String():                                                              "more than 1048576 bytes unpacked",
		string(nested):                                                             "packed more than 3 times",
		"\x1f\x8b\x08junk":                                                         "gzip",
		"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nx":                    "MIME",
		"Content-Type: ;\n\nx":                                                     "MIME",
	} {
		if c, err := Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %+v, %v; want %q", in, c, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("#cloud-config\nhostname: a\nwrite_files:\n- {path: /a, content: x}\n"))
	f.Add([]byte("run:\n- GET: /os/version\ninclude:\n- load-from-cloud\n"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=B\n\n--B\n\nhostname: a\n--B--\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		if len(c.Files) > maxFiles || len(c.Keys) > maxKeys || len(c.Warnings) > 100 {
			t.Fatalf("%d files, %d keys, %d warnings", len(c.Files), len(c.Keys), len(c.Warnings))
		}
		for _, f := range c.Files {
			if n := machine.NameOf(f.Path); n == ".." || strings.HasPrefix(n, "../") || strings.HasPrefix(n, "/") {
				t.Fatalf("%q leads out as %q", f.Path, n)
			}
		}
	})
}
