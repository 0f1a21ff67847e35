package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"osv/kernel/rest/machine"
	"osv/kernel/trace"
)

var commands map[string]command

func init() {
	commands = map[string]command{
		"cat":      {"FILE…", "print files", cmdCat},
		"cd":       {"[DIR]", "change the working directory", cmdCd},
		"cp":       {"FILE TO", "copy a file", cmdCp},
		"date":     {"", "print the time", cmdDate},
		"df":       {"[-h]", "use of the file systems", cmdDf},
		"dmesg":    {"", "print what the kernel logged", cmdDmesg},
		"env":      {"[NAME[=VALUE]…]", "print or set the environment; NAME= unsets", cmdEnv},
		"exit":     {"", "end the session", cmdExit},
		"free":     {"", "print memory", cmdFree},
		"help":     {"[COMMAND]", "this list", cmdHelp},
		"hostname": {"[NAME]", "print or set the host name", cmdHostname},
		"ifconfig": {"[INTERFACE]", "print network interfaces and their counters", cmdIfconfig},
		"ls":       {"[-la] [FILE…]", "list files", cmdLs},
		"mkdir":    {"[-p] DIR…", "make directories", cmdMkdir},
		"mv":       {"FILE TO", "rename a file or directory", cmdMv},
		"poweroff": {"", "end the program and power the machine off", cmdPowerOff},
		"ps":       {"", "list threads", cmdPs},
		"pwd":      {"", "print the working directory", cmdPwd},
		"reboot":   {"", "restart the machine", cmdReboot},
		"rm":       {"[-rf] FILE…", "remove files", cmdRm},
		"rmdir":    {"DIR…", "remove empty directories", cmdRmdir},
		"route":    {"", "print the routing table", cmdRoute},
		"run":      {"COMMAND…", "start a program; it goes on when the session ends", cmdRun},
		"top":      {"[-n TIMES] [-d SECONDS]", "show processors, memory and threads, again and again", cmdTop},
		"trace":    {"[on|off PATTERN… | show]", "list, switch and read tracepoints", cmdTrace},
		"uptime":   {"", "time since boot", cmdUptime},
		"version":  {"", "print the kernel's version", cmdVersion},
	}
}

func cmdHelp(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 1); err != nil {
		return err
	}
	names := Names()
	if len(args) == 1 {
		if _, ok := commands[args[0]]; !ok {
			return fmt.Errorf("%s: no such command", args[0])
		}
		names = args
	}
	w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	for _, n := range names {
		fmt.Fprintf(w, "%s %s\t%s\n", n, commands[n].args, commands[n].help)
	}
	return w.Flush()
}

func cmdExit(context.Context, *Shell, []string) error { return ErrExit }

func cmdVersion(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.Out, "%s %s\n", machine.Vendor, machine.Version)
	return err
}

func cmdDate(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.Out, time.Now().UTC().Format(time.UnixDate))
	return err
}

func cmdUptime(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.Out, "up", s.Machine.System.Uptime().Round(time.Second))
	return err
}

func cmdHostname(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 1); err != nil {
		return err
	}
	if len(args) == 1 {
		return s.Machine.System.SetHostname(args[0])
	}
	_, err := fmt.Fprintln(s.Out, s.Machine.System.Hostname())
	return err
}

func cmdDmesg(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 0); err != nil {
		return err
	}
	return s.Machine.System.Log(s.Out)
}

func cmdFree(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 0); err != nil {
		return err
	}
	m := s.Machine.System.Memory()
	w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "\ttotal\tused\tfree\tleast free\nMem:\t%s\t%s\t%s\t%s\n", human(m.Total), human(m.Total-min(m.Free, m.Total)), human(m.Free), human(m.LeastFree))
	return w.Flush()
}

