package rest

import (
	"reflect"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	o := Defaults()
	for w := range strings.FieldsSeq("--rest=10.0.0.2:80 --rest-token=0123456789 --rest-tls=/c.pem,/k.pem,/ca.pem --rest-readonly --rest-open --rest-host=a.example,b.example " +
		"--rest-host=c --rest-access-allow=https://x.example:8443 --rest-root=/data --rest-max-upload=5M --rest-rate=0 --rest-conns=10") {
		if known, err := o.Set(w); !known || err != nil {
			t.Errorf("%s: known %v, %v", w, known, err)
		}
	}
	want := Options{Addr: "10.0.0.2:80", Token: "0123456789", TLS: TLSOptions{Cert: "/c.pem", Key: "/k.pem", CA: "/ca.pem"}, ReadOnly: true, Open: true,
		Hosts: []string{"a.example", "b.example", "c"}, Origins: []string{"https://x.example:8443"}, Root: "/data", MaxUpload: 5 << 20, MaxConns: 10, MaxClientConns: 5}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got\n%+v\nwant\n%+v", o, want)
	}
	for word, addr := range map[string]string{"--rest": ":8000", "--rest=off": "", "--rest=:80": ":80", "--rest=0.0.0.0": "0.0.0.0:8000", "--rest=[::1]:80": "[::1]:80", "--rest=127.0.0.1:0": "127.0.0.1:0"} {
		o := Defaults()
		if _, err := o.Set(word); err != nil || o.Addr != addr {
			t.Errorf("%s: %q, %v, want %q", word, o.Addr, err, addr)
		}
	}
	o = Defaults()
	if o.Set("--rest-tls"); !o.TLS.Self {
		t.Error("--rest-tls alone: no certificate of its own")
	}
	if known, err := o.Set("--verbose"); known || err != nil {
		t.Errorf("--verbose: known %v, %v", known, err)
	}
	if known, _ := o.Set("--rest-unknown=1"); known {
		t.Error("--rest-unknown is known")
	}
	for _, bad := range []string{"--rest=", "--rest=:x", "--rest=:70000", "--rest=a:b:c", "--rest-token=short", "--rest-token=", "--rest-token", "--rest-tls=x", "--rest-tls=,", "--rest-tls=a,b,c,d",
		"--rest-open=1", "--rest-readonly=no", "--rest-access-allow=x", "--rest-access-allow=https://x/path", "--rest-max-upload=x", "--rest-max-upload=-1", "--rest-max-upload=9999999G",
		"--rest-rate=-1", "--rest-rate=x", "--rest-conns=0", "--rest-conns=x", "--rest-host=", "--rest-root=", "--rest-cacert="} {
		o := Defaults()
		if known, err := o.Set(bad); !known || err == nil {
			t.Errorf("%s: known %v, %v", bad, known, err)
		} else if name, _, _ := strings.Cut(bad, "="); !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error does not name it: %v", bad, err)
		}
	}
}

// OSv's own keys, as httpserver.conf and cloud-init have them.
func TestSetKey(t *testing.T) {
	o := Defaults()
	for _, kv := range [][2]string{{"port", "8080"}, {"ipaddress", "10.0.0.1"}, {"ssl", ""}, {"cert", "/etc/pki/server.pem"}, {"key", "/etc/pki/private/server.key"}, {"cacert", "/etc/pki/CA/cacert.pem"},
		{"access-allow", "https://a.example"}, {"token", "0123456789"}} {
		if err := o.SetKey(kv[0], kv[1]); err != nil {
			t.Errorf("%v: %v", kv, err)
		}
	}
	if o.Addr != "10.0.0.1:8080" || o.TLS != (TLSOptions{Cert: "/etc/pki/server.pem", Key: "/etc/pki/private/server.key", CA: "/etc/pki/CA/cacert.pem"}) || len(o.Origins) != 1 || o.Token != "0123456789" {
		t.Errorf("%+v", o)
	}
	if err := o.SetKey("ssl", "no"); err != nil || o.TLS != (TLSOptions{}) {
		t.Errorf("ssl no: %v, %+v", err, o.TLS)
	}
	for _, kv := range [][2]string{{"port", "x"}, {"ssl", "x"}, {"unknown", "1"}, {"access-allow", "x"}, {"token", "x"}} {
		if o.SetKey(kv[0], kv[1]) == nil {
			t.Errorf("%v is taken", kv)
		}
	}
}

func TestRedact(t *testing.T) {
	for line, want := range map[string]string{
		"--rest --rest-token=geheim  --x": "--rest --rest-token=***  --x",
		"--ssh-password=a --rest-token=b": "--ssh-password=*** --rest-token=***",
		"--rest-token=":                   "--rest-token=",
		"plain --env=A=b":                 "plain --env=A=b",
	} {
		if got := Redact(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
