// Command goconf runs cases of the conformance set that a language runtime brings
// along: many threads, preemption by signals, netpoll, timers, child processes. It
// prints as conf does.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func out(format string, a ...any) { fmt.Printf("| "+format+"\n", a...) }

// errs prints an error without the path.
func errs(what string, err error) {
	var e syscall.Errno
	switch {
	case err == nil:
		out("%s: nil", what)
	case errors.As(err, &e):
		out("%s: %d", what, int(e))
	default:
		out("%s: %v", what, err)
	}
}

var cases = []struct {
	name string
	run  func(dir string)
}{
	{"go_goroutines", func(string) {
		var n atomic.Int64
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				for range 100 {
					n.Add(1)
					runtime.Gosched()
				}
			})
		}
		wg.Wait()
		out("%d", n.Load())
	}},
	{"go_preemption", func(string) {
		// A loop without calls gives way only to a signal.
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		var stop atomic.Bool
		go func() {
			time.Sleep(20 * time.Millisecond)
			stop.Store(true)
		}()
		x := 0
		for !stop.Load() {
			for range 1000 {
				x++
			}
		}
		out("stopped %v", x > 0)
	}},
	{"go_gc", func(string) {
		var keep [][]byte
		for i := range 200 {
			b := make([]byte, 1<<20)
			b[i] = byte(i)
			if i%20 == 0 {
				keep = append(keep, b)
			}
		}
		runtime.GC()
		debug.FreeOSMemory()
		ok := true
		for i, b := range keep {
			ok = ok && b[i*20] == byte(i*20)
		}
		out("kept %d intact %v", len(keep), ok)
	}},
	{"go_threads", func(string) {
		var wg sync.WaitGroup
		var tids sync.Map
		for range 20 {
			wg.Go(func() {
				runtime.LockOSThread()
				tids.Store(syscall.Gettid(), true)
				time.Sleep(20 * time.Millisecond)
			})
		}
		wg.Wait()
		n := 0
		tids.Range(func(any, any) bool { n++; return true })
		out("several threads %v", n > 10)
	}},
	{"go_nil_panics", func(string) {
		func() {
			defer func() { out("%v", recover()) }()
			var p *int
			*p = 1
		}()
		func() {
			defer func() { out("%v", recover()) }()
			z := 0
			out("%d", 1/z)
		}()
	}},
	{"go_timers", func(string) {
		t := time.Now()
		<-time.After(30 * time.Millisecond)
		d := time.Since(t)
		out("%v", d >= 30*time.Millisecond && d < 3*time.Second)
		k := time.NewTicker(5 * time.Millisecond)
		for range 5 {
			<-k.C
		}
		k.Stop()
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer stop()
		<-ctx.Done()
		out("%v", ctx.Err())
	}},
	{"go_files", func(dir string) {
		p := filepath.Join(dir, "f")
		errs("write", os.WriteFile(p, []byte("hello"), 0o640))
		b, err := os.ReadFile(p)
		out("%s %v", b, err)
		st, err := os.Stat(p)
		out("%v %d %v", st.Mode(), st.Size(), err)
		_, err = os.Stat(filepath.Join(dir, "none"))
		errs("stat", err)
		errs("mkdir", os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
		errs("rename", os.Rename(p, filepath.Join(dir, "a/b/g")))
		errs("symlink", os.Symlink("g", filepath.Join(dir, "a/b/l")))
		var names []string
		filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			r, _ := filepath.Rel(dir, p)
			names = append(names, fmt.Sprint(r, d.Type()))
			return err
		})
		out("%q", names)
		f, err := os.OpenFile(filepath.Join(dir, "a/b/g"), os.O_RDWR|os.O_APPEND, 0)
		errs("open", err)
		f.Write([]byte(" world"))
		f.Seek(0, 0)
		b, _ = io.ReadAll(f)
		out("%s", b)
		errs("truncate", f.Truncate(3))
		errs("sync", f.Sync())
		f.Close()
		errs("remove", os.Remove(filepath.Join(dir, "a/b")))
		errs("removeall", os.RemoveAll(filepath.Join(dir, "a")))
		root, err := os.OpenRoot(dir)
		errs("root", err)
		_, err = root.Open("../x")
		out("%v", err != nil)
	}},
	{"go_pipes", func(string) {
		r, w, err := os.Pipe()
		errs("pipe", err)
		go func() {
			for range 100 {
				w.Write(bytes.Repeat([]byte("x"), 10000))
			}
			w.Close()
		}()
		n, err := io.Copy(io.Discard, r)
		out("%d %v", n, err)
		r, w, _ = os.Pipe()
		r.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err = r.Read(make([]byte, 1))
		out("%v", errors.Is(err, os.ErrDeadlineExceeded))
		w.Close()
	}},
	{"go_exec", func(dir string) {
		self, _ := os.Executable()
		cmd := exec.Command(self, "child", "a", "b")
		cmd.Env = []string{"X=y"}
		cmd.Dir = dir
		cmd.Stdin = bytes.NewReader([]byte("input"))
		b, err := cmd.Output()
		out("%q %v", b, err)
		cmd = exec.Command(self, "child", "exit")
		err = cmd.Run()
		var e *exec.ExitError
		out("%v %d", errors.As(err, &e), cmd.ProcessState.ExitCode())
		errs("none", exec.Command("/none").Run())
		ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer stop()
		out("%v", exec.CommandContext(ctx, self, "child", "sleep").Run())
	}},
	{"go_signals", func(string) {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGUSR1)
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		out("%v", <-c)
		signal.Stop(c)
	}},
	{"go_tcp", func(string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		errs("listen", err)
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					io.Copy(c, c)
					c.Close()
				}()
			}
		}()
		var wg sync.WaitGroup
		var ok atomic.Int64
		for i := range 50 {
			wg.Go(func() {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					return
				}
				defer c.Close()
				m := bytes.Repeat([]byte{byte(i)}, 20000)
				go c.Write(m)
				b := make([]byte, len(m))
				if _, err := io.ReadFull(c, b); err == nil && bytes.Equal(b, m) {
					ok.Add(1)
				}
			})
		}
		wg.Wait()
		out("%d", ok.Load())
		c, _ := net.Dial("tcp", l.Addr().String())
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err = c.Read(make([]byte, 1))
		out("%v", errors.Is(err, os.ErrDeadlineExceeded))
		c.Close()
		a := l.Addr().String()
		l.Close()
		_, err = net.Dial("tcp", a)
		errs("refused", err)
	}},
	{"go_udp_unix", func(dir string) {
		s, err := net.ListenPacket("udp", "127.0.0.1:0")
		errs("udp", err)
		c, err := net.Dial("udp", s.LocalAddr().String())
		errs("dial", err)
		c.Write([]byte("datagram"))
		b := make([]byte, 100)
		n, from, err := s.ReadFrom(b)
		out("%s %v %v", b[:n], from.String() == c.LocalAddr().String(), err)
		u, err := net.Listen("unix", filepath.Join(dir, "s"))
		errs("unix", err)
		go func() {
			c, err := u.Accept()
			if err == nil {
				io.WriteString(c, "over a socket")
				c.Close()
			}
		}()
		d, err := net.Dial("unix", filepath.Join(dir, "s"))
		errs("dial", err)
		r, _ := io.ReadAll(d)
		out("%s", r)
		u.Close()
	}},
	{"go_http", func(dir string) {
		big := bytes.Repeat([]byte("0123456789abcdef"), 50000)
		os.WriteFile(filepath.Join(dir, "big"), big, 0o644)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		errs("listen", err)
		s := &http.Server{Handler: http.FileServer(http.Dir(dir))} // by sendfile
		go s.Serve(l)
		r, err := http.Get("http://" + l.Addr().String() + "/big")
		errs("get", err)
		b, err := io.ReadAll(r.Body)
		out("%d %v same %v", r.StatusCode, err, bytes.Equal(b, big))
		r, err = http.Get("http://" + l.Addr().String() + "/none")
		out("%d %v", r.StatusCode, err)
		s.Close()
	}},
	{"go_mmap", func(string) {
		b, err := syscall.Mmap(-1, 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		errs("mmap", err)
		b[12345] = 1
		out("%d", slices.Index(b, 1))
		errs("munmap", syscall.Munmap(b))
	}},
	{"go_random_env", func(string) {
		var a, b [32]byte
		rand.Read(a[:])
		rand.Read(b[:])
		out("%v", a != b)
		os.Setenv("K", "v")
		out("%s", os.Getenv("K"))
		h, err := os.Hostname()
		out("%v %v", h != "", err)
		_, err = os.Getwd()
		errs("getwd", err)
		ifs, err := net.Interfaces()
		out("lo %v %v", slices.ContainsFunc(ifs, func(i net.Interface) bool { return i.Name == "lo" }), err)
	}},
}

// child is what go_exec starts.
func child(args []string) {
	switch args[0] {
	case "exit":
		os.Exit(3)
	case "sleep":
		time.Sleep(time.Minute)
	}
	in, _ := io.ReadAll(os.Stdin)
	fmt.Printf("%q %s %q", args, in, os.Environ())
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		child(os.Args[2:])
		return
	}
	syscall.Umask(0o022)
	for _, c := range cases {
		fmt.Printf("== %s\n", c.name)
		dir, err := os.MkdirTemp("/var/tmp", "goconf")
		if err != nil {
			fmt.Println("--", err)
			continue
		}
		c.run(dir)
		os.RemoveAll(dir)
		fmt.Println("-- exit 0")
	}
	fmt.Printf("goconf: %d cases\n", len(cases))
}
