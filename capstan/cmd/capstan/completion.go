package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

// Run prints a script; how to use it is its first line.
func (c *completionCmd) Run(a *app) error {
	verbs := verbsOf(a.model)
	switch c.Shell {
	case "bash":
		bashCompletion(a.out, verbs)
	case "zsh":
		fmt.Fprintln(a.out, "#compdef capstan\n# source <(capstan completion zsh)\nautoload -U +X bashcompinit && bashcompinit")
		bashCompletion(a.out, verbs)
	default:
		fishCompletion(a.out, verbs)
	}
	return nil
}

// verb is a command with what may follow it.
type verb struct {
	path, help string
	flags      []string // --mem
	subs       []string // sub-commands
	what       string   // what its arguments are: "images", "instances", or files
}

// takes says which verbs take what the tool can list.
var takes = map[string]string{
	"run": "images", "info": "images", "rmi": "images", "save": "images", "push": "images",
	"stop": "instances", "delete": "instances",
}

func verbsOf(m *kong.Application) (out []verb) {
	var walk func(n *kong.Node, path string)
	walk = func(n *kong.Node, path string) {
		v := verb{path: path, help: n.Help, what: takes[path]}
		for _, group := range n.AllFlags(true) {
			for _, f := range group {
				v.flags = append(v.flags, "--"+f.Name)
			}
		}
		for _, c := range n.Children {
			if c.Type != kong.CommandNode || c.Hidden {
				continue
			}
			v.subs = append(v.subs, c.Name)
			walk(c, strings.TrimSpace(path+" "+c.Name))
		}
		slices.Sort(v.flags)
		out = append(out, v)
	}
	walk(m.Node, "")
	slices.SortFunc(out, func(a, b verb) int { return strings.Compare(a.path, b.path) })
	return out
}

func bashCompletion(w io.Writer, verbs []verb) {
	fmt.Fprint(w, `# source <(capstan completion bash)
_capstan() {
  local cur="${COMP_WORDS[COMP_CWORD]}" path="" i words="" list=""
  for ((i = 1; i < COMP_CWORD; i++)); do
    case " $(_capstan_words "$path") " in *" ${COMP_WORDS[i]} "*) [[ ${COMP_WORDS[i]} == -* ]] || path="${path:+$path }${COMP_WORDS[i]}" ;; esac
  done
  words="$(_capstan_words "$path")"
  case "$path" in
`)
	for _, what := range []string{"images", "instances"} {
		var paths []string
		for _, v := range verbs {
			if v.what == what {
				paths = append(paths, v.path)
			}
		}
		fmt.Fprintf(w, "    %s) list=\"$(capstan %s --quiet 2>/dev/null)\" ;;\n", strings.Join(paths, "|"), what)
	}
	fmt.Fprint(w, `  esac
  if [[ $cur == -* || -n $list || $words != -* ]]; then
    COMPREPLY=($(compgen -W "$words $list" -- "$cur"))
  fi
  [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$cur"))
}
_capstan_words() {
  case "$1" in
`)
	for _, v := range verbs {
		fmt.Fprintf(w, "    %q) echo %q ;;\n", v.path, strings.Join(append(slices.Clone(v.subs), v.flags...), " "))
	}
	fmt.Fprint(w, "  esac\n}\ncomplete -o filenames -F _capstan capstan\n")
}

func fishCompletion(w io.Writer, verbs []verb) {
	fmt.Fprintln(w, "# capstan completion fish | source")
	for _, v := range verbs {
		cond := "__fish_use_subcommand"
		if v.path != "" {
			cond = "__fish_seen_subcommand_from " + strings.ReplaceAll(v.path, " ", "; and __fish_seen_subcommand_from ")
		}
		for _, f := range v.flags {
			fmt.Fprintf(w, "complete -c capstan -n '%s' -l %s\n", cond, strings.TrimPrefix(f, "--"))
		}
		for _, s := range v.subs {
			help := ""
			for _, u := range verbs {
				if u.path == strings.TrimSpace(v.path+" "+s) {
					help = u.help
				}
			}
			fmt.Fprintf(w, "complete -c capstan -n '%s' -f -a %s -d %q\n", cond, s, help)
		}
		if v.what != "" {
			fmt.Fprintf(w, "complete -c capstan -n '%s' -a '(capstan %s --quiet)'\n", cond, v.what)
		}
	}
}
