// Package oracle compares this memcached with the real one: the same random
// commands go to both, and the replies must be the same bytes.
//
// The real one is memcached 1.6.18 as Debian packages it, started on a loopback
// port. Commands are text, meta and binary, well-formed and not, pipelined, and
// cut at random places. README.md lists what is known to differ and why; the
// generator stays clear of it, or Normalize takes it out.
//
//	go test ./appliances/memcached/oracle -run Differential -commands 1000000 -seed 1
//
// Who may use it: tests. Start reading at gen.go, then diff_test.go.
package oracle
