package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"osv/capstan/hypervisor"
	"osv/capstan/instance"
	"osv/harness/guestapi"
)

// guestFlags say how the API of a guest is reached.
type guestFlags struct {
	API      string `name:"api" help:"Address of the guest's API, http[s]://HOST[:PORT]; without it the forwarded port 8000 of the instance." placeholder:"URL"`
	Token    string `help:"Token of the guest's API." env:"CAPSTAN_TOKEN" placeholder:"TOKEN"`
	Insecure bool   `help:"Take any certificate of the guest."`
}

// client finds the API of an instance.
func (f guestFlags) client(a *app, name string) (*guestapi.Client, instance.Instance, error) {
	i, err := a.instances().Get(a.ctx, name)
	if err != nil {
		var none *instance.NotFound
		if f.API == "" || !errors.As(err, &none) {
			return nil, i, err
		}
	}
	c := &guestapi.Client{Base: f.API, Token: f.Token, Insecure: f.Insecure}
	if c.Base != "" {
		if !strings.HasPrefix(c.Base, "http://") && !strings.HasPrefix(c.Base, "https://") {
			return nil, i, fmt.Errorf("--api %s: want http://HOST[:PORT] or https://HOST[:PORT]", c.Base)
		}
		return c, i, nil
	}
	if i.State != hypervisor.Running {
		return nil, i, fmt.Errorf("instance %s: is %s", name, i.State)
	}
	for _, fw := range i.Machine.Forwards {
		if fw.Proto == "tcp" && fw.To == guestapi.Port {
			host := fw.Host
			if host == "" || host == "0.0.0.0" {
				host = "127.0.0.1"
			}
			c.Base = "http://" + net.JoinHostPort(host, strconv.Itoa(fw.From))
			return c, i, nil
		}
	}
	return nil, i, fmt.Errorf("instance %s: no port leads to its API (run it with -f 8000:8000, or give --api)", name)
}

type execCmd struct {
	guestFlags
	Wait     bool     `short:"w" help:"Wait until it has ended."`
	Instance string   `arg:"" help:"Instance." placeholder:"NAME"`
	Command  []string `arg:"" passthrough:"" help:"Program and its arguments."`
}

