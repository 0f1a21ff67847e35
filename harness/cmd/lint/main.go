// Command lint runs the project's own checks (harness/lint).
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"osv/harness/lint"
)

type cli struct {
	Check   string `arg:"" optional:"" default:"all" help:"Which check: ${checks}, or all."`
	Verbose bool   `short:"v" help:"Also say what was looked at."`
}

func main() {
	var names []string
	for _, c := range lint.Checks {
		names = append(names, c.Name)
	}
	var c cli
	kong.Parse(&c, kong.Name("lint"), kong.Description("Check what go vet cannot know."),
		kong.Vars{"checks": strings.Join(names, ", ")})
	ok, err := run(c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lint:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(c cli) (bool, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return false, fmt.Errorf("go env GOMOD: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return false, fmt.Errorf("run it inside the module")
	}
	return lint.Run(filepath.Dir(mod), c.Check, os.Stdout, c.Verbose)
}
