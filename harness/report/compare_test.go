package report

import (
	"testing"
)

func TestCompare(t *testing.T) {
	load2 := func(w world) *Data {
		dir := t.TempDir()
		w.light = true
		w.write(t, dir)
		d, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	old := load2(reference())
	same := reference()
	same.seed = 9
	slower := reference()
	slower.seed, slower.osv = 9, 0.8
	faster := reference()
	faster.seed, faster.osv = 9, 1.5
	count := func(now *Data) (worse, better map[string]int) {
		t.Helper()
		r, err := Compare(old, now)
		if err != nil {
			t.Fatal(err)
		}
		worse, better = map[string]int{}, map[string]int{}
		for _, x := range r {
			if x.Worse {
				worse[x.System]++
			}
			if x.Better {
				better[x.System]++
			}
		}
		return
	}
	// Two equal runs: of some 80 figures, few may differ by chance.
	if worse, better := count(load2(same)); worse["osv"]+better["osv"]+worse["linux-stock"]+better["linux-stock"] > 6 {
		t.Errorf("equal runs differ: %v %v", worse, better)
	}
	if worse, _ := count(load2(slower)); worse["osv"] < 6 || worse["linux-stock"] > 3 {
		t.Errorf("a slower OSv is not found: %v", worse)
	}
	if _, better := count(load2(faster)); better["osv"] < 6 {
		t.Errorf("a faster OSv is not found: %v", better)
	}
	few := reference()
	few.plan.Boots, few.osv = 2, 0.5
	if worse, _ := count(load2(few)); worse["osv"] < 4 {
		t.Errorf("half the speed is not found with two boots: %v", worse)
	}
	kvm := reference()
	kvm.accel = "kvm"
	if _, err := Compare(old, load2(kvm)); err == nil {
		t.Error("TCG is compared with KVM")
	}
}
