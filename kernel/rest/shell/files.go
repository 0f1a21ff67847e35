package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"osv/kernel/rest/machine"
)

func cmdPwd(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.Out, s.Dir())
	return err
}

func cmdCd(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 0, 1); err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	to := "."
	if len(args) == 1 {
		to = s.name(args[0])
	}
	if to != "." {
		if _, err := files.List(to); err != nil {
			return err
		}
	}
	if to == "." {
		to = ""
	}
	s.cwd = to
	return nil
}

func cmdLs(_ context.Context, s *Shell, args []string) error {
	opt, args, err := flags(args, "la")
	if err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"."}
	}
	_, long := opt['l']
	_, all := opt['a']
	var why error
	for i, a := range args {
		info, err := files.Stat(s.name(a))
		if err != nil {
			why = errors.Join(why, err)
			continue
		}
		list := []machine.FileInfo{info}
		list[0].Name = a
		if info.Mode.IsDir() {
			if list, err = files.List(s.name(a)); err != nil {
				why = errors.Join(why, err)
				continue
			}
			if len(args) > 1 {
				fmt.Fprintf(s.Out, "%s%s:\n", strings.Repeat("\n", min(i, 1)), a)
			}
		}
		if err := s.list(list, long, all); err != nil {
			return err
		}
	}
	return why
}

