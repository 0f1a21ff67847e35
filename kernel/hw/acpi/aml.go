package acpi

import (
	"errors"
	"fmt"
)

// The scan of AML.
//
// AML cannot be parsed without running it: how many bytes a method call takes
// depends on what was defined before. But what we want are constants
// (Name(_HID, …), Name(_CRS, Buffer …), Name(\_S5, Package …), methods that only
// return one), and the objects around them (Scope, Device) carry their length. So the scan walks a body
// object by object where it knows the encoding, steps into Scope, Device and If,
// steps over Method, Field and the like, and where it does not know a byte it
// moves on by one. An object found after such a step must have a length that
// fits and a well-formed name, so that data is not taken for code by chance.
//
// Each byte is looked at once per body it is in, bodies nest at most maxDepth
// deep, and nothing is executed: time is linear in the table.

// AML opcodes, §20.2.
const (
	opZero      = 0x00
	opOne       = 0x01
	opAlias     = 0x06
	opName      = 0x08
	opByte      = 0x0A
	opWord      = 0x0B
	opDWord     = 0x0C
	opString    = 0x0D
	opQWord     = 0x0E
	opScope     = 0x10
	opBuffer    = 0x11
	opPackage   = 0x12
	opVarPkg    = 0x13
	opMethod    = 0x14
	opExternal  = 0x15
	opDualName  = 0x2E
	opMultiName = 0x2F
	opExt       = 0x5B // the next byte is one of ext…
	opIf        = 0xA0
	opElse      = 0xA1
	opReturn    = 0xA4
	opOnes      = 0xFF

	extMutex       = 0x01
	extEvent       = 0x02
	extRegion      = 0x80
	extField       = 0x81
	extDevice      = 0x82
	extProcessor   = 0x83
	extPowerRes    = 0x84
	extThermalZone = 0x85
	extIndexField  = 0x86
	extBankField   = 0x87
)

const (
	maxDepth   = 32
	maxPath    = 256 // bytes of a path; deeper objects are not of interest
	maxObjects = 8192
)

// namespace collects the constant objects of one or more tables.
type namespace struct {
	table string // being scanned
	addr  uint64
	objs  map[string]*object // by path
	order []*object
	s5    *SleepType
	probs []error
}

// object is what is known of one device or scope.
type object struct {
	path  string // `\_SB.PCI0`
	table string // where it was first seen
	addr  uint64

	device    bool // opened by Device; a Scope alone has no resources
	hid, cid  string
	uid       uint64
	sta       uint64 // _STA, or present where it is not a constant
	bbn, seg  uint64
	cba       uint64
	crs       []byte // a copy; nil: none
	crsWhyNot string // why crs is nil though there is a _CRS
	region    uint64 // first SystemMemory operation region, or 0
}

// _STA bits, §6.3.7.
const (
	staPresent = 1 << 0
	staDefault = 0xF
)

func newNamespace() *namespace { return &namespace{objs: map[string]*object{}} }

