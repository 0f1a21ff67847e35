package rootfs

import "strings"

// CommandLine is the kernel's command line for the program of s: options, then those
// of the description, then the program.
func (s Spec) CommandLine(options string) string {
	words := make([]string, len(s.Run))
	for i, w := range s.Run {
		words[i] = word(w)
	}
	return strings.Join(strings.Fields(options+" "+s.Append), " ") + " -- " + strings.Join(words, " ")
}

// word quotes for the kernel's command line, which takes double quotes and has no way
// to write one.
func word(w string) string {
	if w != "" && !strings.ContainsAny(w, " \t\"") {
		return w
	}
	return `"` + w + `"`
}