func (s *Shell) list(list []machine.FileInfo, long, all bool) error {
	shown := list[:0:0]
	for _, f := range list {
		if all || !strings.HasPrefix(f.Name, ".") || len(list) == 1 {
			shown = append(shown, f)
		}
	}
	if !long {
		return s.columns(shown)
	}
	w := tabwriter.NewWriter(s.Out, 0, 8, 1, ' ', 0)
	for _, f := range shown {
		name := printable(f.Name)
		if f.Target != "" {
			name += " -> " + printable(f.Target)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%12d\t%s\t%s\n", f.Mode, f.Links, f.Owner, f.Group, f.Size, f.Modified.UTC().Format(time.DateTime), name)
	}
	return w.Flush()
}

// columns prints names one a line, or side by side on a terminal.
func (s *Shell) columns(list []machine.FileInfo) error {
	width := 0
	if s.Width != nil {
		width = s.Width()
	}
	widest := 1
	for _, f := range list {
		widest = max(widest, len(printable(f.Name))+2)
	}
	cols := max(1, width/widest)
	rows := (len(list) + cols - 1) / cols
	for r := range rows {
		var line strings.Builder
		for i := r; i < len(list); i += rows {
			name := printable(list[i].Name)
			line.WriteString(name)
			if i+rows < len(list) {
				line.WriteString(strings.Repeat(" ", widest-len(name)))
			}
		}
		if _, err := fmt.Fprintln(s.Out, line.String()); err != nil {
			return err
		}
	}
	return nil
}

// printable keeps a file's name from steering the user's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

func cmdCat(ctx context.Context, s *Shell, args []string) error {
	if err := want(args, 1, -1); err != nil {
		return err
	}
	return s.each(args, func(f machine.File, _ string) error {
		_, err := io.Copy(s.Out, &stoppable{ctx, f})
		return err
	})
}

// each opens files one after the other.
func (s *Shell) each(args []string, do func(f machine.File, name string) error) error {
	files, err := s.files()
	if err != nil {
		return err
	}
	for _, a := range args {
		f, err := files.Open(s.name(a))
		if err == nil {
			err = errors.Join(do(f, a), f.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stoppable ends a copy when ctx ends.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (r *stoppable) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func cmdCp(ctx context.Context, s *Shell, args []string) error {
	if err := want(args, 2, 2); err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	to := s.into(files, args[0], args[1])
	if to == s.name(args[0]) {
		return fmt.Errorf("%s and %s are the same file", args[0], args[1])
	}
	return s.each(args[:1], func(f machine.File, _ string) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		w, err := files.Create(to, info.Mode.Perm(), false)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, &stoppable{ctx, f})
		return errors.Join(err, w.Close())
	})
}

// into is the name that from gets at to, inside to if that is a directory.
func (s *Shell) into(files machine.Files, from, to string) string {
	name := s.name(to)
	if info, err := files.Stat(name); err == nil && info.Mode.IsDir() {
		return path.Join(name, path.Base(s.name(from)))
	}
	return name
}

func cmdMv(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 2, 2); err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	return files.Rename(s.name(args[0]), s.into(files, args[0], args[1]))
}

func cmdMkdir(_ context.Context, s *Shell, args []string) error {
	opt, args, err := flags(args, "p")
	if err != nil {
		return err
	}
	if err := want(args, 1, -1); err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	_, parents := opt['p']
	for _, a := range args {
		name := s.name(a)
		if parents {
			if err := machine.MkParents(files, name, 0o755); err != nil {
				return err
			}
		}
		if err := files.Mkdir(name, 0o755); err != nil && !(parents && errors.Is(err, fs.ErrExist)) {
			return err
		}
	}
	return nil
}

func cmdRm(ctx context.Context, s *Shell, args []string) error {
	opt, args, err := flags(args, "rf")
	if err != nil {
		return err
	}
	if err := want(args, 1, -1); err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	_, recursive := opt['r']
	_, force := opt['f']
	for _, a := range args {
		name := s.name(a)
		info, err := files.Stat(name)
		switch {
		case err != nil && force && errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case name == ".":
			return errors.New("the root is not removed")
		case info.Mode.IsDir() && !recursive:
			return fmt.Errorf("%s: %w (rm -r, or rmdir)", a, syscall.EISDIR)
		}
		if err := remove(ctx, files, name, info.Mode.IsDir()); err != nil {
			return err
		}
	}
	return nil
}

func remove(ctx context.Context, files machine.Files, name string, dir bool) error {
	if dir {
		list, err := files.List(name)
		if err != nil {
			return err
		}
		for _, f := range list {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := remove(ctx, files, path.Join(name, f.Name), f.Mode.IsDir()); err != nil {
				return err
			}
		}
	}
	return files.Remove(name)
}

func cmdRmdir(_ context.Context, s *Shell, args []string) error {
	if err := want(args, 1, -1); err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	for _, a := range args {
		info, err := files.Stat(s.name(a))
		if err == nil && !info.Mode.IsDir() {
			err = fmt.Errorf("%s: %w", a, syscall.ENOTDIR)
		}
		if err == nil {
			err = files.Remove(s.name(a))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func cmdDf(_ context.Context, s *Shell, args []string) error {
	opt, args, err := flags(args, "h")
	if err == nil {
		err = want(args, 0, 0)
	}
	if err != nil {
		return err
	}
	if s.Machine.Mounts == nil {
		return errors.New("no file system is mounted")
	}
	list, err := s.Machine.Mounts.FileSystems()
	if err != nil {
		return err
	}
	size := func(n uint64) string { return fmt.Sprint(n / 1024) }
	title := "1K-blocks"
	if _, ok := opt['h']; ok {
		size, title = human, "Size"
	}
	w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "Filesystem\t%s\tUsed\tAvailable\tUse%%\tMounted on\n", title)
	for _, f := range list {
		bs := uint64(max(f.BlockSize, 1))
		used := f.BTotal - min(f.BFree, f.BTotal)
		share := "-"
		if f.BTotal > 0 {
			share = fmt.Sprintf("%d%%", (100*used+f.BTotal-1)/f.BTotal)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Filesystem, size(f.BTotal*bs), size(used*bs), size(f.BFree*bs), share, f.Mount)
	}
	return w.Flush()
}

// human writes bytes with a unit, at most four characters of digits.
func human(n uint64) string {
	v, unit := float64(n), 0
	for v >= 1000 && unit < 5 {
		v, unit = v/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d", n)
	}
	digits := 1
	if v >= 10 {
		digits = 0
	}
	return fmt.Sprintf("%.*f%c", digits, v, "BKMGTP"[unit])
}
