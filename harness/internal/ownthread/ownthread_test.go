package ownthread

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain keeps the test's goroutine off the main thread, so that Go may meet it.
func TestMain(m *testing.M) {
	code := make(chan int)
	go func() { code <- m.Run() }()
	os.Exit(<-code)
}

func TestThreadEndsWithTheFunction(t *testing.T) {
	for range 50 {
		var tid int
		want := errors.New("x")
		if err := Do(func() error { tid = unix.Gettid(); return want }); err != want {
			t.Fatal(err)
		}
		if tid == unix.Getpid() {
			t.Fatal("ran on the main thread")
		}
		for { // the thread ends a moment after the goroutine
			if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(tid)); err != nil {
				break
			}
			runtime.Gosched()
		}
	}
}

// A namespace entered inside is not that of other goroutines.
func TestNamespaceStaysInside(t *testing.T) {
	read := func() string {
		s, err := os.Readlink("/proc/thread-self/ns/uts")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	outside := read()
	err := Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return err
		}
		if read() == outside {
			t.Error("the namespace did not change")
		}
		return nil
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs the right to make a namespace")
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if got := read(); got != outside {
			t.Fatalf("outside in %s, was %s", got, outside)
		}
		runtime.Gosched()
	}
}
