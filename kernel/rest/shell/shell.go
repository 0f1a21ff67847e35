// Package shell is a small command shell over what a guest tells of itself: files,
// processes, network, memory, traces. It is what one gets by logging in.
//
// The commands are named as on other systems and take the commonest of their options;
// there are no pipes, redirections, variables or scripts. Spec: none; the values are
// those of the REST API. Who may use it: kernel/rest/sshd, anything that has a
// terminal. It starts no program but through machine.Apps.
//
// Start reading at Shell.Run, then commands.go.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"osv/kernel/rest/machine"
	"osv/kernel/rest/words"
)

// Shell is one user's session. Its fields are set before Run.
type Shell struct {
	Machine *machine.Machine
	Out     io.Writer // what commands print
	Err     io.Writer // what went wrong
	// Width is the terminal's in columns, 0 where there is none.
	Width func() int
	// End brings the machine down, once the session has its answer.
	End func(machine.Action) error

	cwd string // as io/fs has it; "" is the root
}

// Exit statuses.
const (
	OK       = 0
	Failed   = 1
	Usage    = 2
	NotFound = 127
)

// ErrExit is what Run returns where the user has had enough.
var ErrExit = errors.New("exit")

// errUsage is a command line that its command does not understand.
type errUsage struct{ text string }

func (e errUsage) Error() string { return e.text }

// command is one command of the shell.
type command struct {
	args string // for help
	help string
	run  func(ctx context.Context, s *Shell, args []string) error
}

// Names lists the commands, for completion and help.
func Names() []string {
	out := make([]string, 0, len(commands))
	for n := range commands {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Dir is the working directory, absolute.
func (s *Shell) Dir() string { return "/" + s.cwd }

// Run runs a line: commands with ";" between, until one fails. It returns the exit
// status of the last, and ErrExit after exit.
func (s *Shell) Run(ctx context.Context, line string) (status int, err error) {
	cmds, err := split(line)
	if err != nil {
		fmt.Fprintln(s.Err, err)
		return Usage, nil
	}
	for _, args := range cmds {
		if len(args) == 0 {
			continue
		}
		c, ok := commands[args[0]]
		if !ok {
			fmt.Fprintf(s.Err, "%s: no such command (help lists them)\n", args[0])
			return NotFound, nil
		}
		switch err := c.run(ctx, s, args[1:]); {
		case errors.Is(err, ErrExit):
			return OK, ErrExit
		case err != nil:
			var u errUsage
			if errors.As(err, &u) {
				fmt.Fprintf(s.Err, "%s: %s\nusage: %s %s\n", args[0], u.text, args[0], c.args)
				return Usage, nil
			}
			if ctx.Err() != nil {
				return 128 + int(syscall.SIGINT), nil
			}
			fmt.Fprintf(s.Err, "%s: %s\n", args[0], text(err))
			return Failed, nil
		}
	}
	return OK, nil
}

// text is an error without the names that io/fs puts around it twice.
func text(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return strings.ReplaceAll(err.Error(), p.Op+" ", "")
	}
	return err.Error()
}

// syntax is a POSIX shell's without what a shell has pipes, files and jobs for.
var syntax = words.Syntax{Blank: " \t\r", End: ";\n", Refuse: "|><&", Comment: true}

// split takes a line apart.
func split(line string) ([][]string, error) {
	cmds, err := syntax.Split(line)
	var r words.Refused
	if errors.As(err, &r) {
		err = fmt.Errorf("%q: there are no pipes, redirections and background here", rune(r))
	}
	return cmds, err
}

// name makes what the user wrote a name of machine.Files: relative to the working
// directory, "." for the root; ".." cannot lead out.
func (s *Shell) name(p string) string {
	if !strings.HasPrefix(p, "/") {
		p = s.cwd + "/" + p
	}
	return machine.NameOf(p)
}

func (s *Shell) files() (machine.Files, error) {
	if s.Machine.Files == nil {
		return nil, errors.New("this guest has no files")
	}
	return s.Machine.Files, nil
}

// flags takes single-letter options off args; letters that take a value have a colon
// after them. "--" ends options.
func flags(args []string, known string) (map[byte]string, []string, error) {
	got := map[byte]string{}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		a := args[0]
		args = args[1:]
		if a == "--" {
			break
		}
		for i := 1; i < len(a); i++ {
			at := strings.IndexByte(known, a[i])
			if at < 0 || a[i] == ':' {
				return nil, nil, errUsage{fmt.Sprintf("unknown option -%c", a[i])}
			}
			if at+1 >= len(known) || known[at+1] != ':' {
				got[a[i]] = ""
				continue
			}
			v := a[i+1:]
			if v == "" {
				if len(args) == 0 {
					return nil, nil, errUsage{fmt.Sprintf("option -%c needs a value", a[i])}
				}
				v, args = args[0], args[1:]
			}
			got[a[i]] = v
			break
		}
	}
	return got, args, nil
}

// want checks the number of arguments; most < 0 is any.
func want(args []string, least, most int) error {
	switch {
	case len(args) < least:
		return errUsage{"too few arguments"}
	case most >= 0 && len(args) > most:
		return errUsage{"too many arguments"}
	}
	return nil
}
