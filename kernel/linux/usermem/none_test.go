package usermem

import (
	"testing"

	"osv/kernel/linux/mm"
)

// A page without rights stays where it is, and user mode cannot reach it: stack guards
// and the JVM's polling page live by that.
func TestPageWithoutRights(t *testing.T) {
	_, m, tab := newTable(t)
	if _, err := tab.MapZero(0, 4*pageSize, mm.ProtRead|mm.ProtWrite, false); err != nil {
		t.Fatal(err)
	}
	before, _ := tab.Lookup(pageSize)
	if err := tab.Protect(pageSize, 2*pageSize, 0); err != nil {
		t.Fatal(err)
	}
	e, ok := tab.Lookup(pageSize)
	if !ok || e.Prot != 0 || e.Frame != before.Frame {
		t.Fatalf("without rights: %+v, %v", e, ok)
	}
	pmd, _, _ := tab.pmd(pageSize, false)
	pte, _ := tab.pte(pmd)
	if v := pte[1]; v&(pteUser|pteWrite) != 0 || v&ptePresent == 0 {
		t.Fatalf("entry %#x", v)
	}
	if err := tab.Map(pageSize, []mm.Frame{e.Frame}, 0, mm.ProtRead|mm.ProtExec); err != nil {
		t.Fatal(err)
	}
	if e, _ := tab.Lookup(pageSize); e.Prot != mm.ProtRead|mm.ProtExec {
		t.Fatalf("rights given back: %v", e.Prot)
	}
	if err := tab.Protect(0, 4*pageSize, mm.ProtRead|mm.ProtWrite); err != nil {
		t.Fatal(err)
	}
	if e, _ := tab.Lookup(pageSize); e.Prot != mm.ProtRead|mm.ProtWrite {
		t.Fatalf("rights after Protect: %v", e.Prot)
	}
	tab.Unmap(0, 4*pageSize, func(_ uint64, e mm.PTE) { m.Free([]mm.Frame{e.Frame}, 0) })
	tab.Free()
}
