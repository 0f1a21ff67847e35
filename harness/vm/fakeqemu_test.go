package vm

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	if os.Getenv("OSV_FAKE_QEMU") != "" {
		runtime.LockOSThread() // the main thread stays the main loop's
	}
}

// fakeQEMU plays QEMU: QMP on descriptor 3, the console on standard output, and
// a script of "; "-separated steps from -append. It is deaf and mute until "cont"
// like a QEMU started with -S.
func fakeQEMU() {
	var script string
	for i, a := range os.Args {
		if a == "-append" {
			script = os.Args[i+1]
		}
	}
	if !slices.Contains(os.Args, "chardev=qmp,mode=control") {
		os.Exit(1) // the KVM probe: no guest runs here
	}
	steps := strings.Split(script, "; ")
	switch verb, arg, _ := strings.Cut(steps[0], " "); verb {
	case "early-exit":
		code, text, _ := strings.Cut(arg, " ")
		fmt.Fprintln(os.Stderr, "qemu:", text)
		n, _ := strconv.Atoi(code)
		os.Exit(n)
	case "deaf":
		select {}
	}
	qmp := os.NewFile(3, "qmp")
	commands := make(chan string, 16)
	vcpu := make(chan int)
	go func() {
		runtime.LockOSThread()
		vcpu <- unix.Gettid()
		select {}
	}()
	tid := <-vcpu
	say := func(format string, a ...any) { fmt.Fprintf(qmp, format+"\r\n", a...) }
	say(`{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 0}}, "capabilities": []}}`)
	go func() {
		dec := json.NewDecoder(qmp)
		for {
			var c struct {
				Execute string
				ID      uint64
			}
			if dec.Decode(&c) != nil {
				return
			}
			switch {
			case c.Execute == "query-cpus-fast" && steps[0] == "no-cpus":
				say(`{"id": %d, "error": {"class": "CommandNotFound", "desc": "no"}}`, c.ID)
			case c.Execute == "query-cpus-fast":
				say(`{"id": %d, "return": [{"cpu-index": 0, "thread-id": %d}]}`, c.ID, tid)
			default:
				say(`{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "NOISE"}`)
				say(`{"id": %d, "return": {}}`, c.ID)
			}
			commands <- c.Execute
		}
	}()
	await := func(name string) {
		for c := range commands {
			if c == name {
				return
			}
		}
	}
	for _, s := range steps {
		verb, arg, _ := strings.Cut(s, " ")
		n, _ := strconv.Atoi(arg)
		switch verb {
		case "cont":
			await("cont")
		case "print":
			fmt.Println(arg)
		case "stderr":
			fmt.Fprintln(os.Stderr, arg)
		case "shutdown":
			say(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "%s"}}`, arg)
		case "exit":
			os.Exit(n)
		case "crash":
			unix.Kill(unix.Getpid(), unix.SIGKILL)
			select {}
		case "echo-stdin":
			line, err := bufio.NewReader(os.Stdin).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				fmt.Println(err)
			}
			fmt.Print(line)
		case "wait-powerdown":
			await("system_powerdown")
		case "wait-quit":
			await("quit")
			say(`{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}`)
			os.Exit(0)
		case "stubborn":
			signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		case "child":
			c := exec.Command("sleep", "1000")
			if err := c.Start(); err != nil {
				fmt.Println(err)
			}
			fmt.Println("child", c.Process.Pid)
		case "sleep":
			select {}
		}
	}
	select {}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// waitGone waits until process pid has ended (a zombie counts: its parent is
// gone, and who reaps it is not ours to say).
func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		runtime.Gosched()
	}
}
