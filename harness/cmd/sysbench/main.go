// Command sysbench compares what system calls cost in our guest and in Debian's, the
// latter as it comes and tuned, under the same QEMU (harness/sysbench). Exit status: 0
// measured, 1 failed, 2 wrong usage, 130 interrupted.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	flags "osv/harness/internal/cli"
	"osv/harness/sysbench"
	"osv/harness/vm"
)

type cli struct {
	Runs     int           `help:"Boots of each guest." default:"3" short:"n"`
	Rounds   int           `help:"Rounds of the program in each boot, the best counts." default:"2"`
	JSON     bool          `help:"Print JSON instead of the table." name:"json"`
	Keep     string        `help:"Write table.txt and table.json into this folder too." placeholder:"DIR"`
	Logs     string        `help:"Keep console logs in this folder." placeholder:"DIR"`
	Accel    string        `help:"auto, kvm or tcg." default:"auto" enum:"auto,kvm,tcg"`
	QEMU     string        `help:"QEMU's binary." name:"qemu" placeholder:"FILE"`
	Kernel   string        `help:"Our guest's ELF, made before (mkelf ./appliances/linux)." type:"existingfile" placeholder:"ELF"`
	Timeout  time.Duration `help:"Longest time of one boot." default:"10m"`
	CacheDir string        `help:"Cache of the Linux guest (default: osv in the user's cache folder)." placeholder:"DIR"`
	Quiet    bool          `help:"No progress." short:"q"`

	out, err io.Writer
}

func (c *cli) run(ctx context.Context) error {
	work, err := os.MkdirTemp("", "sysbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := sysbench.Bench{Work: work, CacheDir: c.CacheDir, QEMU: c.QEMU, Kernel: c.Kernel, Runs: c.Runs, Rounds: c.Rounds, Timeout: c.Timeout, Logs: c.Logs}
	if c.Accel != "auto" {
		b.Accel = vm.Accel(c.Accel)
	}
	if !c.Quiet {
		b.Log = func(s string) { fmt.Fprintln(c.err, s) }
	}
	for _, d := range []string{c.Keep, c.Logs} {
		if d == "" {
			continue
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	r, err := b.Run(ctx)
	if err != nil {
		return err
	}
	if c.Keep != "" {
		if err := keep(filepath.Join(c.Keep, "table.txt"), r.Table); err != nil {
			return err
		}
		if err := keep(filepath.Join(c.Keep, "table.json"), r.WriteJSON); err != nil {
			return err
		}
	}
	if c.JSON {
		return r.WriteJSON(c.out)
	}
	return r.Table(c.out)
}

func keep(file string, write func(io.Writer) error) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := cli{out: stdout, err: stderr}
	if code, done := flags.Parse("sysbench", "What system calls cost in our guest and in Linux.", &c, args, stdout, stderr); done {
		return code
	}
	if c.Runs < 1 || c.Rounds < 1 || c.Rounds > 100 {
		fmt.Fprintf(stderr, "sysbench: --runs %d, --rounds %d: want 1 or more, 1 to 100\n", c.Runs, c.Rounds)
		return flags.Usage
	}
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(stderr, "sysbench:", strings.TrimPrefix(err.Error(), "sysbench: "))
		if ctx.Err() != nil {
			return 130
		}
		return 1
	}
	return 0
}

func main() { flags.Main(run) }
