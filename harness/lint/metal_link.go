package lint

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"osv/harness/image"
)

// linkAllowed are the functions outside metal that metal's machine code may call
// or jump to, each with why that is safe. A trailing * stands for any characters.
var linkAllowed = map[string]string{
	"runtime.morestack*":           "a trap stack overflowed: it faults on the missing m, and ends in a panic that names the stack",
	"runtime.panicBounds":          "an index out of range in metal is a bug: it ends the same way",
	"runtime.panicIndex*":          "as panicBounds",
	"runtime.panicSlice*":          "as panicBounds",
	"runtime.goPanic*":             "as panicBounds",
	"runtime.panicdivide":          "as panicBounds",
	"runtime.panicshift":           "as panicBounds",
	"runtime.panicunsafeslicelen":  "as panicBounds (unsafe.Slice of a negative length)",
	"runtime.panicunsafeslicenil*": "as panicBounds (unsafe.Slice of nil)",
	"runtime.memmove":              "assembly; touches nothing but its arguments",
	"runtime.memclrNoHeapPointers": "assembly; touches nothing but its arguments",
	"runtime.memequal*":            "assembly; touches nothing but its arguments",
	"runtime.duffzero":             "assembly; touches nothing but its arguments",
	"runtime.duffcopy":             "assembly; touches nothing but its arguments",
	"type:.eq.osv/kernel/metal/*":  "comparison of a struct of metal, made by the compiler",
	"_rt0_amd64_linux":             "the Go runtime's entry: what metal boots into",
}

// linkIndirect are the functions of metal whose indirect calls and jumps are by
// design. All are assembly; Go code of metal may only jump by a switch's table.
var linkIndirect = map[string]string{
	"osv/kernel/metal/trap.syscallEntry": "calls the Go handler through its function variable, for its ABI",
	"osv/kernel/metal/trap.trapCommon":   "calls the Go handler through its function variable, for its ABI",
	"osv/kernel/metal/trap.resume":       "returns to the interrupted program",
	"osv/kernel/metal/trap.userGo":       "calls the Go handler through its function variable, for its ABI",
	"osv/kernel/metal/trap.userLeave":    "returns to Enter's caller",
	"osv/kernel/metal/boot.high":         "calls start through its function variable, for its ABI",
	"osv/kernel/metal/boot.apHigh":       "calls apStart through its function variable, for its ABI",
}

// linkTraps are the functions of metal that trap on purpose.
var linkTraps = map[string]string{
	"osv/kernel/metal/arch.TripleFault": "resets the machine by a fault that nobody can serve",
}

// link16or32 are functions that hold 16- and 32-bit code, as bytes, which a
// 64-bit disassembler cannot read. They are generated from kernel/metal/boot/stub32.
var link16or32 = []string{"osv/kernel/metal/boot.pvhEntry", "osv/kernel/metal/boot.ap16"}

// link builds a program and reports where its metal leaves metal.
func (m Metal) link(r *Report) error {
	tmp, err := os.MkdirTemp("", "osv-lint-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, "program.elf")
	if err := image.BuildWith(m.Program, file, image.Options{Dir: m.Dir, Flags: m.Flags}); err != nil {
		return err
	}
	syms, err := textSymbols(file)
	if err != nil {
		return err
	}
	syms.reportInit(r)
	cmd := exec.Command("go", "tool", "objdump", "-s", "^"+metalPath, file)
	cmd.Dir = m.Dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go tool objdump: %w\n%s", err, errs.Bytes())
	}
	syms.reportCalls(r, out.Bytes())
	return nil
}

// symbolTable is the functions of an ELF, sorted by address, and all names.
type symbolTable struct {
	text  []elf.Symbol
	names []string
}

func textSymbols(file string) (*symbolTable, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	t := new(symbolTable)
	for _, s := range all {
		t.names = append(t.names, s.Name)
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			t.text = append(t.text, s)
		}
	}
	slices.SortFunc(t.text, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
	return t, nil
}

// at returns the function that holds an address.
func (t *symbolTable) at(addr uint64) string {
	i, found := slices.BinarySearchFunc(t.text, addr, func(s elf.Symbol, a uint64) int { return cmp.Compare(s.Value, a) })
	if !found {
		i--
	}
	if i < 0 || addr >= t.text[i].Value+max(t.text[i].Size, 1) {
		return fmt.Sprintf("%#x", addr)
	}
	return t.text[i].Name
}

