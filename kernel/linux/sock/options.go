package sock

import (
	"bytes"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
)

// Sizes of buffers as Linux has them by default, bytes (net.core.*mem_*,
// net.ipv4.tcp_*mem). What setsockopt gives is doubled, for the kernel's own needs.
const (
	defaultBuf    = 212992
	maxBuf        = 212992 // before doubling
	minRcvBuf     = 2304
	minSndBuf     = 4608
	defaultTCPRcv = 131072
	defaultTCPSnd = 16384
)

// options are those of SOL_SOCKET, and of the levels below that are plain words.
type options struct {
	reuseAddr, reusePort, keepAlive, broadcast bool
	oobInline, passCred, dontRoute, passSec    bool
	zeroCopy, rxqOvfl, selectErr               bool
	stampUS, stampNS, noCheck, lockFilter      bool
	noFCS                                      bool

	linger     int // seconds, negative for off
	lingerLast int // what l_linger said, also while off
	rcvBuf     int // doubled; 0 for the default
	sndBuf     int
	rcvLowat   int // 0 counts as 1
	priority   int
	mark       uint32
	busyPoll   int
	cpu        int // SO_INCOMING_CPU + 1, 0 for none
	peekOff    int // + 1
	pacing     uint64
	device     string
	bufLock    int

	ip ipOptions
}

// boolOptions are the options of SOL_SOCKET that are on or off.
func (o *options) bool(name int) *bool {
	switch name {
	case syscall.SO_REUSEADDR:
		return &o.reuseAddr
	case abi.SO_REUSEPORT:
		return &o.reusePort
	case syscall.SO_KEEPALIVE:
		return &o.keepAlive
	case syscall.SO_BROADCAST:
		return &o.broadcast
	case syscall.SO_OOBINLINE:
		return &o.oobInline
	case abi.SO_PASSCRED:
		return &o.passCred
	case abi.SO_PASSSEC:
		return &o.passSec
	case syscall.SO_DONTROUTE:
		return &o.dontRoute
	case abi.SO_ZEROCOPY:
		return &o.zeroCopy
	case abi.SO_RXQ_OVFL:
		return &o.rxqOvfl
	case abi.SO_SELECT_ERR_QUEUE:
		return &o.selectErr
	case syscall.SO_NO_CHECK:
		return &o.noCheck
	case abi.SO_LOCK_FILTER:
		return &o.lockFilter
	case abi.SO_NOFCS:
		return &o.noFCS
	}
	return nil
}

// intArg is an option's value as an int: EINVAL where it is shorter.
func intArg(v []byte) (int, error) {
	if len(v) < 4 {
		return 0, syscall.EINVAL
	}
	return int(int32(ne.Uint32(v))), nil
}

// putInt is an option's value for getsockopt, cut to what there is room for.
func putInt(v []byte, n int) (int, error) {
	var b [4]byte
	ne.PutUint32(b[:], uint32(int32(n)))
	return copy(v, b[:]), nil
}

func putBool(v []byte, on bool) (int, error) {
	if on {
		return putInt(v, 1)
	}
	return putInt(v, 0)
}

