package vm

import (
	"strings"
	"testing"
)

// Whatever is typed for a card, a disk or cores: no panic, and what is accepted
// makes a line in which nothing was smuggled past a comma.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{"user,fwd=tcp::80-:80,restrict", "tap=t0,vhost,queues=2", "dgram=/a:/b,off", "vhost-user=@x,nomsix", "d.img,bus=nvme,eio=read_aio@8", "0,1/2", ",,,=", "tap=,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseNIC(s); err == nil {
			if argv := n.argv(0, Spec{}.withDefaults()); len(argv) < 4 || argv[0] != "-netdev" && argv[0] != "-chardev" {
				t.Errorf("%q: %q", s, argv)
			}
			if n.Kind == NetTAP && strings.ContainsAny(n.IfName, ",") {
				t.Errorf("%q: interface %q", s, n.IfName)
			}
		}
		if d, err := ParseDisk(s); err == nil {
			if argv := d.argv(0, Spec{}.withDefaults()); len(argv) < 4 {
				t.Errorf("%q: %q", s, argv)
			}
		}
		if p, err := ParsePin(s); err == nil {
			for _, c := range append(p.VCPU, p.Rest...) {
				if c < 0 {
					t.Errorf("%q: core %d", s, c)
				}
			}
		}
	})
}
