package lint

import "testing"

func TestUnsafeNames(t *testing.T) {
	const uses, plain = "package p\n\nimport \"unsafe\"\n\nvar X = unsafe.Sizeof(0)\n", "package p\n"
	for name, test := range map[string]struct {
		file, text, want string
	}{
		"named":            {"kernel/net/a_unsafe.go", uses, ""},
		"named with arch":  {"kernel/net/a_unsafe_amd64.go", uses, ""},
		"not named":        {"kernel/net/a.go", uses, "kernel/net/a.go:3: imports unsafe"},
		"blank import":     {"kernel/net/a.go", "package p\n\nimport _ \"unsafe\"\n", "imports unsafe"},
		"named in vain":    {"harness/a_unsafe.go", plain, "does not import unsafe"},
		"metal":            {"kernel/metal/a/a.go", uses, ""},
		"test":             {"kernel/net/a_test.go", uses, ""},
		"with a reason":    {"kernel/hw/gate/gate.go", uses, ""},
		"test data":        {"kernel/net/testdata/a.go", uses, ""},
		"only in a string": {"kernel/net/a.go", "package p\n\nvar s = \"unsafe\"\n", ""},
		"does not parse":   {"kernel/net/a.go", "package", "expected"},
	} {
		wantFinding(t, name, UnsafeNames, tree(t, map[string]string{test.file: test.text}), test.want)
	}
}
