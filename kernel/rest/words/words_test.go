package words

import (
	"errors"
	"reflect"
	"testing"
)

func TestSplit(t *testing.T) {
	s := Syntax{Blank: " \t", End: ";", Refuse: "|", Comment: true}
	for line, want := range map[string][][]string{
		"":                    {nil},
		"a  b":                {{"a", "b"}},
		`"a b" 'c;d' e\ f ""`: {{"a b", "c;d", "e f", ""}},
		`a;b '|' # c ; d`:     {{"a"}, {"b", "|"}},
		`a#b; ;c`:             {{"a#b"}, nil, {"c"}},
		`'a\' "b\"c"`:         {{`a\`, `b"c`}},
		"\u00e4\xff":          {{"\u00e4\ufffd"}},
	} {
		if got, err := s.Split(line); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
	for _, line := range []string{`"a`, `'a`, `a\`} {
		if _, err := s.Split(line); !errors.Is(err, ErrOpen) {
			t.Errorf("%q: %v", line, err)
		}
	}
	if _, err := s.Split("a | b"); err != Refused('|') {
		t.Error(err)
	}
}
