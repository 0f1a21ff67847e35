package server

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// logger writes lines to the console up to the level of -v.
type logger struct {
	mu    sync.Mutex
	w     io.Writer
	level *atomic.Int32
	none  atomic.Int32
}

func (l *logger) init(w io.Writer, level *atomic.Int32) { l.w, l.level = w, level }

func (l *logger) printf(level int32, format string, a ...any) {
	if l.w == nil || l.level.Load() < level {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "memcached: "+format+"\n", a...)
}
