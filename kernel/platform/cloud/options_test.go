package cloud

import (
	"reflect"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	o := options{ssh: sshPort}
	for _, w := range []string{"--ssh=:2222", "--ssh-key=ssh-ed25519,AAAA,ann", "--ssh-key=ssh-rsa,BBBB", "--cloud-init=http://10.0.0.1:80"} {
		if known, err := o.set(w); !known || err != nil {
			t.Errorf("%s: %v %v", w, known, err)
		}
	}
	if want := (options{":2222", []string{"ssh-ed25519 AAAA ann", "ssh-rsa BBBB"}, modeForce, "http://10.0.0.1:80"}); !reflect.DeepEqual(o, want) {
		t.Errorf("%+v", o)
	}
	for w, want := range map[string]options{"--ssh": {ssh: sshPort}, "--ssh=off": {}, "--cloud-init": {ssh: "x", mode: modeForce}, "--cloud-init=off": {ssh: "x", mode: modeOff}} {
		o := options{ssh: "x"}
		if known, err := o.set(w); !known || err != nil || !reflect.DeepEqual(o, want) {
			t.Errorf("%s: %v %v %+v", w, known, err, o)
		}
	}
	for w, want := range map[string]string{"--ssh=22": "want ADDRESS:PORT", "--ssh-key=abc": "want TYPE,KEY", "--cloud-init=ftp://x": "want off or http"} {
		if known, err := o.set(w); !known || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v", w, known, err)
		}
	}
	if known, _ := o.set("--sshx"); known {
		t.Error("--sshx is known")
	}
}
