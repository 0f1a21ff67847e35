package mm

import (
	"encoding/binary"
	"syscall"
)

// Iovec is a range of user memory, laid out as struct iovec.
type Iovec struct {
	Base, Len uint64
}

// User is user memory as a vfs.Dst and a vfs.Src: one range, or several one after the
// other. A thread keeps one and passes its address, so that nothing is allocated.
type User struct {
	s    *Space
	cur  Iovec
	rest []Iovec
	left int
}

// maxTransfer is Linux's MAX_RW_COUNT: more than this no call transfers.
const maxTransfer = 0x7ffff000

// Dst is the n bytes at addr as the destination of a read. Negative or huge n are cut
// to what Linux transfers at most.
func (s *Space) Dst(addr uint64, n int) User {
	n = min(max(n, 0), maxTransfer)
	return User{s: s, cur: Iovec{addr, uint64(n)}, left: n}
}

// Src is the n bytes at addr as the source of a write.
func (s *Space) Src(addr uint64, n int) User { return s.Dst(addr, n) }

// DstVec is the memory of all of v, which must stay as it is while it is used.
func (s *Space) DstVec(v []Iovec) User {
	u := User{s: s, rest: v}
	total := uint64(0)
	for _, r := range v {
		total = min(total+min(r.Len, maxTransfer), maxTransfer)
	}
	u.left = int(total)
	return u
}

// SrcVec is the memory of all of v as a source.
func (s *Space) SrcVec(v []Iovec) User { return s.DstVec(v) }

// Room is how many bytes can still be put.
func (u *User) Room() int { return u.left }

// Left is how many bytes can still be taken.
func (u *User) Left() int { return u.left }

// Limit makes n bytes, at most what there are, all that is left.
func (u *User) Limit(n int) { u.left = max(min(u.left, n), 0) }

// next makes the current range one that is not used up.
func (u *User) next() error {
	for u.cur.Len == 0 {
		if len(u.rest) == 0 {
			return syscall.EFAULT
		}
		u.cur, u.rest = u.rest[0], u.rest[1:]
	}
	return nil
}

// at is the memory that comes next, at most n bytes. Caller holds the read lock.
func (u *User) at(n int, want Prot) ([]byte, error) {
	if err := u.next(); err != nil {
		return nil, err
	}
	b, err := u.s.reachFor(u.cur.Base, want, n)
	if err != nil {
		return nil, err
	}
	return b[:min(uint64(n), uint64(len(b)), u.cur.Len)], nil
}

// used moves on by n bytes of the current range.
func (u *User) used(n int) {
	u.cur.Base += uint64(n)
	u.cur.Len -= uint64(n)
	u.left -= n
}

// Put copies p to user memory. EFAULT comes with what was copied before; it is not an
// error that p is longer than the room.
func (u *User) Put(p []byte) (n int, err error) {
	p = p[:min(len(p), u.left)]
	if len(p) == 0 {
		return 0, nil
	}
	u.s.mu.RLock()
	if uint64(len(p)) <= u.cur.Len {
		n, err = u.s.put(u.cur.Base, p)
		u.used(n)
	} else {
		n, err = u.putVec(p)
	}
	u.s.mu.RUnlock()
	u.s.settle()
	return n, err
}

// putVec is Put over more than one range. Caller holds the read lock.
func (u *User) putVec(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if err = u.next(); err == nil {
			var c int
			c, err = u.s.put(u.cur.Base, p[n:n+int(min(uint64(len(p)-n), u.cur.Len))])
			u.used(c)
			n += c
		}
	}
	return n, err
}

// Take copies user memory into p. EFAULT comes with what was copied before; p may be
// longer than what is left.
func (u *User) Take(p []byte) (n int, err error) {
	p = p[:min(len(p), u.left)]
	if len(p) == 0 {
		return 0, nil
	}
	u.s.mu.RLock()
	if uint64(len(p)) <= u.cur.Len {
		n, err = u.s.get(p, u.cur.Base)
		u.used(n)
	} else {
		n, err = u.takeVec(p)
	}
	u.s.mu.RUnlock()
	return n, err
}

// PutWord is Put of 8 bytes, little-endian, as far as there is room.
func (u *User) PutWord(v uint64) (int, error) {
	if u.cur.Len < 8 || u.left < 8 {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		return u.Put(b[:])
	}
	if err := u.s.PutWord(u.cur.Base, v); err != nil {
		return 0, err
	}
	u.used(8)
	return 8, nil
}

// TakeWord is Take of 8 bytes, little-endian; what is not left is 0.
func (u *User) TakeWord() (uint64, error) {
	if u.cur.Len < 8 || u.left < 8 {
		var b [8]byte
		_, err := u.Take(b[:])
		return binary.LittleEndian.Uint64(b[:]), err
	}
	v, err := u.s.Word(u.cur.Base)
	if err == nil {
		u.used(8)
	}
	return v, err
}

// PutZeros puts n bytes of zero, at most the room there is, as Put does.
func (u *User) PutZeros(n int) (done int, err error) {
	n = min(n, u.left)
	for done < n && err == nil {
		var b []byte
		u.s.mu.RLock()
		if b, err = u.at(n-done, ProtWrite); err == nil {
			clear(b)
			u.used(len(b))
			done += len(b)
		}
		u.s.mu.RUnlock()
	}
	u.s.settle()
	return done, err
}

// takeVec is Take over more than one range. Caller holds the read lock.
func (u *User) takeVec(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if err = u.next(); err == nil {
			var c int
			c, err = u.s.get(p[n:n+int(min(uint64(len(p)-n), u.cur.Len))], u.cur.Base)
			u.used(c)
			n += c
		}
	}
	return n, err
}

// Skip moves on by n bytes without a copy, as after a transfer that had to be undone
// in part.
func (u *User) Skip(n int) {
	n = min(n, u.left)
	for n > 0 {
		for u.cur.Len == 0 {
			u.cur, u.rest = u.rest[0], u.rest[1:]
		}
		c := int(min(uint64(n), u.cur.Len))
		u.used(c)
		n -= c
	}
}

// FaultIn makes the first n bytes present, for writing or reading, so that a Put or
// Take under a file's locks hardly ever has to wait for a file. EFAULT only if not even
// the first byte is there.
func (u *User) FaultIn(n int, write bool) error {
	want := ProtRead
	if write {
		want = ProtWrite
	}
	w := *u
	n = min(n, w.left)
	var err error
	first := true
	w.s.mu.RLock()
	for n > 0 {
		var b []byte
		if b, err = w.at(n, want); err != nil {
			break
		}
		w.used(len(b))
		n -= len(b)
		first = false
	}
	w.s.mu.RUnlock()
	w.s.settle()
	if first {
		return err
	}
	return nil
}