// setSocket is setsockopt of SOL_SOCKET.
func (b *base) setSocket(name int, v []byte) error {
	switch name {
	case syscall.SO_BINDTODEVICE:
		return b.setDevice(v)
	case syscall.SO_LINGER:
		return b.setLinger(v)
	case syscall.SO_RCVTIMEO, syscall.SO_SNDTIMEO, abi.SO_RCVTIMEO_NEW, abi.SO_SNDTIMEO_NEW:
		return b.setTimeout(name == syscall.SO_SNDTIMEO || name == abi.SO_SNDTIMEO_NEW, v)
	}
	n, err := intArg(v)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o := &b.opt
	if p := o.bool(name); p != nil {
		if name == abi.SO_LOCK_FILTER && *p && n == 0 {
			return syscall.EPERM
		}
		*p = n != 0
		return nil
	}
	switch name {
	case syscall.SO_RCVBUF, syscall.SO_RCVBUFFORCE:
		o.rcvBuf = max(2*min(uint32AsInt(n), maxBuf), minRcvBuf)
		o.bufLock |= 2
	case syscall.SO_SNDBUF, syscall.SO_SNDBUFFORCE:
		o.sndBuf = max(2*min(uint32AsInt(n), maxBuf), minSndBuf)
		o.bufLock |= 1
	case syscall.SO_RCVLOWAT:
		if n < 0 {
			n = 1<<31 - 1
		}
		o.rcvLowat = max(n, 1)
	case syscall.SO_PRIORITY:
		if n < 0 || n > 6 {
			return syscall.EPERM
		}
		o.priority = n
	case abi.SO_MARK:
		o.mark = uint32(n)
	case syscall.SO_TIMESTAMP, abi.SO_TIMESTAMP_NEW:
		o.stampUS, o.stampNS = n != 0, false
	case syscall.SO_TIMESTAMPNS, abi.SO_TIMESTAMPNS_NEW:
		o.stampNS, o.stampUS = n != 0, false
	case abi.SO_TIMESTAMPING:
		if n&^0x1ffff != 0 {
			return syscall.EINVAL
		}
	case abi.SO_BUSY_POLL:
		if n < 0 {
			return syscall.EINVAL
		}
		o.busyPoll = n
	case abi.SO_INCOMING_CPU:
		o.cpu = n + 1
	case abi.SO_MAX_PACING_RATE:
		o.pacing = uint64(uint32(n))
		if len(v) >= 8 {
			o.pacing = ne.Uint64(v)
		}
	case abi.SO_PEEK_OFF:
		if b.domain != syscall.AF_UNIX {
			return syscall.EOPNOTSUPP
		}
		o.peekOff = max(n, -1) + 1
	case abi.SO_BUF_LOCK:
		if n&^3 != 0 {
			return syscall.EINVAL
		}
		o.bufLock = n
	case abi.SO_PREFER_BUSY_POLL, abi.SO_BUSY_POLL_BUDGET, abi.SO_WIFI_STATUS:
		// Nothing here goes by them.
	case syscall.SO_BSDCOMPAT:
	case syscall.SO_DETACH_FILTER:
		return syscall.ENOENT
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

// uint32AsInt is how Linux bounds a size: negative ones are huge.
func uint32AsInt(n int) int { return int(uint32(int32(n))) }

func (b *base) setDevice(v []byte) error {
	name, _, _ := bytes.Cut(v[:min(len(v), abi.IFNAMSIZ-1)], []byte{0})
	if len(name) > 0 && (b.net.stack == nil || b.net.ifIndex(string(name)) == 0) {
		return syscall.ENODEV
	}
	b.mu.Lock()
	b.opt.device = string(name)
	b.mu.Unlock()
	return nil
}

func (b *base) setLinger(v []byte) error {
	if len(v) < 8 {
		return syscall.EINVAL
	}
	sec := int(ne.Uint32(v[4:]))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opt.linger = -1
	if ne.Uint32(v) != 0 {
		b.opt.linger, b.opt.lingerLast = sec, sec
	}
	return nil
}

// setTimeout sets SO_RCVTIMEO or SO_SNDTIMEO from a struct timeval.
func (b *base) setTimeout(send bool, v []byte) error {
	if len(v) < 16 {
		return syscall.EINVAL
	}
	sec, usec := int64(ne.Uint64(v)), int64(ne.Uint64(v[8:]))
	if usec < 0 || usec >= 1e6 {
		return syscall.EDOM
	}
	d := int64(0)
	switch {
	case sec < 0:
		d = 1 // over at once
	case sec < 1<<32:
		d = sec*int64(time.Second) + usec*int64(time.Microsecond)
	}
	i := 0
	if send {
		i = 1
	}
	b.timeouts[i].Store(d)
	return nil
}

// socketOption is getsockopt of SOL_SOCKET, for what all sockets answer alike.
func (b *base) socketOption(name int, v []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := &b.opt
	if p := o.bool(name); p != nil {
		return putBool(v, *p)
	}
	switch name {
	case syscall.SO_TYPE:
		return putInt(v, b.typ)
	case syscall.SO_DOMAIN:
		return putInt(v, b.domain)
	case syscall.SO_PROTOCOL:
		return putInt(v, b.proto)
	case syscall.SO_ACCEPTCONN:
		return putInt(v, 0)
	case syscall.SO_RCVBUF:
		return putInt(v, b.rcvBuf())
	case syscall.SO_SNDBUF:
		return putInt(v, b.sndBuf())
	case syscall.SO_RCVLOWAT:
		return putInt(v, max(o.rcvLowat, 1))
	case syscall.SO_SNDLOWAT:
		return putInt(v, 1)
	case syscall.SO_LINGER:
		var w [8]byte
		if o.linger >= 0 {
			ne.PutUint32(w[:], 1)
		}
		ne.PutUint32(w[4:], uint32(o.lingerLast))
		return copy(v, w[:]), nil
	case syscall.SO_RCVTIMEO, abi.SO_RCVTIMEO_NEW:
		return b.putTimeout(v, 0)
	case syscall.SO_SNDTIMEO, abi.SO_SNDTIMEO_NEW:
		return b.putTimeout(v, 1)
	case syscall.SO_PRIORITY:
		return putInt(v, o.priority)
	case abi.SO_MARK:
		return putInt(v, int(o.mark))
	case syscall.SO_TIMESTAMP, abi.SO_TIMESTAMP_NEW:
		return putBool(v, o.stampUS)
	case syscall.SO_TIMESTAMPNS, abi.SO_TIMESTAMPNS_NEW:
		return putBool(v, o.stampNS)
	case abi.SO_BUSY_POLL:
		return putInt(v, o.busyPoll)
	case abi.SO_INCOMING_CPU:
		return putInt(v, o.cpu-1)
	case abi.SO_PEEK_OFF:
		if b.domain != syscall.AF_UNIX {
			return 0, syscall.EOPNOTSUPP
		}
		return putInt(v, o.peekOff-1)
	case abi.SO_BUF_LOCK:
		return putInt(v, o.bufLock)
	case abi.SO_INCOMING_NAPI_ID, abi.SO_TIMESTAMPING, abi.SO_PREFER_BUSY_POLL, abi.SO_WIFI_STATUS, syscall.SO_BSDCOMPAT:
		return putInt(v, 0)
	case abi.SO_MAX_PACING_RATE:
		if len(v) < 8 {
			return putInt(v, int(int32(uint32(min(o.pacing-1, 1<<32-2)+1))))
		}
		ne.PutUint64(v, o.pacing)
		return 8, nil
	case abi.SO_COOKIE:
		if len(v) < 8 {
			return 0, syscall.EINVAL
		}
		ne.PutUint64(v, b.cookie)
		return 8, nil
	case abi.SO_BPF_EXTENSIONS:
		return putInt(v, 0)
	case syscall.SO_BINDTODEVICE:
		if o.device == "" {
			return 0, nil
		}
		if len(v) < abi.IFNAMSIZ {
			return 0, syscall.EINVAL
		}
		return copy(v, o.device+"\x00"), nil
	case abi.SO_GET_FILTER:
		return 0, nil
	}
	return 0, syscall.ENOPROTOOPT
}

func (b *base) putTimeout(v []byte, i int) (int, error) {
	d := b.timeouts[i].Load()
	if d == 1 {
		d = 0
	}
	var w [16]byte
	ne.PutUint64(w[:], uint64(d/int64(time.Second)))
	ne.PutUint64(w[8:], uint64(d%int64(time.Second)/int64(time.Microsecond)))
	return copy(v, w[:]), nil
}

// rcvBuf and sndBuf are the sizes as getsockopt tells them. Caller must hold mu.
func (b *base) rcvBuf() int {
	switch {
	case b.opt.rcvBuf != 0:
		return b.opt.rcvBuf
	case b.proto == syscall.IPPROTO_TCP:
		return defaultTCPRcv
	}
	return defaultBuf
}

func (b *base) sndBuf() int {
	switch {
	case b.opt.sndBuf != 0:
		return b.opt.sndBuf
	case b.proto == syscall.IPPROTO_TCP:
		return defaultTCPSnd
	}
	return defaultBuf
}
