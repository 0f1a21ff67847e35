package platform

import (
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"osv/kernel/blk"
	"osv/kernel/hw/gate"
)

// ExitPatience is how long what runs at the end may take, before the machine is
// switched off without it: a disk that does not answer does not hold it up for ever.
const ExitPatience = 5 * time.Second

// ending is what is done at the ordinary end of the machine.
type ending struct {
	mu    sync.Mutex // guards funcs
	funcs []func()
	begun sync.Once
}

// AtExit has f called when the machine ends in the ordinary way, before its disks are
// shut down: when main returns or os.Exit is called, and by Exit and Restart. The
// function that was given last runs first, and a file system is unmounted so. All of
// them and the disks have ExitPatience.
//
// A panic, a fatal error, a fault and a signal that the program leaves alone end the
// machine at once, as they end a process. The power button flushes disks before its
// SIGTERM.
func (s *System) AtExit(f func()) {
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	s.end.funcs = append(s.end.funcs, f)
}

// Exit ends the machine as os.Exit does. It does not return.
func (s *System) Exit(status int) {
	s.end.run(s.Disks, func() { gate.EndProgram(status) })
	select {}
}

// Restart is Exit, and the machine starts anew.
func (s *System) Restart() {
	s.end.run(s.Disks, gate.Reset)
	select {}
}

// hookExit has the ordinary end of the program come to Exit.
func (s *System) hookExit() {
	if !gate.OnExit(s.Exit) {
		log.Infof("Start was not called from main: its return does not shut disks down, os.Exit does")
	}
}

// run does what is to be done at the end, once: who comes second waits for the first.
func (e *ending) run(disks []blk.Disk, off func()) {
	e.begun.Do(func() {
		within(ExitPatience, func() {
			e.mu.Lock()
			funcs := slices.Clone(e.funcs)
			e.mu.Unlock()
			for _, f := range slices.Backward(funcs) {
				f()
			}
			eachDisk(disks, "shut down", func(d blk.Disk) error {
				if d.Err() != nil { // it stopped, or was closed, long ago
					return nil
				}
				if err := d.Flush(); err != nil && !d.ReadOnly() {
					log.Warnf("%s: %v", d.Name(), err)
				}
				return d.Close()
			})
		})
		off()
	})
}

// flushDisks writes out what controllers cache, as far as that is possible in
// ExitPatience.
func (s *System) flushDisks() {
	within(ExitPatience, func() {
		eachDisk(s.Disks, "flush", func(d blk.Disk) error {
			if d.ReadOnly() || d.Err() != nil {
				return nil
			}
			return d.Flush()
		})
	})
}

// eachDisk does f to all disks at once: one that does not answer holds up no other.
func eachDisk(disks []blk.Disk, what string, f func(blk.Disk) error) {
	var all sync.WaitGroup
	for _, d := range disks {
		all.Go(func() {
			if err := f(d); err != nil {
				log.Warnf("%s: %s: %v", d.Name(), what, err)
			}
		})
	}
	all.Wait()
}

// within runs f and returns when it has, at the latest after d. What it has not done by
// then is said.
func within(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		log.Warnf("disks are not shut down after %v: the machine ends without", d)
	}
}

// terminate asks the program to end, whose default is to do so at once: disks are
// flushed before.
func (s *System) terminate() {
	log.Infof("the host asks to shut down")
	s.flushDisks()
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
}
