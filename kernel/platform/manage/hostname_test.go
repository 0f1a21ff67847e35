package manage

import (
	"errors"
	"testing"
)

func TestHostname(t *testing.T) {
	var offers, told []string
	h := &hostname{offers: func() []string { return offers }, tell: func(n string) error { told = append(told, n); return errors.New("no network") }}
	for _, c := range []struct {
		offers []string
		want   string
	}{
		{nil, "osv"},
		{[]string{""}, "osv"},
		{[]string{"", "two.example"}, "two"},
		{[]string{"-evil", "a b", ".", "\x00", "one", "two"}, "one"},
	} {
		offers = c.offers
		if got := h.get(); got != c.want {
			t.Errorf("offered %q: %q, want %q", c.offers, got, c.want)
		}
	}
	h.set("db-1.example")
	if got := h.get(); got != "db-1.example" || len(told) != 1 || told[0] != got {
		t.Errorf("the name is %q, told %q", got, told)
	}
}

func TestHostnameOption(t *testing.T) {
	defer func() { givenName = "" }()
	if known, err := setName("--hostname=db-1"); !known || err != nil || givenName != "db-1" {
		t.Errorf("%v %v %q", known, err, givenName)
	}
	for _, w := range []string{"--hostname", "--hostname=", "--hostname=a_b"} {
		if known, err := setName(w); !known || err == nil {
			t.Errorf("%s: %v %v", w, known, err)
		}
	}
	if known, _ := setName("--host=x"); known {
		t.Error("--host is known")
	}
}