func cmdEnv(_ context.Context, s *Shell, args []string) error {
	e := s.Machine.Env
	if e == nil {
		return errors.New("this guest has no environment")
	}
	if len(args) == 0 {
		list := e.List()
		slices.Sort(list)
		for _, v := range list {
			fmt.Fprintln(s.Out, v)
		}
		return nil
	}
	for _, a := range args {
		name, value, set := strings.Cut(a, "=")
		var err error
		switch v, ok := e.Lookup(name); {
		case set && value == "":
			err = e.Unset(name)
		case set:
			err = e.Set(name, value)
		case ok:
			fmt.Fprintln(s.Out, v)
		default:
			err = fmt.Errorf("%s: not set", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func cmdIfconfig(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 1); err != nil {
		return err
	}
	if s.Machine.Network == nil {
		return errors.New("this guest has no network")
	}
	list, err := s.Machine.Network.Interfaces()
	if err != nil {
		return err
	}
	found := len(args) == 0
	for _, i := range list {
		c, d := i.Config, i.Data
		if len(args) == 1 && args[0] != c.Name {
			continue
		}
		found = true
		fmt.Fprintf(s.Out, "%s: flags=<%s> mtu %s\n", c.Name, c.Flags, c.MTU)
		if c.PhysAddr != "" {
			fmt.Fprintf(s.Out, "        ether %s\n", c.PhysAddr)
		}
		for _, a := range c.Addrs {
			fmt.Fprintf(s.Out, "        inet %s\n", a)
		}
		fmt.Fprintf(s.Out, "        RX packets %d  bytes %d  errors %d  dropped %d\n", d.IPackets, d.IBytes, d.IErrors, d.IQDrops)
		fmt.Fprintf(s.Out, "        TX packets %d  bytes %d  errors %d\n", d.OPackets, d.OBytes, d.OErrors)
		if ch := i.Channels; ch != nil {
			fmt.Fprintf(s.Out, "        channels: fast %d  slow %d", ch.Fast, ch.Slow)
			for _, k := range sorted(ch.Reasons) {
				if n := ch.Reasons[k]; n > 0 {
					fmt.Fprintf(s.Out, "  %s %d", k, n)
				}
			}
			fmt.Fprintln(s.Out)
		}
	}
	if !found {
		return fmt.Errorf("%s: no such interface", args[0])
	}
	return nil
}

func sorted(m map[string]uint64) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func cmdRoute(_ context.Context, s *Shell, args []string) error {
	_, args, err := flags(args, "n")
	if err == nil {
		err = want(args, 0, 0)
	}
	if err != nil {
		return err
	}
	if s.Machine.Network == nil {
		return errors.New("this guest has no network")
	}
	list, err := s.Machine.Network.Routes()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "Destination\tGateway\tFlags\tInterface")
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Destination, r.Gateway, r.Flags, r.Netif)
	}
	return w.Flush()
}

func cmdPs(_ context.Context, s *Shell, args []string) error {
	if _, _, err := flags(args, "aefux"); err != nil {
		return err
	}
	return threads(s.Out, s.Machine.System.Threads(), -1)
}

// threads prints at most n threads, those with the most time first.
func threads(out io.Writer, list []machine.Thread, n int) error {
	if n >= 0 {
		slices.SortStableFunc(list, func(a, b machine.Thread) int { return -cmpNil(a.CPUms, b.CPUms) })
		list = list[:min(n, len(list))]
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tCPU\tTIME\tSWITCHES\tPREEMPTED\tNAME\tWAITS FOR")
	for _, t := range list {
		ms := "-"
		if t.CPUms != nil {
			ms = (time.Duration(*t.CPUms) * time.Millisecond).String()
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Status, known(t.CPU), ms, known(t.Switches), known(t.Preemptions), printable(t.Name), printable(t.WaitsFor))
	}
	return w.Flush()
}

func cmpNil(a, b *int64) int {
	v := func(p *int64) int64 {
		if p == nil {
			return -1
		}
		return *p
	}
	switch {
	case v(a) < v(b):
		return -1
	case v(a) > v(b):
		return 1
	}
	return 0
}

func known[T any](p *T) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}

