package vfs_test

import "unsafe"

// cstr is a path for a raw system call. The string stays reachable by the caller.
func cstr(s string) uintptr {
	b := append([]byte(s), 0)
	keep = b
	return uintptr(unsafe.Pointer(&b[0]))
}

var keep []byte