func (c *execCmd) Run(a *app) error {
	g, _, err := c.client(a, c.Instance)
	if err != nil {
		return err
	}
	words := make([]string, len(c.Command))
	for i, w := range c.Command {
		words[i] = guestQuote(w)
	}
	id, err := g.Run(a.ctx, strings.Join(words, " "))
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, id)
	for c.Wait {
		done, err := g.Finished(a.ctx, id)
		if err != nil || done {
			return err
		}
		if err := pause(a.ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// guestQuote keeps a word together for the guest, which splits a line as a shell does.
func guestQuote(w string) string {
	if w != "" && !strings.ContainsAny(w, " \t\n'\"\\&") {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

type logsCmd struct {
	guestFlags
	Console  bool   `help:"The console as the hypervisor kept it, instead of asking the guest."`
	Follow   bool   `short:"f" help:"Go on with what comes, until interrupted."`
	Instance string `arg:"" help:"Instance." placeholder:"NAME"`
}

// followEvery is how often a log that is followed is read.
const followEvery = 500 * time.Millisecond

func (c *logsCmd) Run(a *app) error {
	if c.Console {
		return c.console(a)
	}
	g, _, err := c.client(a, c.Instance)
	if err != nil {
		return err
	}
	seen := ""
	for {
		text, err := g.Log(a.ctx)
		if err != nil {
			if a.ctx.Err() != nil {
				return nil
			}
			return err
		}
		// The guest's log is a ring: what was seen last may have gone from its front.
		fresh := text
		if tail := seen[max(0, len(seen)-256):]; tail != "" {
			if i := strings.LastIndex(text, tail); i >= 0 {
				fresh = text[i+len(tail):]
			}
		}
		if _, err := io.WriteString(a.out, fresh); err != nil {
			return err
		}
		if fresh != "" {
			seen = text
		}
		if !c.Follow || pause(a.ctx, followEvery) != nil {
			return nil
		}
	}
}

func (c *logsCmd) console(a *app) error {
	i, err := a.instances().Get(a.ctx, c.Instance)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(i.Machine.Dir, hypervisor.ConsoleLog))
	if err != nil {
		return fmt.Errorf("instance %s: %w", c.Instance, err)
	}
	defer f.Close()
	for {
		if _, err := io.Copy(a.out, f); err != nil {
			return err
		}
		if !c.Follow || pause(a.ctx, followEvery) != nil {
			return nil
		}
	}
}

type psCmd struct {
	guestFlags
	JSON     bool   `name:"json" help:"As JSON."`
	Instance string `arg:"" help:"Instance." placeholder:"NAME"`
}

func (c *psCmd) Run(a *app) error {
	g, _, err := c.client(a, c.Instance)
	if err != nil {
		return err
	}
	list, err := g.Threads(a.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return a.json(list)
	}
	return threadTable(a.out, list)
}

func threadTable(out io.Writer, list []guestapi.Thread) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tCPU\tTIME\tSWITCHES\tNAME")
	known := func(p *int64) string {
		if p == nil {
			return "-"
		}
		return strconv.FormatInt(*p, 10)
	}
	for _, t := range list {
		ms := "-"
		if t.CPUms != nil {
			ms = (time.Duration(*t.CPUms) * time.Millisecond).String()
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%q\n", t.ID, t.Status, known(t.CPU), ms, known(t.Switches), t.Name)
	}
	return w.Flush()
}

type topCmd struct {
	guestFlags
	Times    int           `short:"n" help:"How often; 0: until interrupted." default:"0"`
	Delay    time.Duration `short:"d" help:"Time between two." default:"2s"`
	JSON     bool          `name:"json" help:"As JSON, a line each time."`
	Instance string        `arg:"" help:"Instance." placeholder:"NAME"`
}

// topView is what top shows at one time.
type topView struct {
	Uptime   float64             `json:"uptime_s"`
	Memory   guestapi.Memory     `json:"memory"`
	CPU      []float64           `json:"cpu"` // shares, 0 to 1
	Channels []guestapi.Channels `json:"channels"`
	Threads  []guestapi.Thread   `json:"threads"`
}

// topThreads is how many threads top shows.
const topThreads = 15

func (c *topCmd) Run(a *app) error {
	if c.Times < 0 || c.Delay < 100*time.Millisecond {
		return fmt.Errorf("-n %d -d %v: want times from 0 on and at least 100ms between", c.Times, c.Delay)
	}
	g, _, err := c.client(a, c.Instance)
	if err != nil {
		return err
	}
	before, err := g.Processors(a.ctx)
	if err != nil {
		return err
	}
	for n := 0; c.Times == 0 || n < c.Times; n++ {
		if pause(a.ctx, c.Delay) != nil {
			return nil
		}
		v, now, err := look(a.ctx, g, before)
		if err != nil {
			if a.ctx.Err() != nil {
				return nil
			}
			return err
		}
		before = now
		if c.JSON {
			err = a.json(v)
		} else {
			err = v.print(a.out, c.Times != 1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func look(ctx context.Context, g *guestapi.Client, before []guestapi.Processor) (v topView, now []guestapi.Processor, err error) {
	up, err := g.Uptime(ctx)
	if err == nil {
		v.Uptime = up.Seconds()
		v.Memory, err = g.Memory(ctx)
	}
	if err == nil {
		v.Channels, err = g.Channels(ctx)
	}
	if err == nil {
		v.Threads, err = g.Threads(ctx)
	}
	if err == nil {
		now, err = g.Processors(ctx)
	}
	for i, p := range now {
		busy, idle := p.BusyMS, p.IdleMS
		if i < len(before) {
			busy, idle = busy-before[i].BusyMS, idle-before[i].IdleMS
		}
		share := 0.0
		if busy+idle > 0 {
			share = min(1, max(0, float64(busy)/float64(busy+idle)))
		}
		v.CPU = append(v.CPU, share)
	}
	slices.SortStableFunc(v.Threads, func(x, y guestapi.Thread) int {
		ms := func(p *int64) int64 {
			if p == nil {
				return -1
			}
			return *p
		}
		return int(min(1, max(-1, ms(y.CPUms)-ms(x.CPUms))))
	})
	v.Threads = v.Threads[:min(topThreads, len(v.Threads))]
	return v, now, err
}

func (v topView) print(out io.Writer, clear bool) error {
	if clear {
		fmt.Fprint(out, "\x1b[H\x1b[2J")
	}
	fmt.Fprintf(out, "up %s, memory %d of %d MiB free\n", time.Duration(v.Uptime*float64(time.Second)).Round(time.Second), v.Memory.Free>>20, v.Memory.Total>>20)
	for i, s := range v.CPU {
		fmt.Fprintf(out, "cpu%d %5.1f %%\n", i, 100*s)
	}
	for _, ch := range v.Channels {
		fmt.Fprintf(out, "%s channels: fast %d, slow %d\n", ch.Name, ch.Fast, ch.Slow)
	}
	return threadTable(out, v.Threads)
}