const topThreads = 15

// cmdTop prints once where there is no terminal, else until it is interrupted.
func cmdTop(ctx context.Context, s *Shell, args []string) error {
	opt, args, err := flags(args, "n:d:b")
	if err == nil {
		err = want(args, 0, 0)
	}
	if err != nil {
		return err
	}
	times, every, width := 1, 2*time.Second, 0
	if s.Width != nil {
		width = s.Width()
	}
	if width > 0 {
		times = 1 << 30
	}
	if v, ok := opt['n']; ok {
		if times, err = strconv.Atoi(v); err != nil || times < 1 {
			return errUsage{fmt.Sprintf("-n %s: want a number from 1 on", v)}
		}
	}
	if v, ok := opt['d']; ok {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || !(f >= 0.1 && f <= 3600) {
			return errUsage{fmt.Sprintf("-d %s: want seconds from 0.1 to 3600", v)}
		}
		every = time.Duration(f * float64(time.Second))
	}
	before := s.Machine.Hardware.Processors()
	for i := range times {
		if i > 0 || times > 1 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(every):
			}
		}
		now := s.Machine.Hardware.Processors()
		if width > 0 {
			fmt.Fprint(s.Out, "\x1b[H\x1b[2J")
		}
		m := s.Machine.System.Memory()
		fmt.Fprintf(s.Out, "up %s, memory %s of %s free\n", s.Machine.System.Uptime().Round(time.Second), human(m.Free), human(m.Total))
		for j, p := range now {
			busy, all := p.BusyMS, p.BusyMS+p.IdleMS
			if times > 1 && j < len(before) {
				busy, all = busy-before[j].BusyMS, all-before[j].BusyMS-before[j].IdleMS
			}
			share := 0.0
			if all > 0 {
				share = 100 * float64(busy) / float64(all)
			}
			fmt.Fprintf(s.Out, "cpu%d %5.1f %%\n", p.ID, share)
		}
		before = now
		if err := threads(s.Out, s.Machine.System.Threads(), topThreads); err != nil {
			return err
		}
	}
	return nil
}

func cmdTrace(_ context.Context, s *Shell, args []string) error {
	if len(args) == 0 {
		w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
		for _, p := range trace.Points() {
			state := "off"
			if p.On() {
				state = "on"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name(), state, p.Format())
		}
		return w.Flush()
	}
	switch what := args[0]; what {
	case "on", "off":
		if len(args) < 2 {
			return errUsage{"which tracepoints? (net.*)"}
		}
		patterns := strings.Join(args[1:], ",")
		if what == "off" {
			return trace.Disable(patterns)
		}
		n, err := trace.Enable(patterns)
		if err == nil {
			fmt.Fprintf(s.Out, "%d tracepoints on\n", n)
		}
		return err
	case "show":
		if err := want(args, 1, 1); err != nil {
			return err
		}
		return trace.WriteEvents(s.Out)
	}
	return errUsage{fmt.Sprintf("%q: want on, off or show", args[0])}
}

func cmdRun(ctx context.Context, s *Shell, args []string) error {
	if err := want(args, 1, -1); err != nil {
		return err
	}
	if s.Machine.Apps == nil {
		return errors.New("this guest runs no further programs")
	}
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	id, err := s.Machine.Apps.Run(ctx, strings.Join(quoted, " "))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, id)
	return err
}

func cmdPowerOff(_ context.Context, s *Shell, args []string) error {
	return s.end(args, machine.Shutdown)
}
func cmdReboot(_ context.Context, s *Shell, args []string) error {
	return s.end(args, machine.Reboot)
}

func (s *Shell) end(args []string, a machine.Action) error {
	if err := want(args, 0, 0); err != nil {
		return err
	}
	if s.End == nil {
		return errors.New("not from here")
	}
	if err := s.End(a); err != nil {
		return err
	}
	return ErrExit
}
