package oracle

import "regexp"

// What depends on the second a request arrives in, or on how an implementation
// stores things, with what takes its place.
var normal = []struct {
	re *regexp.Regexp
	to string
}{
	// Seconds to live and since the last access.
	{regexp.MustCompile(`(?m)^((?:VA|HD|EN|EX|NF|NS)(?: [^\r\n]*)?) t(\d+)`), "$1 t#"},
	{regexp.MustCompile(`(?m)^((?:VA|HD) [^\r\n]*| ?(?:VA|HD)) l\d+`), "$1 l#"},
	{regexp.MustCompile(`(?m)^(ME [^\r\n]*) la=\d+`), "$1 la=#"},
	{regexp.MustCompile(`(?m)^(ME [^\r\n]*) exp=(?:-?\d{2,}|[02-9])`), "$1 exp=#"},
}

// Normalize takes out of a reply what is known to differ.
func Normalize(b []byte) []byte {
	for _, n := range normal {
		b = n.re.ReplaceAll(b, []byte(n.to))
	}
	return b
}
