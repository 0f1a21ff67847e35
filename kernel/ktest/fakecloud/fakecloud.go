// Package fakecloud imitates the metadata servers of clouds, for tests.
//
// Spec: the EC2 Instance Metadata Service versions 1 and 2; GCE's metadata server v1.
// Who may use it: tests. Start reading at EC2.
package fakecloud

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
)

// Instance is what a server tells.
type Instance struct {
	ID, Hostname, UserData string
	Keys                   []string // lines of authorized_keys
}

// EC2 is the Instance Metadata Service. With v2 set it wants a token, and counts in
// tokens how many it gave.
func EC2(i Instance, v2 bool, tokens *atomic.Int32) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		if !v2 || r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		tokens.Add(1)
		fmt.Fprint(w, "secret==")
	})
	item := func(path, text string) {
		if strings.HasSuffix(path, "/") {
			path += "{$}"
		}
		m.HandleFunc("GET /latest/"+path, func(w http.ResponseWriter, r *http.Request) {
			if v2 && r.Header.Get("X-aws-ec2-metadata-token") != "secret==" {
				http.Error(w, "unauthorized", http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, text)
		})
	}
	item("meta-data/", "ami-id\ninstance-id\nlocal-hostname\npublic-keys/")
	item("meta-data/instance-id", i.ID+"\n")
	item("meta-data/local-hostname", i.Hostname)
	list := "nonsense\n"
	for n, k := range i.Keys {
		list += fmt.Sprintf("%d=key%d\n", n, n)
		item(fmt.Sprintf("meta-data/public-keys/%d/openssh-key", n), k+"\n")
	}
	item("meta-data/public-keys/", list)
	item("user-data", i.UserData)
	return m
}

// GCE is Google's metadata server. The first key is the instance's, the others are the
// project's. Without flavor it does not say whose it is.
func GCE(i Instance, flavor bool) http.Handler {
	m := http.NewServeMux()
	item := func(path, text string) {
		m.HandleFunc("GET /computeMetadata/v1/"+path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Metadata-Flavor") != "Google" {
				http.Error(w, "missing flavor", http.StatusForbidden)
				return
			}
			if flavor {
				w.Header().Set("Metadata-Flavor", "Google")
			}
			fmt.Fprint(w, text)
		})
	}
	item("instance/id", i.ID)
	item("instance/hostname", i.Hostname)
	own, project := "", ""
	for n, k := range i.Keys {
		if n == 0 {
			own = "ann:" + k + "\n"
		} else {
			project += "bob:" + k + "\n"
		}
	}
	item("instance/attributes/{$}", fmt.Sprintf(`{"ssh-keys":%q,"user-data":%q,"number":3}`, own, i.UserData))
	item("project/attributes/ssh-keys", project)
	return m
}
