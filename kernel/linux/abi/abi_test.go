package abi

import (
	"encoding/binary"
	"syscall"
	"testing"
	"time"
)

func TestTimes(t *testing.T) {
	var b [TimespecSize]byte
	for _, d := range []time.Duration{0, 1, time.Second - 1, time.Hour + 5, 1<<63 - 1} {
		PutTimespec(b[:], d)
		if got, ok := Timespec(b[:]); d < 1<<62 && got != d || !ok {
			t.Errorf("%v: %v, %v", d, got, ok)
		}
		PutTimeval(b[:], d)
		if got, ok := Timeval(b[:]); d < 1<<62 && got != d.Truncate(time.Microsecond) || !ok {
			t.Errorf("%v: %v, %v", d, got, ok)
		}
	}
	le := binary.LittleEndian
	for _, bad := range [][2]int64{{-1, 0}, {0, -1}, {0, 1e9}} {
		le.PutUint64(b[0:], uint64(bad[0]))
		le.PutUint64(b[8:], uint64(bad[1]))
		if _, ok := Timespec(b[:]); ok {
			t.Errorf("timespec %v", bad)
		}
		if _, ok := Timeval(b[:]); ok {
			t.Errorf("timeval %v", bad)
		}
	}
	le.PutUint64(b[0:], 1<<62)
	le.PutUint64(b[8:], 0)
	if d, ok := Timespec(b[:]); !ok || d != 1<<63-1 {
		t.Errorf("the end of time: %v, %v", d, ok)
	}
}

func TestSiginfo(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		i    Siginfo
		at   int
		want uint64
	}{
		{Siginfo{Signo: int32(syscall.SIGSEGV), Code: SEGV_ACCERR, Addr: 0x1234567890}, 16, 0x1234567890},
		{Siginfo{Signo: int32(syscall.SIGCHLD), Code: CLD_EXITED, PID: 5, UID: 6, Status: 7}, 16, 6<<32 | 5},
		{Siginfo{Signo: int32(syscall.SIGCHLD), Code: CLD_EXITED, Utime: 9}, 32, 9},
		{Siginfo{Signo: int32(syscall.SIGIO), Code: POLL_IN, Band: 3, FD: 4}, 16, 3},
		{Siginfo{Signo: 40, Code: SI_TIMER, Timer: 1, Overrun: 2, Value: 3}, 16, 2<<32 | 1},
		{Siginfo{Signo: 40, Code: SI_TIMER, Value: 3}, 24, 3},
		{Siginfo{Signo: 40, Code: SI_QUEUE, PID: 1, UID: 2, Value: 3}, 24, 3},
		{Siginfo{Signo: 1, Code: SI_USER, PID: 1, UID: 2}, 16, 2<<32 | 1},
		{Siginfo{Signo: 1, Code: SI_SIGIO, Band: 8}, 16, 8},
	} {
		var b [SiginfoSize]byte
		c.i.Encode(&b)
		if le.Uint32(b[0:]) != uint32(c.i.Signo) || le.Uint32(b[8:]) != uint32(c.i.Code) || le.Uint64(b[c.at:]) != c.want {
			t.Errorf("%+v: % x", c.i, b[:48])
		}
		// What a program has made up is passed on as it is.
		d := DecodeSiginfo(&b)
		var again [SiginfoSize]byte
		d.Encode(&again)
		if again != b {
			t.Errorf("%+v: decoded and encoded: % x", c.i, again[:48])
		}
	}
}

func TestSignalNames(t *testing.T) {
	for sig, want := range map[int]string{9: "SIGKILL", 32: "SIGRTMIN", 34: "SIGRT_2", 99: "99"} {
		if got := SignalName(sig); got != want {
			t.Errorf("%d: %s", sig, got)
		}
	}
}