// initName is a package's task list for the runtime, or its init code.
var initName = regexp.MustCompile(`^osv/kernel/metal/[^.]*\.(\.inittask|init(\.\d+)?)$`)

func (t *symbolTable) reportInit(r *Report) {
	for _, n := range t.names {
		if initName.MatchString(n) {
			r.add("", 0, "%s: a package of metal has code that the runtime would run at start-up", n)
		}
	}
}

var (
	dumpFunc = regexp.MustCompile(`^TEXT (\S+)\(SB\) ?(.*)$`)
	// file:line, address, bytes, instruction
	dumpLine  = regexp.MustCompile(`^\s+(\S+:\d+)\s+0x([0-9a-f]+)\s+[0-9a-f]+\s+(\S+)\s*(.*?)\s*$`)
	jumpTable = regexp.MustCompile(`^0\([A-Z0-9]+\)\([A-Z0-9]+\*8\)$`)
)

// reportCalls reads the disassembly of metal.
func (t *symbolTable) reportCalls(r *Report, dump []byte) {
	leaves := map[string]int{}
	functions, instructions := 0, 0
	var fn, file string
	s := bufio.NewScanner(bytes.NewReader(dump))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if m := dumpFunc.FindStringSubmatch(s.Text()); m != nil {
			fn, file = m[1], strings.TrimPrefix(m[2], "osv/")
			functions++
			continue
		}
		m := dumpLine.FindStringSubmatch(s.Text())
		if m == nil || slices.Contains(link16or32, strings.TrimSuffix(fn, ".abi0")) {
			continue
		}
		instructions++
		op, arg := m[3], m[4]
		line, _ := strconv.Atoi(m[1][strings.LastIndexByte(m[1], ':')+1:])
		switch {
		case op == "SYSCALL" || op == "INT":
			if linkTraps[strings.TrimSuffix(fn, ".abi0")] != "" {
				continue
			}
			r.add(file, line, "%s: %s in metal, which is what serves it", fn, op)
		case op != "CALL" && op != "LCALL" && op != "LOOP" && !strings.HasPrefix(op, "J") && op != "LJMP":
		default:
			if target, bad := t.target(fn, op, arg, strings.HasSuffix(file, ".s")); bad != "" {
				r.add(file, line, "%s: %s %s: %s", fn, op, arg, bad)
			} else if target != "" {
				leaves[target]++
			}
		}
	}
	if functions == 0 || instructions == 0 {
		r.add("", 0, "no machine code of kernel/metal in the linked program: the check sees nothing")
	}
	r.note("machine code: %d functions, %d instructions", functions, instructions)
	for _, name := range slices.Sorted(maps.Keys(leaves)) {
		r.note("calls %s %d times: %s", name, leaves[name], allowed(name))
	}
}

// target judges one call or jump of fn: where it goes, if that is outside metal
// and permitted, and why it is not permitted.
func (t *symbolTable) target(fn, op, arg string, assembly bool) (outside, bad string) {
	name, direct := strings.CutSuffix(arg, "(SB)")
	if !direct {
		addr, err := strconv.ParseUint(strings.TrimPrefix(arg, "0x"), 16, 64)
		if !strings.HasPrefix(arg, "0x") || err != nil {
			return "", indirect(fn, op, arg, assembly)
		}
		name = t.at(addr)
	}
	if i := strings.IndexByte(name, '+'); i > 0 {
		name = name[:i] // symbol+offset
	}
	if strings.HasPrefix(name, metalPath) {
		return "", ""
	}
	if allowed(name) == "" {
		return "", name + " is outside metal and not one of the functions that it may reach"
	}
	return name, ""
}

func indirect(fn, op, arg string, assembly bool) string {
	switch {
	case !assembly && op == "JMP" && jumpTable.MatchString(arg):
		return "" // a switch
	case assembly && linkIndirect[strings.TrimSuffix(fn, ".abi0")] != "":
		return ""
	}
	return "nothing checks where it goes"
}

// allowed returns why metal may call the function of that name, "" if it may not.
func allowed(name string) string {
	for _, n := range slices.Sorted(maps.Keys(linkAllowed)) {
		prefix, wild := strings.CutSuffix(n, "*")
		if name == n || name == n+".abi0" || wild && strings.HasPrefix(name, prefix) {
			return linkAllowed[n]
		}
	}
	return ""
}