// scan walks the AML of one table, its header cut off.
func (ns *namespace) scan(aml []byte) { ns.walk(aml, `\`, 0) }

func (ns *namespace) problem(format string, args ...any) {
	if len(ns.probs) < 64 { // a hostile table could make one per few bytes
		ns.probs = append(ns.probs, fmt.Errorf(format, args...))
	}
}

func (ns *namespace) takeProblems() []error {
	p := ns.probs
	ns.probs = nil
	return p
}

// object returns the record for path, nil where there are too many.
func (ns *namespace) object(path string) *object {
	if o := ns.objs[path]; o != nil {
		return o
	}
	if len(ns.order) == maxObjects {
		return nil
	}
	o := &object{path: path, table: ns.table, addr: ns.addr, sta: staDefault}
	ns.objs[path] = o
	ns.order = append(ns.order, o)
	return o
}

// walk scans one body that belongs to scope.
func (ns *namespace) walk(b []byte, scope string, depth int) {
	for i := 0; i < len(b); {
		next := ns.term(b, i, scope, depth)
		if next <= i {
			next = i + 1 // not known: resynchronise on the next byte
		}
		i = next
	}
}

// term handles the object at b[i] and returns where the next one starts, or a
// number not above i where it does not know the bytes.
func (ns *namespace) term(b []byte, i int, scope string, depth int) int {
	switch b[i] {
	case opScope, opMethod:
		return ns.block(b, i, i+1, scope, depth)
	case opIf, opElse:
		start, end, ok := pkgLength(b, i+1)
		if !ok || depth >= maxDepth {
			return i
		}
		// Which branch runs is not known; a constant in either is taken.
		ns.walk(b[start:end], scope, depth+1)
		return end
	case opName:
		return ns.name(b, i, scope)
	case opAlias:
		_, next, ok := nameString(b, i+1, scope)
		if !ok {
			return i
		}
		if _, next, ok = nameString(b, next, scope); !ok {
			return i
		}
		return next
	case opExternal:
		if _, next, ok := nameString(b, i+1, scope); ok && next+2 <= len(b) {
			return next + 2
		}
	case opExt:
		if i+1 == len(b) {
			return i
		}
		switch b[i+1] {
		case extDevice:
			return ns.block(b, i, i+2, scope, depth)
		case extField, extProcessor, extPowerRes, extThermalZone, extIndexField, extBankField:
			start, end, ok := pkgLength(b, i+2)
			if ok {
				_, _, ok = nameString(b[:end], start, scope)
			}
			if ok {
				return end
			}
		case extRegion:
			return ns.region(b, i, scope)
		case extMutex:
			if _, next, ok := nameString(b, i+2, scope); ok && next < len(b) {
				return next + 1
			}
		case extEvent:
			if _, next, ok := nameString(b, i+2, scope); ok {
				return next
			}
		}
	}
	return i
}

// block handles Scope, Device and Method, whose PkgLength is at b[at].
func (ns *namespace) block(b []byte, i, at int, scope string, depth int) int {
	start, end, ok := pkgLength(b, at)
	if !ok {
		return i
	}
	path, body, ok := nameString(b[:end], start, scope)
	if !ok {
		return i
	}
	if b[i] == opMethod {
		ns.method(path, b[:end], body)
		return end
	}
	if depth >= maxDepth || len(path) > maxPath {
		ns.problem("%.64s…: nested too deep, skipped", path)
		return end
	}
	if b[i] == opExt {
		if o := ns.object(path); o != nil {
			o.device = true
		}
	}
	ns.walk(b[body:end], path, depth+1)
	return end
}

// method handles a method whose name string ends at at, and whose body ends
// with b. One that does nothing but return a constant is as good as a Name; of
// any other it is noted that it stands where we hoped for a constant.
func (ns *namespace) method(path string, b []byte, at int) {
	if len(path) > maxPath {
		return
	}
	// §20.2.5.2: the flags byte, then the body.
	if at+1 < len(b) && b[at+1] == opReturn {
		if next, ok := skipData(b, at+2); ok && next == len(b) {
			ns.constant(path, b, at+2)
			return
		}
	}
	parent, last := splitPath(path)
	if last != "_CRS" {
		return
	}
	if o := ns.object(parent); o != nil && o.crs == nil {
		o.crsWhyNot = "_CRS is a method"
	}
}

// name handles Name(path, data).
func (ns *namespace) name(b []byte, i int, scope string) int {
	path, at, ok := nameString(b, i+1, scope)
	if !ok {
		return i
	}
	if len(path) <= maxPath {
		ns.constant(path, b, at)
	}
	if next, ok := skipData(b, at); ok {
		return next
	}
	return at
}

// constant keeps Name(path, data at b[at]) where it is one we know.
func (ns *namespace) constant(path string, b []byte, at int) {
	if path == `\_S5` {
		s5, err := parseS5(b, at)
		if err != nil {
			ns.problem(`\_S5: %w`, err)
		} else if ns.s5 == nil {
			ns.s5 = s5
		}
		return
	}
	parent, last := splitPath(path)
	switch last {
	case "_HID", "_CID", "_UID", "_STA", "_BBN", "_SEG", "_CBA", "_CRS":
	default:
		return
	}
	o := ns.object(parent)
	if o == nil {
		return
	}
	num, _, isNum := integer(b, at)
	switch last {
	case "_HID":
		o.hid = deviceID(b, at)
	case "_CID":
		o.cid = deviceID(b, at)
	case "_CRS":
		content, ok := bufferData(b, at)
		if !ok {
			o.crsWhyNot = "_CRS is not a constant buffer"
			return
		}
		o.crs = append([]byte{}, content...)
	case "_UID":
		if isNum {
			o.uid = num
		}
	case "_STA":
		if isNum {
			o.sta = num
		}
	case "_BBN":
		if isNum {
			o.bbn = num
		}
	case "_SEG":
		if isNum {
			o.seg = num
		}
	case "_CBA":
		if isNum {
			o.cba = num
		}
	}
}

// region handles OperationRegion(name, space, offset, length).
func (ns *namespace) region(b []byte, i int, scope string) int {
	_, at, ok := nameString(b, i+2, scope)
	if !ok || at >= len(b) {
		return i
	}
	space := AddressSpace(b[at])
	off, at, ok := integer(b, at+1)
	if !ok {
		return i
	}
	if _, at, ok = integer(b, at); !ok {
		return i
	}
	if space == SystemMemory {
		if o := ns.objs[scope]; o != nil && o.region == 0 {
			o.region = off
		}
	}
	return at
}

// SleepType is what to write to the SLP_TYP fields in order to enter a sleep
// state, §7.4.2.
type SleepType struct {
	A uint8 // for PM1a_CNT, and for SLEEP_CONTROL on hardware-reduced machines
	B uint8 // for PM1b_CNT
}

// parseS5 decodes the package at b[at]: SLP_TYPa, SLP_TYPb, reserved. Old
// tables hold both in the bytes of one number.
func parseS5(b []byte, at int) (*SleepType, error) {
	if at >= len(b) || b[at] != opPackage {
		return nil, errors.New("not a constant package")
	}
	start, end, ok := pkgLength(b, at+1)
	if !ok || start == end {
		return nil, errors.New("its package has a bad length")
	}
	n := int(b[start])
	var v []uint64
	for i := start + 1; i < end && len(v) < min(n, 2); {
		x, next, ok := integer(b[:end], i)
		if !ok {
			return nil, fmt.Errorf("element %d is not an integer constant", len(v))
		}
		v, i = append(v, x), next
	}
	switch {
	case len(v) == 0:
		return nil, errors.New("its package is empty")
	case len(v) == 1:
		v = []uint64{v[0] & 0xFF, v[0] >> 8 & 0xFF}
	}
	// SLP_TYP has three bits.
	if v[0] > 7 || v[1] > 7 {
		return nil, fmt.Errorf("SLP_TYP %#x and %#x, want at most 7", v[0], v[1])
	}
	return &SleepType{uint8(v[0]), uint8(v[1])}, nil
}
