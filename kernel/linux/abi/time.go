package abi

import (
	"encoding/binary"
	"time"
)

// Clocks of clock_gettime(2).
const (
	CLOCK_REALTIME           = 0
	CLOCK_MONOTONIC          = 1
	CLOCK_PROCESS_CPUTIME_ID = 2
	CLOCK_THREAD_CPUTIME_ID  = 3
	CLOCK_MONOTONIC_RAW      = 4
	CLOCK_REALTIME_COARSE    = 5
	CLOCK_MONOTONIC_COARSE   = 6
	CLOCK_BOOTTIME           = 7
	CLOCK_REALTIME_ALARM     = 8
	CLOCK_BOOTTIME_ALARM     = 9
	CLOCK_TAI                = 11

	TIMER_ABSTIME = 1

	ITIMER_REAL    = 0
	ITIMER_VIRTUAL = 1
	ITIMER_PROF    = 2

	// USER_HZ is the unit of times(2) and /proc: ticks a second.
	USER_HZ = 100
)

// TimespecSize is the size of struct timespec and struct timeval in bytes.
const TimespecSize = 16

// Timespec reads a struct timespec; ok is false where tv_nsec is out of range or the
// time is negative. What does not fit a Duration is the largest.
func Timespec(b []byte) (d time.Duration, ok bool) {
	s, n := int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))
	if n < 0 || n >= 1e9 || s < 0 {
		return 0, false
	}
	return seconds(s, n), true
}

// Timeval reads a struct timeval, as Timespec does.
func Timeval(b []byte) (d time.Duration, ok bool) {
	s, u := int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))
	if u < 0 || u >= 1e6 || s < 0 {
		return 0, false
	}
	return seconds(s, u*1000), true
}

func seconds(s, ns int64) time.Duration {
	if s >= int64(1<<63-1)/1e9-1 {
		return 1<<63 - 1
	}
	return time.Duration(s)*time.Second + time.Duration(ns)
}

// PutTimespec writes d as struct timespec.
func PutTimespec(b []byte, d time.Duration) {
	binary.LittleEndian.PutUint64(b, uint64(d/time.Second))
	binary.LittleEndian.PutUint64(b[8:], uint64(d%time.Second))
}

// PutTimeval writes d as struct timeval.
func PutTimeval(b []byte, d time.Duration) {
	binary.LittleEndian.PutUint64(b, uint64(d/time.Second))
	binary.LittleEndian.PutUint64(b[8:], uint64(d%time.Second/time.Microsecond))
}
