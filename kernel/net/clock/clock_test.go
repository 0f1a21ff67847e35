package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSystemTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c System
		start := c.Now()
		done := make(chan int64, 1)
		c.AfterFunc(time.Second, func() { done <- c.Now() })
		stopped := c.AfterFunc(time.Millisecond, func() { t.Error("stopped timer ran") })
		if !stopped.Stop() {
			t.Error("Stop of a pending timer reports false")
		}
		if d := <-done - start; d != int64(time.Second) {
			t.Errorf("timer ran after %v, want 1s", time.Duration(d))
		}
	})
}
