package lint

import "debug/elf"

// elfSymbols makes functions of (name string, address, size int) triples.
func elfSymbols(v ...any) (out []elf.Symbol) {
	for i := 0; i < len(v); i += 3 {
		out = append(out, elf.Symbol{Name: v[i].(string), Value: uint64(v[i+1].(int)), Size: uint64(v[i+2].(int))})
	}
	return out
}
