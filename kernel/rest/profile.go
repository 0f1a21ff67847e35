package rest

import (
	"compress/gzip"
	"io"
	"slices"
	"time"
)

// profile builds a profile in pprof's format: profile.proto of github.com/google/pprof,
// a protocol buffer under gzip. Only what samples by name need is written; there are
// no mappings, since frames come with function, file and line.
type profile struct {
	samples, locations, functions []byte // encoded
	types                         []byte
	defaultType                   int64
	strings                       []string
	byString                      map[string]int64
	byFrame                       map[frame]uint64
	byFunction                    map[[2]string]uint64
}

// Fields of profile.proto.
const (
	profSampleType    = 1
	profSample        = 2
	profLocation      = 4
	profFunction      = 5
	profStringTable   = 6
	profTimeNanos     = 9
	profDurationNanos = 10
	profPeriodType    = 11
	profPeriod        = 12
	profDefaultType   = 14

	valueType       = 1
	valueUnit       = 2
	sampleLocation  = 1
	sampleValue     = 2
	locationID      = 1
	locationLine    = 4
	lineFunction    = 1
	lineLine        = 2
	functionID      = 1
	functionName    = 2
	functionSystem  = 3
	functionFile    = 4
	wireVarint      = 0
	wireLengthBytes = 2
)

// newProfile begins a profile with values of these types and units.
func newProfile(types [][2]string, defaultType string) *profile {
	p := &profile{strings: []string{""}, byString: map[string]int64{"": 0}, byFrame: map[frame]uint64{}, byFunction: map[[2]string]uint64{}}
	for _, t := range types {
		p.types = bytesField(p.types, profSampleType, p.valueType(t[0], t[1]))
	}
	p.defaultType = p.str(defaultType)
	return p
}

func (p *profile) valueType(name, unit string) []byte {
	return varintField(varintField(nil, valueType, uint64(p.str(name))), valueUnit, uint64(p.str(unit)))
}

// str returns the index of a string.
func (p *profile) str(s string) int64 {
	i, ok := p.byString[s]
	if !ok {
		i = int64(len(p.strings))
		p.strings = append(p.strings, s)
		p.byString[s] = i
	}
	return i
}

// sample adds a stack, innermost frame first, with its values.
func (p *profile) sample(frames []frame, values []int64) {
	var locs, vals []byte
	for _, f := range frames {
		locs = varint(locs, p.location(f))
	}
	for _, v := range values {
		vals = varint(vals, uint64(v))
	}
	p.samples = bytesField(p.samples, profSample, bytesField(bytesField(nil, sampleLocation, locs), sampleValue, vals))
}

func (p *profile) location(f frame) uint64 {
	id, ok := p.byFrame[f]
	if ok {
		return id
	}
	fn, ok := p.byFunction[[2]string{f.function, f.file}]
	if !ok {
		fn = uint64(len(p.byFunction) + 1)
		p.byFunction[[2]string{f.function, f.file}] = fn
		b := varintField(nil, functionID, fn)
		b = varintField(b, functionName, uint64(p.str(f.function)))
		b = varintField(b, functionSystem, uint64(p.str(f.function)))
		b = varintField(b, functionFile, uint64(p.str(f.file)))
		p.functions = bytesField(p.functions, profFunction, b)
	}
	id = uint64(len(p.byFrame) + 1)
	p.byFrame[f] = id
	line := varintField(varintField(nil, lineFunction, fn), lineLine, uint64(f.line))
	p.locations = bytesField(p.locations, profLocation, bytesField(varintField(nil, locationID, id), locationLine, line))
	return id
}

// write writes it all. period is the time between two samples in ns.
func (p *profile) write(w io.Writer, began time.Time, took time.Duration, period int64) error {
	periodType := p.valueType("cpu", "nanoseconds")
	b := slices.Concat(p.types, p.samples, p.locations, p.functions)
	for _, s := range p.strings {
		b = bytesField(b, profStringTable, []byte(s))
	}
	b = varintField(b, profTimeNanos, uint64(began.UnixNano()))
	b = varintField(b, profDurationNanos, uint64(took))
	b = bytesField(b, profPeriodType, periodType)
	b = varintField(b, profPeriod, uint64(period))
	b = varintField(b, profDefaultType, uint64(p.defaultType))
	z := gzip.NewWriter(w)
	if _, err := z.Write(b); err != nil {
		return err
	}
	return z.Close()
}

// Protocol buffers, encoding: varints of seven bits a byte, fields of number<<3|type.
func varint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func varintField(b []byte, field int, v uint64) []byte {
	return varint(varint(b, uint64(field)<<3|wireVarint), v)
}

func bytesField(b []byte, field int, v []byte) []byte {
	return append(varint(varint(b, uint64(field)<<3|wireLengthBytes), uint64(len(v))), v...)
}
