package vdso

import (
	"bytes"
	"encoding/binary"
	"testing"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/mm"
)

func TestObjectIsMapped(t *testing.T) {
	m := fakemm.New(256)
	o, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	no := ^uint64(0)
	s, err := mm.New(m, mm.Options{Limits: mm.Limits{AS: no, Data: no, Stack: 8 << 20, Memlock: no}})
	if err != nil {
		t.Fatal(err)
	}
	at, err := o.Map(s)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, PageSize)
	if err := s.CopyIn(got, at); err != nil || !bytes.Equal(got, Image()) {
		t.Errorf("the image is not at %#x: %v", at, err)
	}
	child, err := s.Fork()
	if err != nil {
		t.Fatal(err)
	}
	o.Update(Params{Start: 1, Mul: 2, WallNS: 3, Usable: true})
	for _, sp := range []*mm.Space{s, child} {
		if err := sp.CopyIn(got, at-PageSize); err != nil || binary.LittleEndian.Uint64(got[offWall:]) != 3 {
			t.Errorf("the data page is not shared: % x, %v", got[:32], err)
		}
		if err := sp.CopyOut(at-PageSize, []byte{1}); err == nil {
			t.Error("a program may write to the data page")
		}
		if err := sp.Mprotect(at, PageSize, uint32(mm.ProtRead|mm.ProtWrite)); err == nil {
			t.Error("a program may make the image writable")
		}
	}
	names := map[string]mm.Prot{}
	for _, v := range s.Maps() {
		names[v.Name] = v.Prot
	}
	if len(names) != 2 || names["[vvar]"] != mm.ProtRead || names["[vdso]"] != mm.ProtRead|mm.ProtExec {
		t.Errorf("maps: %v", names)
	}
	child.Close()
	s.Close()
	for off, want := range map[int64]bool{0: true, PageSize: true, 2 * PageSize: false, -PageSize: false} {
		if p, err := o.PageAt(off, false); (err == nil) != want || want && (p.Frame() == 0 || len(p.Bytes()) != PageSize) {
			t.Errorf("page at %d: %v, %v", off, p, err)
		}
	}
	if _, err := o.PageAt(0, true); err == nil {
		t.Error("a page to be written to")
	}
	m.FailAfter(0)
	if _, err := New(m); err == nil {
		t.Error("an object without memory")
	}
}
