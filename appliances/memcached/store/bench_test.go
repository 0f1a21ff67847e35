package store

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkGet(b *testing.B) {
	s := newTest(b, Config{Limit: 64 << 20})
	w := s.Worker(0)
	for i := range 10000 {
		set(b, &w, fmt.Sprintf("key-of-thirty-two-bytes-%08d", i), strings.Repeat("x", 100), 0)
	}
	key := []byte("key-of-thirty-two-bytes-00000007")
	b.ReportAllocs()
	for b.Loop() {
		w.Get(key)
		w.Leave()
	}
}

func BenchmarkSet(b *testing.B) {
	s := newTest(b, Config{Limit: 64 << 20})
	w := s.Worker(0)
	key, v := []byte("key-of-thirty-two-bytes-00000007"), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		w.Store(Set, key, 0, 0, v, 0)
	}
}

func BenchmarkSetEvicting(b *testing.B) {
	s := newTest(b, Config{Limit: 8 << 20})
	w := s.Worker(0)
	v := make([]byte, 100)
	key := []byte("key-of-thirty-two-bytes-00000000")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j, n := 24, i; j < 32; j, n = j+1, n/10 {
			key[j] = '0' + byte(n%10)
		}
		w.Store(Set, key, 0, 0, v, 0)
	}
}
