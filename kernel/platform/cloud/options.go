package cloud

import (
	"fmt"
	"net/url"
	"strings"

	"osv/kernel/platform"
)

// options are what the command line says.
type options struct {
	ssh  string   // address to listen at; "" = not
	keys []string // lines of authorized_keys
	mode mode
	base string // of the metadata server, with modeForce
}

type mode uint8

const (
	modeAuto  mode = iota // NoCloud disks, and the servers of the cloud that the firmware names
	modeOff               // nothing is looked for
	modeForce             // all sources
)

// sshPort is RFC 4251's.
const sshPort = ":22"

const usage = `  --ssh[=ADDRESS]           let owners of keys log in there; :22 without an address;
                            off: nobody
  --ssh-key=TYPE,KEY[,NAME] a public key that may log in; may repeat
  --cloud-init[=off|URL]    ask all sources of metadata, whatever the firmware says,
                            or the server there; off: none. Without the option:
                            disks labelled cidata, and EC2's or GCE's server on
                            machines that are theirs
`

var given = options{ssh: sshPort}

func init() { platform.Extend(platform.Extension{Usage: usage, Set: given.set}) }

// set takes one word of the command line.
func (o *options) set(word string) (known bool, err error) {
	name, value, has := strings.Cut(word, "=")
	switch name {
	case "--ssh":
		switch {
		case !has:
			o.ssh = sshPort
		case value == "off":
			o.ssh = ""
		case !strings.Contains(value, ":"):
			return true, fmt.Errorf("option %s: %q: want ADDRESS:PORT, :PORT or off", name, value)
		default:
			o.ssh = value
		}
	case "--ssh-key":
		f := strings.SplitN(value, ",", 3)
		if len(f) < 2 || f[0] == "" || f[1] == "" {
			return true, fmt.Errorf("option %s: %q: want TYPE,KEY as in a .pub file, with commas for spaces", name, value)
		}
		o.keys = append(o.keys, strings.Join(f, " "))
	case "--cloud-init":
		switch {
		case value == "off":
			o.mode = modeOff
		case !has:
			o.mode = modeForce
		default:
			u, err := url.Parse(value)
			if err != nil || u.Scheme != "http" || u.Host == "" {
				return true, fmt.Errorf("option %s: %q: want off or http://HOST[:PORT]", name, value)
			}
			o.mode, o.base = modeForce, value
		}
	default:
		return false, nil
	}
	return true, nil
}
