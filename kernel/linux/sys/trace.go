package sys

import (
	"io"
	"strconv"
	"sync"
	"syscall"
	"time"

	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// DefaultTraceRate is how many lines a second a trace has: more than a serial console
// carries would stop the program.
const DefaultTraceRate = 5000

// How much of a string or buffer is shown, in bytes.
const (
	traceString = 128
	traceBuffer = 32
)

// tracer prints calls as strace does, each when it returns: `12 read(3, "a"..., 4) = 1`.
type tracer struct {
	opt   Options
	lines sync.Pool

	mu      sync.Mutex
	window  time.Time // when the present second began
	printed int
	left    uint64 // out of the present second
}

type traceLine struct {
	b    []byte
	task *task.Task
	sig  string
	a    Args
	done int  // arguments printed at entry
	hex  bool // the result is an address
	mem  vfs.Memory
	buf  [traceString + 1]byte
}

func newTracer(opt Options) *tracer {
	if opt.TraceRate <= 0 {
		opt.TraceRate = DefaultTraceRate
	}
	tr := &tracer{opt: opt}
	tr.lines.New = func() any { return &traceLine{b: make([]byte, 0, 512)} }
	return tr
}

// enter prints the arguments up to the first that the call fills.
func (tr *tracer) enter(t *task.Task, e *Entry, a *Args) *traceLine {
	l := tr.lines.Get().(*traceLine)
	l.b, l.task, l.sig, l.a, l.done, l.mem = l.b[:0], t, e.Sig, *a, 0, nil
	if tr.opt.Who != nil {
		tid, _, mem := tr.opt.Who(t)
		l.mem = mem
		l.b = strconv.AppendInt(l.b, int64(tid), 10)
		l.b = append(l.b, ' ')
	}
	l.b = append(l.b, e.Name...)
	l.b = append(l.b, '(')
	l.hex = e.Name == "brk" || e.Name == "mmap" || e.Name == "mremap"
	if k := len(l.sig); k > 1 && l.sig[k-1] == 'm' && l.sig[k-2] == 'o' && a[k-2]&creates == 0 {
		l.sig = l.sig[:k-1] // the mode is not looked at
	}
	for l.done < len(l.sig) && l.done < len(a) && l.sig[l.done] != 'B' {
		l.arg(l.done, 0)
		l.done++
	}
	return l
}

// exit prints the rest and the result.
func (tr *tracer) exit(l *traceLine, r uint64, err error) {
	for ; l.done < len(l.sig) && l.done < len(l.a); l.done++ {
		n := r
		if err != nil {
			n = 0
		}
		l.arg(l.done, n)
	}
	l.b = append(l.b, ") = "...)
	switch e, ok := err.(syscall.Errno); {
	case err == nil && (l.hex || r > 1<<40):
		l.b = appendHex(l.b, r)
	case err == nil:
		l.b = strconv.AppendInt(l.b, int64(r), 10)
	case ok:
		l.b = append(l.b, errnoResult(e)...)
	default:
		l.b = append(l.b, "? "...)
		l.b = append(l.b, err.Error()...)
	}
	l.b = append(l.b, '\n')
	tr.print(l.b)
	l.task, l.mem = nil, nil
	if cap(l.b) <= 4096 {
		tr.lines.Put(l)
	}
}

// print writes a line, unless this second has had its share.
func (tr *tracer) print(b []byte) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	now := time.Now()
	if now.Sub(tr.window) >= time.Second {
		if tr.left > 0 {
			_, _ = io.WriteString(tr.opt.Trace, "+++ "+strconv.FormatUint(tr.left, 10)+" calls not shown +++\n")
		}
		tr.window, tr.printed, tr.left = now, 0, 0
	}
	if tr.printed >= tr.opt.TraceRate {
		tr.left++
		return
	}
	tr.printed++
	_, _ = tr.opt.Trace.Write(b)
}

// arg prints argument i; n is the call's result, for what it has filled.
func (l *traceLine) arg(i int, n uint64) {
	if i > 0 {
		l.b = append(l.b, ", "...)
	}
	v := l.a[i]
	switch k := l.sig[i]; k {
	case 'd', 'f':
		l.b = strconv.AppendInt(l.b, int64(int32(v)), 10)
	case 'l':
		l.b = strconv.AppendInt(l.b, int64(v), 10)
	case 'u':
		l.b = strconv.AppendUint(l.b, v, 10)
	case 'a':
		if int32(v) == atFdcwd {
			l.b = append(l.b, "AT_FDCWD"...)
		} else {
			l.b = strconv.AppendInt(l.b, int64(int32(v)), 10)
		}
	case 'p':
		l.b = appendPointer(l.b, v)
	case 's':
		l.string(v)
	case 'm':
		l.b = append(l.b, '0')
		l.b = strconv.AppendUint(l.b, v&0o177777, 8)
	case 'b':
		size := uint64(0)
		if i+1 < len(l.a) {
			size = l.a[i+1]
		}
		l.buffer(v, size)
	case 'B':
		l.buffer(v, n)
	default:
		if f := flagSets[k]; f != nil {
			l.b = f.append(l.b, v)
		} else {
			l.b = appendHex(l.b, v)
		}
	}
}

const (
	atFdcwd = -100
	creates = syscall.O_CREAT | 0x400000 // O_TMPFILE
)

func appendHex(b []byte, v uint64) []byte {
	b = append(b, "0x"...)
	return strconv.AppendUint(b, v, 16)
}

func appendPointer(b []byte, v uint64) []byte {
	if v == 0 {
		return append(b, "NULL"...)
	}
	return appendHex(b, v)
}

// string prints a zero-terminated string, read a piece at a time so as not to touch
// the page after it.
func (l *traceLine) string(addr uint64) {
	if addr == 0 || l.mem == nil {
		l.b = appendPointer(l.b, addr)
		return
	}
	n := 0
	for n < traceString {
		k := min(traceString-n, 64-int((addr+uint64(n))%64))
		if l.mem.CopyIn(l.buf[n:n+k], addr+uint64(n)) != nil {
			l.b = appendHex(l.b, addr)
			return
		}
		for j := n; j < n+k; j++ {
			if l.buf[j] == 0 {
				l.b = appendQuoted(l.b, l.buf[:j])
				return
			}
		}
		n += k
	}
	l.b = append(appendQuoted(l.b, l.buf[:n]), "..."...)
}

func (l *traceLine) buffer(addr, size uint64) {
	n := min(size, traceBuffer)
	if addr == 0 || l.mem == nil || l.mem.CopyIn(l.buf[:n], addr) != nil {
		l.b = appendPointer(l.b, addr)
		return
	}
	l.b = appendQuoted(l.b, l.buf[:n])
	if size > n {
		l.b = append(l.b, "..."...)
	}
}

// appendQuoted is strace's form of bytes: C escapes, octal for what is not ASCII.
func appendQuoted(b, s []byte) []byte {
	b = append(b, '"')
	for i, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= ' ' && c < 0x7f:
			b = append(b, c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\')
			if i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '7' {
				b = append(b, '0'+c>>6, '0'+c>>3&7, '0'+c&7) // three digits, before a digit
			} else {
				b = strconv.AppendUint(b, uint64(c), 8)
			}
		}
	}
	return append(b, '"')
}
